"""One Gram matrix per class serves its statistics and all their resamples.

Notation: ``G = Z Z^T`` over the n_a + n_b samples of two groups, features measured from a fixed origin (the global
mean). A split is a 0/1 row over the samples: 1 for group a (generated), 0 for group b (real). Sums over a group of
inner products are all that means and traces need,

    |mean_a|^2 = 1^T G_aa 1 / n_a^2          tr S_a = (tr G_aa - 1^T G_aa 1 / n_a) / (n_a - 1),

so each resample costs O(n^2) instead of O(n d), and the observed split and every permuted one go through one function.

Unbiased ``(tr S)^2`` and ``tr S^2``: Himeno and Yamada, Journal of Multivariate Analysis 130 (2014).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from .estimate import NAN

__all__ = [
    "SplitStatistics",
    "centre_groups",
    "double_centre",
    "participation",
    "random_splits",
    "split_statistics",
    "trace_of_squares",
]

_CHUNK = 1 << 22  # numbers per array in one go: 32 MB


@dataclasses.dataclass(frozen=True)
class SplitStatistics:
    """Statistics of B splits of one class's samples into a (generated) and b (real); each array is (B,).

    Attributes:
        trace_a, trace_b: unbiased traces of the two covariances.
        log_ratio: ``log(trace_a / trace_b)``.
        log_ratio_error: its standard error, by the delete-one jackknife of both groups.
        shift_squared: unbiased ``|mean_a - mean_b|^2``; negative values are chance.
        shift_noise: ``trace_a / n_a + trace_b / n_b``, the part that was subtracted for it.
        along: unbiased ``<mean_a - mean_b, mean_b - origin>``.
        along_error: its standard error from the samples' spread along ``mean_b - origin``.
        distance_squared: unbiased ``|mean_b - origin|^2``.
    """

    trace_a: np.ndarray
    trace_b: np.ndarray
    log_ratio: np.ndarray
    log_ratio_error: np.ndarray
    shift_squared: np.ndarray
    shift_noise: np.ndarray
    along: np.ndarray
    along_error: np.ndarray
    distance_squared: np.ndarray


def split_statistics(gram: np.ndarray, members: np.ndarray) -> SplitStatistics:
    """Means and traces of many splits of the same samples.

    Args:
        gram: (N, N) inner products.
        members: (B, N) of 0 and 1; every row has at least two of each.
    """
    per_row = max(1, _CHUNK // len(gram))
    parts = [_split_statistics(gram, members[i : i + per_row]) for i in range(0, len(members), per_row)]
    if len(parts) == 1:
        return parts[0]
    return SplitStatistics(
        **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(SplitStatistics)}
    )


def _split_statistics(gram: np.ndarray, members: np.ndarray) -> SplitStatistics:
    a = members.astype(np.float64)
    b = 1 - a
    n_a, n_b = a.sum(axis=1), b.sum(axis=1)
    norms = np.diagonal(gram)
    to_a = a @ gram  # inner product of each sample with the sum over a
    to_b = gram.sum(axis=0) - to_a
    aa, ab, bb = (to_a * a).sum(1) / n_a**2, (to_a * b).sum(1) / (n_a * n_b), (to_b * b).sum(1) / n_b**2
    # distances of a's samples to mean a, of b's to mean b; zero elsewhere
    from_a = (norms - 2 * to_a / n_a[:, None] + aa[:, None]) * a
    from_b = (norms - 2 * to_b / n_b[:, None] + bb[:, None]) * b
    trace_a, trace_b = from_a.sum(1) / (n_a - 1), from_b.sum(1) / (n_b - 1)
    noise = trace_a / n_a + trace_b / n_b
    with np.errstate(divide="ignore", invalid="ignore"):  # a class of identical samples: trace 0
        log_ratio = np.log(trace_a / trace_b)
        log_ratio_error = np.sqrt(_jackknife_log_variance(from_a, a, n_a) + _jackknife_log_variance(from_b, b, n_b))
    along_b = to_b / n_b[:, None]  # component of each sample along mean_b - origin, times its length
    spread = _variance_within(along_b, a, n_a) / n_a + _variance_within(along_b, b, n_b) / n_b
    return SplitStatistics(
        trace_a=trace_a,
        trace_b=trace_b,
        log_ratio=log_ratio,
        log_ratio_error=log_ratio_error,
        shift_squared=aa - 2 * ab + bb - noise,
        shift_noise=noise,
        along=ab - bb + trace_b / n_b,
        along_error=np.sqrt(spread),
        distance_squared=bb - trace_b / n_b,
    )


def _jackknife_log_variance(squared_distances: np.ndarray, member: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Delete-one jackknife variance of the log trace; leaving i out lowers the sum of squares by q_i n / (n - 1)."""
    left = squared_distances.sum(1)[:, None] - squared_distances * (n / (n - 1))[:, None]
    return _variance_within(np.log(left), member, n) * (n - 1) ** 2 / n


