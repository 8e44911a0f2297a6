"""Vendi, recall, coverage and the matched-size statistics: limits with known answers and brute force."""

import numpy as np
import pytest

from kdist.evals import frechet_distance
from kdist.evals.statistics.diversity import (
    MATCHED,
    _batch_statistics,
    coverage,
    density,
    matched_findings,
    precision,
    recall,
    vendi,
)
from kdist.evals.statistics.gram import _trace_moments, participation, squared_distances, trace_of_squares
from kdist.evals.statistics.resampling import Resampling


def gram_of(*groups: np.ndarray) -> np.ndarray:
    z = np.concatenate(groups)
    return z @ z.T


def test_vendi_limits() -> None:
    line = np.outer([1.0, 2.0, 5.0, 0.1], [3.0, 4.0])  # one direction: one kind of sample, whatever the lengths
    assert vendi(gram_of(line)) == pytest.approx(1, abs=1e-10)
    assert vendi(gram_of(np.eye(7))) == pytest.approx(7, rel=1e-12)
    assert vendi(gram_of(np.repeat(np.eye(3), 4, axis=0))) == pytest.approx(3, rel=1e-12)
    assert vendi(np.zeros((5, 5))) == pytest.approx(5)  # samples at the origin resemble nothing


def test_recall_and_coverage_against_brute_force() -> None:
    rng = np.random.default_rng(0)
    fake, real, k = rng.normal(size=(13, 3)), 1.5 * rng.normal(size=(17, 3)) + 0.5, 3

    def ball(points: np.ndarray, i: int) -> float:
        return sorted(np.linalg.norm(points - points[i], axis=1))[k]

    recalled = np.mean([any(np.linalg.norm(x - f) <= ball(fake, i) for i, f in enumerate(fake)) for x in real])
    covered = np.mean([min(np.linalg.norm(fake - x, axis=1)) <= ball(real, i) for i, x in enumerate(real)])
    balls = [ball(real, j) for j in range(17)]
    inside = np.array([[np.linalg.norm(f - x) <= radius for x, radius in zip(real, balls, strict=True)] for f in fake])
    distances = squared_distances(gram_of(fake, real))
    assert precision(distances, 13, neighbours=k) == pytest.approx(inside.any(axis=1).mean())
    assert density(distances, 13, neighbours=k) == pytest.approx(inside.sum() / (k * 13))
    assert recall(distances, 13, neighbours=k) == pytest.approx(recalled)
    assert coverage(distances, 13, neighbours=k) == pytest.approx(covered)


def test_recall_and_coverage_limits() -> None:
    x = np.random.default_rng(1).normal(size=(20, 4))
    for far, expected in ((0.0, 1.0), (100.0, 0.0)):
        distances = squared_distances(gram_of(x + far, x))
        assert recall(distances, 20) == coverage(distances, 20) == precision(distances, 20) == expected
        assert (density(distances, 20) > 0) == (expected > 0)
    with pytest.raises(ValueError, match="5 neighbours need more than 5 samples; got 5"):
        recall(squared_distances(gram_of(x[:5], x)), 5)


def test_traces_of_powers_are_unbiased_for_skewed_samples() -> None:
    """(tr S)^2 and tr S^2 from n = 6 exponential samples: means over 40 000 sets within 4 standard errors."""
    scales = np.array([1.0, 2.0, 0.5])
    x = np.random.default_rng(2).exponential(size=(40_000, 6, 3)) * scales
    grams = x @ x.transpose(0, 2, 1)
    squared, squares = _trace_moments(grams)
    for values, truth in ((squared, (scales**2).sum() ** 2), (squares, (scales**4).sum())):
        assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(len(values))
    assert trace_of_squares(grams[0]) == pytest.approx(squares[0])
    assert np.isnan(trace_of_squares(grams[0, :3, :3]))


def test_participation_ratio_is_corrected_for_n() -> None:
    """64 equal directions seen through 20 samples: the plain estimate cannot exceed 19, the corrected one finds 64."""
    x = np.random.default_rng(3).normal(size=(200, 20, 64))
    found = participation(x @ x.transpose(0, 2, 1))
    plain = [np.trace(s) ** 2 / np.sum(s**2) for s in (np.cov(z.T) for z in x)]
    assert max(plain) < 19
    # a ratio of unbiased parts is itself biased by about the squared relative error of tr S^2: 2 % here
    assert np.median(found) == pytest.approx(64, rel=0.05)


def test_matched_sizes_put_value_and_floor_on_one_scale() -> None:
    """Real against real: every statistic agrees with its floor within its interval; the spread is not degenerate."""
    rng = np.random.default_rng(4)
    inside = 0
    for _ in range(20):
        z = rng.normal(size=(70, 10))  # 30 generated, 40 real, the same law
        splits = Resampling(0.95, 0, [rng]).of(30, 40)
        found, matched_n = matched_findings((z @ z.T)[None], splits, halves=8, permutations=0, neighbours=5)
        assert matched_n == 15
        assert set(found) == set(MATCHED)
        for estimate in (finding.shown(0.95)[0] for finding in found.values()):
            assert estimate.lo <= estimate <= estimate.hi
            inside += estimate.lo <= estimate.floor <= estimate.hi  # recall and coverage may sit at 1 exactly
    # 160 intervals of 95 % for the value alone, against a floor with noise of its own: at least 85 % hold it
    assert inside >= 0.85 * 160


def test_shape_statistics_see_a_collapsed_class() -> None:
    rng = np.random.default_rng(5)
    real = rng.normal(size=(40, 10))
    fake = real[rng.integers(0, 3, 40)] + 0.01 * rng.normal(size=(40, 10))  # three images, again and again
    z = np.concatenate([fake, real])
    findings, _ = matched_findings(
        (z @ z.T)[None], Resampling(0.95, 0, [rng]).of(40, 40), halves=8, permutations=99, neighbours=5
    )
    found = {name: finding.shown(0.95)[0] for name, finding in findings.items()}
    for name in ("vendi", "coverage", "participation_ratio"):  # recall: a ball that spans two of the three is huge
        assert found[name].hi < found[name].floor, name
    assert found["vendi"].p_value == found["coverage"].p_value == 0.01  # the least that 99 permutations can say


def test_too_few_samples_are_nan_not_a_number() -> None:
    z = np.random.default_rng(6).normal(size=(6, 4))
    splits = Resampling(0.95, 0, [np.random.default_rng(0)]).of(3, 3)
    found, matched_n = matched_findings((z @ z.T)[None], splits, halves=8, permutations=0, neighbours=5)
    assert matched_n == 1
    assert all(np.isnan(finding.estimate.value).all() for finding in found.values())


def test_both_frechet_parts_are_those_of_the_moments() -> None:
    """From inner products alone, about any origin, and of groups of unequal size."""
    rng = np.random.default_rng(3)
    fake, real = rng.normal(size=(12, 5)) + 1.0, 1.7 * rng.normal(size=(20, 5)) - 0.5
    parts = frechet_distance(fake, real)
    found = dict(zip(MATCHED, _batch_statistics(gram_of(fake, real)[None], 12, 3)[0], strict=True))
    assert found["frechet_mean"] == pytest.approx(((fake.mean(axis=0) - real.mean(axis=0)) ** 2).sum(), rel=1e-10)
    assert found["frechet_mean"] == pytest.approx(parts.mean, rel=1e-10)
    assert found["frechet_covariance"] == pytest.approx(parts.covariance, rel=1e-8)
