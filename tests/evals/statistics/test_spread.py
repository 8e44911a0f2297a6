"""Ratios of variances: values, errors and degrees of freedom in closed form."""

import numpy as np
import pytest

from kdist.evals.statistics.estimate import variance_degrees
from kdist.evals.statistics.resampling import Resampling
from kdist.evals.statistics.spread import _relative_error, grouped_squares, ratio_findings, trace_ratio_finding


def splits_of(n_fake: int, n_real: int):
    return Resampling(0.95, 0, [np.random.default_rng(0)], 0).of(n_fake, n_real)


def test_a_set_against_itself_has_twice_the_variance_and_twice_the_degrees():
    """Satterthwaite for two equal errors of d degrees each: 2 d; a log mean has the error of the mean over the mean."""
    squares = np.random.default_rng(0).gamma(2.0, size=(2, 300, 1))
    (found,) = ratio_findings(np.concatenate([squares, squares], axis=1), splits_of(300, 300))
    assert (found.estimate.value == 1).all()
    relative = squares / squares.mean(axis=1, keepdims=True) - 1
    np.testing.assert_allclose(found.degrees, 2 * variance_degrees(relative, axis=1)[:, 0], rtol=1e-9)  # float64
    expected = np.sqrt(2 * relative.var(axis=1, ddof=1)[:, 0] / 300)
    np.testing.assert_allclose(found.error, expected, rtol=0.01)  # the jackknife's terms of order 1 / n


def test_known_ratio_and_offset():
    squares = np.random.default_rng(1).gamma(2.0, size=(1, 13, 1))
    plain, shifted, logarithm = (
        ratio_findings(squares, splits_of(5, 8), **options)[0]
        for options in ({}, {"offsets": np.log(2)}, {"logarithm": True})
    )
    ratio = squares[0, :5].mean() / squares[0, 5:].mean()
    assert plain.estimate.value == pytest.approx(ratio, rel=1e-12)
    assert shifted.estimate.value == pytest.approx(ratio / 2, rel=1e-12)
    assert logarithm.estimate.value == pytest.approx(np.log(ratio), rel=1e-12)


def test_the_trace_ratio_is_that_of_the_covariances():
    random = np.random.default_rng(2)
    x = np.concatenate([2 * random.normal(size=(9, 3)) + 5, random.normal(size=(14, 3))])
    found = trace_ratio_finding((x @ x.T)[None], splits_of(9, 14))
    traces = [np.cov(group.T).trace() for group in (x[:9], x[9:])]
    assert found.estimate.value == pytest.approx(traces[0] / traces[1], rel=1e-9)
    squares = grouped_squares((x @ x.T)[None], 9)[0]
    assert (squares[:9].mean(), squares[9:].mean()) == pytest.approx(traces, rel=1e-9)


def test_a_collapsed_set_has_the_uncertainty_of_the_real_one_alone():
    """Equal generated samples say nothing of their own tails: the error is that of the real mean, in relative terms."""
    real = np.random.default_rng(4).gamma(2.0, size=(1, 40, 1))
    (found,) = ratio_findings(np.concatenate([np.full((1, 30, 1), 1e-30), real], axis=1), splits_of(30, 40))
    error, degrees = (part[0, 0] for part in _relative_error(real))
    assert found.error == pytest.approx(np.sqrt(error), rel=1e-9)
    assert found.degrees == pytest.approx(degrees, rel=1e-9)
