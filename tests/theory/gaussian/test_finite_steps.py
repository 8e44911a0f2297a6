"""Finite-step moments against Monte Carlo, against the continuous answer, and what cannot be followed."""

import math
import warnings

import numpy as np
import pytest
import torch

from kdist import NegativeWindow
from kdist.compat import import_k_diffusion
from kdist.evals.sources.brownian import BrownianPath
from kdist.solvers import SOLVERS, get_solver, sample
from kdist.theory import (
    FullGaussianPair,
    FullMoments,
    GaussianPair,
    affine_denoiser,
    moments,
    solver_moments,
    solver_noise,
    solver_share,
)

PAIR = GaussianPair([1.0, -0.7], [0.05, 0.8], 0.0, 1.0)
WINDOW = NegativeWindow(scale=3, sigma_lo=0.2, sigma_hi=1.0, inside=0)
AFFINE = [name for name in SOLVERS if name != "dpm_adaptive"]
SDE = [name for name in AFFINE if solver_noise(name, eta=0.5)]


def smooth(sigma):
    """From scale 4 early to -0.2 late, without a kink that would hide a solver's order."""
    return 4 - 4.2 * 0.5 / (sigma**2 + 0.5)


def full_pair():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 2, 2))
    cond = a @ a.T / 2 + 0.1 * np.eye(2)
    return FullGaussianPair([1.0, -0.7], cond, [0, 0], cond + b @ b.T)


def brownian_path():
    """k-diffusion's own tree takes a quarter of a minute for as many samples."""
    return BrownianPath(lambda: torch.randn(MANY, 2, dtype=torch.float64))


MANY = 250_000  # a variance to 0.3 %, a mean to 0.2 % of the spread
BROWNIAN = ("dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde")


@pytest.mark.parametrize("name", AFFINE)
def test_impulses_agree_with_many_samples(name):
    sigmas = np.append(np.geomspace(10, 0.05, 6), 0)
    law = solver_moments(PAIR, WINDOW, name, sigmas)
    n, options = MANY, {"noise_sampler": brownian_path()} if name in BROWNIAN else {}
    drawn = solver_moments(PAIR, WINDOW, name, sigmas, method="monte_carlo", samples=n, seed=1, **options)
    # samples are Gaussian, so these are the standard errors of a mean and of a variance
    assert np.abs((drawn.mean - law.mean) / np.sqrt(law.var / n)).max() < 4
    assert np.abs((drawn.var - law.var) / (law.var * math.sqrt(2 / n))).max() < 4


@pytest.mark.parametrize("name", BROWNIAN)
def test_impulses_agree_with_the_brownian_tree(name):
    """k-diffusion's own noise, that users get, at a number of samples that it can draw in a second."""
    sigmas, n = np.append(np.geomspace(10, 0.05, 6), 0), 10_000
    law = solver_moments(PAIR, WINDOW, name, sigmas)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Should have tb<=t1", category=UserWarning)  # torchsde, on rounding
        drawn = solver_moments(PAIR, WINDOW, name, sigmas, method="monte_carlo", samples=n, seed=1)
    assert np.abs((drawn.mean - law.mean) / np.sqrt(law.var / n)).max() < 4
    assert np.abs((drawn.var - law.var) / (law.var * math.sqrt(2 / n))).max() < 4


def test_a_full_covariance_agrees_with_samples_too():
    pair, sigmas, n = full_pair(), np.append(np.geomspace(10, 0.05, 6), 0), 200_000
    law = solver_moments(pair, WINDOW, "euler_ancestral", sigmas)
    drawn = solver_moments(pair, WINDOW, "euler_ancestral", sigmas, method="monte_carlo", samples=n)
    assert isinstance(law, FullMoments)
    assert np.abs((drawn.mean - law.mean) / np.sqrt(law.var / n)).max() < 4
    error = np.sqrt((np.outer(law.var, law.var) + law.cov**2) / n)
    assert np.abs((drawn.cov - law.cov) / error).max() < 4


def test_full_and_diagonal_pairs_agree():
    sigmas = np.geomspace(10, 0.05, 9)
    full = FullGaussianPair(PAIR.cond_mean, np.diag(PAIR.cond_var), PAIR.uncond_mean, np.diag(PAIR.uncond_var))
    for name in ("dpmpp_2m", "dpmpp_sde"):
        a, b = (solver_moments(pair, WINDOW, name, sigmas) for pair in (PAIR, full))
        np.testing.assert_allclose(b.mean, a.mean, rtol=1e-9)
        np.testing.assert_allclose(b.cov, np.diag(a.var), rtol=1e-9, atol=1e-12)


def test_one_euler_step_by_hand():
    """From sigma to 0, Euler returns the denoiser's output: mean D(0), variance (sigma D')^2."""
    law = solver_moments(PAIR, 2.0, "euler", [3.0, 0.0])
    keep = [v / (v + 9) for v in (PAIR.cond_var, PAIR.uncond_var)]
    np.testing.assert_allclose(law.mean, 2 * PAIR.cond_mean * (1 - keep[0]), rtol=1e-12)
    np.testing.assert_allclose(law.var, 9 * (2 * keep[0] - keep[1]) ** 2, rtol=1e-12)


