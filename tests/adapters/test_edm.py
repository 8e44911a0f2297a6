"""EDM networks: a stand-in with the calling convention of the papers' code, exact for Gaussian classes."""

import pytest
import torch
from torch import nn

import kdist
from kdist.adapters.edm import EDMDenoiser
from kdist.compat import import_k_diffusion

K = import_k_diffusion()


class Net(nn.Module):
    """Called as EDM networks are; the exact denoiser of classes N(mean_k, variance), and of N(0, 1) without a class."""

    sigma_min, sigma_max = 0.0, float("inf")
    img_channels = 1

    def __init__(self, label_dim=3, variance=0.25):
        super().__init__()
        self.label_dim = label_dim
        self.variance = variance
        self.means = torch.linspace(-1, 1, max(label_dim, 1))

    def round_sigma(self, sigma):
        return torch.as_tensor(sigma)

    def forward(self, x, sigma, class_labels=None, force_fp32=False):
        x, sigma = x.float(), sigma.float().reshape(-1, 1, 1, 1)
        if self.label_dim == 0:
            labels = None
        elif class_labels is None:
            labels = torch.zeros(1, self.label_dim)
        else:
            labels = class_labels.float().reshape(-1, self.label_dim)
        if labels is None:
            return x / (1 + sigma**2)
        known = labels.sum(1).view(-1, 1, 1, 1)
        mean = (labels @ self.means).view(-1, 1, 1, 1)
        variance = known * self.variance + (1 - known)
        return (variance * x + sigma**2 * mean) / (variance + sigma**2)


def denoised(net, x, sigma, label):
    labels = None if label is None else torch.eye(net.label_dim)[[label] * len(x)]
    return net(x, sigma.expand(len(x)), labels)


@pytest.fixture
def x():
    return torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))


def test_labels_become_rows_and_the_last_one_means_none(x):
    net = Net()
    denoiser = EDMDenoiser(net)
    sigma = torch.tensor(0.7)
    out = denoiser(x, sigma.expand(4), torch.tensor([0, 2, denoiser.uncond, 1]))
    for row, label in enumerate([0, 2, None, 1]):
        assert torch.equal(out[row : row + 1], denoised(net, x[row : row + 1], sigma, label))
    assert torch.equal(denoiser(x, sigma.expand(4)), denoised(net, x, sigma, None))
    rows = torch.eye(3)[[0, 1, 2, 0]]
    assert torch.equal(denoiser(x, sigma.expand(4), rows), net(x, sigma.expand(4), rows))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.uint8])
@pytest.mark.parametrize("batched", [True, False])
def test_no_class_is_said_in_either_encoding(x, dtype, batched):
    """A class number as an override of one-hot rows means zero rows, not rows filled with the number."""
    denoiser, sigma = EDMDenoiser(Net()), torch.full((4,), 0.7)
    numbers, rows = torch.tensor([0, 1, 2, 0]), torch.eye(3)[[0, 1, 2, 0]].to(dtype)

    def guided(cond, uncond):
        return kdist.guide(denoiser, 2.0, uncond={"class_cond": uncond}, batched=batched)(x, sigma, class_cond=cond)

    expected = guided(numbers, denoiser.uncond)
    for uncond in (denoiser.uncond, torch.zeros(1, 3, dtype=dtype), torch.zeros(4, 3, dtype=dtype), 0.0):
        assert torch.equal(guided(rows, uncond), expected)
    for wrong in (3, 2, 4.0, 7, -1, 0.5):
        with pytest.raises(ValueError, match=r"class number|one-hot|cannot hold"):
            guided(rows, wrong)
    assert int(denoiser.uncond) == 3
    assert torch.equal(guided(numbers, torch.tensor(3)), expected)
    assert torch.equal(guided(numbers, torch.tensor([3])), expected)


def test_rows_that_are_not_one_hot_become_nan_where_nobody_looks(x):
    """What happens on an accelerator; ``torch.func`` hides values just so."""
    rows = torch.tensor([[1.0, 0, 0], [4.0, 4, 4], [0, 0, 0], [1, 1, 0]])
    net = EDMDenoiser(Net())
    out = torch.func.vmap(lambda x, c: net(x[None], torch.ones(1), c[None])[0])(x, rows)
    assert out.isnan().flatten(1).any(1).tolist() == [False, True, False, True]


