"""Variance along a few fixed directions: directional ratios and log-det ratio in a k-dimensional subspace.

Directions fitted on the real samples that are then scored make those look wide and everything else narrow (null ratio
0.39 instead of 1 was seen). Here class k is scored in the leading within-class directions of *other* classes.

Logarithms of sample variances are biased low: for Gaussian samples with ``nu = n - 1`` degrees of freedom
``E log|S_hat| = log|S| + sum_{j<k} digamma((nu - j) / 2) + k log(2 / nu)``; the bias is subtracted, so that sets of
different size compare. Delete-one jackknife: leaving out residual r_i lowers log|SS| by
``log(1 - n / (n - 1) r_i^T SS^-1 r_i)``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from .estimate import NAN, Estimate
from .gram import random_splits
from .resampling import Null, Resampling

__all__ = ["SubspaceEstimates", "held_out_bases", "log_det_bias", "subspace_estimates"]

_POWER_ITERATIONS = 4  # enough for directions that are wide; they need not be the exact eigenvectors


@dataclasses.dataclass(frozen=True)
class SubspaceEstimates:
    """``log_det_ratio`` and one ``directional_ratios`` entry per direction, with what averages over classes need."""

    log_det_ratio: Estimate
    directional_ratios: tuple[Estimate, ...]
    errors: np.ndarray  # (1 + k,) standard errors of the logarithms, log-det first
    nulls: tuple[Null, ...]  # (1 + k,), empty without resamples


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
                residuals = features[rows[k]] - means[k]
                product += residuals.T @ (residuals @ basis)
            basis = np.linalg.svd(product, full_matrices=False)[0]  # columns by falling variance
        bases.append(basis[:, :count])
    return [bases[k % 2] for k in range(len(rows))]


def log_det_bias(n: int, k: int) -> float:
    """Bias of the log-determinant of a k x k sample covariance of n Gaussian samples; nan for n <= k."""
    if n <= k:
        return NAN
    return float(special.digamma((n - 1 - np.arange(k)) / 2).sum() + k * np.log(2 / (n - 1)))


def subspace_estimates(scores: np.ndarray, n_fake: int, resampling: Resampling) -> SubspaceEstimates:
    """Ratios of one class from its samples' coordinates.

    The p-values permute residuals about each group's own mean and so ask whether the laws differ in this respect.

    Args:
        scores: (N, k) coordinates in a basis that was not fitted on them, generated samples first.
        n_fake: how many of the N are generated.
        resampling: see :class:`Resampling`.
    """
    n_real, k = len(scores) - n_fake, scores.shape[1]
    observed = (np.arange(len(scores)) < n_fake)[None].astype(np.float64)
    values = _log_ratios(scores, observed)[0]
    errors = np.hypot(_jackknife_errors(scores[:n_fake]), _jackknife_errors(scores[n_fake:]))
    half = special.stdtrit(min(n_fake, n_real) - 1, (1 + resampling.confidence) / 2) * errors
    nulls: tuple[Null, ...] = ()
    if resampling.count:
        residuals = scores.astype(np.float64)
        for group in (slice(0, n_fake), slice(n_fake, None)):
            n = len(residuals[group])
            residuals[group] = (residuals[group] - residuals[group].mean(axis=0)) * math.sqrt(n / (n - 1))
        same = _log_ratios(residuals, observed)[0]
        permuted = _log_ratios(residuals, random_splits(len(scores), n_fake, resampling.count, resampling.generator))
        n_a = min(n_fake, n_real // 2)
        floors: np.ndarray | None = None
        if n_a >= 2:
            splits = random_splits(n_real, n_a, resampling.count, resampling.generator)
            widening = math.sqrt((1 / n_real + 1 / n_fake) / (1 / n_a + 1 / (n_real - n_a)))
            floors = _log_ratios(scores[n_fake:], splits) * widening
        nulls = tuple(
            Null(float(same[j]), permuted[:, j], None if floors is None else floors[:, j]) for j in range(1 + k)
        )
    logs = [Estimate(values[j], (values[j] - half[j], values[j] + half[j])) for j in range(1 + k)]
    if nulls:
        logs = [null.attach(log, resampling.confidence) for log, null in zip(logs, nulls, strict=True)]
    return SubspaceEstimates(logs[0], tuple(exp(log) for log in logs[1:]), errors, nulls)


def exp(log: Estimate) -> Estimate:
    """Exponential of an estimate, interval and floor carried over."""
    floor = None if log.floor is None else exp(log.floor)
    return Estimate(
        math.exp(log), (math.exp(log.lo), math.exp(log.hi)), floor=floor, p_value=log.p_value, q_value=log.q_value
    )


def _log_ratios(scores: np.ndarray, members: np.ndarray) -> np.ndarray:
    """(B, 1 + k): unbiased log-det ratio and log ratios along each direction, for B splits."""
    k = scores.shape[1]
    products = (scores[:, :, None] * scores[:, None, :]).reshape(len(scores), -1)
    result = np.zeros((len(members), 1 + k))
    for sign, group in ((1, members.astype(np.float64)), (-1, 1.0 - members)):
        n = group.sum(axis=1)
        means = group @ scores / n[:, None]
        scatter = (group @ products).reshape(-1, k, k) - n[:, None, None] * means[:, :, None] * means[:, None, :]
        covariance = scatter / (n - 1)[:, None, None]
        size = int(n[0])  # all splits of a call have the same sizes
        with np.errstate(divide="ignore", invalid="ignore"):
            variances = np.log(np.diagonal(covariance, axis1=1, axis2=2))
        log_det = np.linalg.slogdet(covariance)[1] if size > k else np.full(len(members), NAN)
        result[:, 0] += sign * (log_det - log_det_bias(size, k))
        result[:, 1:] += sign * (variances - log_det_bias(size, 1))
    return result


def _jackknife_errors(scores: np.ndarray) -> np.ndarray:
    """(1 + k,) delete-one jackknife errors of the log-determinant and of the log variances of one group."""
    n, k = scores.shape
    residuals = scores - scores.mean(axis=0)
    leverage = np.empty((n, 1 + k))
    with np.errstate(divide="ignore", invalid="ignore"):
        leverage[:, 1:] = residuals**2 / (residuals**2).sum(axis=0)
        leverage[:, 0] = (np.linalg.qr(residuals)[0] ** 2).sum(axis=1) if n > k + 1 else NAN
        left = np.log(np.maximum(1 - n / (n - 1) * leverage, 0.0))
        return np.sqrt((n - 1) ** 2 / n * left.var(axis=0, ddof=1))
