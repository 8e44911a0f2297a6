"""Gaussian pairs: the reference table, closed forms, limits and what bad input gets. Numbers (n): docs/theory.md."""

import itertools
import math
import time
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad, solve_ivp

from kdist import Clip, Constant, LinearInVariance, NegativeWindow, Piecewise
from kdist.theory import FullGaussianPair, GaussianPair, GuidanceWidensWarning, compare, distortion, moments

TABLE_PAIR = GaussianPair([1.0, 0.5, -0.7], [0.05, 0.3, 0.8], 0.0, 1.0)
WINDOW = NegativeWindow(scale=4, sigma_lo=0.2, sigma_hi=1.0, inside=0)
# integrated independently, from sigma 80 to 1e-4: (noise, schedule, means, variances)
TABLE = [
    (0, 2.0, [1.11049, 0.71317, -1.28857], [0.00250, 0.09001, 0.63994]),
    (0, 4.0, [1.08326, 0.82037, -2.24069], [1e-5, 0.00810, 0.40959]),
    (0, WINDOW, [1.24345, 0.90987, -1.79126], [0.00847, 0.12661, 0.63144]),
    (1, 2.0, [1.05000, 0.64999, -1.25986], [0.01754, 0.13900, 0.65067]),
    (1, 4.0, [1.05263, 0.70850, -2.06622], [0.00752, 0.06121, 0.45159]),
    (1, WINDOW, [1.04371, 0.62383, -1.28961], [0.01406, 0.32317, 0.77521]),
]


def full_of(pair, seed=0):
    """The same pair in rotated coordinates, and the rotation."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(pair.cond_var),) * 2))
    c, u = (q @ np.diag(v) @ q.T for v in (pair.cond_var, pair.uncond_var))
    return FullGaussianPair(q @ pair.cond_mean, c, q @ pair.uncond_mean, u), q


def random_full(d, seed):
    """A class inside a whole whose covariances do not commute."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, d, d))
    cond = a @ a.T / d + 0.05 * np.eye(d)
    return FullGaussianPair(rng.normal(size=d), cond, np.zeros(d), cond + b @ b.T / d)


@pytest.mark.parametrize(("noise", "schedule", "mean", "var"), TABLE)
def test_reference_table(noise, schedule, mean, var):
    law = moments(TABLE_PAIR, schedule, sigma_max=80, sigma_min=1e-4, noise=noise)
    # 1e-4 relative, plus the table's rounding to five decimals
    np.testing.assert_allclose(law.mean, mean, rtol=1e-4, atol=5e-6)
    np.testing.assert_allclose(law.var, var, rtol=1e-4, atol=5e-6)


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 1.0, 2.0, 7.5, 40.0])
def test_constant_scale_shrinks_by_a_power(scale):
    """(7): V = c (c/u)^w from infinity, and with its finite-start factor."""
    c, u, w = TABLE_PAIR.cond_var, TABLE_PAIR.uncond_var, scale - 1
    law = moments(TABLE_PAIR, Constant(scale), sigma_max=math.inf)
    np.testing.assert_allclose(law.var, c * (c / u) ** w, rtol=1e-9)  # quadrature: 1e-12 per unit of w
    T = 9.0
    finite = T * c / (c + T) * (c / u * (u + T) / (c + T)) ** w
    np.testing.assert_allclose(moments(TABLE_PAIR, scale, sigma_max=3).var, finite, rtol=1e-9)


def test_unguided_ode_and_sde_give_the_class_itself():
    for noise in (0, 0.3, 1, 2):
        law = moments(TABLE_PAIR, 1.0, sigma_max=math.inf, noise=noise)
        np.testing.assert_allclose(law.mean, TABLE_PAIR.cond_mean, rtol=1e-9)
        np.testing.assert_allclose(law.var, TABLE_PAIR.cond_var, rtol=1e-9)


def test_scale_zero_gives_the_whole():
    law = moments(TABLE_PAIR, 0.0, sigma_max=math.inf, noise=1)
    np.testing.assert_allclose(law.mean, TABLE_PAIR.uncond_mean, atol=1e-9)
    np.testing.assert_allclose(law.var, TABLE_PAIR.uncond_var, rtol=1e-9)


