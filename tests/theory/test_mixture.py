"""Exact mixtures: the scores are gradients, nothing is lost at extreme noise, and every solver can sample them."""

import math
import resource

import numpy as np
import pytest
import torch

import kdist
from kdist.compat import import_k_diffusion
from kdist.solvers import SOLVERS, sample
from kdist.theory.mixture import GaussianMixtureDenoiser

D, COMPONENTS = 5, 6
LABELS = [2, 0, 1, 1, 2, 2]


def spd(count, d, generator):
    """Random covariances with eigenvalues between 0.2 and about 3."""
    a = torch.randn(count, d, d, generator=generator, dtype=torch.float64)
    return a @ a.mT / d + 0.2 * torch.eye(d, dtype=torch.float64)


def make(kind, labels=LABELS, **options):
    g = torch.Generator().manual_seed(1)
    means = torch.randn(COMPONENTS, D, generator=g, dtype=torch.float64)
    weights = torch.rand(COMPONENTS, generator=g, dtype=torch.float64) + 0.2
    full = spd(COMPONENTS, D, g)
    covariances = {
        "full": full,
        "diagonal": full.diagonal(dim1=1, dim2=2),
        "isotropic": full[:, 0, 0],
        "shared": 0.4,
    }[kind]
    dense = {
        "full": full,
        "diagonal": torch.diag_embed(full.diagonal(dim1=1, dim2=2)),
        "isotropic": full[:, 0, 0, None, None] * torch.eye(D, dtype=torch.float64),
        "shared": 0.4 * torch.eye(D, dtype=torch.float64).expand(COMPONENTS, D, D),
    }[kind]
    model = GaussianMixtureDenoiser(means, covariances, weights, labels=labels, **options)
    return model, means, dense, weights


def reference_log_prob(x, sigma, c, means, dense, weights, labels):
    """Straight from torch.distributions, over the components of class c (all of them for c = K)."""
    own = torch.tensor([j for j, label in enumerate(labels) if c in (label, max(labels) + 1)])
    noised = dense[own] + sigma**2 * torch.eye(D, dtype=torch.float64)
    each = torch.distributions.MultivariateNormal(means[own], noised).log_prob(x[:, None])
    return (each + (weights[own] / weights[own].sum()).log()).logsumexp(1)


