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

from .estimate import NAN, Estimates
from .products import product
from .resampling import Finding, Splits
from .spread import ROUNDING, ratio_findings
from .workers import Each

__all__ = ["held_out_bases", "log_det_bias", "subspace_findings"]

_CLASSES_AT_ONCE = 16
_POWER_ITERATIONS = 4  # enough for directions that are wide; they need not be the exact eigenvectors


def held_out_bases(
    features: np.ndarray, rows: Sequence[np.ndarray], means: np.ndarray, count: int, *, seed: int = 0, each: Each = map
) -> list[np.ndarray]:
    """For each class an orthonormal (d, count) basis of leading within-class directions of other classes.

    Classes at even positions share the basis of those at odd positions and the other way round: two bases, none made
    from a sample that it will score. Found by block power iteration over the classes' residuals, each by ``each``:
    ``map``, or that of an executor which works side by side.

    Raises:
        ValueError: fewer than two classes (nothing is held out) or ``count`` outside 1..d.
    """
    width = features.shape[1]
    if len(rows) < 2:
        raise ValueError("a held-out basis needs at least two classes; pass basis= made from other samples")
    if not 1 <= count <= width:
        raise ValueError(f"the subspace must have 1 to {width} dimensions; got {count}")

    def leading(classes: range) -> np.ndarray:
        basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, min(count + 4, width))))[0]
        chunks = [classes[start : start + _CLASSES_AT_ONCE] for start in range(0, len(classes), _CLASSES_AT_ONCE)]
        for _ in range(_POWER_ITERATIONS):
            total = np.zeros_like(basis)
            for chunk in chunks:
                samples = features[np.concatenate([rows[k] for k in chunk])]  # float32 will do, if those they were
                centres = np.repeat(means[chunk] @ basis, [len(rows[k]) for k in chunk], axis=0)
                scores = product(samples, basis.astype(samples.dtype)) - centres  # each class's add up to 0
                total += product(samples.T, scores.astype(samples.dtype))
            basis = np.linalg.svd(total, full_matrices=False)[0]  # columns by falling variance
        return basis[:, :count]

    bases = list(each(leading, [range(1, len(rows), 2), range(0, len(rows), 2)]))
    return [bases[k % 2] for k in range(len(rows))]


def log_det_bias(n: int, k: int) -> float:
    """Bias of the log-determinant of a k x k sample covariance of n Gaussian samples; nan for n <= k."""
    if n <= k:
        return NAN
    return float(special.digamma((n - 1 - np.arange(k)) / 2).sum() + k * np.log(2 / (n - 1)))


def subspace_findings(scores: np.ndarray, splits: Splits) -> list[Finding]:
    """Log-det ratio of K classes, then their variance ratio along each direction, from the samples' coordinates.

    The p-values permute residuals about each group's own mean and so ask whether the laws differ in this respect.

    Args:
        scores: (K, N, k) coordinates in a basis that was not fitted on them, generated samples first.
        splits: every split of the samples, :class:`Splits`.
    """
    n_fake, k = splits.n_fake, scores.shape[2]
    groups = []
    for own in (scores[:, :n_fake], scores[:, n_fake:]):
        group = own - own.mean(axis=1, keepdims=True)
        rounding = 1e-13 * np.abs(own).max(axis=1, keepdims=True)
        group = np.where(np.abs(group).max(axis=1, keepdims=True) <= rounding, 0.0, group)
        groups.append(group * math.sqrt(group.shape[1] / (group.shape[1] - 1)))
    residuals = np.concatenate(groups, axis=1)
    bias = log_det_bias(n_fake, 1) - log_det_bias(splits.n_real, 1)
    directions = ratio_findings(residuals**2, splits, offsets=np.full(k, bias), logarithm=True)
    return [_log_det_finding(residuals, splits), *directions]


def _log_det_finding(residuals: np.ndarray, splits: Splits) -> Finding:
    n_fake, k = splits.n_fake, residuals.shape[2]
    if splits.degrees < k:
        return Finding.undefined(len(residuals))
    row, column = np.triu_indices(k)
    products = residuals[:, :, row] * residuals[:, :, column]
    real_variance = np.square(residuals[:, n_fake:]).mean(axis=1)
    least = np.log(np.maximum(ROUNDING * real_variance, 1e-300)).sum(axis=1)
    ratios = _log_det_ratios(products, k, splits.labellings, least)
    value = ratios[:, 0]
    errors = [_jackknife_error(residuals[:, rows]) for rows in (slice(0, n_fake), slice(n_fake, None))]
    error = np.hypot(*(np.where(np.isinf(entry), 0.0, entry) for entry in errors))  # of a collapsed set: unknown
    null = None
    if len(splits.members):
        floor = None
        if len(splits.parts) and splits.parts[0].sum() > k:
            floor = _log_det_ratios(products[:, n_fake:], k, splits.parts, least) * splits.widening
        null = splits.null(value, ratios[:, 1:], floor)
    estimate = Estimates.student(value, error, splits.degrees, splits.confidence)
    return Finding(estimate, error, null, splits.degrees)


def _log_det_ratios(products: np.ndarray, k: int, members: np.ndarray, least: np.ndarray) -> np.ndarray:
    """(K, B) unbiased log-det ratios of B splits of the same sizes, from the products of residuals.

    Residuals have mean 0 and carry n / (n - 1). Of each sample's k x k products the upper triangle is given, row by
    row: (K, N, k (k + 1) / 2). Determinants below the rounding of the real samples' count as that.
    """
    n, n_a = products.shape[1], int(members[0].sum())
    log_dets = np.empty((2, len(products), len(members)))
    for j, own in enumerate(products):
        in_a = product(own.T, members.T)
        both = np.stack([in_a, own.sum(axis=0)[:, None] - in_a], axis=1)
        log_dets[:, j] = _log_dets(both.reshape(len(in_a), -1), k).reshape(2, -1)
    for own, size in zip(log_dets, (n_a, n - n_a), strict=True):
        own -= k * math.log(size)
        np.fmax(own, least[:, None], out=own)
        own -= log_det_bias(size, k)
    return log_dets[0] - log_dets[1]


def _log_dets(triangles: np.ndarray, k: int) -> np.ndarray:
    """(B,) log-determinants of positive semi-definite k x k matrices, from their (k (k + 1) / 2, B) upper triangles.

    By elimination of all of them at once, which is twice as fast as LAPACK's one by one. Overwrites its argument.
    """
    rows = np.split(triangles, np.cumsum(range(k, 1, -1)))  # each from its diagonal on
    total = np.zeros(triangles.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):  # singular: what is left is rounding, or nan
        for j, row in enumerate(rows):
            pivot = np.maximum(row[0], 1e-300)
            total += np.log(pivot)
            for i in range(1, len(row)):
                rows[j + i] -= row[i] / pivot * row[i:]
    return total


def _jackknife_error(residuals: np.ndarray) -> np.ndarray:
    """(K,) delete-one jackknife errors of the log-determinant; nan for n <= k + 1, infinite for equal samples."""
    n, k = residuals.shape[1:]
    if n <= k + 1:
        return np.full(len(residuals), NAN)
    leverage = np.square(np.linalg.qr(residuals)[0]).sum(axis=2)
    left = np.log(np.maximum(1 - n / (n - 1) * leverage, 1e-300))
    error = np.sqrt((n - 1) ** 2 / n * left.var(axis=1, ddof=1))
    return np.where(residuals.any(axis=1).all(axis=1), error, math.inf)
