"""Directional and log-det ratios: no leakage from the basis, no bias from n, exact invariances."""

import numpy as np
import pytest

from kdist.evals import Estimate
from kdist.evals.statistics.resampling import Resampling
from kdist.evals.statistics.subspace import _log_det_ratios, held_out_bases, log_det_bias, subspace_findings

PLAIN = Resampling(0.95, 0, [np.random.default_rng(0)])


def shown(scores: np.ndarray, n_fake: int, resampling: Resampling = PLAIN) -> list[Estimate]:
    """Log-det ratio, then the directional ratios."""
    return [f.shown(0.95)[0] for f in subspace_findings(scores[None], resampling.of(n_fake, len(scores) - n_fake))]


K, N, D = 12, 30, 64


def classes(rng: np.random.Generator, scale: float = 1.0) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    spectrum = np.arange(1, D + 1) ** -0.5
    x = rng.normal(size=(K * N, D)) * spectrum * scale + np.repeat(rng.normal(size=(K, D)), N, axis=0)
    rows = list(np.arange(K * N).reshape(K, N))
    return x, rows, np.stack([x[r].mean(axis=0) for r in rows])


def mean_log_ratio(fake: np.ndarray, real: np.ndarray, rows: list[np.ndarray], bases: list[np.ndarray]) -> np.ndarray:
    logs = []
    for k, index in enumerate(rows):
        scores = np.concatenate([fake[index], real[index]]) @ bases[k]
        logs.append(np.log(shown(scores, len(index))[1:]))
    return np.array(logs)


def test_no_basis_leakage() -> None:
    """Real against real: 1 in a held-out basis; far below it in a basis fitted on the samples that are scored."""
    rng = np.random.default_rng(1)
    (real, rows, means), (fake, _, _) = classes(rng), classes(rng)
    held_out = mean_log_ratio(fake, real, rows, held_out_bases(real, rows, means, 8))
    error = held_out.mean(axis=1).std(ddof=1) / np.sqrt(K)
    assert abs(held_out.mean()) < 4 * error
    own = [np.linalg.svd(real[r] - means[k], full_matrices=False)[2][:8].T for k, r in enumerate(rows)]
    assert np.exp(mean_log_ratio(fake, real, rows, own).mean()) < 0.7


def test_bases_are_orthonormal_and_leave_their_classes_out() -> None:
    real, rows, means = classes(np.random.default_rng(2))
    bases = held_out_bases(real, rows, means, 5)
    assert np.allclose(bases[0].T @ bases[0], np.eye(5), atol=1e-12)
    changed = real.copy()
    changed[rows[0]] *= 10  # class 0 does not enter the basis it is scored in
    assert np.array_equal(held_out_bases(changed, rows, means, 5)[0], bases[0])
    assert not np.allclose(held_out_bases(changed, rows, means, 5)[1], bases[1])


def test_log_ratios_are_unbiased_at_different_sizes() -> None:
    """10 generated against 40 real Gaussian samples of the same law: logs average to 0 within 4 standard errors."""
    rng = np.random.default_rng(3)
    found = [shown(rng.normal(size=(50, 4)), 10) for _ in range(800)]
    dets = np.array([float(f[0]) for f in found])
    directions = np.log([f[1:] for f in found])
    assert abs(dets.mean()) < 4 * dets.std() / np.sqrt(800)
    assert abs(directions.mean()) < 4 * directions.std() / np.sqrt(3200)
    # 95 % intervals hold the truth: at least 92 % of 800 (standard error 0.8 %)
    assert np.mean([f[0].lo < 0 < f[0].hi for f in found]) > 0.92


def test_log_det_bias_of_one_dimension_is_that_of_chi_square() -> None:
    """E log(chi2_nu / nu) = digamma(nu / 2) + log(2 / nu); nu = 2: -gamma."""
    assert log_det_bias(3, 1) == pytest.approx(-np.euler_gamma, rel=1e-12)
    assert np.isnan(log_det_bias(4, 4))


def test_known_linear_map() -> None:
    """Generated = diag(a) real: log-det ratio is sum log a^2 and the directional ratios are a^2, sample by sample."""
    x, a = np.random.default_rng(4).normal(size=(40, 3)), np.array([0.5, 0.8, 1.2])
    log_det, *found = shown(np.concatenate([x * a, x]), 40, Resampling(0.95, 99, [np.random.default_rng(5)]))
    assert log_det == pytest.approx(2 * np.log(a).sum(), abs=1e-12)
    assert np.allclose(found, a**2, rtol=1e-12)
    assert found[0].p_value == 0.01  # halving: beyond all of 99 permutations
    assert found[0].floor.lo < 1 < found[0].floor.hi


def test_bad_input() -> None:
    real, rows, means = classes(np.random.default_rng(6))
    with pytest.raises(ValueError, match="at least two classes"):
        held_out_bases(real[:N], rows[:1], means[:1], 3)
    with pytest.raises(ValueError, match="1 to 64 dimensions; got 65"):
        held_out_bases(real, rows, means, D + 1)
    log_det, *few = shown(real[:8, :6], 4)  # 4 samples in 6 dimensions: no determinant, but variances
    assert np.isnan(log_det)
    assert np.isfinite(few).all()


def test_determinants_below_rounding_count_as_rounding() -> None:
    """Of two groups of 6 and 9 samples in two dimensions one has no spread at all: both ways round."""
    residuals = np.random.default_rng(5).normal(size=(15, 2))
    residuals[:6] = 0
    products = (residuals[:, [0, 0, 1]] * residuals[:, [0, 1, 1]])[None]
    first = (np.arange(15) < 6).astype(float)
    found = [_log_det_ratios(products, 2, row[None], np.array([-50.0]))[0, 0] for row in (first, 1 - first)]
    spread = np.linalg.slogdet(residuals.T @ residuals / 9)[1] - log_det_bias(9, 2)
    none = -50 - log_det_bias(6, 2)
    assert found == pytest.approx([none - spread, spread - none], rel=1e-12)
