"""Is one generated set less varied, or farther from the real one, than another? What common seeds share cancels.

For a class with n pairs, ``L = log(tr S' / tr S)`` of the two sets' total variances, real samples not involved. Its
error is the delete-one-*pair* jackknife's (Efron and Stein, Annals of Statistics 9, 1981): with
``r_i = |x_i - mean|^2`` and ``T = sum_i r_i``, leaving out sample i gives ``tr S = (T - r_i n / (n - 1)) / (n - 2)``.
Student's quantile has the degrees of freedom that the kurtosis of these effects leaves. Sets with other seeds may be
compared too: pairs are then independent, and nothing is gained or lost.

The difference of two energy distances to the same real samples is a U-statistic of the pairs; its error is that of its
first-order (Hoeffding) terms, over pairs and over real samples.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from scipy import special

from ..features.feature_set import Features
from ..features.pairs import paired_rows
from ..statistics.energy import distance_sums
from ..statistics.estimate import NAN, Estimate, exp, variance_degrees, with_q_values

__all__ = ["PairedRatio", "paired_distance", "paired_ratio"]


@dataclasses.dataclass(frozen=True)
class PairedRatio:
    """Variance of one generated set over that of another.

    Attributes:
        ratio: geometric mean of ``tr S_other / tr S_first`` over the classes where neither is 0, with interval and
            p-value.
        classes: label to the class's ratio, with interval, p-value and q-value over classes; 0 where all samples of the
            other set are the same, nan where those of the first are.
        pairs: number of samples that both sets have, by seed and label, or by place and label.
        by_seed: both sets say that pairs were drawn from the same seeds.
        smaller, larger: classes whose ratio is below or above 1 with q-value under 1 - confidence, or is 0.
    """

    ratio: Estimate
    classes: dict[int, Estimate]
    pairs: int
    by_seed: bool
    smaller: int
    larger: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "ratio": self.ratio.to_dict(),
            "classes": {str(label): ratio.to_dict() for label, ratio in self.classes.items()},
            "pairs": self.pairs,
            "by_seed": self.by_seed,
            "smaller": self.smaller,
            "larger": self.larger,
        }


def paired_ratio(first: Features, other: Features, *, confidence: float = 0.95) -> PairedRatio | None:
    """Variance within classes of ``other`` over that of ``first``; None if a class has fewer than three pairs.

    Args:
        first: (N, d) features; rows are paired by seed and label, see :func:`paired_rows`.
        other: (M, d) features by the same extractor.
        confidence: Confidence of the intervals, in (0, 1).

    Raises:
        ValueError: features of different length.
    """
    if first.x.shape[1] != other.x.shape[1]:
        raise ValueError(f"features differ in length: {first.x.shape[1]} and {other.x.shape[1]}")
    rows, other_rows, by_seed = paired_rows(first, other)
    labels = np.unique(np.concatenate([first.y, other.y]))
    logs, errors, degrees = [], [], []
    for label in labels:
        mine = first.y[rows] == label
        count = int(mine.sum())
        if count < 3:
            return None
        one = _log_variance(first.x[rows[mine]])
        two = _log_variance(other.x[other_rows[mine]])
        collapsed = not (np.isfinite(one).all() and np.isfinite(two).all())
        left_out = np.zeros(count) if collapsed else two[1:] - one[1:]
        spread = (count - 1) / count * np.square(left_out - left_out.mean()).sum()
        logs.append(float(two[0]) - float(one[0]) if math.isfinite(one[0]) else NAN)
        errors.append(NAN if collapsed else math.sqrt(spread))
        degrees.append(float(variance_degrees(left_out)))
    ratios = [_ratio(*entry, confidence) for entry in zip(logs, errors, degrees, strict=True)]
    ratios = with_q_values(ratios)
    significant = [ratio for ratio in ratios if ratio.q_value < 1 - confidence]
    defined = [entry for entry in zip(logs, errors, degrees, strict=True) if math.isfinite(entry[1])]
    pooled = Estimate(NAN)
    if defined:
        mean, error = (
            float(np.mean([log for log, *_ in defined])),
            math.hypot(*(e for _, e, _ in defined)) / len(defined),
        )
        pooled = _ratio(mean, error, sum(d for *_, d in defined), confidence)
    return PairedRatio(
        ratio=pooled,
        classes=dict(zip(labels.tolist(), ratios, strict=True)),
        pairs=len(rows),
        by_seed=by_seed,
        smaller=sum(ratio < 1 for ratio in significant) + ratios.count(Estimate(0.0)),
        larger=sum(ratio > 1 for ratio in significant),
    )


def paired_distance(
    real: Features,
    first: Features,
    other: Features,
    *,
    confidence: float = 0.95,
    per_class: int | None = None,
    seed: int = 0,
) -> Estimate | None:
    """How much farther ``other`` is from the real classes than ``first``, in energy distance; None without pairs.

    Args:
        real: (K, d) features of the real samples.
        first, other: (N, d) and (M, d) features by the same extractor, paired by :func:`paired_rows`.
        confidence: Confidence of the interval, in (0, 1).
        per_class: Compare at most so many pairs of a class, with as many real samples, drawn at random with ``seed``.
        seed: See there.

    Returns:
        Mean over classes of the difference, each in units of its real samples' mean distance; None if a class has
        fewer than three pairs, or fewer than three real samples.
    """
    rows, other_rows, _ = paired_rows(first, other)
    values, errors, degrees = [], [], 0
    for k, label in enumerate(np.unique(np.concatenate([first.y, other.y]))):
        generator = np.random.default_rng([seed, k])
        mine, own = (generator.permutation(np.flatnonzero(y == label))[:per_class] for y in (first.y[rows], real.y))
        if min(len(mine), len(own)) < 3:
            return None
        value, error = _distance_gap(real.x[own], first.x[rows[mine]], other.x[other_rows[mine]])
        values.append(value)
        errors.append(error)
        degrees += len(mine) - 1
    error = math.sqrt(sum(e**2 for e in errors)) / len(errors)
    return Estimate.student(float(np.mean(values)), error, degrees, confidence)


def _distance_gap(real: np.ndarray, one: np.ndarray, two: np.ndarray) -> tuple[float, float]:
    """D(two, real) - D(one, real) of n pairs, and its standard error."""
    count, centre = len(one), real.mean(axis=0, dtype=np.float64)
    real, one, two = (samples - centre for samples in (real, one, two))
    within_real = distance_sums(real, real)[0] / (len(real) - 1)
    unit = within_real.mean()
    if not unit > 1e-7 * np.linalg.norm(centre):  # the rounding of float32
        return NAN, NAN
    # of each pair: twice the distance to the real samples, less that to its own set
    (from_one, to_one), (from_two, to_two) = distance_sums(one, real), distance_sums(two, real)
    to_own = [distance_sums(part, part)[0] / (count - 1) for part in (one, two)]
    gain = 2 * (from_two - from_one) / len(real) - (to_own[1] - to_own[0])
    value = gain.mean() / unit
    by_pair = (gain - (to_own[1] - to_own[0])) / unit  # every pair stands twice in the distances within a set
    by_real = (2 * (to_two - to_one) / count - 2 * value * within_real) / unit
    error = math.sqrt(by_pair.var(ddof=1) / count + by_real.var(ddof=1) / len(real))
    return float(value), error


def _log_variance(x: np.ndarray) -> np.ndarray:
    """(1 + n,) log total variance of (n, d) samples, of all and with each one left out."""
    x = x.astype(np.float64)
    squares = np.square(x - x.mean(axis=0)).sum(axis=1)
    count, total = len(x), squares.sum()
    left_out = (total - squares * count / (count - 1)) / (count - 2)
    with np.errstate(divide="ignore"):
        return np.log(np.concatenate([[total / (count - 1)], np.maximum(left_out, 0.0)]))


def _ratio(log: float, error: float, degrees: float, confidence: float) -> Estimate:
    if not (math.isfinite(log) and math.isfinite(error)):
        return Estimate(0.0 if log == -math.inf else NAN)
    p_value = 2 * float(special.stdtr(degrees, -abs(log) / error)) if error > 0 else float(log == 0)
    shown = Estimate.student(log, error, degrees, confidence).map(exp)
    return Estimate(shown, shown.interval, p_value=p_value)
