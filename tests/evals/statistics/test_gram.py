"""What inner products alone say of samples: the plain formulas on the samples themselves."""

import numpy as np
import pytest

from kdist.evals.statistics import gram as module
from kdist.evals.statistics.gram import (
    double_centre,
    split_means,
    squared_distances,
    squared_residuals,
    trace_of_squares,
)


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


@pytest.mark.parametrize("n_a", [2, 5])
def test_means_of_splits(x, n_a):
    """The larger and the smaller group first: squared means less their noise, products, traces, group by group."""
    random = np.random.default_rng(3)
    members = np.stack([random.permutation(np.arange(7) < n_a) for _ in range(4)]).astype(float)
    stack = np.stack([x @ x.T, (2 * x + 1) @ (2 * x + 1).T])
    found = split_means(stack, members)
    for k, samples in enumerate((x, 2 * x + 1)):
        for b, chosen in enumerate(members.astype(bool)):
            a, rest = samples[chosen], samples[~chosen]
            traces = [np.cov(group.T).trace() for group in (a, rest)]
            means = [group.mean(axis=0) for group in (a, rest)]
            each = found[k, b]
            assert (each.trace_a, each.trace_b) == pytest.approx(traces, rel=1e-9)  # float64
            squares = [m @ m - t / len(g) for m, t, g in zip(means, traces, (a, rest), strict=True)]
            assert (each.aa, each.bb) == pytest.approx(squares, rel=1e-9)
            assert each.ab == pytest.approx(means[0] @ means[1], rel=1e-9)
            assert each.squared == pytest.approx(squares[0] - 2 * means[0] @ means[1] + squares[1], rel=1e-9)


@pytest.mark.parametrize("pairs", [module._pairs_by_product, module._pairs_by_sample])
def test_pairs_within_a_group_by_either_way(pairs, monkeypatch):
    monkeypatch.setattr(module, "_COLUMNS", 3)  # blocks of 3, 3, 3 and 1
    random = np.random.default_rng(6)
    members = np.stack([random.permutation(np.arange(10) < 4) for _ in range(5)]).astype(float)
    grams = np.stack([z @ z.T for z in random.normal(size=(2, 10, 3))])
    products = np.einsum("bi,kij,bj->kb", members, grams, members)
    expected = products - np.einsum("bi,kii->kb", members, grams)  # less those of a sample with itself
    np.testing.assert_allclose(pairs(grams, members), expected, atol=1e-12)


def test_products_with_the_way_to_the_mean(x, monkeypatch):
    """u = (1 - w) mean_b + w v: <mean_a - mean_b, u> by its definition, the noise of mean_b taken off."""
    monkeypatch.setattr(module, "_COLUMNS", 3)  # blocks of 3, 3 and 1
    members, v, w = (np.arange(7) < 3).astype(float)[None], np.array([1.0, 2, 0, -1]), 0.25
    found = split_means((x @ x.T)[None], members, anchor=(w, (x @ v)[None]))[0, 0]
    a, b = x[:3], x[3:]
    noise = np.cov(b.T).trace() / 4
    u = (1 - w) * b.mean(axis=0) + w * v
    assert found.along == pytest.approx((a.mean(axis=0) - b.mean(axis=0)) @ u + (1 - w) * noise, rel=1e-9)
    assert found.along_error == pytest.approx(np.sqrt((a @ u).var(ddof=1) / 3 + (b @ u).var(ddof=1) / 4), rel=1e-9)
