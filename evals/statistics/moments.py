"""Shift, overshoot and trace ratio of one class, with their errors, from its Gram matrix.

Notation: real class mean ``m``, generated class mean ``m'``, global mean ``g`` (the Gram matrix's origin), within-class
covariances ``S``, ``S'``; ``u = m - g``, ``D = m' - m``. Estimated means are noisy and their squares therefore too
long, ``E|m_hat|^2 = |m|^2 + tr S / n``; each square below has its noise subtracted:

    mean shift   = sqrt(|D|^2 / tr S)           overshoot = <D, u> / |u|^2
    trace ratio  = tr S' / tr S                 orthogonal shift = |D - overshoot * u| / |u|

Variance of the squared shift (Chen and Qin, Annals of Statistics 38, 2010): ``4 D^T V D + 2 tr V^2`` with
``V = S / n + S' / n'`` the covariance of D; traces of squares after Himeno and Yamada (Journal of Multivariate
Analysis 130, 2014), which holds for any law of the samples.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy import special

from .estimate import NAN, Estimate
from .gram import SplitStatistics, centre_groups, double_centre, random_splits, split_statistics, trace_of_squares
from .resampling import Null, Resampling

__all__ = ["MomentEstimates", "moment_estimates", "root", "trace_ratio_estimate"]


@dataclasses.dataclass(frozen=True)
class MomentEstimates:
    """Estimates for one class and the standard errors that averages over classes need."""

    mean_shift: Estimate
    overshoot: Estimate
    orthogonal_shift: Estimate
    trace_ratio: Estimate
    shift_squared: Estimate  # in units of tr S; unbiased, may be negative
    orthogonal_squared: Estimate  # in units of |u|^2
    errors: dict[str, float]  # standard errors; of the logarithm for the trace ratio
    nulls: dict[str, Null]  # empty without resamples


def moment_estimates(
    gram: np.ndarray, n_fake: int, resampling: Resampling, *, weight: float = 0.0, others_noise: float = 0.0
) -> MomentEstimates:
    """Estimates of one class.

    Args:
        gram: (N, N) inner products about the global mean, generated samples first.
        n_fake: how many of the N are generated.
        resampling: see :class:`Resampling`.
        weight: weight of this class's real mean within the global mean (0 when that was given).
        others_noise: expected squared error of the global mean, ``sum_k w_k^2 tr S_k / n_k``.
    """
    n_real = len(gram) - n_fake
    observed = split_statistics(gram, _observed(gram, n_fake))
    trace_real = float(observed.trace_b[0])
    to_fake, to_real = gram[:, :n_fake].mean(axis=1), gram[:, n_fake:].mean(axis=1)  # <z_i, m' - g>, <z_i, m - g>

    # the origin holds this class's own mean with `weight`: numerator and denominator share less noise than they seem
    real_noise = trace_real / n_real
    along = float(observed.along[0]) - weight * real_noise
    distance_squared = float(observed.distance_squared[0]) + 2 * weight * real_noise - others_noise
    real_squares = 2 * trace_of_squares(gram[n_fake:, n_fake:]) / n_real**2
    distance_error = math.sqrt(4 * _variance_of_mean(to_real[n_fake:]) + max(real_squares, 0.0))
    if not distance_squared > 2 * distance_error:  # the class mean cannot be told from the global mean
        along = distance_squared = NAN
    overshoot = along / distance_squared
    keep = 1 - weight
    # influence of each sample on <D, u> and, for the real ones, on overshoot = <D, u> / |u|^2
    effect_fake = to_real[:n_fake]
    effect_real = (keep * (to_fake - to_real) - to_real)[n_fake:]
    along_noise = _variance_of_mean(effect_fake) + _variance_of_mean(effect_real)
    effect_real = effect_real - 2 * keep * overshoot * to_real[n_fake:]
    overshoot_error = math.sqrt(_variance_of_mean(effect_fake) + _variance_of_mean(effect_real)) / distance_squared

    noise_squared = _trace_of_noise_squared(gram, n_fake)
    shift_squared = float(observed.shift_squared[0])
    shift_error = math.sqrt(4 * _variance_along(to_fake - to_real, n_fake) + 2 * noise_squared) / trace_real
    relative = shift_squared / trace_real  # in units of tr S, which is estimated too
    from_mean = np.diagonal(gram)[n_fake:] - 2 * to_real[n_fake:]  # |x - m|^2 but for a constant
    shift_error = math.hypot(shift_error, relative * math.sqrt(_variance_of_mean(from_mean)) / trace_real)
    direction = to_fake - to_real - overshoot * to_real
    orthogonal_error = math.sqrt(4 * _variance_along(direction, n_fake) + 2 * noise_squared) / distance_squared
    # <D, u>^2 is too large by its variance on average
    orthogonal_squared = (shift_squared - (along**2 - along_noise) / distance_squared) / distance_squared

    confidence = resampling.confidence
    ratio, ratio_error, ratio_null = trace_ratio_estimate(gram, n_fake, resampling)
    degrees = min(n_real, n_fake) - 1
    shift = Estimate(relative, _student(relative, shift_error, degrees, confidence))
    orthogonal = Estimate(orthogonal_squared, _student(orthogonal_squared, orthogonal_error, degrees, confidence))
    over = Estimate(overshoot, _student(overshoot, overshoot_error, degrees, confidence))
    nulls: dict[str, Null] = {}
    if ratio_null is not None:
        nulls = {**_shift_nulls(gram, n_fake, observed, distance_squared, resampling), "trace_ratio": ratio_null}
        shift = nulls["mean_shift"].attach(shift, confidence)
        over = nulls["overshoot"].attach(over, confidence)
        orthogonal = nulls["orthogonal_shift"].attach(orthogonal, confidence)
    return MomentEstimates(
        mean_shift=root(shift),
        overshoot=over,
        orthogonal_shift=root(orthogonal),
        trace_ratio=ratio,
        shift_squared=shift,
        orthogonal_squared=orthogonal,
        errors={
            "mean_shift": shift_error,
            "overshoot": overshoot_error,
            "orthogonal_shift": orthogonal_error,
            "trace_ratio": ratio_error,
        },
        nulls=nulls,
    )


def root(square: Estimate) -> Estimate:
    """Square root of an unbiased square, interval and floor carried over; negative squares give 0."""
    low, value, high = np.sqrt(np.maximum([square.lo, float(square), square.hi], 0.0))
    floor = None if square.floor is None else root(square.floor)
    return Estimate(value, (low, high), floor=floor, p_value=square.p_value, q_value=square.q_value)


def trace_ratio_estimate(gram: np.ndarray, n_fake: int, resampling: Resampling) -> tuple[Estimate, float, Null | None]:
    """Trace ratio of one class, the standard error of its logarithm, and its null (None without resamples).

    The interval is symmetric for the logarithm: delete-one jackknife errors of both traces, Student's quantile at the
    smaller set's degrees of freedom. The p-value exchanges residuals about each group's own mean, so that a mean shift
    is not mistaken for variance; its statistic is studentised, so that a difference of tails is not either.

    Args:
        gram: (N, N) inner products about any origin, generated samples first.
        n_fake: how many of the N are generated; at least 2, and at least 2 real.
        resampling: see :class:`Resampling`.
    """
    n_real = len(gram) - n_fake
    row = _observed(gram, n_fake)
    observed = split_statistics(gram, row)
    log_ratio, error = float(observed.log_ratio[0]), float(observed.log_ratio_error[0])
    low, high = _student(log_ratio, error, min(n_real, n_fake) - 1, resampling.confidence)
    estimate = Estimate(np.exp(log_ratio), (np.exp(low), np.exp(high)))
    if not resampling.count:
        return estimate, error, None
    residuals = centre_groups(gram, n_fake)
    members = random_splits(len(gram), n_fake, resampling.count, resampling.generator)
    same, permuted = split_statistics(residuals, row), split_statistics(residuals, members)
    split, widening = _real_against_real(gram[n_fake:, n_fake:], n_fake, resampling)
    floor = None
    if split is not None:
        centre = np.median(split.log_ratio)
        floor = np.exp(centre + widening * (split.log_ratio - centre))
    statistic = float((same.log_ratio / same.log_ratio_error)[0])
    null = Null(statistic, permuted.log_ratio / permuted.log_ratio_error, floor)
    return null.attach(estimate, resampling.confidence), error, null


def _shift_nulls(
    gram: np.ndarray, n_fake: int, observed: SplitStatistics, distance_squared: float, resampling: Resampling
) -> dict[str, Null]:
    """Nulls of squared shift (units of tr S), overshoot and squared orthogonal shift (units of |u|^2).

    The test statistics are scaled by their noise, so that unequal variances of the two sets are not taken for a shift.
    """
    members = random_splits(len(gram), n_fake, resampling.count, resampling.generator)
    permuted = split_statistics(gram, members)
    floor, widening = _real_against_real(gram[n_fake:, n_fake:], n_fake, resampling)
    undefined = 1.0 if distance_squared > 0 else NAN
    floors: dict[str, np.ndarray | None] = dict.fromkeys(("mean_shift", "overshoot", "orthogonal_shift"))
    if floor is not None:
        floors = {
            "mean_shift": floor.shift_squared * widening**2 / observed.trace_b,
            "overshoot": floor.along * widening / distance_squared,
            "orthogonal_shift": _across(floor, distance_squared) * widening**2 / distance_squared,
        }

    def scaled(split: SplitStatistics) -> dict[str, np.ndarray]:
        return {
            "mean_shift": split.shift_squared / split.shift_noise,
            "overshoot": split.along / split.along_error * undefined,
            "orthogonal_shift": _across(split) / split.shift_noise * undefined,
        }

    found, null = scaled(observed), scaled(permuted)
    return {
        name: Null(float(found[name][0]), null[name], floors[name], two_sided=name == "overshoot") for name in floors
    }


def _trace_of_noise_squared(gram: np.ndarray, n_fake: int) -> float:
    n_real = len(gram) - n_fake
    cross_trace = np.square(double_centre(gram[:n_fake, n_fake:])).sum() / ((n_fake - 1) * (n_real - 1))
    squares = trace_of_squares(gram[:n_fake, :n_fake]) / n_fake**2
    squares += trace_of_squares(gram[n_fake:, n_fake:]) / n_real**2
    return max(0.0, float(squares + 2 * cross_trace / (n_fake * n_real))) if math.isfinite(squares) else NAN


def _across(split: SplitStatistics, distance_squared: float | np.ndarray | None = None) -> np.ndarray:
    """Unbiased square of the shift's part across ``mean_b - origin``."""
    distance_squared = split.distance_squared if distance_squared is None else distance_squared
    return split.shift_squared - (split.along**2 - split.along_error**2) / distance_squared