@pytest.mark.parametrize("kind", ["full", "diagonal", "isotropic", "shared"])
@pytest.mark.parametrize("sigma", [0.01, 0.7, 30.0])
def test_log_density_score_and_denoised_agree_with_torch_distributions(kind, sigma):
    model, means, dense, weights = make(kind)
    g = torch.Generator().manual_seed(2)
    x = (means[torch.arange(8) % COMPONENTS] + sigma * torch.randn(8, D, generator=g, dtype=torch.float64)).detach()
    for c in range(4):
        x.requires_grad_(True)
        expected = reference_log_prob(x, sigma, c, means, dense, weights, LABELS)
        (gradient,) = torch.autograd.grad(expected.sum(), x)
        with torch.no_grad():
            # 1e-10: float64 rounding through a 5 x 5 solve, amplified by 1/variance <= 5 and the softmax
            torch.testing.assert_close(model.log_prob(x, sigma, c), expected.detach(), rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(model.score(x, sigma, c), gradient, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(model(x, sigma, c), (x + sigma**2 * gradient), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["full", "diagonal", "isotropic", "shared"])
def test_score_is_autograd_of_own_log_density(kind):
    model, *_ = make(kind)
    g = torch.Generator().manual_seed(3)
    x = (2 * torch.randn(7, D, generator=g, dtype=torch.float64)).requires_grad_(True)
    sigma = torch.tensor([0.01, 0.1, 0.3, 1, 3, 10, 100], dtype=torch.float64)
    classes = torch.tensor([0, 1, 2, 3, 3, 2, 0])
    (gradient,) = torch.autograd.grad(model.log_prob(x, sigma, classes).sum(), x)
    torch.testing.assert_close(model.score(x, sigma, classes), gradient, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("labels", [None, LABELS])
@pytest.mark.parametrize("kind", ["full", "diagonal", "isotropic", "shared"])
def test_rows_are_independent(kind, labels):
    """Mixed classes and sigmas in one batch give what each row gives alone, in any shape and chunk size."""
    model, *_ = make(kind, labels)
    tiny, *_ = make(kind, labels, chunk_elements=1)
    g = torch.Generator().manual_seed(4)
    x = torch.randn(9, 1, D, generator=g, dtype=torch.float64)
    sigma = torch.logspace(-2, 1, 9, dtype=torch.float64)
    classes = torch.arange(9) % (model.num_classes + 1)
    together = model(x, sigma, classes)
    assert together.shape == x.shape
    alone = torch.cat([model(x[i : i + 1], sigma[i], int(classes[i])) for i in range(9)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)  # only the order of sums differs
    torch.testing.assert_close(tiny(x, sigma, classes), together, rtol=1e-12, atol=1e-12)
    assert model(x[:0], sigma[:0], classes[:0]).shape == (0, 1, D)


@pytest.mark.parametrize("kind", ["full", "diagonal", "isotropic", "shared"])
def test_extreme_noise_levels(kind):
    model, means, _, weights = make(kind)
    g = torch.Generator().manual_seed(5)
    clean = torch.randn(4, D, generator=g, dtype=torch.float64)
    # sigma -> 0: D = x + sigma^2 * score with |score| of order 10 here, so D - x is below 1e-6
    torch.testing.assert_close(model(clean, 1e-4, 3), clean, rtol=0, atol=1e-6)
    torch.testing.assert_close(model(clean, 0.0, 3), clean, rtol=0, atol=1e-13)
    # sigma -> inf: D tends to the mixture's mean; corrections are covariance * x / sigma^2 ~ 1e-3 at sigma = 1e4
    noisy = 1e4 * torch.randn(4, D, generator=g, dtype=torch.float64)
    mean = (weights[:, None] * means).sum(0) / weights.sum()
    torch.testing.assert_close(model(noisy, 1e4, 3), mean.expand(4, D), rtol=0, atol=5e-3)
    far = 1e6 * torch.ones(1, D, dtype=torch.float64)  # every density underflows there
    for sigma in (1e-4, 1.0, 1e4):
        assert model(far, sigma, 3).isfinite().all()
        assert model.score(far, sigma, 3).isfinite().all()


def test_float32_in_float32_out_computed_in_float64():
    model, *_ = make("full")
    x = torch.randn(3, D, generator=torch.Generator().manual_seed(6))
    out = model(x, torch.full((3,), 0.5), torch.tensor([0, 1, 3]))
    assert out.dtype == torch.float32
    exact = model(x.double(), 0.5, torch.tensor([0, 1, 3]))
    torch.testing.assert_close(out, exact.float(), rtol=0, atol=0)
    assert make("shared", dtype=torch.float32)[0].means.dtype == torch.float32


def test_million_centres_in_bounded_memory():
    """d = 46 and a million centres; beside the centres themselves (184 MB in float32) almost nothing is held."""
    g = torch.Generator().manual_seed(7)
    means = torch.randn(10**6, 46, generator=g)
    model = GaussianMixtureDenoiser(means, 0.1, dtype=torch.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    x = (means[:2] + 0.5 * torch.randn(2, 46, generator=g)).repeat(2, 1)
    out = model(x, torch.tensor([0.5, 5.0, 0.5, 5.0]), torch.tensor([10**6, 10**6, 0, 1]))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # in kB
    assert grown < 400_000  # the naive (rows, centres, d) array alone would take 740 MB
    # at sigma = 0.5 the own centre is d (log(1.35 / 0.35) / 2 - log(1e6) / d) ~ 17 nats above all others together
    torch.testing.assert_close(out[0], out[2], rtol=0, atol=1e-4)
    # at sigma = 5 the sum is over very many centres, whose law is N(0, 1): D = x (1.1 / 26.1); a mean over some 10^5
    # effective centres of unit variance leaves about 0.003 per coordinate, times (25 / 25.1)
    torch.testing.assert_close(out[1], x[1] * (1.1 / 26.1), rtol=0, atol=0.02)


def test_samples_have_the_moments_and_sub_classes_of_their_class():
    model, means, dense, weights = make("full")
    n = 40_000
    classes = torch.tensor([1, 3]).repeat_interleave(n)
    drawn = model.sample(classes, generator=torch.Generator().manual_seed(8), sigma=0.5).split(n)
    for c, x in zip((1, 3), drawn, strict=True):
        own = torch.tensor([j for j, label in enumerate(LABELS) if c in (label, 3)])
        p = weights[own] / weights[own].sum()
        mean = (p[:, None] * means[own]).sum(0)
        second = (p[:, None, None] * (dense[own] + means[own, :, None] * means[own, None])).sum(0)
        cov = second - mean[:, None] * mean + 0.25 * torch.eye(D)
        # 4.5 standard errors; over 10 numbers a false alarm has a chance below 1e-4
        assert ((x.mean(0) - mean).abs() < 4.5 * (cov.diagonal() / n).sqrt()).all()
        # fourth moments of these mixtures are below those of a Gaussian twice as wide
        bound = 4.5 * math.sqrt(2) * 2 * cov.diagonal().max() / math.sqrt(n)
        assert (x.T.cov() - cov).abs().max() < bound


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_brings_class_means_and_variances(solver):
    """One Gaussian per class under each k-diffusion solver: 60 steps from sigma = 40."""
    K = import_k_diffusion()
    model = GaussianMixtureDenoiser([[1.0, -1.0], [-2.0, 0.5]], [[0.5, 0.2], [0.3, 1.0]])
    sigmas = K.sampling.get_sigmas_karras(60, 0.02, 40.0)
    n = 3000
    with torch.random.fork_rng():
        torch.manual_seed(9)
        x = torch.randn(2 * n, 2) * sigmas[0]
        classes = torch.tensor([0, 1]).repeat_interleave(n)
        options = {"noise_sampler": lambda *_: torch.randn(2 * n, 2)} if solver.endswith(("sde", "ancestral")) else {}
        out = sample(solver, model, x, sigmas, extra_args={"class_cond": classes}, **options)
    for got, mean, variance in zip(out.split(n), model.means, model.variances, strict=True):
        # 4 standard errors of the mean, plus what 60 steps of a first-order solver leave
        assert ((got.double().mean(0) - mean).abs() < 4 * (variance / n).sqrt() + 0.02).all()
        # 4 standard errors sqrt(2/n) = 0.10, plus 12 %: Euler's and the ancestral solvers' own loss at 60 steps
        assert ((got.double().var(0) / variance - 1).abs() < 4 * math.sqrt(2 / n) + 0.12).all()


def test_under_guide_the_constant_law_of_the_gaussian_pair():
    """A narrow class guided away from a wide one, both Gaussian: V = c (c/u)^w at w = 1 (G2)."""
    model = GaussianMixtureDenoiser([[0.0], [0.0]], [[0.25], [1.0]], labels=[0, 1])
    n, sigmas = 4000, import_k_diffusion().sampling.get_sigmas_karras(200, 0.02, 80.0).double()
    x = torch.randn(n, 1, generator=torch.Generator().manual_seed(10), dtype=torch.float64) * 80
    guided = kdist.guide(model, 2.0, uncond={"class_cond": 1})
    out = sample("dpmpp_2m", guided, x, sigmas, extra_args={"class_cond": torch.zeros(n, dtype=torch.long)})
    # the flow is linear, so the ratio to the start's own variance has no Monte Carlo error; 200 steps leave below 1 %
    assert float(out.var() / x.var() * 80**2) == pytest.approx(0.25**2, rel=0.02)


def test_fit_recovers_moments_and_is_scikit_learns_with_shrinkage():
    from sklearn.covariance import ledoit_wolf, oas

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 1, 2, 3)) * np.arange(1, 7).reshape(1, 2, 3), np.arange(30) % 3
    flat = x.reshape(30, 6)
    model = GaussianMixtureDenoiser.fit(x, y)
    assert model.sample_shape == (1, 2, 3)
    np.testing.assert_allclose(model.means, [flat[y == c].mean(0) for c in range(3)], atol=1e-12)
    covariance = (model.axes * model.variances[:, None]) @ model.axes.mT
    np.testing.assert_allclose(covariance, [np.cov(flat[y == c], rowvar=False) for c in range(3)], atol=1e-10)
    for name, estimate in (("ledoit_wolf", ledoit_wolf), ("oas", oas)):
        model = GaussianMixtureDenoiser.fit(x, y, shrinkage=name)
        covariance = (model.axes * model.variances[:, None]) @ model.axes.mT
        # scikit-learn divides by n, as the plain covariance here does not
        np.testing.assert_allclose(covariance[1], estimate(flat[y == 1])[0] * 10 / 9, atol=1e-10)
    whole = GaussianMixtureDenoiser.fit(x, y, shrinkage=1.0)  # all of it: a multiple of the identity
    np.testing.assert_allclose(whole.variances[0], np.cov(flat[y == 0], rowvar=False).trace() / 6, rtol=1e-10)


def test_fit_of_fewer_samples_than_dimensions_floors_the_missing_directions():
    x = np.random.default_rng(1).normal(size=(6, 8))
    model = GaussianMixtureDenoiser.fit(x, [0, 0, 0, 1, 1, 1], floor=1e-4)
    for c in range(2):
        values = np.linalg.eigvalsh(np.cov(x[3 * c : 3 * c + 3], rowvar=False))
        expected = np.maximum(values, 1e-4 * values.mean())
        np.testing.assert_allclose(model.variances[c], expected, rtol=1e-8)


def test_fit_on_digits_works_as_it_is():
    from kdist.digits import load_data

    x, y = load_data()
    model = GaussianMixtureDenoiser.fit(x, y)
    assert (model.num_classes, model.means.shape) == (10, (10, 64))
    assert model(x[:20], 0.5, y[:20]).isfinite().all()


def test_empirical_class_is_the_mixture_of_its_samples():
    g = torch.Generator().manual_seed(11)
    x, y = torch.randn(12, 3, generator=g, dtype=torch.float64), torch.tensor([0, 1, 2] * 4)
    model = GaussianMixtureDenoiser.empirical(x, y, 0.3)
    at = torch.randn(5, 3, generator=g, dtype=torch.float64)
    spread = 0.3**2 + 0.5**2
    for c in range(4):
        own = x if c == 3 else x[y == c]
        r = (-(at[:, None] - own).square().sum(-1) / (2 * spread)).softmax(1)
        expected = (0.5**2 * r @ own + 0.3**2 * at) / spread
        torch.testing.assert_close(model(at, 0.5, c), expected, rtol=1e-12, atol=1e-12)
    single = GaussianMixtureDenoiser.empirical(x[:1], [0], 0.3)
    torch.testing.assert_close(single(at, 0.5, 0), single(at, 0.5, 1), rtol=0, atol=1e-12)


def test_state_dict_and_device_move():
    model, *_ = make("full")
    other, *_ = make("full")
    other.load_state_dict(model.state_dict())
    x = torch.ones(1, D, dtype=torch.float64)
    torch.testing.assert_close(other(x, 1.0, 0), model(x, 1.0, 0))


MEANS = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((MEANS, 0.0), "positive definite"),
        ((MEANS, -1.0), "positive definite"),
        ((MEANS, [1.0, -1.0]), "positive definite"),
        ((MEANS, np.stack([np.eye(3), np.diag([1.0, 1.0, 0.0])])), "positive definite"),
        ((MEANS, np.stack([np.eye(3), np.eye(3) - 2 * np.ones((3, 3))])), "positive definite"),
        ((MEANS, np.stack([np.eye(3), np.triu(np.ones((3, 3)))])), "symmetric"),
        ((MEANS, np.ones(3)), "covariances must be"),
        ((MEANS, np.ones((2, 3, 2))), "covariances must be"),
        ((MEANS, np.nan), "covariances must be finite"),
        ((MEANS + np.inf, 1.0), "means must be finite"),
        ((np.zeros(3), 1.0), "means must be"),
        ((np.zeros((0, 3)), 1.0), "means must be"),
        ((MEANS, 1.0, [1.0, 0.0]), "weights must be"),
        ((MEANS, 1.0, [1.0]), "weights must be"),
        ((MEANS, 1.0, [1.0, np.nan]), "weights must be finite"),
        (("means", 1.0), "means must be an array of numbers"),
    ],
)
def test_bad_parameters(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixtureDenoiser(*arguments)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, 2], "none is in class 1"), ([0], "2 integers"), ([0.0, 1.0], "2 integers"), ([0, -1], "0..K-1")],
)
def test_bad_labels(labels, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixtureDenoiser(MEANS, 1.0, labels=labels)


@pytest.mark.parametrize(
    ("x", "sigma", "c", "message"),
    [
        (torch.zeros(2, 4), 1.0, 0, "3 numbers per sample"),
        (torch.zeros(2, 3), -1.0, 0, "sigma must be finite"),
        (torch.zeros(2, 3), math.nan, 0, "sigma must be finite"),
        (torch.zeros(2, 3), math.inf, 0, "sigma must be finite"),
        (torch.zeros(2, 3), torch.ones(3), 0, "one per sample"),
        (torch.zeros(2, 3), 1.0, 3, r"0\.\.2 \(2 is unconditional\)"),
        (torch.zeros(2, 3), 1.0, torch.tensor([0, -1]), r"0\.\.2"),
        (torch.zeros(2, 3), 1.0, torch.tensor([0, 1, 1]), "one per sample"),
        (torch.zeros(2, 3), 1.0, torch.tensor([0.0, 1.0]), "one integer"),
    ],
)
def test_bad_calls(x, sigma, c, message):
    model = GaussianMixtureDenoiser(MEANS, 1.0)
    for method in (model, model.score, model.log_prob):
        with pytest.raises(ValueError, match=message):
            method(x, sigma, c)


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (np.zeros((3, 2)), [0, 0, 1], {}, "no variance"),
        (np.eye(3), [0, 0, 1], {}, "class 1 has one sample"),
        (np.eye(3), [0, 0, 2], {}, "none is in class 1"),
        (np.eye(3), [0, 0], {}, "3 integers"),
        (np.full((3, 2), np.nan), [0, 0, 0], {}, "x must be finite"),
        (np.eye(3), [0, 0, 0], {"shrinkage": "much"}, "shrinkage must be"),
        (np.eye(3), [0, 0, 0], {"shrinkage": 2.0}, "shrinkage must be"),
        (np.eye(3), [0, 0, 0], {"floor": 0.0}, "floor"),
    ],
)
def test_bad_fits(x, y, options, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixtureDenoiser.fit(x, y, **options)


@pytest.mark.parametrize("width", [0.0, -0.1, math.nan, math.inf])
def test_bad_widths(width):
    with pytest.raises(ValueError, match="width"):
        GaussianMixtureDenoiser.empirical(np.eye(3), [0, 1, 2], width)


def test_empirical_with_an_empty_class():
    with pytest.raises(ValueError, match="none is in class 1"):
        GaussianMixtureDenoiser.empirical(np.eye(2), [0, 2], 0.1)


def test_samples_stay_in_their_class_to_the_last_digit(monkeypatch):
    """The largest float32 below 1 lands on the class's upper edge by rounding: 0.5 + 0.25 u = 0.75."""
    model = GaussianMixtureDenoiser([[0.0], [10.0], [20.0]], 1e-6, [0.5, 0.25, 0.25], dtype=torch.float32)
    largest = 1 - 2.0**-24
    monkeypatch.setattr(torch, "rand", lambda size, **options: torch.full((size,), largest, dtype=torch.float32))
    drawn = model.sample(torch.tensor([0, 1, 2, 3]))
    np.testing.assert_allclose(drawn[:, 0], [0, 10, 20, 20], atol=0.01)  # ten standard deviations
