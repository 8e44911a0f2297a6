"""The wrapper itself: conditions, skipping, dtypes, transforms, errors."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
import torch

import kdist
from kdist.rules import linear


class Net(torch.nn.Module):
    """Affine in x, told apart by its condition; keeps what it was given."""

    sigma_min, sigma_max = 0.02, 80.0

    def __init__(self, gain=0.5):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(gain))
        self.rows = 0

    def get_sigmas(self, n):
        return torch.linspace(self.sigma_max, 0, n)

    def forward(self, x, sigma, class_cond, note=None):
        self.rows += len(x)
        shift = class_cond.to(x.dtype).view(-1, *[1] * (x.ndim - 1))
        return (x * self.gain + shift).to(x.dtype)


@pytest.fixture
def net():
    return Net()


def batch(*shape, dtype=torch.float32):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    return x, torch.arange(shape[0]) % 10


@pytest.mark.parametrize("shape", [(4, 3), (4, 1, 8, 8), (4, 2, 3, 5, 5), (4,)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_cfg_formula_for_any_shape_and_dtype(net, shape, dtype):
    x, y = batch(*shape, dtype=dtype)
    sigma = torch.full((4,), 2.0, dtype=dtype)
    guided = kdist.guide(net, 3.0, uncond={"class_cond": 10})
    denoised = guided(x, sigma, class_cond=y)
    assert denoised.dtype == dtype
    assert denoised.shape == shape
    # exact algebra: both predictions share x * gain, so the guided shift is 10 + 3 (y - 10); the bound is one rounding
    # of numbers of size 30 in this dtype, twice
    shift = (10 + 3 * (y - 10)).view(-1, *[1] * (len(shape) - 1))
    expected = x.double() * 0.5 + shift
    torch.testing.assert_close(denoised.double(), expected, rtol=0, atol=64 * torch.finfo(dtype).eps)


def test_scale_one_and_zero_are_the_plain_predictions(net):
    x, y = batch(4, 3)
    sigma = torch.ones(4)
    for scale, label in ((1.0, y), (0.0, torch.full_like(y, 10))):
        guided = kdist.guide(net, scale, uncond={"class_cond": 10})
        assert torch.equal(guided(x, sigma, class_cond=y), net(x, sigma, label))
        assert guided.nfe == 1


def test_rows_that_differ_are_skipped_row_by_row(net):
    x, y = batch(6, 3)
    sigma = torch.tensor([5.0, 0.5, 0.1, 5.0, 0.5, 0.5])  # scales 4, 0, 1, 4, 0, 0
    schedule = kdist.NegativeWindow(4.0, 0.2, 1.0, after=1.0)
    guided = kdist.guide(net, schedule, uncond={"class_cond": 10})
    denoised = guided(x, sigma, class_cond=y)
    assert net.rows == 2 * 2 + 3 + 1
    assert guided.nfe == pytest.approx(8 / 6)
    alone = [guided(x[i : i + 1], sigma[i : i + 1], class_cond=y[i : i + 1]) for i in range(6)]
    torch.testing.assert_close(denoised, torch.cat(alone), rtol=1e-6, atol=1e-6)  # float32 rounding


def test_a_rule_that_needs_both_predictions_gets_both(net):
    def undecorated(cond, uncond, scale, x, sigma):
        return linear(cond, uncond, scale, x, sigma)

    x, y = batch(4, 3)
    guided = kdist.guide(net, 1.0, uncond={"class_cond": 10}, rule=undecorated)
    guided(x, torch.ones(4), class_cond=y)
    assert guided.nfe == 2


@pytest.mark.parametrize(
    "uncond",
    [
        {"class_cond": 10},
        {"class_cond": torch.tensor([10])},
        {"class_cond": torch.full((4,), 10)},
        lambda args: {**args, "class_cond": torch.full_like(args["class_cond"], 10)},
    ],
    ids=["number", "batch of one", "full batch", "function"],
)
def test_forms_of_uncond(net, uncond):
    x, y = batch(4, 3)
    reference = kdist.guide(net, 3.0, uncond={"class_cond": 10})(x, torch.ones(4), class_cond=y)
    assert torch.equal(kdist.guide(net, 3.0, uncond=uncond)(x, torch.ones(4), class_cond=y), reference)


def test_shared_arguments_pass_through(net):
    x, y = batch(4, 3)
    guided = kdist.guide(net, 3.0, uncond={"class_cond": 10})
    assert guided(x, torch.ones(4), class_cond=y, note="the same for all").shape == x.shape


def test_prompts_of_different_length_take_two_calls():
    """Token sequences (N, L, d) whose lengths differ cannot share a batch."""
    calls = []

    def model(x, sigma, tokens):
        calls.append(tokens.shape)
        return x + tokens.sum((1, 2))[:, None]

    x, _ = batch(4, 3)
    guided = kdist.guide(model, 2.0, uncond={"tokens": torch.zeros(1, 2, 5)})
    tokens = torch.ones(4, 7, 5)
    torch.testing.assert_close(guided(x, torch.ones(4), tokens=tokens), x + 2 * 35.0)
    assert calls == [(4, 2, 5), (4, 7, 5)]
    assert guided.nfe == 2


def test_weak_model(net):
    weak = Net(gain=0.25)
    x, y = batch(4, 3)
    guided = kdist.guide(net, 3.0, weak_model=weak)
    expected = weak(x, None, y) + 3 * (net(x, None, y) - weak(x, None, y))
    torch.testing.assert_close(guided(x, torch.ones(4), class_cond=y), expected)


def test_attributes_of_the_model_stay_reachable(net):
    guided = kdist.guide(net, 3.0, uncond={"class_cond": 10})
    assert guided.sigma_min == 0.02
    assert len(guided.get_sigmas(5)) == 5
    with pytest.raises(AttributeError, match="no_such"):
        _ = guided.no_such
    assert len(list(guided.parameters())) == 1


def test_copies_and_pickles(net):
    guided = kdist.guide(net, kdist.LateNegative(3.0, 1.0), uncond={"class_cond": 10})
    x, y = batch(4, 3)
    reference = guided(x, torch.ones(4), class_cond=y)
    for twin in (copy.deepcopy(guided), pickle.loads(pickle.dumps(guided))):
        assert torch.equal(twin(x, torch.ones(4), class_cond=y), reference)


def test_torch_func_and_autograd(net):
    guided = kdist.guide(net, kdist.NegativeWindow(4.0, 0.2, 1.0), uncond={"class_cond": 10})
    x, y = batch(4, 3)
    sigma = torch.tensor([5.0, 0.5, 0.1, 5.0])

    def denoise(x):
        return guided(x, sigma, class_cond=y)

    _, tangent = torch.func.jvp(denoise, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(tangent, torch.full_like(x, 0.5))  # both branches have slope 1/2
    rows = torch.func.vmap(lambda x, s, y: guided(x[None], s[None], class_cond=y[None])[0])(x, sigma, y)
    torch.testing.assert_close(rows, denoise(x), rtol=1e-6, atol=1e-6)  # float32 rounding
    x.requires_grad_()
    denoise(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 0.5))


@pytest.mark.parametrize(
    "schedule",
    [lambda s: 3.0, lambda s: torch.tensor(3.0), lambda s: torch.full_like(s, 3.0), lambda s: 3 if s > 1 else 0],
    ids=["number", "scalar tensor", "one per row", "written for numbers"],
)
def test_schedules_as_functions(net, schedule):
    x, y = batch(4, 3)
    reference = kdist.guide(net, 3.0, uncond={"class_cond": 10})(x, torch.full((4,), 2.0), class_cond=y)
    guided = kdist.guide(net, schedule, uncond={"class_cond": 10})
    assert torch.equal(guided(x, torch.full((4,), 2.0), class_cond=y), reference)


# Bad input


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), -float("inf")])
def test_scale_must_be_finite(net, scale):
    with pytest.raises(ValueError, match="scale must be finite"):
        kdist.guide(net, scale, uncond={"class_cond": 10})


def test_missing_uncond(net):
    with pytest.raises(ValueError, match="needs an unconditional prediction"):
        kdist.guide(net, 3.0)


def test_misspelt_uncond(net):
    x, y = batch(4, 3)
    guided = kdist.guide(net, 3.0, uncond={"class_cnd": 10})
    with pytest.raises(ValueError, match="'class_cnd', but extra_args has 'class_cond'"):
        guided(x, torch.ones(4), class_cond=y)
    with pytest.raises(ValueError, match="extra_args has no arguments"):
        guided(x, torch.ones(4))


def test_uncond_that_does_not_fit_the_batch(net):
    x, y = batch(4, 3)
    guided = kdist.guide(net, 3.0, uncond={"class_cond": torch.full((3,), 10)})
    with pytest.raises(ValueError, match=r"uncond\['class_cond'\] has 3 rows, the batch has 4"):
        guided(x, torch.ones(4), class_cond=y)


def test_uncond_function_must_return_a_mapping(net):
    x, y = batch(4, 3)
    with pytest.raises(TypeError, match="must return the keyword arguments"):
        kdist.guide(net, 3.0, uncond=lambda args: None)(x, torch.ones(4), class_cond=y)


def test_schedule_of_the_wrong_shape(net):
    x, y = batch(4, 3)
    guided = kdist.guide(net, lambda s: torch.ones(3), uncond={"class_cond": 10})
    with pytest.raises(ValueError, match=r"returned shape \(3,\) for sigma of shape \(4,\)"):
        guided(x, torch.ones(4), class_cond=y)


def test_schedule_that_is_not_finite_names_the_sigma(net):
    x, y = batch(4, 3)
    guided = kdist.guide(net, lambda s: torch.where(s > 1, s, torch.nan), uncond={"class_cond": 10})
    with pytest.raises(ValueError, match=r"not finite at sigma=\[0.5\]"):
        guided(x, torch.full((4,), 0.5), class_cond=y)


def test_sigma_of_the_wrong_shape(net):
    x, y = batch(4, 3)
    with pytest.raises(ValueError, match=r"sigma must have shape \(4,\)"):
        kdist.guide(net, 3.0, uncond={"class_cond": 10})(x, torch.ones(3), class_cond=y)


@pytest.mark.parametrize("schedule", [3.0, kdist.Interval(3, 0.3, 1), lambda sigma: 3.0])
@pytest.mark.parametrize(
    ("sigma", "error", "message"),
    [
        (torch.ones(4, dtype=torch.int64), ValueError, "sigma must hold floating-point numbers"),
        (1.0, TypeError, "sigma must be a tensor of 4 noise levels, or of one; got float"),
        (np.ones(4), TypeError, "got ndarray"),
    ],
)
def test_what_is_no_noise_level(net, schedule, sigma, error, message):
    x, y = batch(4, 3)
    with pytest.raises(error, match=message):
        kdist.guide(net, schedule, uncond={"class_cond": 10})(x, sigma, class_cond=y)


@pytest.mark.parametrize("batched", [True, False])
def test_check_finite_names_the_sigma(batched):
    def broken(x, sigma, class_cond):
        return torch.where((sigma < 1)[:, None], torch.nan, x)

    x, y = batch(4, 3)
    sigma = torch.tensor([2.0, 0.25, 2.0, 0.25])
    quiet = kdist.guide(broken, 3.0, uncond={"class_cond": 10}, batched=batched)
    assert quiet(x, sigma, class_cond=y).isnan().any()
    loud = kdist.guide(broken, 3.0, uncond={"class_cond": 10}, batched=batched, check_finite=True)
    with pytest.raises(FloatingPointError, match=r"not finite at sigma=\[0.25\] .* the input there was finite"):
        loud(x, sigma, class_cond=y)


def test_what_is_not_callable(net):
    with pytest.raises(TypeError, match="model must be callable"):
        kdist.guide("model.pt", 3.0, uncond={"class_cond": 10})
    with pytest.raises(TypeError, match="schedule must be callable"):
        kdist.guide(net, "4", uncond={"class_cond": 10})


# Numbers of every kind


@pytest.mark.parametrize(
    "scale",
    [7.5, np.float32(7.5), np.float64(7.5), torch.tensor(7.5), torch.tensor(7.5, dtype=torch.float16)],
    ids=repr,
)
def test_a_scale_is_any_real_number(net, scale):
    x, y = batch(4, 3)
    expected = kdist.guide(net, 7.5, uncond={"class_cond": 10})(x, torch.ones(4), class_cond=y)
    assert torch.equal(kdist.guide(net, scale, uncond={"class_cond": 10})(x, torch.ones(4), class_cond=y), expected)


# What the model returns


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(
    "wrong", [lambda x: x[:1], lambda x: x.mean(0), lambda x: x[:, :1], lambda x: torch.cat([x, x]), lambda x: x[None]]
)
@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_predictions_of_another_shape_are_refused(batched, wrong, scale):
    x, y = batch(4, 3)
    guided = kdist.guide(lambda x, sigma, class_cond: wrong(x), scale, uncond={"class_cond": 10}, batched=batched)
    with pytest.raises(ValueError, match=r"prediction has shape .* for x of shape"):
        guided(x, torch.ones(4), class_cond=y)


def test_a_model_that_returns_no_tensor():
    x, y = batch(4, 3)
    guided = kdist.guide(lambda x, sigma, class_cond: (x,), 3.0, uncond={"class_cond": 10})
    with pytest.raises(TypeError, match="must return one tensor, denoised; got tuple"):
        guided(x, torch.ones(4), class_cond=y)


# Rows that differ


@pytest.mark.parametrize("rule", [None, kdist.rules.rescaled, kdist.rules.projected, kdist.rules.zero_star])
@pytest.mark.parametrize(
    "scales", [[4.0, 0.0, 1.0, 2.0], [1.0, 0.0, 0.0, 1.0], [0.0, 3.0, 0.0, 3.0], [-1.0, 1.0, -1.0, 1.0]]
)
@pytest.mark.parametrize("batched", [True, False])
def test_rows_alone_and_together_agree(rule, scales, batched):
    """Every mixture of passes against the rule on whole predictions; a row that needs one gets exactly that one."""

    def model(x, sigma, class_cond):
        return torch.tanh(x * sigma[:, None] + class_cond[:, None])

    x, y = batch(4, 6, dtype=torch.float64)
    sigma = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    guided = kdist.guide(model, kdist.PerRow(1.0, scales), uncond={"class_cond": 10}, rule=rule, batched=batched)
    denoised = guided(x, sigma, class_cond=y)
    cond, uncond = model(x, sigma, y), model(x, sigma, torch.full_like(y, 10))
    column = torch.tensor(scales, dtype=torch.float64)[:, None]
    expected = (rule or linear)(cond, uncond, column, x, sigma[:, None])
    torch.testing.assert_close(denoised, expected, rtol=1e-12, atol=1e-12)  # float64 rounding
    to_cond, to_uncond = kdist.rules.reductions(rule or linear)
    for row, scale in enumerate(scales):
        if scale == 1 and to_cond:
            torch.testing.assert_close(denoised[row], cond[row], rtol=1e-14, atol=1e-14)  # batch size alone
        if scale == 0 and to_uncond:
            torch.testing.assert_close(denoised[row], uncond[row], rtol=1e-14, atol=1e-14)
    alone = sum((s == 1 and to_cond) or (s == 0 and to_uncond) for s in scales)
    assert guided.nfe == 2 - alone / 4


def test_a_scale_below_zero_needs_both_passes(net):
    x, y = batch(4, 3)
    guided = kdist.guide(net, kdist.LateNegative(4.0, 1.0, late=-0.5), uncond={"class_cond": 10})
    denoised = guided(x, torch.full((4,), 0.5), class_cond=y)
    assert guided.nfe == 2
    torch.testing.assert_close(denoised, x * 0.5 + (10 - 0.5 * (y - 10))[:, None])
    mixed = kdist.guide(net, kdist.PerRow(1.0, [-0.5, 0.0, 1.0, 2.0]), uncond={"class_cond": 10})
    scale = torch.tensor([-0.5, 0.0, 1.0, 2.0])
    torch.testing.assert_close(
        mixed(x, torch.full((4,), 0.5), class_cond=y), x * 0.5 + (10 + scale * (y - 10))[:, None]
    )
    assert mixed.nfe == 1.5  # two rows need both


def test_a_row_that_needs_one_pass_gets_it_to_the_last_bit():
    """On the noise, x - (x - cond) would be rounded where x is large beside the data."""
    x, y = batch(4, 3)
    net, x = Net(gain=1e-3), 1e3 * x
    rule = partial(kdist.rules.on_noise, rule=linear)
    guided = kdist.guide(net, kdist.PerRow(1.0, [1.0, 3.0, 0.0, 1.0]), uncond={"class_cond": 10}, rule=rule)
    denoised = guided(x, torch.ones(4), class_cond=y)
    for row, label in ((0, y), (2, torch.full_like(y, 10)), (3, y)):
        assert torch.equal(denoised[row], net(x, torch.ones(4), label)[row])