def _observed(gram: np.ndarray, n_fake: int) -> np.ndarray:
    return (np.arange(len(gram)) < n_fake)[None]


def _real_against_real(gram: np.ndarray, n_fake: int, resampling: Resampling) -> tuple[SplitStatistics | None, float]:
    """Disjoint splits of the real samples, and how much narrower their law is than at the sizes compared.

    Part a has n_fake samples, or half of the real ones where they are too few.
    """
    n_real = len(gram)
    n_a = min(n_fake, n_real // 2)
    if n_a < 2:
        return None, NAN
    splits = random_splits(n_real, n_a, resampling.count, resampling.generator)
    widening = math.sqrt((1 / n_real + 1 / n_fake) / (1 / n_a + 1 / (n_real - n_a)))
    return split_statistics(gram, splits), widening


def _variance_of_mean(values: np.ndarray) -> float:
    return float(values.var(ddof=1) / len(values))


def _variance_along(projections: np.ndarray, n_fake: int) -> float:
    """``v^T V v`` from ``<z_i, v>``."""
    return _variance_of_mean(projections[:n_fake]) + _variance_of_mean(projections[n_fake:])


def _student(value: float, error: float, degrees: float, confidence: float) -> tuple[float, float]:
    half = float(special.stdtrit(degrees, (1 + confidence) / 2)) * error
    return value - half, value + half
