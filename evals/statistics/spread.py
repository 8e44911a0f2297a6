"""How much of a class's spread was kept: ratios of means of positive numbers, one per sample.

The squared distance of each sample to its own group's mean, ``q_i = |x_i - mean|^2 n / (n - 1)``, averages to the
unbiased trace of the group's covariance, and so do its parts within and outside a subspace. One function makes
interval, floor and p-value of every such ratio ``R = mean q' / mean q``:

- *interval*, symmetric for log R: delete-one jackknife of both logarithms. A few samples cannot show their own tails,
  so each set's squared relative spread is taken to be at least the mean of its own and that of both sets together;
  Student's quantile has the degrees of freedom that the kurtosis k of the q_i leaves to an estimated variance,
  ``2 n / (k - (n - 3) / (n - 1))``.
- *floor*: the same width about 1, or that of the real samples' own tails at the sizes compared where that is wider.
- *p-value*: the q_i are permuted (a shift is then not mistaken for spread) and the statistic is log R over its standard
  error (a difference of tails is not either).

A group whose samples are all the same has R = 1e-16, the rounding of what was measured, not an undefined one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import linalg, special

from .estimate import NAN, Estimates, variance_degrees
from .gram import squared_residuals
from .products import product
from .resampling import Finding, Null, Splits

__all__ = [
    "ROUNDING",
    "grouped_squares",
    "held_out_squares",
    "ratio_findings",
    "trace_ratio_finding",
]

ROUNDING = 1e-16  # of the real samples' variance: nothing below it was measured


def trace_ratio_finding(grams: np.ndarray, splits: Splits) -> Finding:
    """Total variance of the generated samples over that of the real ones, from (K, N, N) Gram matrices."""
    return ratio_findings(grouped_squares(grams, splits.n_fake)[:, :, None], splits)[0]


def grouped_squares(grams: np.ndarray, n_fake: int) -> np.ndarray:
    """(K, N) scaled squared distance of each sample to its own group's mean; 0 where only rounding is left."""
    squares = [squared_residuals(grams[:, rows, rows]) for rows in (slice(0, n_fake), slice(n_fake, None))]
    rounding = 1e-14 * np.diagonal(grams, axis1=1, axis2=2).mean(axis=1, keepdims=True)
    return np.hstack([np.where(group.mean(axis=1, keepdims=True) > rounding, group, 0.0) for group in squares])


def held_out_squares(grams: np.ndarray, n_fake: int, count: int) -> np.ndarray | None:
    """(K, n_fake + m, 2): squares within the real class's first directions, and within the rest.

    The directions come from every other real sample and score the m that are left and all generated ones, which are
    exchangeable therefore where the laws agree. (Letting the halves change places would count their overlap twice:
    one in ten classes was called distorted at 5 %.)

    Args:
        grams: (K, N, N) inner products, generated samples first.
        n_fake: how many of the N are generated.
        count: directions; fewer where a half has not more than so many samples. None where a half has fewer than three.
    """
    fit, score = slice(n_fake + 1, None, 2), slice(n_fake, None, 2)
    centred = grams[:, :, fit] - grams[:, fit, fit].mean(axis=1, keepdims=True)
    inner = centred - centred.mean(axis=2, keepdims=True)  # inner products with the half's residuals
    half = inner.shape[2]
    if half < 3:
        return None
    leading = [half - min(count, half - 1), half - 1]
    axes = [linalg.eigh(block, subset_by_index=leading, check_finite=False) for block in inner[:, fit]]
    values, vectors = (np.stack(part) for part in zip(*axes, strict=True))
    kept = values > 1e-12 * np.maximum(values[:, -1:], 1e-300)
    scores = product(inner, vectors / np.sqrt(np.where(kept, values, np.inf))[:, None, :])
    squares = []
    for rows in (slice(0, n_fake), score):
        own = scores[:, rows] - scores[:, rows].mean(axis=1, keepdims=True)
        main = np.square(own).sum(axis=2) * (own.shape[1] / (own.shape[1] - 1))
        squares.append(np.stack([main, np.maximum(squared_residuals(grams[:, rows, rows]) - main, 0.0)], axis=2))
    main, rest = squares[1].mean(axis=1).T
    squares[1][rest <= 1e-10 * main, :, 1] = 0.0  # no more dimensions than directions: what is left is rounding
    return np.concatenate(squares, axis=1)