def test_ode_variance_is_an_exponential_of_one_integral():
    """(4) with an independent adaptive quadrature, split at the jumps."""
    law = moments(TABLE_PAIR, WINDOW, sigma_max=20)
    for i, (c, u) in enumerate(zip(TABLE_PAIR.cond_var, TABLE_PAIR.uncond_var, strict=True)):

        def kernel(t, c=c, u=u):
            return (WINDOW(math.sqrt(t)) - 1) * (1 / (c + t) - 1 / (u + t))

        cost = sum(quad(kernel, a, b, epsabs=1e-13, epsrel=1e-12)[0] for a, b in [(0, 0.04), (0.04, 1), (1, 400)])
        assert law.var[i] == pytest.approx(400 * c / (c + 400) * math.exp(-cost), rel=1e-8)


@settings(max_examples=25, deadline=None)
@given(
    c=st.floats(0.01, 3),
    u=st.floats(0.01, 3),
    mu=st.floats(-3, 3),
    noise=st.floats(0, 2),
    sigmas=st.lists(st.floats(0.05, 8), min_size=3, max_size=3, unique=True).map(lambda s: sorted(s, reverse=True)),
    scales=st.lists(st.floats(-1, 6), min_size=3, max_size=3),
    sigma_min=st.sampled_from([0.03, 0.2]),
)
def test_moments_solve_the_differential_equations(c, u, mu, noise, sigmas, scales, sigma_min):
    """(2), (3) integrated step by step with another method, for any pair and any steps."""
    schedule = Piecewise(tuple(sigmas), tuple(scales))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GuidanceWidensWarning)
        law = moments(GaussianPair(mu, c, 0.2, u), schedule, sigma_max=10, sigma_min=sigma_min, noise=noise)

    def slope(log_sigma, state, w):
        t = math.exp(2 * log_sigma)
        a = (1 + w) / (c + t) - w / (u + t)
        b = (1 + w) * mu / (c + t) - w * 0.2 / (u + t)
        return 2 * t * np.array([(1 + noise) / 2 * (a * state[0] - b), (1 + noise) * a * state[1] - noise])

    state = [0.0, 100.0]
    edges = [10.0, *(s for s in sigmas if s > sigma_min), sigma_min]
    for high, low in itertools.pairwise(edges):
        weight = schedule(math.sqrt(high * low)) - 1
        run = solve_ivp(slope, (math.log(high), math.log(low)), state, args=(weight,), rtol=1e-10, atol=1e-13)
        state = run.y[:, -1]
    # the reference method's own error, with a margin for steps it chains
    np.testing.assert_allclose([law.mean[0], law.var[0]], state, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("noise", [0, 1])
def test_infinity_is_the_limit_of_large_starts(noise):
    """(8): the distance to the limit falls as sigma_max^-(1 + noise) in the mean."""
    limit = moments(TABLE_PAIR, WINDOW, sigma_max=math.inf, noise=noise)
    gaps = []
    for sigma_max in (1e2, 1e3):
        law = moments(TABLE_PAIR, WINDOW, sigma_max=sigma_max, noise=noise)
        gaps.append(np.abs(law.mean - limit.mean).max())
        np.testing.assert_allclose(law.var, limit.var, rtol=4 * 4 / sigma_max**2)  # w u / T, (7)
    assert gaps[1] == pytest.approx(gaps[0] * 10 ** -(1 + noise), rel=0.05)


def test_jumps_and_kinks_of_callables_are_found():
    def window(sigma):
        return 4.0 if sigma > 1 or sigma <= 0.2 else 0.0

    clipped = Clip(LinearInVariance(w0=-0.5, omega=0.7, min_scale=-9), minimum=0.2, maximum=3)  # lists no breakpoints
    line = LinearInVariance(w0=-0.5, omega=0.7, min_scale=0.2, max_scale=3)
    for found, listed in ((window, WINDOW), (clipped, line)):
        for noise in (0, 1):
            a, b = (moments(TABLE_PAIR, s, sigma_max=80, noise=noise) for s in (found, listed))
            # a jump is placed to 1e-14 in log sigma, a kink to 1e-7 (and its error is quadratic in that)
            np.testing.assert_allclose(a.var, b.var, rtol=1e-8)
            np.testing.assert_allclose(a.mean, b.mean, rtol=1e-8)


def test_direction_count_costs_little():
    rng = np.random.default_rng(0)
    u = np.exp(rng.uniform(-6, 3, 4096))
    pair = GaussianPair(rng.normal(size=4096), u * rng.uniform(0.02, 0.98, 4096), 0.0, u)
    best = math.inf
    for _ in range(7):  # the best of several, in processor time: other work on the machine only adds
        start = time.process_time()
        law = moments(pair, WINDOW, sigma_max=80, noise=1)
        best = min(best, time.process_time() - start)
    assert best < 0.05
    alone = moments(pair[4000:4001], WINDOW, sigma_max=80, noise=1)
    assert law.var[4000] == pytest.approx(alone.var[0], rel=1e-9)


# Covariances that do not commute


@pytest.mark.parametrize("noise", [0, 1])
@pytest.mark.parametrize("sigma_max", [30.0, math.inf])
def test_full_pair_agrees_with_the_diagonal_one(noise, sigma_max):
    full, q = full_of(TABLE_PAIR)
    law = moments(full, WINDOW, sigma_max=sigma_max, noise=noise)
    flat = moments(TABLE_PAIR, WINDOW, sigma_max=sigma_max, noise=noise)
    np.testing.assert_allclose(q.T @ law.mean, flat.mean, rtol=1e-7)  # the adaptive method's tolerance, with a margin
    np.testing.assert_allclose(q.T @ law.cov @ q, np.diag(flat.var), rtol=1e-7, atol=1e-9)


def test_full_pair_agrees_with_a_fine_heun_run():
    """(9) against k-diffusion's Heun on the matching exact linear denoiser; its error falls as steps^-2."""
    from kdist.compat import import_k_diffusion

    pair, schedule = random_full(3, seed=1), NegativeWindow(3.0, 0.3, 1.0, ramp=1.0)
    C, U, mu = (torch.from_numpy(v) for v in (pair.cond_cov, pair.uncond_cov, pair.cond_mean))
    eye = torch.eye(3, dtype=torch.float64)

    def model(x, sigma):
        t = sigma[0] ** 2
        cond = mu + (x - mu) @ torch.linalg.solve(C + t * eye, C)
        uncond = x @ torch.linalg.solve(U + t * eye, U)
        return uncond + schedule(float(sigma[0])) * (cond - uncond)

    law = moments(pair, schedule, sigma_max=20, sigma_min=0.01)
    start = 20 * torch.cat([torch.zeros(1, 3, dtype=torch.float64), eye])  # zero and unit starts give the affine map
    ends = []
    for steps in (50, 100, 200):
        sigmas = torch.logspace(math.log10(20), -2, steps + 1, dtype=torch.float64)
        end = import_k_diffusion().sampling.sample_heun(model, start, sigmas, disable=True).numpy()
        response = end[1:] - end[0]
        ends.append(np.concatenate([end[:1] - law.mean, response.T @ response - law.cov]))
    sizes = np.linalg.norm(ends, axis=(1, 2))
    assert np.log2(sizes[1] / sizes[2]) == pytest.approx(2, abs=0.1)  # second order
    # two steps of extrapolation remove the h^2 and h^3 terms
    coarse, fine = ((4 * b - a) / 3 for a, b in itertools.pairwise(ends))
    assert np.abs((8 * fine - coarse) / 7).max() < 1e-5  # from 5e-4 at 200 steps; the ramp's kinks stop it there


def test_noise_in_a_full_pair_is_the_reverse_sde():
    """Without guidance the reverse SDE gives the class covariance, whatever the whole is."""
    pair = random_full(4, seed=2)
    law = moments(pair, 1.0, sigma_max=math.inf, noise=1)
    np.testing.assert_allclose(law.cov, pair.cond_cov, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(law.mean, pair.cond_mean, rtol=1e-7, atol=1e-8)
    assert np.linalg.eigvalsh(law.cov - moments(pair, 3.0, sigma_max=math.inf, noise=1).cov)[-1] > 0


# Distortion


def test_distortion_of_a_constant_scale():
    c, u = TABLE_PAIR.cond_var, TABLE_PAIR.uncond_var
    for pair in (TABLE_PAIR, full_of(TABLE_PAIR)[0]):
        d = distortion(pair, 2.0, sigma_max=math.inf)
        np.testing.assert_allclose(np.sort(d.variance_ratio), np.sort(c / u), rtol=1e-6)
        assert d.log_det_ratio == pytest.approx(np.log(c / u).sum(), rel=1e-6)
        assert d.trace_ratio == pytest.approx((c**2 / u).sum() / c.sum(), rel=1e-6)
        gap = TABLE_PAIR.cond_mean - TABLE_PAIR.uncond_mean
        shift = moments(TABLE_PAIR, 2.0, sigma_max=math.inf).mean - TABLE_PAIR.cond_mean
        assert d.overshoot == pytest.approx(shift @ gap / (gap @ gap), rel=1e-6)
        assert d.mean_shift == pytest.approx(np.linalg.norm(shift), rel=1e-6)
        assert "trace ratio" in str(d)
        assert "overshoot" in str(d)


def test_no_guidance_no_distortion():
    d = distortion(TABLE_PAIR, 1.0, sigma_max=math.inf)
    assert (d.overshoot, d.trace_ratio, d.log_det_ratio) == pytest.approx((0, 1, 0), abs=1e-8)


def test_overshoot_is_undefined_where_the_means_agree():
    assert math.isnan(distortion(GaussianPair(0.0, 0.5, 0.0, 1.0), 2.0, sigma_max=80).overshoot)


def test_full_pairs_are_compared_with_full_moments():
    with pytest.raises(TypeError, match="FullMoments"):
        compare(full_of(TABLE_PAIR)[0], moments(TABLE_PAIR, 2.0, sigma_max=80))


# From data


def test_from_data_finds_the_law():
    rng = np.random.default_rng(0)
    n, scales = 20_000, np.array([0.2, 0.5, 1.0])
    y = rng.integers(0, 2, n)
    x = rng.normal(size=(n, 3)) * scales + np.where(y == 1, 1.0, -1.0)[:, None]
    pair = GaussianPair.from_data(torch.from_numpy(x).reshape(n, 1, 3), torch.from_numpy(y), 1)
    # five standard errors of a variance from n/2 samples
    np.testing.assert_allclose(np.sort(pair.cond_var), scales**2, rtol=5 * math.sqrt(2 / (n / 2)))
    back = pair.basis.T @ pair.cond_mean
    np.testing.assert_allclose(back, np.ones(3), atol=5 * 1.0 / math.sqrt(n / 2))
    full = FullGaussianPair.from_data(x, y, 1, shrinkage=None)
    np.testing.assert_allclose(full.cond_cov, np.cov(x[y == 1].T), rtol=1e-12)
    np.testing.assert_allclose(full.uncond_cov, np.cov(x.T), rtol=1e-12)


@pytest.mark.parametrize("shrinkage", ["ledoit_wolf", "oas"])
def test_few_samples_still_give_a_class_inside_the_whole(shrinkage):
    """Ten samples of a class equal to the whole in 30 dimensions: shrinkage keeps every variance positive and finds
    hardly any guidance to do, where the sample covariance is singular."""
    rng = np.random.default_rng(1)
    scales = np.geomspace(0.01, 10, 30)
    x, y = rng.normal(size=(400, 30)) * scales, np.repeat(np.arange(40), 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GuidanceWidensWarning)
        pair = GaussianPair.from_data(x, y, 3, shrinkage=shrinkage)
    assert (pair.cond_var > 0).all()
    # true log-ratio 0; the plain estimate has rank 9 of 30, so 21 log-ratios of minus infinity
    assert np.abs(np.log(pair.cond_var / pair.uncond_var)).max() < 0.3
    with pytest.raises(ValueError, match="shrinkage"):
        GaussianPair.from_data(x, y, 3, shrinkage=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_": 7}, "is empty"),
        ({"class_": 2}, "one sample"),
        ({"labels": [0, 0, 1]}, "one for each row"),
        ({"features": [[0.0, 1], [1, math.nan], [2, 2], [0, 3], [1, 1]]}, "first is row 1"),
        ({"features": [1.0, 2, 3, 4, 5]}, "must be \\(N, ...\\)"),
        ({"shrinkage": "magic"}, "'ledoit_wolf', 'oas'"),
    ],
)
def test_bad_data(change, message):
    arguments = {
        "features": [[0.0, 1], [1, 0], [2, 2], [0, 3], [1, 1]],
        "labels": [0, 0, 0, 1, 2],
        "class_": 0,
        **change,
    }
    with pytest.raises(ValueError, match=message):
        GaussianPair.from_data(**arguments)


# Wider classes and bad input


def test_wider_classes_warn_and_widen():
    with pytest.warns(GuidanceWidensWarning, match="1 of 2 directions"):
        pair = GaussianPair([0.0, 1], [2.0, 0.5], 0.0, 1.0)
    law = moments(pair, 3.0, sigma_max=math.inf)
    np.testing.assert_allclose(law.var, [2.0 * 2**2, 0.5 * 0.5**2], rtol=1e-9)  # c (c/u)^w on both sides of 1
    assert moments(pair.capped(), 3.0, sigma_max=math.inf).var[0] == pytest.approx(2.0, rel=1e-9)
    assert moments(pair.projected(), 3.0, sigma_max=math.inf).var == pytest.approx([0.125], rel=1e-9)
    full = FullGaussianPair([0.0, 1], np.diag([2.0, 0.5]), [0, 0], np.eye(2))
    np.testing.assert_allclose(full.capped().uncond_cov, np.diag([2.0, 1.0]), atol=1e-12)
    with pytest.warns(GuidanceWidensWarning), pytest.raises(ValueError, match="nothing is left"):
        GaussianPair(0.0, 2.0, 0.0, 1.0).projected()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.0], [0.0], [0.0], [1.0]), "cond_var must be positive"),
        (([0.0], [1.0], [0.0], [-1.0]), "uncond_var must be positive"),
        (([0.0, 1], [1.0], [0.0], [1.0]), "one shape"),
        (([[0.0]], [[1.0]], [[0.0]], [[1.0]]), "one shape"),
        (([], [], [], []), "d >= 1"),
        (([math.nan], [1.0], [0.0], [1.0]), "cond_mean must be finite"),
        (([0.0], [1.0], [math.inf], [1.0]), "uncond_mean must be finite"),
    ],
)
def test_bad_pairs(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianPair(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.0, 0], np.eye(3), [0, 0], np.eye(2)), "cond_cov must have shape"),
        (([0.0, 0], np.eye(2), [0], np.eye(2)), "uncond_mean must have shape"),
        (([0.0, 0], [[1.0, 0.5], [0, 1]], [0, 0], np.eye(2)), "symmetric"),
        (([0.0, 0], [[1.0, 2], [2, 1]], [0, 0], np.eye(2)), "positive definite"),
        (([0.0, 0], np.eye(2), [0, 0], np.full((2, 2), math.nan)), "finite"),
    ],
)
def test_bad_full_pairs(arguments, message):
    with pytest.raises(ValueError, match=message):
        FullGaussianPair(*arguments)


