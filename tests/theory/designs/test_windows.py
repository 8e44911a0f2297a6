"""Windows are found wherever there is one: against brute force over both edges, and refusals with a proof."""

import math
import time

import numpy as np
import pytest

from kdist import NegativeWindow
from kdist.theory import GaussianPair, InfeasibleDesign, design, distortion, solver_moments
from kdist.theory.designs import windows
from kdist.theory.designs.target import TOLERANCE, Target
from kdist.theory.designs.windows import _Cells

# the first class narrow, the second nearly as wide as the whole; only a narrow range of both edges keeps both
HARD = GaussianPair(0.5, [0.109, 1.096], 0.0, [1.109, 1.607])
HARD_ASKS = {"keep_variance": 1.2, "max_variance": 1.26}


def brute_force(pair, scale, low, high, points=500):
    """The least any window misses by, on a grid of both edges, in the log-ratio of any direction: equation (4)."""
    sigmas = np.concatenate([[0.0], np.geomspace(1e-3, 1e3, points)])
    r = np.log((pair.uncond_var + sigmas[:, None] ** 2) / (pair.cond_var + sigmas[:, None] ** 2))
    best = math.inf
    for after in (1.0, scale):
        for i in range(len(sigmas) - 1):
            # w: scale - 1 above the upper edge, -1 inside, after - 1 below the lower one (edge i)
            log_ratio = -((scale - 1) * r[i + 1 :] - (r[i] - r[i + 1 :]) + (after - 1) * (r[0] - r[i]))
            missed = np.maximum(math.log(low) - log_ratio, log_ratio - math.log(high)).max(1)
            best = min(best, float(missed.min()))
    return best


def test_the_known_case():
    """Feasible only about (0.28, 4.09): between the lower edges that a coarse list would try."""
    start = time.process_time()
    schedule = design(HARD, 4.0, **HARD_ASKS)
    assert time.process_time() - start < 10  # about one second
    assert isinstance(schedule, NegativeWindow)
    assert schedule.sigma_lo == pytest.approx(0.28, rel=0.02)
    assert schedule.sigma_hi == pytest.approx(4.09, rel=0.02)
    ratio = distortion(HARD, schedule, sigma_max=math.inf).variance_ratio
    assert ratio.min() > 1.2 * (1 - TOLERANCE)
    assert ratio.max() < 1.26 * (1 + TOLERANCE)


@pytest.mark.parametrize("seed", range(12))
def test_what_brute_force_finds_is_found(seed):
    """Random pairs with limits just wide enough, or just too narrow: found, or refused with a proof."""
    rng = np.random.default_rng(seed)
    u = rng.uniform(0.5, 3, 2)
    pair = GaussianPair(rng.normal(size=2), u * rng.uniform(0.05, 0.75, 2), 0.0, u)
    scale, low = rng.uniform(1.5, 6), rng.uniform(0.9, 1.3)
    width = next(w for w in np.geomspace(1.001, 1e3, 200) if brute_force(pair, scale, low, low * w, 120) < 0)
    found = design(pair, scale, keep_variance=low, max_variance=low * width)
    ratio = distortion(pair, found, sigma_max=math.inf).variance_ratio
    assert ratio.min() > low * (1 - 1.01 * TOLERANCE)
    assert ratio.max() < low * width * (1 + 1.01 * TOLERANCE)
    if width > 1.3:
        # a tenth narrower, and neither the fine grid nor the design has anything
        assert brute_force(pair, scale, low, 0.9 * low * width) > 0
        with pytest.raises(InfeasibleDesign, match="exists that meets") as caught:
            design(pair, scale, keep_variance=low, max_variance=0.9 * low * width)
        assert caught.value.proven


def test_closed_form_and_its_bounds():
    """Equation (1) is the prediction; a cell's bound is below what any window in it misses by."""
    target = Target((HARD,), 4.0, 1.2, 0.0, max_variance=1.26)
    rng = np.random.default_rng(0)
    for after in (1.0, 4.0):
        cells = _Cells(target, after)
        for _ in range(5):
            corners = np.sort(rng.uniform(-2, 2, (2, 2)), axis=1)
            corners[1] = corners[0].max() + np.abs(corners[1]).cumsum()  # upper edges above lower ones
            inside = np.exp(rng.uniform(corners[:, 0], corners[:, 1], (50, 2)))
            missed = cells.shortfall(inside)
            assert cells.bound(np.exp(corners)[None])[0] <= missed.min() + 1e-12
            lo, hi = inside[0]
            effect = target.effect(NegativeWindow(4.0, lo, hi, 0.0, after))
            assert missed[0] == pytest.approx(float(target.shortfalls(effect).max()), abs=1e-7)  # quadrature