def ratio_findings(
    squares: np.ndarray, splits: Splits, *, offsets: Sequence[float] | np.ndarray | float = 0.0, logarithm: bool = False
) -> list[Finding]:
    """Mean over the generated samples over that of the real ones, for each column.

    Args:
        squares: (K, N, C) positive numbers, generated samples first.
        splits: every split of the samples, :class:`Splits`.
        offsets: (C,) taken off the logarithms of the ratios (a known bias of them).
        logarithm: averages over classes are those of the logarithm.

    Returns:
        C findings, each of K classes.
    """
    n_fake, n_real = splits.n_fake, splits.n_real
    real_mean = squares[:, n_fake:].mean(axis=1)
    undefined = ~(real_mean > 0)  # (K, C), as everything below
    squares = np.where(undefined[:, None], 1.0, np.maximum(squares, ROUNDING * real_mean[:, None]))
    logs = np.log(squares[:, :n_fake].mean(axis=1)) - np.log(squares[:, n_fake:].mean(axis=1)) - np.asarray(offsets)
    logs[undefined] = NAN
    fake, real = _relative_error(squares[:, :n_fake]), _relative_error(squares[:, n_fake:])
    together = (n_fake**2 * fake[0] + n_real**2 * real[0]) / (n_fake + n_real)  # of one sample
    variances = [np.maximum(v, (v + together / n) / 2) for (v, _), n in ((fake, n_fake), (real, n_real))]
    variance = variances[0] + variances[1]
    collapsed = fake[0] == 0  # then nothing is to be learnt from the generated samples' own tails
    variance = np.where(collapsed, real[0], variance)
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = variance**2 / (variances[0] ** 2 / fake[1] + variances[1] ** 2 / real[1])
    degrees = np.where(collapsed, real[1], degrees)
    errors = np.sqrt(variance)
    nulls = _nulls(squares, splits, logs, errors, degrees, np.sqrt(real[0] * (1 + n_real / n_fake)), real[1])
    found = []
    for j, null in enumerate(nulls):
        error, freedom = errors[:, j], np.where(degrees[:, j] > 0, degrees[:, j], splits.degrees)
        log = Estimates.student(logs[:, j], error, freedom, splits.confidence)
        if logarithm:
            found.append(Finding(log, error, null, freedom, scale="logarithm"))
        else:
            found.append(Finding(log.map(np.exp), error, null, freedom, scale="ratio"))
    return found


def _relative_error(squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K, C) jackknife variances of the logarithms of means over (K, n, C), and their degrees of freedom."""
    n, total = squares.shape[1], squares.sum(axis=1)
    if n < 3:  # residuals of two samples are equal and say nothing about their error
        return np.full(total.shape, NAN), np.full(total.shape, NAN)
    left = np.log(np.maximum(total[:, None] - squares, 1e-300))
    variance = (n - 1) ** 2 / n * left.var(axis=1, ddof=1)
    variance[np.ptp(squares, axis=1) <= 1e-12 * total] = 0.0
    return variance, variance_degrees(squares / total[:, None] * n - 1, axis=1)


def _nulls(
    squares: np.ndarray,
    splits: Splits,
    logs: np.ndarray,
    errors: np.ndarray,
    degrees: np.ndarray,
    real_error: np.ndarray,
    real_degrees: np.ndarray,
) -> list[Null | None]:
    columns = squares.shape[2]
    if not len(splits.members):
        return [None] * columns
    both = np.concatenate([squares, squares**2], axis=2)
    found, drawn = _studentised(both, splits.observed, own_means=True), _studentised(both, splits.members)
    observed = np.where(np.isfinite(logs), found[:, :, 0], NAN)
    floors: list[np.ndarray | None] = [None] * columns
    if len(splits.parts):
        level = (1 + splits.confidence) / 2
        with np.errstate(invalid="ignore"):
            widths = [special.stdtrit(d, level) * e for d, e in ((degrees, errors), (real_degrees, real_error))]
        half = np.fmax(*widths) / special.ndtri(level)  # draws of a normal law whose interval is as wide
        draws = np.stack([generator.standard_normal(len(splits.members)) for generator in splits.generators])
        floors = [draws * half[:, j, None] for j in range(columns)]
    return [dataclasses.replace(splits.null(observed[:, j], drawn[:, j]), floor=floors[j]) for j in range(columns)]


def _studentised(both: np.ndarray, members: np.ndarray, *, own_means: bool = False) -> np.ndarray:
    """(K, C, B) log ratios over their standard errors (the bare ones below three samples).

    Args:
        both: (K, N, 2 C) numbers and their squares.
        members: (B, N) splits, all of the same sizes.
        own_means: the groups are those whose own means the residuals were taken from, which costs each group one
            degree of freedom; permuted groups pay nothing.
    """
    columns, n = both.shape[2] // 2, both.shape[1]
    in_a, total = product(both.transpose(0, 2, 1), members.T), both.sum(axis=1)[:, :, None]
    n_a = int(members[0].sum())
    logs, variance = 0.0, 0.0
    for sign, sums, size in ((1, in_a, n_a), (-1, total - in_a, n - n_a)):
        mean = np.maximum(sums[:, :columns], 1e-12 * total[:, :columns] * ROUNDING) / size
        second = np.maximum(sums[:, columns:] / size - mean**2, 0.0)
        logs = logs + sign * np.log(mean)
        variance = variance + second / mean**2 / max(size - 1, 1) * (size / max(size - 1, 1) if own_means else 1.0)
    if min(n_a, n - n_a) < 3:
        return np.asarray(logs)
    return np.asarray(logs / np.sqrt(np.maximum(variance, 1e-12)))
