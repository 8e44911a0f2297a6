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
from scipy import stats

from .estimates import NAN, Estimate
from .gram import SplitStatistics, centre_groups, random_splits, split_statistics

__all__ = ["MomentEstimates", "Resampling", "moment_estimates", "trace_of_squares", "trace_ratio_estimate"]


@dataclasses.dataclass(frozen=True)
class Resampling:
    """How intervals, floors and p-values are made: confidence, number of resamples (0: none), random generator."""

    confidence: float
    count: int
    generator: np.random.Generator


@dataclasses.dataclass(frozen=True)
class MomentEstimates:
    """Estimates for one class and the standard errors that averages over classes need."""

    mean_shift: Estimate
    overshoot: Estimate
    orthogonal_shift: Estimate
    trace_ratio: Estimate
    shift_squared: float  # in units of tr S; unbiased, may be negative
    orthogonal_squared: float  # in units of |u|^2
    shift_squared_error: float
    orthogonal_squared_error: float
    overshoot_error: float
    log_trace_ratio_error: float


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
    if distance_squared <= 0:  # the class mean cannot be told from the global mean
        along = distance_squared = NAN
    overshoot = along / distance_squared
    keep = 1 - weight
    effect_fake = to_real[:n_fake]
    effect_real = (keep * (to_fake - to_real - 2 * overshoot * to_real) - to_real)[n_fake:]
    overshoot_error = math.sqrt(_variance_of_mean(effect_fake) + _variance_of_mean(effect_real)) / distance_squared

    noise_squared = _trace_of_noise_squared(gram, n_fake)
    shift_squared = float(observed.shift_squared[0])
    shift_error = math.sqrt(4 * _variance_along(to_fake - to_real, n_fake) + 2 * noise_squared)
    direction = to_fake - to_real - overshoot * to_real
    orthogonal_error = math.sqrt(4 * _variance_along(direction, n_fake) + 2 * noise_squared) / distance_squared
    along_noise = _variance_along(to_real, n_fake)  # <D, u>^2 is too large by this on average
    orthogonal_squared = (shift_squared - (along**2 - along_noise) / distance_squared) / distance_squared

    estimates = MomentEstimates(
        mean_shift=_root(shift_squared / trace_real, shift_error / trace_real, resampling.confidence),
        overshoot=Estimate(
            overshoot, _symmetric(overshoot, overshoot_error, min(n_real, n_fake) - 1, resampling.confidence)
        ),
        orthogonal_shift=_root(orthogonal_squared, orthogonal_error, resampling.confidence),
        trace_ratio=trace_ratio_estimate(gram, n_fake, resampling)[0],
        shift_squared=shift_squared / trace_real,
        orthogonal_squared=orthogonal_squared,
        shift_squared_error=shift_error / trace_real,
        orthogonal_squared_error=orthogonal_error,
        overshoot_error=overshoot_error,
        log_trace_ratio_error=float(observed.log_ratio_error[0]),
    )
    if not resampling.count:
        return estimates
    members = random_splits(len(gram), n_fake, resampling.count, resampling.generator)
    null = split_statistics(gram, members)
    shift_p = _p_value(observed.shift_squared / observed.shift_noise, null.shift_squared / null.shift_noise)
    overshoot_p = _p_value(abs(observed.along / observed.along_error), abs(null.along / null.along_error))
    floor, widening = _real_against_real(gram[n_fake:, n_fake:], n_fake, resampling)
    shift_floor = overshoot_floor = None
    if floor is not None:
        shift_floor = _quantiles(_sqrt(floor.shift_squared * widening**2 / trace_real), resampling.confidence)
        overshoot_floor = _quantiles(floor.along * widening / distance_squared, resampling.confidence)
    return dataclasses.replace(
        estimates,
        mean_shift=_resampled(estimates.mean_shift, shift_floor, shift_p),
        overshoot=_resampled(estimates.overshoot, overshoot_floor, overshoot_p if distance_squared > 0 else NAN),
    )