# order in the step's length, of mean and variance together: each solver's own as an ODE solver; noise leaves first
# order for ancestral steps (their noise replaces variance to first order only) and second for the SDE multistep ones
ORDERS = {
    "euler": 1, "heun": 2, "dpm_2": 2, "lms": 2, "dpm_fast": 3, "dpmpp_2m": 2, "euler_ancestral": 1,
    "dpm_2_ancestral": 1, "dpmpp_2s_ancestral": 1, "dpmpp_sde": 1, "dpmpp_2m_sde": 2, "dpmpp_3m_sde": 2,
}  # fmt: skip


@pytest.mark.parametrize("name", AFFINE)
def test_fine_steps_approach_the_continuous_answer(name):
    """Also the check of the table eta -> lam: another noise would leave a gap that does not close."""
    for options in [{}, {"eta": 0.5}] if name in SDE else [{}]:
        exact = moments(PAIR, smooth, sigma_max=10, sigma_min=0.01, noise=solver_noise(name, **options))
        errors = []
        for steps in (60, 120):
            sigmas = np.geomspace(10, 0.01, steps + 1)
            law = solver_moments(PAIR, smooth, name, sigmas, **options)
            errors.append(np.hypot(np.abs(law.mean - exact.mean).max(), np.abs(law.var / exact.var - 1).max()))
        order = ORDERS[name] if options == {} or name not in ("dpm_fast",) else 1
        assert np.log2(errors[0] / errors[1]) > order - 0.25  # the next order still shows at 60 steps


def test_own_functions_pass_through():
    sigmas = np.geomspace(10, 0.05, 9)
    by_name = solver_moments(PAIR, WINDOW, "sample_heun", sigmas)
    by_function = solver_moments(PAIR, WINDOW, get_solver("heun"), torch.from_numpy(sigmas))
    np.testing.assert_array_equal(by_name.var, by_function.var)


def test_options_reach_the_solver():
    sigmas = np.geomspace(10, 0.05, 9)
    quiet = solver_moments(PAIR, WINDOW, "euler_ancestral", sigmas, eta=0.0)
    np.testing.assert_allclose(quiet.var, solver_moments(PAIR, WINDOW, "euler", sigmas).var, rtol=1e-12)


def test_many_directions_are_one_run():
    rng = np.random.default_rng(0)
    u = rng.uniform(0.5, 2, 300)
    pair = GaussianPair(rng.normal(size=300), u * rng.uniform(0.1, 0.9, 300), 0.0, u)
    sigmas = np.append(np.geomspace(10, 0.05, 8), 0)
    law = solver_moments(pair, WINDOW, "dpmpp_2m_sde", sigmas)
    alone = solver_moments(pair[7:8], WINDOW, "dpmpp_2m_sde", sigmas)
    assert law.var[7] == pytest.approx(alone.var[0], rel=1e-9)


def test_random_state_is_left_alone():
    before = torch.get_rng_state()
    sigmas = np.geomspace(10, 0.05, 5)
    solver_moments(PAIR, WINDOW, "euler", sigmas)
    solver_moments(PAIR, WINDOW, "euler", sigmas, method="monte_carlo", samples=10)
    assert torch.equal(before, torch.get_rng_state())


# What cannot be followed by impulses


def test_monte_carlo_takes_the_rest():
    """Churn by gamma in steps of h in log sigma is noise lam = gamma / h, as steps grow fine."""
    n, steps, s_churn = 20_000, 100, 2.0
    sigmas = np.geomspace(10, 0.01, steps + 1)
    law = solver_moments(PAIR, 2.0, "heun", sigmas, method="monte_carlo", samples=n, s_churn=s_churn)
    exact = moments(PAIR, 2.0, sigma_max=10, sigma_min=0.01, noise=s_churn / math.log(1000))
    # four standard errors, and 2 % for the churn's first order in h
    np.testing.assert_allclose(law.var, exact.var, rtol=4 * math.sqrt(2 / n) + 0.02)
    assert np.abs(law.var / moments(PAIR, 2.0, sigma_max=10, sigma_min=0.01).var - 1).max() > 0.2  # it does matter
    adaptive = solver_moments(PAIR, 2.0, "dpm_adaptive", [10, 0.01], method="monte_carlo", samples=n, rtol=1e-3)
    exact = moments(PAIR, 2.0, sigma_max=10, sigma_min=0.01)
    np.testing.assert_allclose(adaptive.var, exact.var, rtol=4 * math.sqrt(2 / n) + 1e-2)  # plus its own tolerance


@pytest.mark.parametrize(
    ("sampler", "options", "message"),
    [
        ("dpm_adaptive", {}, "not affine.*monte_carlo"),
        ("euler", {"s_churn": 10.0}, "s_churn.*monte_carlo"),
        ("euler_ancestral", {"noise_sampler": lambda *_: 0}, "leave it out"),
        ("eulre", {}, "unknown solver"),
        ("dpmpp_2m", {"eta": 1.0}, "no option eta"),
        ("euler", {"method": "guess"}, "impulse"),
        ("euler", {"method": "monte_carlo", "samples": 1}, "at least 2"),
    ],
)
def test_bad_runs(sampler, options, message):
    with pytest.raises(ValueError, match=message):
        solver_moments(PAIR, WINDOW, sampler, [10.0, 1.0, 0.1], **options)


