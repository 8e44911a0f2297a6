"""How far apart two laws or their means are: mean shift, energy distance and KID are one statistic of three kernels.

    D^2 = |mean_phi(fake) - mean_phi(real)|^2,   unbiased (no product of a sample with itself), with the kernel
    <x, y> (shift of the mean),  -|x - y| (energy distance),  (<x, y> / d + 1)^3 (KID, Bińkowski et al., ICLR 2018)

Variance of D^2 (Chen and Qin, Annals of Statistics 38, 2010): ``4 D^T V D + 2 tr V^2`` with ``V = S / n + S' / n'``
the covariance of the difference of means; traces of squares after Himeno and Yamada (Journal of Multivariate Analysis
130, 2014), which holds for any law of the samples. What D^2 is divided by is estimated too: its influence is added to
that of each sample, and ``E 1/T`` exceeds ``1 / E T`` by the squared relative error of T.
"""

from __future__ import annotations

import math

import numpy as np

from .estimate import NAN, Estimate, variance_degrees
from .gram import Draws, SplitMeans, draw
from .resampling import Finding, Null, Scale, Splits

__all__ = ["discrepancy", "energy_finding", "kid_finding", "variance_of_mean"]


def discrepancy(
    gram: np.ndarray,
    draws: Draws,
    splits: Splits,
    *,
    unit: float = 1.0,
    unit_effect: np.ndarray | None = None,
    studentised: bool = False,
    scale: Scale = "plain",
) -> Finding:
    """Unbiased squared distance of the two means under a kernel.

    Args:
        gram: (N, N) kernel matrix, generated samples first.
        draws: its means under every split.
        splits: split halves of the real samples, :class:`Splits`.
        unit: what the value is divided by; nan leaves it undefined.
        unit_effect: (n_real,) influence of each real sample on ``unit``, where that was estimated.
        studentised: permute D^2 over the noise of the means, so that unequal variances are not taken for a shift.
        scale: the scale on which classes are averaged, as :class:`Finding` has it.
    """
    n_fake, n_real = splits.n_fake, splits.n_real
    squared = float(draws.observed.squared[0])
    value = squared / unit
    projected = 2 * (gram[:, :n_fake].mean(axis=1) - gram[:, n_fake:].mean(axis=1))
    of_real, bias, of_unit, unit_degrees = -projected[n_fake:], 0.0, 0.0, 1.0
    if unit_effect is not None:
        of_unit, unit_degrees = value**2 * variance_of_mean(unit_effect), float(variance_degrees(unit_effect))
        shared = float(np.cov(of_real, unit_effect)[0, 1]) / n_real
        bias = (value * variance_of_mean(unit_effect) - shared) / unit**2
        of_real = of_real - value * unit_effect
    variance = variance_of_mean(projected[:n_fake]) + variance_of_mean(of_real) + 2 * draws.noise_squares
    error = math.sqrt(variance) / unit
    rest = max(variance - of_unit, 0.0)
    degrees = (of_unit + rest) ** 2 / (of_unit**2 / unit_degrees + rest**2 / splits.degrees) if variance > 0 else NAN
    null = None
    if draws.permuted is not None:
        found, drawn = squared, draws.permuted.squared
        if studentised:
            found, drawn = found / float(_noise(draws.observed, splits)[0]), drawn / _noise(draws.permuted, splits)
        floor = None if draws.parts is None else draws.parts.squared * splits.widening**2 / unit
        null = Null(found if unit > 0 else NAN, drawn, floor if unit > 0 else None, two_sided=False)
    estimate = Estimate.student(value, error, degrees, splits.confidence)
    half = (
        estimate.half_width
    )  # the error of a square grows with it: the upper end is that of the root where it is clear
    upper = value + half + half**2 / (4 * max(value, half, 1e-300))
    estimate = Estimate(value, (estimate.lo, upper))
    return Finding(estimate, error, null, degrees, bias, scale=scale)


def _noise(means: SplitMeans, splits: Splits) -> np.ndarray:
    """``tr V``: expected squared distance of the two estimated means where the true ones agree."""
    return np.maximum(means.trace_a / splits.n_fake + means.trace_b / splits.n_real, np.finfo(float).tiny)


def energy_finding(distances: np.ndarray, splits: Splits) -> Finding:
    """Energy distance in units of the real samples' mean distance, from (N, N) squared distances."""
    kernel = -np.sqrt(distances)
    n = splits.n_real
    within = -kernel[splits.n_fake :, splits.n_fake :].sum(axis=1) / (n - 1)  # mean distance to the other real samples
    unit = float(within.mean())
    unit = unit if unit > 0 else NAN
    return discrepancy(kernel, draw(kernel, splits), splits, unit=unit, unit_effect=2 * within)


def kid_finding(gram: np.ndarray, to_origin: np.ndarray, origin_squared: float, width: int, splits: Splits) -> Finding:
    """Kernel inception distance (unbiased, cubic kernel) about the features' own zero.

    Args:
        gram: (N, N) inner products about an origin g.
        to_origin: (N,) inner products of those differences with g.
        origin_squared: ``|g|^2``.
        width: d, the length of the features.
        splits: split halves of the real samples, :class:`Splits`.
    """
    raw = gram + to_origin[:, None] + to_origin[None, :] + origin_squared
    kernel = (raw / width + 1) ** 3
    return discrepancy(kernel, draw(kernel, splits), splits)


def variance_of_mean(values: np.ndarray) -> float:
    """Estimated variance of the mean of independent values; nan for a single one."""
    return float(values.var(ddof=1) / len(values))