def test_guided_sampling_has_the_closed_form_variance():
    """Constant w: V(0) = c (c / u)^w and, from x = m, the mean's own affine map (arXiv 2602.00716, Gaussian case).

    Here c = 0.25, u = 1, w = 1: V = 1/16. Sampling is affine, so two starts give its slope exactly: 400 Heun steps
    leave 1e-3 of it.
    """
    denoiser = EDMDenoiser(Net())
    guided = kdist.guide(denoiser, 2.0, uncond={"class_cond": denoiser.uncond})
    sigmas = denoiser.get_sigmas(400)
    start = torch.tensor([0.0, 80.0]).view(2, 1, 1, 1)
    end = K.sampling.sample_heun(guided, start, sigmas, extra_args={"class_cond": torch.tensor([1, 1])}, disable=True)
    slope = (end[1] - end[0]).item()  # the standard deviation that one of 80 becomes
    # from sigma = 80 instead of infinity: V gains factors c / (c + T) relative to its limit, 1e-4 here
    assert slope**2 == pytest.approx(1 / 16, rel=3e-3)


def test_separate_unconditional_network(x):
    net, other = Net(), Net(label_dim=0)
    guided = kdist.guide(EDMDenoiser(net), 3.0, weak_model=EDMDenoiser(other))
    sigma = torch.full((4,), 0.7)
    uncond = other(x, sigma)
    expected = uncond + 3 * (denoised(net, x, sigma[0], 2) - uncond)
    torch.testing.assert_close(guided(x, sigma, class_cond=torch.full((4,), 2)), expected)


def test_levels_are_the_papers_and_follow_the_network():
    sigmas = EDMDenoiser(Net()).get_sigmas(18)
    assert len(sigmas) == 19
    # Karras et al. 2022, equation 5, with their defaults
    expected = (80 ** (1 / 7) + 1 / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    assert sigmas[[0, 1, 17, 18]].tolist() == pytest.approx([80.0, expected, 0.002, 0.0])
    narrow = Net()
    narrow.sigma_min, narrow.sigma_max = 0.02, 50.0
    assert EDMDenoiser(narrow).get_sigmas(5)[[0, 4]].tolist() == pytest.approx([50.0, 0.02])
    listed = torch.tensor([60.0, 20.0, 5.0, 1.0, 0.1])
    narrow.round_sigma = lambda s: listed[(s.view(-1, 1).log() - listed.log()).abs().argmin(1)]
    assert set(EDMDenoiser(narrow).get_sigmas(3).tolist()) <= {*listed.tolist(), 0.0}
    with pytest.raises(ValueError, match="too many steps"):
        EDMDenoiser(narrow).get_sigmas(9)


def test_dtype_and_options(x):
    class Strict(Net):
        def forward(self, x, sigma, class_labels=None, force_fp32=False):
            assert force_fp32
            return super().forward(x, sigma, class_labels)

    out = EDMDenoiser(Strict(), force_fp32=True)(x.double(), torch.ones(4))
    assert out.dtype == torch.float64


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1, 2, 4]), r"0\.\.3"),
        (torch.tensor([-1, 1, 2, 3]), r"0\.\.3"),
        (torch.tensor([0, 1]), "4 integers"),
        (torch.zeros(4), "4 integers"),
        (torch.zeros(4, 7), "4 integers"),
        (torch.zeros(4, dtype=torch.bool), "4 integers"),
        (torch.zeros(4, dtype=torch.complex64), "4 integers"),
        (torch.tensor([0, 1, 2, 2**63], dtype=torch.uint64), r"0\.\.3"),
        (torch.full((4, 3), 3.0), "one-hot rows"),
        (torch.ones(4, 3), "one-hot rows"),
        (torch.full((4, 3), 0.5), "one-hot rows"),
        (-torch.eye(4, 3), "one-hot rows"),
    ],
)
def test_bad_labels(x, labels, message):
    with pytest.raises(ValueError, match=message):
        EDMDenoiser(Net())(x, torch.ones(4), labels)


def test_bad_inputs(x):
    with pytest.raises(TypeError, match="label_dim"):
        EDMDenoiser(lambda x, sigma: x)
    with pytest.raises(ValueError, match="3 channels, the network takes 1"):
        EDMDenoiser(Net())(torch.zeros(1, 3, 2, 2), torch.ones(1))
    with pytest.raises(ValueError, match="at least 1"):
        EDMDenoiser(Net()).get_sigmas(0)
