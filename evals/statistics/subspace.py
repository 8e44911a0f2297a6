"""Variance along a few fixed directions: directional ratios and log-det ratio in a k-dimensional subspace.

Directions fitted on the real samples that are then scored make those look wide and everything else narrow (null ratio
0.39 instead of 1 was seen). Here class k is scored in the leading within-class directions of *other* classes.

Logarithms of sample variances are biased low: for Gaussian samples with ``nu = n - 1`` degrees of freedom
``E log|S_hat| = log|S| + sum_{j<k} digamma((nu - j) / 2) + k log(2 / nu)``; the bias is subtracted, so that sets of
different size compare. Delete-one jackknife: leaving out residual r_i lowers log|SS| by
``log(1 - n / (n - 1) r_i^T SS^-1 r_i)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from .estimate import NAN, Estimate
from .resampling import Finding, Null, Splits
from .spread import ROUNDING, ratio_findings

__all__ = ["held_out_bases", "log_det_bias", "subspace_findings"]

_POWER_ITERATIONS = 4  # enough for directions that are wide; they need not be the exact eigenvectors


def held_out_bases(
    features: np.ndarray, rows: Sequence[np.ndarray], means: np.ndarray, count: int, *, seed: int = 0
) -> list[np.ndarray]:
    """For each class an orthonormal (d, count) basis of leading within-class directions of other classes.

    Classes at even positions share the basis of those at odd positions and the other way round: two bases, none made
    from a sample that it will score. Found by block power iteration over the classes' residuals.

    Raises:
        ValueError: fewer than two classes (nothing is held out) or ``count`` outside 1..d.
    """
    width = features.shape[1]
    if len(rows) < 2:
        raise ValueError("a held-out basis needs at least two classes; pass basis= made from other samples")
    if not 1 <= count <= width:
        raise ValueError(f"the subspace must have 1 to {width} dimensions; got {count}")
    bases = []
    for fold in (1, 0):
        basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, min(count + 4, width))))[0]
        for _ in range(_POWER_ITERATIONS):
            product = np.zeros_like(basis)
            for k in range(fold, len(rows), 2):
                samples = features[rows[k]]  # float32 will do, if those were the features
                scores = (samples @ basis.astype(samples.dtype)).astype(np.float64) - means[k] @ basis
                product += samples.T @ scores.astype(samples.dtype) - np.outer(means[k], scores.sum(axis=0))
            basis = np.linalg.svd(product, full_matrices=False)[0]  # columns by falling variance
        bases.append(basis[:, :count])
    return [bases[k % 2] for k in range(len(rows))]


def log_det_bias(n: int, k: int) -> float:
    """Bias of the log-determinant of a k x k sample covariance of n Gaussian samples; nan for n <= k."""
    if n <= k:
        return NAN
    return float(special.digamma((n - 1 - np.arange(k)) / 2).sum() + k * np.log(2 / (n - 1)))


def subspace_findings(scores: np.ndarray, splits: Splits) -> list[Finding]:
    """Log-det ratio of one class, then its variance ratio along each direction, from its samples' coordinates.

    The p-values permute residuals about each group's own mean and so ask whether the laws differ in this respect.

    Args:
        scores: (N, k) coordinates in a basis that was not fitted on them, generated samples first.
        splits: split halves of the real samples, :class:`Splits`.
    """
    n_fake, k = splits.n_fake, scores.shape[1]
    residuals = scores.astype(np.float64)
    for rows in (slice(0, n_fake), slice(n_fake, None)):
        group = residuals[rows] - residuals[rows].mean(axis=0)
        group[:, np.abs(group).max(axis=0) <= 1e-13 * np.abs(scores[rows]).max(axis=0)] = 0.0  # rounding
        residuals[rows] = group * math.sqrt(len(group) / (len(group) - 1))
    bias = log_det_bias(n_fake, 1) - log_det_bias(splits.n_real, 1)
    directions = ratio_findings(residuals**2, splits, offsets=np.full(k, bias), logarithm=True)
    return [_log_det_finding(residuals, splits), *directions]


def _log_det_finding(residuals: np.ndarray, splits: Splits) -> Finding:
    n_fake, k = splits.n_fake, residuals.shape[1]
    if splits.degrees < k:
        return Finding(Estimate(NAN))
    products = (residuals[:, :, None] * residuals[:, None, :]).reshape(len(residuals), -1)
    least = float(np.log(np.maximum(ROUNDING * np.square(residuals[n_fake:]).mean(axis=0), 1e-300)).sum())
    ratios = _log_det_ratios(products, splits.labellings, least)
    value = float(ratios[0])
    errors = [_jackknife_error(residuals[rows]) for rows in (slice(0, n_fake), slice(n_fake, None))]
    error = math.hypot(*(entry for entry in errors if not math.isinf(entry)))  # of a collapsed set nothing is known
    null = None
    if len(splits.members):
        floor = None
        if len(splits.parts) and splits.parts[0].sum() > k:
            floor = _log_det_ratios(products[n_fake:], splits.parts, least) * splits.widening
        null = Null(value, ratios[1:], floor)
    return Finding(Estimate.student(value, error, splits.degrees, splits.confidence), error, null, splits.degrees)


def _log_det_ratios(products: np.ndarray, members: np.ndarray, least: float) -> np.ndarray:
    """(B,) unbiased log-det ratios of B splits of the same sizes from the (N, k k) products of residuals.

    Residuals have mean 0 and carry n / (n - 1). Determinants below the rounding of the real samples' count as that.
    """
    k = math.isqrt(products.shape[1])
    in_a, n_a = members @ products, int(members[0].sum())
    result = np.zeros(len(members))
    for sign, sums, n in ((1, in_a, n_a), (-1, products.sum(axis=0) - in_a, len(products) - n_a)):
        log_det = np.linalg.slogdet(sums.reshape(-1, k, k) / n)[1]
        result += sign * (np.maximum(log_det, least) - log_det_bias(n, k))
    return result


def _jackknife_error(residuals: np.ndarray) -> float:
    """Delete-one jackknife error of the log-determinant; nan for n <= k + 1, infinite for equal samples."""
    n, k = residuals.shape
    if n <= k + 1:
        return NAN
    if not residuals.any(axis=0).all():
        return math.inf
    leverage = np.square(np.linalg.qr(residuals)[0]).sum(axis=1)
    left = np.log(np.maximum(1 - n / (n - 1) * leverage, 1e-300))
    return float(np.sqrt((n - 1) ** 2 / n * left.var(ddof=1)))