def trace_ratio_estimate(gram: np.ndarray, n_fake: int, resampling: Resampling) -> tuple[Estimate, float]:
    """Trace ratio of one class and the standard error of its logarithm.

    The interval is symmetric for the logarithm, with the errors of both traces and Student's quantile at Welch's
    degrees of freedom. The p-value exchanges residuals about each group's own mean, so that a mean shift is not
    mistaken for variance; the statistic is studentised, so that a difference of tails is not either.

    Args:
        gram: (N, N) inner products about any origin, generated samples first.
        n_fake: how many of the N are generated; at least 2, and at least 2 real.
        resampling: see :class:`Resampling`.
    """
    n_real = len(gram) - n_fake
    row = _observed(gram, n_fake)
    observed = split_statistics(gram, row)
    log_ratio, error = float(observed.log_ratio[0]), float(observed.log_ratio_error[0])
    interval = _symmetric(log_ratio, error, min(n_real, n_fake) - 1, resampling.confidence)
    estimate = Estimate(math.exp(log_ratio), (math.exp(interval[0]), math.exp(interval[1])))
    if not resampling.count:
        return estimate, error
    residuals = centre_groups(gram, n_fake)
    members = random_splits(len(gram), n_fake, resampling.count, resampling.generator)
    same, null = split_statistics(residuals, row), split_statistics(residuals, members)
    p_value = _p_value(abs(same.log_ratio / same.log_ratio_error), abs(null.log_ratio / null.log_ratio_error))
    split, widening = _real_against_real(gram[n_fake:, n_fake:], n_fake, resampling)
    floor = None
    if split is not None:
        centre = np.median(split.log_ratio)
        floor = _quantiles(np.exp(centre + widening * (split.log_ratio - centre)), resampling.confidence)
    return _resampled(estimate, floor, p_value), error


def trace_of_squares(gram: np.ndarray) -> float:
    """Unbiased ``tr S^2`` from the Gram matrix of n >= 4 samples about any origin (Himeno and Yamada 2014)."""
    n = len(gram)
    if n < 4:
        return NAN
    centred = gram - gram.mean(axis=0)
    centred -= centred.mean(axis=1, keepdims=True)
    norms = np.diagonal(centred)
    trace, trace_squares = norms.sum() / (n - 1), (centred**2).sum() / (n - 1) ** 2
    fourth = (norms**2).sum() / (n - 1)
    return float((n - 1) / (n * (n - 2) * (n - 3)) * ((n - 1) * (n - 2) * trace_squares + trace**2 - n * fourth))


def _trace_of_noise_squared(gram: np.ndarray, n_fake: int) -> float:
    n_real = len(gram) - n_fake
    cross = gram[:n_fake, n_fake:] - gram[:n_fake, n_fake:].mean(axis=0)
    cross -= cross.mean(axis=1, keepdims=True)
    cross_trace = (cross**2).sum() / ((n_fake - 1) * (n_real - 1))
    squares = trace_of_squares(gram[:n_fake, :n_fake]) / n_fake**2
    squares += trace_of_squares(gram[n_fake:, n_fake:]) / n_real**2
    return max(0.0, float(squares + 2 * cross_trace / (n_fake * n_real))) if math.isfinite(squares) else NAN


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


def _symmetric(value: float, error: float, degrees: float, confidence: float) -> tuple[float, float]:
    half = float(stats.t.ppf((1 + confidence) / 2, degrees)) * error
    return value - half, value + half


def _root(square: float, error: float, confidence: float) -> Estimate:
    """Square root of an unbiased square, with the interval of the square carried over; negative squares give 0."""
    half = float(stats.norm.ppf((1 + confidence) / 2)) * error
    return Estimate(float(_sqrt(square)), (float(_sqrt(square - half)), float(_sqrt(square + half))))


def _sqrt(square: float | np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(square, 0.0))


def _quantiles(values: np.ndarray, confidence: float) -> Estimate:
    low, middle, high = np.quantile(values, [(1 - confidence) / 2, 0.5, (1 + confidence) / 2])
    return Estimate(middle, (low, high))


def _p_value(observed: np.ndarray, null: np.ndarray) -> float:
    """Share of permutations at least as extreme, the observed split counted as one of them."""
    return float((1 + (null >= observed * (1 - 1e-12)).sum()) / (1 + len(null)))


def _resampled(estimate: Estimate, floor: Estimate | None, p_value: float) -> Estimate:
    return Estimate(estimate, estimate.interval, floor=floor, p_value=p_value)
