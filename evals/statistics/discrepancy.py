"""How far apart two laws or their means are: mean shift, energy distance and KID are one statistic of three kernels.

    D^2 = |mean_phi(fake) - mean_phi(real)|^2,   unbiased (no product of a sample with itself), with the kernel
    <x, y> (shift of the mean),  -|x - y| (energy distance),  (<x, y> / d + 1)^3 (KID, Bińkowski et al., ICLR 2018)

Variance of D^2 (Chen and Qin, Annals of Statistics 38, 2010): ``4 D^T V D + 2 tr V^2`` with ``V = S / n + S' / n'``
the covariance of the difference of means; traces of squares after Himeno and Yamada (Journal of Multivariate Analysis
130, 2014), which holds for any law of the samples. What D^2 is divided by is estimated too: its influence is added to
that of each sample, and ``E 1/T`` exceeds ``1 / E T`` by the squared relative error of T.
"""

from __future__ import annotations

import numpy as np

from .estimate import NAN, Estimates, variance_degrees
from .gram import Draws, SplitMeans, draw
from .resampling import Finding, Scale, Splits

__all__ = ["discrepancy", "energy_finding", "kid_finding", "variance_of_mean"]


def discrepancy(
    grams: np.ndarray,
    draws: Draws,
    splits: Splits,
    *,
    unit: np.ndarray | None = None,
    unit_effect: np.ndarray | None = None,
    units_alike: bool = False,
    studentised: bool = False,
    scale: Scale = "plain",
) -> Finding:
    """Unbiased squared distance of the two means under a kernel, for K classes.

    Args:
        grams: (K, N, N) kernel matrices, generated samples first.
        draws: their means under every split.
        splits: every split of the samples, :class:`Splits`.
        unit: (K,) what the value is divided by; nan leaves it undefined. Default 1.
        unit_effect: (K, n_real) influence of each real sample on ``unit``, where that was estimated.
        units_alike: averages may judge from all classes how well each one's ``unit`` is known.
        studentised: permute D^2 over the noise of the means, so that unequal variances are not taken for a shift.
        scale: the scale on which classes are averaged, as :class:`Finding` has it.
    """
    n_fake, n_real = splits.n_fake, splits.n_real
    unit = np.ones(len(grams)) if unit is None else unit
    squared = draws.observed.squared
    value = squared / unit
    projected = 2 * (grams[:, :, :n_fake].mean(axis=2) - grams[:, :, n_fake:].mean(axis=2))
    of_real, none = -projected[:, n_fake:], np.zeros(len(grams))
    bias, of_unit, unit_degrees, unit_spread = none, none, none + 1, None
    if unit_effect is not None:
        unit_variance = variance_of_mean(unit_effect)
        of_unit, unit_degrees = value**2 * unit_variance, variance_degrees(unit_effect, axis=1)
        centred = unit_effect - unit_effect.mean(axis=1, keepdims=True)
        shared = (of_real * centred).sum(axis=1) / ((n_real - 1) * n_real)
        bias = (value * unit_variance - shared) / unit**2
        of_real = of_real - value[:, None] * unit_effect
        unit_spread = unit_variance * n_real / unit**2 if units_alike else None
    variance = variance_of_mean(projected[:, :n_fake]) + variance_of_mean(of_real) + 2 * draws.noise_squares
    error = np.sqrt(variance) / unit
    rest = np.maximum(variance - of_unit, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = (of_unit + rest) ** 2 / (of_unit**2 / unit_degrees + rest**2 / splits.degrees)
    degrees = np.where(variance > 0, degrees, NAN)
    null = None
    if draws.permuted is not None:
        found, drawn = squared, draws.permuted.squared
        if studentised:
            found, drawn = found / _noise(draws.observed, splits), drawn / _noise(draws.permuted, splits)
        floor = None if draws.parts is None else draws.parts.squared * (splits.widening**2 / unit)[:, None]
        null = splits.null(np.where(unit > 0, found, NAN), drawn, floor, two_sided=False)
    low, high = Estimates.student(value, error, degrees, splits.confidence)[1:]
    half = (high - low) / 2
    # the error of a square grows with it: the upper end is that of the root where it is clear
    upper = value + half + half**2 / (4 * np.maximum(np.maximum(value, half), 1e-300))
    return Finding(Estimates(value, low, upper), error, null, degrees, bias, unit_spread, n_real, scale=scale)


def _noise(means: SplitMeans, splits: Splits) -> np.ndarray:
    """``tr V``: expected squared distance of the two estimated means where the true ones agree."""
    return np.maximum(means.trace_a / splits.n_fake + means.trace_b / splits.n_real, np.finfo(float).tiny)


def energy_finding(distances: np.ndarray, splits: Splits) -> Finding:
    """Energy distance in units of the real samples' mean distance, from (K, N, N) squared distances."""
    kernel = np.sqrt(distances)
    np.negative(kernel, out=kernel)
    within = -kernel[:, splits.n_fake :, splits.n_fake :].sum(axis=2) / (splits.n_real - 1)  # mean, to the others
    unit = within.mean(axis=1)
    unit = np.where(unit > 0, unit, NAN)
    return discrepancy(kernel, draw(kernel, splits), splits, unit=unit, unit_effect=2 * within)


def kid_finding(grams: np.ndarray, to_origin: np.ndarray, origin_squared: float, width: int, splits: Splits) -> Finding:
    """Kernel inception distance (unbiased, cubic kernel) about the features' own zero.

    Args:
        grams: (K, N, N) inner products about an origin g.
        to_origin: (K, N) inner products of those differences with g.
        origin_squared: ``|g|^2``.
        width: d, the length of the features.
        splits: every split of the samples, :class:`Splits`.
    """
    kernel = grams + to_origin[:, :, None]  # then in place: it may be large
    kernel += to_origin[:, None, :] + origin_squared
    kernel /= width
    kernel += 1
    kernel *= np.square(kernel)
    return discrepancy(kernel, draw(kernel, splits), splits)


def variance_of_mean(values: np.ndarray) -> np.ndarray:
    """Estimated variance of the mean of independent values, (..., n); nan for a single one."""
    return values.var(axis=-1, ddof=1) / values.shape[-1]
