"""What inner products alone say of samples: the plain formulas on the samples themselves."""

import numpy as np
import pytest

from kdist.evals.statistics.gram import double_centre, squared_distances, squared_residuals, trace_of_squares


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(7, 4)) * [1, 2, 3, 0.1] + [5, -3, 0, 1]


def test_residuals_are_unbiased_and_know_no_origin(x):
    gram = x @ x.T
    assert squared_residuals(gram).mean() == pytest.approx(np.cov(x.T).trace(), rel=1e-10)
    expected = np.square(x - x.mean(axis=0)).sum(axis=1) * 7 / 6
    np.testing.assert_allclose(squared_residuals(gram), expected, rtol=1e-9)  # float64, about 1000 times 1
    shifted = x + 3
    np.testing.assert_allclose(squared_residuals(shifted @ shifted.T), expected, rtol=1e-9)


def test_distances(x):
    expected = np.square(x[:, None] - x[None]).sum(axis=-1)
    np.testing.assert_allclose(squared_distances(x @ x.T), expected, atol=1e-12)
    assert (np.diagonal(squared_distances(x @ x.T)) == 0).all()


def test_centring_twice_takes_both_means_off(x):
    y = np.random.default_rng(1).normal(size=(5, 4)) + 2
    expected = (x - x.mean(axis=0)) @ (y - y.mean(axis=0)).T
    np.testing.assert_allclose(double_centre(x @ y.T), expected, atol=1e-12)


def test_trace_of_the_squared_covariance_is_unbiased():
    """tr S^2 of N(0, diag(1, 4)) is 17; the plain one of 6 samples is far above it."""
    random = np.random.default_rng(2)
    sets = random.normal(size=(4000, 6, 2)) * [1, 2]
    found = np.array([trace_of_squares(x @ x.T) for x in sets])
    plain = np.array([np.square(np.cov(x.T)).sum() for x in sets])
    error = found.std() / np.sqrt(len(found))
    assert found.mean() == pytest.approx(17, abs=4 * error)
    assert plain.mean() > 17 + 4 * error
    assert np.isnan(trace_of_squares(np.eye(3)))  # below four samples