def test_a_run_of_finite_range_has_its_own_closed_form():
    target = Target((HARD,), 3.0, 1.0, 0.2, sigmas=(8.0, 2.0, 0.3))
    effect = target.effect(NegativeWindow(3.0, 0.6, 2.5, 0.2, 1.0))
    missed = _Cells(target, 1.0).shortfall(np.array([[0.6, 2.5]]))
    assert missed[0] == pytest.approx(float(target.shortfalls(effect).max()), abs=1e-7)


@pytest.mark.parametrize(("sigma_lo", "after"), [(0.0, None), (0.3, 1.0), (0.3, 4.0)])
@pytest.mark.parametrize("bounds", [{}, {"overshoot": 0.1}, {"sigmas": (8.0, 2.0, 0.3)}], ids=str)
def test_the_lowest_edge_is_the_one_that_quadrature_finds(sigma_lo, after, bounds, monkeypatch):
    """Where the closed form does not say all (a bound on overshoot), it is not asked."""
    target = Target((HARD,), 4.0, 0.9, 0.0, **bounds)
    found = windows._lowest_edge(target, sigma_lo, after, 0.35, 30.0)
    monkeypatch.setattr(windows, "_closed", lambda target: False)
    assert windows._lowest_edge(target, sigma_lo, after, 0.35, 30.0) == found
    assert 0.35 < (found.sigma_hi if sigma_lo else found.sigma_switch) < 29  # neither end of the range


def test_with_noise_none_found_is_not_none_exists():
    with pytest.raises(InfeasibleDesign, match="was found that meets") as caught:
        design(HARD, 4.0, keep_variance=1.2, max_variance=1.2001, noise=1.0)
    assert not caught.value.proven


def test_with_noise_the_search_is_of_both_edges():
    """Limits drawn tightly about what one window does are met again."""
    ratio = distortion(HARD, NegativeWindow(3.0, 0.37, 2.2), sigma_max=math.inf, noise=0.5).variance_ratio
    asks = {"keep_variance": float(ratio.min()) * 0.99, "max_variance": float(ratio.max()) * 1.01}
    found = distortion(HARD, design(HARD, 3.0, noise=0.5, **asks), sigma_max=math.inf, noise=0.5).variance_ratio
    assert found.min() > asks["keep_variance"] * (1 - TOLERANCE)
    assert found.max() < asks["max_variance"] * (1 + TOLERANCE)


def test_every_window_of_a_solver_is_tried():
    """Asked for exactly what one pair of levels gives, with both edges off the quick search's path."""
    sigmas = [9.0, 4.0, 2.0, 0.5, 0.25, 0.1, 0.0]
    plain = solver_moments(HARD, 1.0, "euler", sigmas).var
    ratio = solver_moments(HARD, NegativeWindow(2.0, 0.3, 3.0), "euler", sigmas).var / plain
    asks = {"keep_variance": float(ratio.min()) * 0.999, "max_variance": float(ratio.max()) * 1.001}
    schedule = design(HARD, 2.0, sigmas=sigmas, solver="euler", **asks)
    kept = solver_moments(HARD, schedule, "euler", sigmas).var / plain
    assert kept.min() > asks["keep_variance"] * (1 - TOLERANCE)
    assert kept.max() < asks["max_variance"] * (1 + TOLERANCE)
    with pytest.raises(InfeasibleDesign, match="exists that meets") as caught:
        design(HARD, 2.0, sigmas=sigmas, solver="euler", keep_variance=50.0, max_variance=50.1)
    assert caught.value.proven


def test_a_search_that_is_broken_off_proves_nothing(monkeypatch):
    monkeypatch.setattr(windows, "_CELLS", 3)
    target = Target((HARD,), 4.0, 1.4, 0.0, max_variance=1.401)
    assert _Cells(target, 4.0).search() == (None, False)
    monkeypatch.undo()
    assert _Cells(target, 4.0).search() == (None, True)