@pytest.mark.parametrize("sigmas", [[1.0], [1.0, 2.0], [2.0, 1.0, 1.0], [1.0, -1.0], [math.inf, 1.0], [math.nan, 1.0]])
def test_bad_sigmas(sigmas):
    with pytest.raises(ValueError, match="sigmas must be"):
        solver_moments(PAIR, WINDOW, "euler", sigmas)


def test_own_solvers_that_are_not_affine_or_hide_noise_are_found_out():
    def hides(model, x, sigmas, extra_args=None, callback=None, disable=None):
        return model(x, sigmas[0] * x.new_ones(len(x))) + torch.randn_like(x)

    def bends(model, x, sigmas, extra_args=None, callback=None, disable=None):
        return model(x, sigmas[0] * x.new_ones(len(x))) + x.abs()

    for solver in (hides, bends):
        with pytest.raises(ValueError, match="not affine in x, or draws noise"):
            solver_moments(PAIR, WINDOW, solver, [10.0, 1.0])


def test_overflow_is_said():
    pair = GaussianPair(0.0, 1e-9, 0.0, 1.0)
    with pytest.raises(ValueError, match="overflows"):
        solver_moments(pair, -1e200, "euler", np.geomspace(80, 1e-3, 10))


# Guidance's part and the solver's


def test_share_adds_up():
    sigmas = np.append(np.geomspace(80, 0.02, 20), 0)
    share = solver_share(PAIR, 1.5, "dpmpp_2m", sigmas)
    assert share.exact.trace_ratio == pytest.approx(
        moments(PAIR, 1.5, sigma_max=80).var.sum() / PAIR.cond_var.sum(), rel=1e-9
    )
    assert share.total.trace_ratio == pytest.approx(share.exact.trace_ratio + share.solver_part)
    assert str(share).startswith(f"at 20 steps of dpmpp_2m your variance ratio is {share.total.trace_ratio:.2f}, of")
    assert f"{share.solver_part:+.2f} is the solver's" in str(share)
    many = solver_share(PAIR, 1.5, "dpmpp_2m", np.append(np.geomspace(80, 0.02, 200), 0))
    assert abs(many.solver_part) < abs(share.solver_part) / 20  # second order, ten times the steps


def test_share_of_a_stochastic_solver_uses_its_noise():
    sigmas = np.append(np.geomspace(80, 0.02, 400), 0)
    share = solver_share(PAIR, 2.0, "euler_ancestral", sigmas, eta=0.7)
    assert share.exact.trace_ratio == pytest.approx(
        moments(PAIR, 2.0, sigma_max=80, noise=0.49).var.sum() / PAIR.cond_var.sum(), rel=1e-9
    )
    assert abs(share.solver_part) < 0.02
    with pytest.raises(ValueError, match="s_noise"):
        solver_share(PAIR, 2.0, "euler_ancestral", sigmas, s_noise=1.1)


def test_brownian_noise_of_overlapping_intervals():
    """dpmpp_sde's two draws per step share a path: taken as independent they would miss the true variance."""
    K = import_k_diffusion()
    torch.manual_seed(0)
    x, n = torch.zeros(200_000, 1, dtype=torch.float64), 200_000
    tree = K.sampling.BrownianTreeNoiseSampler(x, 0.1, 10.0)
    half, whole = tree(torch.tensor(10.0), torch.tensor(4.0)), tree(torch.tensor(10.0), torch.tensor(1.0))
    from kdist.theory.gaussian.finite_steps import _correlation

    predicted = _correlation([(10.0, 4.0), (10.0, 1.0)])[0, 1]
    assert predicted == pytest.approx(math.sqrt(6 / 9))
    assert float((half * whole).mean()) == pytest.approx(predicted, abs=4 * math.sqrt((1 + predicted**2) / n))


def test_monte_carlo_is_the_unbiased_moments_of_its_own_samples():
    levels = torch.tensor([5.0, 1.0, 0.2], dtype=torch.float64)
    full = FullGaussianPair([1.0, 0.0], [[0.3, 0.1], [0.1, 0.5]], [0.0, 0.0], [[1.0, 0.0], [0.0, 2.0]])
    for pair in (PAIR, full):
        law = solver_moments(pair, 1.5, "euler", levels, method="monte_carlo", samples=3, seed=4)
        torch.manual_seed(4)
        start = torch.randn(3, len(pair.cond_mean), dtype=torch.float64) * 5
        drawn = sample("euler", affine_denoiser(pair, 1.5), start, levels).numpy()
        np.testing.assert_allclose(law.mean, drawn.mean(0), rtol=1e-10)
        np.testing.assert_allclose(law.var, drawn.var(0, ddof=1), rtol=1e-10)
    np.testing.assert_allclose(law.cov, np.cov(drawn.T), rtol=1e-9)