def _variance_within(values: np.ndarray, member: np.ndarray, n: np.ndarray) -> np.ndarray:
    mean = (values * member).sum(1) / n
    return (((values - mean[:, None]) * member) ** 2).sum(1) / (n - 1)


def centre_groups(gram: np.ndarray, n_first: int) -> np.ndarray:
    """Gram matrix of the residuals about each group's own mean (first ``n_first`` rows and the rest).

    Residuals are scaled by sqrt(n / (n - 1)) so that both groups keep their unbiased variance: exchanging them tests
    equal variance whatever the means are.
    """
    residual, scale = gram, np.empty(len(gram))
    for group in (slice(0, n_first), slice(n_first, len(gram))):
        residual = residual.copy()
        residual[group] -= residual[group].mean(axis=0)
        residual[:, group] -= residual[:, group].mean(axis=1, keepdims=True)
        n = len(scale[group])
        scale[group] = np.sqrt(n / (n - 1))
    return residual * np.outer(scale, scale)


def random_splits(total: int, n_a: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """``count`` random splits of ``total`` samples with ``n_a`` in group a: (count, total) of 0 and 1."""
    first = np.zeros(total, dtype=np.int8)
    first[:n_a] = 1
    return generator.permuted(np.broadcast_to(first, (count, total)), axis=1)


def participation(gram: np.ndarray) -> np.ndarray:
    """Participation ratio ``(tr S)^2 / tr S^2`` from (..., n, n), corrected for n; nan where undefined (n < 4)."""
    squared, squares = _trace_moments(gram)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((squares > 0) & (squared > 0), squared / squares, NAN)


def trace_of_squares(gram: np.ndarray) -> float:
    """Unbiased ``tr S^2`` from the (n, n) Gram matrix of n >= 4 samples about any origin; nan below 4."""
    return float(_trace_moments(gram)[1])


def _trace_moments(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unbiased ``(tr S)^2`` and ``tr S^2``, whatever the law of the samples; (...,) each."""
    n = gram.shape[-1]
    if n < 4:
        return np.full(gram.shape[:-2], NAN), np.full(gram.shape[:-2], NAN)
    centred = double_centre(gram)
    norms = np.diagonal(centred, axis1=-2, axis2=-1)
    trace, squares = norms.sum(axis=-1) / (n - 1), np.square(centred).sum(axis=(-2, -1)) / (n - 1) ** 2
    fourth = np.square(norms).sum(axis=-1) / (n - 1)
    factor = (n - 1) / (n * (n - 2) * (n - 3))
    return (
        factor * (2 * squares + (n**2 - 3 * n + 1) * trace**2 - n * fourth),
        factor * ((n - 1) * (n - 2) * squares + trace**2 - n * fourth),
    )


def double_centre(products: np.ndarray) -> np.ndarray:
    """Inner products (..., n, m) of two groups, each measured from its own mean instead."""
    rows = products.mean(axis=-1, keepdims=True)
    return products - rows - products.mean(axis=-2, keepdims=True) + rows.mean(axis=-2, keepdims=True)
