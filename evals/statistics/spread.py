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

from collections.abc import Sequence

import numpy as np
from scipy import special

from .estimate import NAN, Estimate, variance_degrees
from .gram import squared_residuals
from .resampling import Finding, Null, Splits

__all__ = [
    "ROUNDING",
    "grouped_squares",
    "held_out_squares",
    "ratio_findings",
    "trace_ratio_finding",
]

ROUNDING = 1e-16  # of the real samples' variance: nothing below it was measured


def trace_ratio_finding(gram: np.ndarray, splits: Splits) -> Finding:
    """Total variance of the generated samples over that of the real ones, from an (N, N) Gram matrix."""
    return ratio_findings(grouped_squares(gram, splits.n_fake)[:, None], splits)[0]


def grouped_squares(gram: np.ndarray, n_fake: int) -> np.ndarray:
    """(N,) scaled squared distance of each sample to its own group's mean; 0 where only rounding is left."""
    squares = [squared_residuals(gram[rows, rows]) for rows in (slice(0, n_fake), slice(n_fake, None))]
    rounding = 1e-14 * np.diagonal(gram).mean()
    return np.concatenate([np.where(group.mean() > rounding, group, 0.0) for group in squares])


def held_out_squares(gram: np.ndarray, n_fake: int, count: int) -> np.ndarray | None:
    """(n_fake + m, 2): squares within the real class's first directions, and within the rest.

    The directions come from every other real sample and score the m that are left and all generated ones, which are
    exchangeable therefore where the laws agree. (Letting the halves change places would count their overlap twice:
    one in ten classes was called distorted at 5 %.)

    Args:
        gram: (N, N) inner products, generated samples first.
        n_fake: how many of the N are generated.
        count: directions; fewer where a half has not more than so many samples. None where a half has fewer than three.
    """
    fit = np.arange(n_fake + 1, len(gram), 2)
    score = np.arange(n_fake, len(gram), 2)
    count = min(count, len(fit) - 1)
    if len(fit) < 3:
        return None
    centred = gram - gram[fit].mean(axis=0)  # inner products with what is measured from the half's mean
    inner = centred[:, fit] - centred[:, fit].mean(axis=1, keepdims=True)
    values, vectors = np.linalg.eigh(inner[fit])
    keep = values[-count:] > 1e-12 * max(values[-1], 1e-300)
    scores = inner @ (vectors[:, -count:] / np.sqrt(np.where(keep, values[-count:], np.inf)))
    squares = []
    for rows in (np.arange(n_fake), score):
        own = scores[rows] - scores[rows].mean(axis=0)
        main = np.square(own).sum(axis=1) * (len(rows) / (len(rows) - 1))
        total = squared_residuals(gram[np.ix_(rows, rows)])
        squares.append(np.stack([main, np.maximum(total - main, 0.0)], axis=1))
    main, rest = squares[1].mean(axis=0)
    if rest <= 1e-10 * main:  # no more dimensions than directions: what is left is rounding
        squares[1][:, 1] = 0.0
    return np.concatenate(squares)


def ratio_findings(
    squares: np.ndarray, splits: Splits, *, offsets: Sequence[float] | np.ndarray | float = 0.0, logarithm: bool = False
) -> list[Finding]:
    """Mean over the generated samples over that of the real ones, for each column.

    Args:
        squares: (N, C) positive numbers, generated samples first.
        splits: split halves of the real samples, :class:`Splits`.
        offsets: (C,) taken off the logarithms of the ratios (a known bias of them).
        logarithm: averages over classes are those of the logarithm.
    """
    n_fake, n_real = splits.n_fake, splits.n_real
    real_mean = squares[n_fake:].mean(axis=0)
    undefined = ~(real_mean > 0)
    squares = np.maximum(squares, ROUNDING * real_mean)
    squares[:, undefined] = 1.0
    offsets = np.broadcast_to(np.asarray(offsets, dtype=float), undefined.shape)
    logs = np.log(squares[:n_fake].mean(axis=0)) - np.log(squares[n_fake:].mean(axis=0)) - offsets
    logs[undefined] = NAN
    fake, real = _relative_error(squares[:n_fake]), _relative_error(squares[n_fake:])
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
        error, freedom = float(errors[j]), float(degrees[j]) if degrees[j] > 0 else float(splits.degrees)
        log = Estimate.student(float(logs[j]), error, freedom, splits.confidence)
        if logarithm:
            found.append(Finding(log, error, null, freedom, scale="logarithm"))
        else:
            ratio = log.map(lambda value: float(np.exp(value)))
            found.append(Finding(ratio, error, null, freedom, scale="ratio"))
    return found


def _relative_error(squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(C,) jackknife variances of the logarithms of means over (n, C), and what they have of degrees of freedom."""
    n, total = len(squares), squares.sum(axis=0)
    if n < 3:  # residuals of two samples are equal and say nothing about their error
        return np.full(total.shape, NAN), np.full(total.shape, NAN)
    left = np.log(np.maximum(total - squares, 1e-300))
    variance = (n - 1) ** 2 / n * left.var(axis=0, ddof=1)
    variance[np.ptp(squares, axis=0) <= 1e-12 * total] = 0.0
    return variance, variance_degrees(squares / total * n - 1)


def _nulls(
    squares: np.ndarray,
    splits: Splits,
    logs: np.ndarray,
    errors: np.ndarray,
    degrees: np.ndarray,
    real_error: np.ndarray,
    real_degrees: np.ndarray,
) -> list[Null | None]:
    if not len(splits.members):
        return [None] * squares.shape[1]
    both = np.concatenate([squares, squares**2], axis=1)
    found, drawn = _studentised(both, splits.observed, own_means=True), _studentised(both, splits.members)
    floors: list[np.ndarray | None] = [None] * squares.shape[1]
    if len(splits.parts):
        level = (1 + splits.confidence) / 2
        with np.errstate(invalid="ignore"):
            widths = [special.stdtrit(d, level) * e for d, e in ((degrees, errors), (real_degrees, real_error))]
        half = np.fmax(*widths) / special.ndtri(level)  # draws of a normal law whose interval is as wide
        draws = splits.generator.standard_normal((len(splits.members), 1)) * half
        floors = [column if np.isfinite(column).all() else None for column in draws.T]
    return [Null(float(found[0, j]) if np.isfinite(logs[j]) else NAN, drawn[:, j], floors[j]) for j in range(len(logs))]


def _studentised(both: np.ndarray, members: np.ndarray, *, own_means: bool = False) -> np.ndarray:
    """(B, C) log ratios over their standard errors (the bare ones below three samples) from squares and their squares.

    ``own_means``: the groups are those whose own means the residuals were taken from, which costs each group one
    degree of freedom; permuted groups pay nothing.
    """
    columns = both.shape[1] // 2
    in_a, total = members @ both, both.sum(axis=0)
    n_a = members.sum(axis=1, keepdims=True)
    logs, variance = 0.0, 0.0
    for sign, sums, n in ((1, in_a, n_a), (-1, total - in_a, len(both) - n_a)):
        mean = np.maximum(sums[:, :columns], 1e-12 * total[:columns] * ROUNDING) / n
        second = np.maximum(sums[:, columns:] / n - mean**2, 0.0)
        logs = logs + sign * np.log(mean)
        variance = variance + second / mean**2 / np.maximum(n - 1, 1) * (n / np.maximum(n - 1, 1) if own_means else 1.0)
    if min(float(n_a[0, 0]), len(both) - float(n_a[0, 0])) < 3:
        return np.asarray(logs)
    return np.asarray(logs / np.sqrt(np.maximum(variance, 1e-12)))
