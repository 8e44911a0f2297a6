"""Increments of one Brownian path: their law, whatever the order of the levels."""

import math

import pytest
import torch

from kdist.evals.sources.brownian import BrownianPath

N = 200_000
INTERVALS = {
    "going down": [(10.0, 4.0), (4.0, 1.0), (1.0, 0.5)],
    "the whole, then a part": [(10.0, 1.0), (10.0, 4.0), (4.0, 1.0)],
    "overlapping": [(10.0, 1.0), (7.0, 0.5), (6.0, 2.0)],
    "upwards": [(1.0, 4.0), (2.0, 3.0)],
}


def path(seed=0, count=N):
    generator = torch.Generator().manual_seed(seed)
    return BrownianPath(lambda: torch.randn(count, generator=generator))


@pytest.mark.parametrize("intervals", INTERVALS.values(), ids=INTERVALS)
def test_covariance_is_the_share_of_common_time(intervals):
    w = path()
    increments = torch.stack([w(*interval) for interval in intervals])
    for i, (a, b) in enumerate(intervals):
        for j, (c, d) in enumerate(intervals):
            common = max(0.0, min(max(a, b), max(c, d)) - max(min(a, b), min(c, d)))
            expected = common / math.sqrt(abs(a - b) * abs(c - d))  # all of a list go the same way
            error = math.sqrt((1 + expected**2) / N)  # of a mean of products of Gaussians
            assert float((increments[i] * increments[j]).mean()) == pytest.approx(expected, abs=4 * error)


def test_increments_add_up():
    """One path: a part asked for later is what is missing from the whole."""
    w = path(count=1000)
    whole, first, second = w(10, 1) * 3, w(10, 4) * math.sqrt(6), w(4, 1) * math.sqrt(3)
    torch.testing.assert_close(first + second, whole, rtol=0, atol=1e-13)  # float64, values of some units
    torch.testing.assert_close(w(1, 4), -w(4, 1), rtol=0, atol=0)


def test_small_steps_after_a_long_way():
    """Steps of 1e-6 after 1e4 are still Gaussian of variance 1: in float32 they would vanish."""
    w = path()
    w(1e4, 1.0)
    last = w(1.0, 1.0 - 1e-6)
    assert float(last.var()) == pytest.approx(1, abs=4 * math.sqrt(2 / N))


def test_what_lies_above_is_forgotten():
    w = path(count=2)
    for level in range(50, 1, -1):
        w(level, level - 1)
    assert len(w._points) == 2
    with pytest.raises(ValueError, match=r"must not rise above 2 again.*; got 5"):
        w(5.0, 1.0)