@pytest.mark.parametrize(
    ("schedule", "options", "error", "message"),
    [
        (2.0, {"sigma_max": 0}, ValueError, "sigma_max must be above"),
        (2.0, {"sigma_max": 1, "sigma_min": 2}, ValueError, "sigma_max must be above"),
        (2.0, {"sigma_max": math.nan}, ValueError, "sigma_max"),
        (2.0, {"sigma_max": 80, "sigma_min": -1}, ValueError, "sigma_min"),
        (2.0, {"sigma_max": 80, "noise": -1}, ValueError, "noise"),
        (math.nan, {"sigma_max": 80}, ValueError, "not finite at sigma"),
        ("4", {"sigma_max": 80}, TypeError, "number or a callable"),
        (lambda sigma: math.log(sigma - 1), {"sigma_max": 80}, ValueError, "undefined at sigma"),
        (lambda sigma: 1 / 0, {"sigma_max": 80}, ValueError, "undefined at sigma"),
        (lambda sigma: math.inf if sigma < 0.1 else 2, {"sigma_max": 80}, ValueError, "not finite at sigma"),
        (LinearInVariance(w0=-0.5, omega=1.0), {"sigma_max": math.inf}, ValueError, "finite sigma_max"),
    ],
)
def test_bad_runs(schedule, options, error, message):
    for pair in (TABLE_PAIR, full_of(TABLE_PAIR)[0]):
        with pytest.raises(error, match=message):
            moments(pair, schedule, **options)


def test_overflow_is_said():
    with pytest.warns(GuidanceWidensWarning):
        pair = GaussianPair(0.0, 1.0, 0.0, 1e-6)
    with pytest.raises(ValueError, match="overflow"):
        moments(pair, 80.0, sigma_max=80)


def test_equal_variances_are_not_wider():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pair = GaussianPair(0.0, [1.0, 0.3], 0.0, [1.0, 0.3 * (1 - 1e-14)])
    assert not pair.wider.any()


def test_a_stochastic_run_from_infinity_starts_on_the_slow_solution():
    """(8): V = t + c - w (u - c) + O(1/t) at high t; a run that ends soon after its start has not forgotten it."""
    pair, w, end = GaussianPair(0.5, 0.3, 0.0, 1.0), 3.0, 1e3
    law = moments(pair, 1 + w, sigma_max=math.inf, sigma_min=end, noise=0.1)
    # quadrature: 1e-10 of 1e6
    assert law.var[0] - end**2 == pytest.approx(0.3 - w * 0.7, abs=1e-3)
    assert law.mean[0] == pytest.approx(0.5 + w * 0.5, abs=1e-5)
