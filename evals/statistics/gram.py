"""One Gram matrix per class serves its statistics and all their resamples.

Notation: ``G = Z Z^T`` over the n_a + n_b samples of two groups; K classes with the same numbers of samples are worked
on together, along the first axis. A split is a 0/1 row over the samples: 1 for group a (generated), 0 for group b
(real). Sums over a group of inner products are all that means and traces need, and the observed split and every
permuted one go through one function. Leaving out products of a sample with itself gives the unbiased squares

    |mean_a|^2 = sum_{i != j in a} G_ij / n_a (n_a - 1)          tr S_a = mean_a G_ii - |mean_a|^2.

The sum over pairs within the smaller group is made sample by sample, for the splits that have it there: a quarter of
the work of the product of all splits with G where the groups are alike, and next to nothing for a few generated samples
among many real ones. But to look those splits up takes longer than the product, unless many classes share it.

Any kernel may stand for the inner product: ``|mean_a - mean_b|^2`` is then its squared maximum mean discrepancy.

Unbiased ``(tr S)^2`` and ``tr S^2``: Himeno and Yamada, Journal of Multivariate Analysis 130 (2014).
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np

from .estimate import NAN
from .products import product
from .resampling import Splits

__all__ = [
    "Draws",
    "SplitMeans",
    "double_centre",
    "draw",
    "participation",
    "split_means",
    "squared_distances",
    "squared_residuals",
    "trace_of_squares",
]

_COLUMNS = 128  # of a product in one go: 1 MB for a thousand splits stays in the processor's cache

Anchor = tuple[float, np.ndarray]


@dataclasses.dataclass(frozen=True)
class SplitMeans:
    """Means and traces of B splits of K classes' samples into a (generated) and b (real); each array is (K, B).

    Attributes:
        aa, bb: unbiased ``|mean_a|^2`` and ``|mean_b|^2``; ``ab``: ``<mean_a, mean_b>``, origin at the Gram matrix's.
        trace_a, trace_b: unbiased traces of the two covariances.
        along, along_error, length: unbiased ``<mean_a - mean_b, u>``, its standard error from the samples' spread along
            u, and ``|u|^2``; nan without an anchor.
    """

    aa: np.ndarray
    ab: np.ndarray
    bb: np.ndarray
    trace_a: np.ndarray
    trace_b: np.ndarray
    along: np.ndarray
    along_error: np.ndarray
    length: np.ndarray

    @property
    def squared(self) -> np.ndarray:
        """Unbiased ``|mean_a - mean_b|^2``; negative values are chance."""
        return self.aa - 2 * self.ab + self.bb

    def __getitem__(self, index: Any) -> SplitMeans:
        """Some of the splits, or one: ``means[:, 0]``."""
        return SplitMeans(*(getattr(self, field.name)[index] for field in dataclasses.fields(self)))


def split_means(grams: np.ndarray, members: np.ndarray, *, anchor: Anchor | None = None) -> SplitMeans:
    """Means and traces of many splits of the same samples.

    Args:
        grams: (K, N, N) inner products.
        members: (B, N) of 0.0 and 1.0; every row has the same number of ones, at least two and at most N - 2.
        anchor: ``(w, <z_i, v>)`` of a fixed vector v, (K, N): asks for products with ``u = (1 - w) mean_b + w v`` too.
    """
    norms, sums = np.diagonal(grams, axis1=1, axis2=2), grams.sum(axis=1)
    n_a = int(members[0].sum())
    n_b = members.shape[1] - n_a
    norms_a = product(norms, members.T)
    norms_b = norms.sum(axis=1, keepdims=True) - norms_a
    all_pairs = (sums - norms).sum(axis=1, keepdims=True)
    from_a = product(sums - norms, members.T)  # pairs that begin in a
    if n_a <= n_b:
        within_a = _pairs_within(grams, members)
        across = from_a - within_a
        within_b = all_pairs - 2 * across - within_a
    else:
        within_b = _pairs_within(grams, 1 - members)
        across = all_pairs - from_a - within_b
        within_a = from_a - across
    aa, bb = within_a / (n_a * (n_a - 1)), within_b / (n_b * (n_b - 1))
    ab, nothing = across / (n_a * n_b), np.full(aa.shape, NAN)
    means = SplitMeans(aa, ab, bb, norms_a / n_a - aa, norms_b / n_b - bb, nothing, nothing, nothing)
    return means if anchor is None else _with_anchor(means, grams, members, anchor)


def _pairs_within(grams: np.ndarray, members: np.ndarray) -> np.ndarray:
    """(K, B) sums of the products of different samples of a group, by what takes less time."""
    by_sample = 32 * members[0].sum() < grams.shape[0] * grams.shape[1]
    return _pairs_by_sample(grams, members) if by_sample else _pairs_by_product(grams, members)


def _pairs_by_product(grams: np.ndarray, members: np.ndarray) -> np.ndarray:
    totals = -product(np.diagonal(grams, axis1=1, axis2=2), members.T)
    for gram, total in zip(grams, totals, strict=True):
        for start in range(0, len(gram), _COLUMNS):
            stop = start + _COLUMNS
            columns = gram[:stop, start:stop].copy()
            columns[:start] *= 2  # and none for the rows below
            total += np.einsum("bn,bn->b", product(members[:, :stop], columns), members[:, start:stop])
    return totals


def _pairs_by_sample(grams: np.ndarray, members: np.ndarray) -> np.ndarray:
    totals = np.zeros((len(members), len(grams)))
    samples, having = np.nonzero(members.T)  # in each sample's turn, the splits that have it in the group
    ends = np.bincount(samples, minlength=members.shape[1]).cumsum()
    for i, splits in enumerate(np.split(having, ends[:-1])):
        totals[splits] += product(members[splits, i + 1 :], grams[:, i, i + 1 :].T)
    return 2 * totals.T


def _with_anchor(means: SplitMeans, grams: np.ndarray, members: np.ndarray, anchor: Anchor) -> SplitMeans:
    """The part along u. The components ``<z_i, u>`` of all samples in all splits are big: some samples at a time."""
    weight, to_anchor = anchor
    n_a = int(members[0].sum())
    n_b = members.shape[1] - n_a
    keep, sums = (1 - weight) / n_b, grams.sum(axis=1)
    in_a, in_all = product(to_anchor, members.T), to_anchor.sum(axis=1, keepdims=True)
    in_b = in_all - in_a
    # <z_i, u> = keep * <z_i, sum over b> + weight * to_anchor, summed over a, and over all samples
    first_a = keep * n_a * n_b * means.ab + weight * in_a
    first = keep * (sums.sum(axis=1, keepdims=True) - product(sums, members.T)) + weight * in_all
    second_a, second = np.zeros(means.ab.shape), np.zeros(means.ab.shape)
    for k, start in itertools.product(range(len(grams)), range(0, members.shape[1], _COLUMNS)):
        some = slice(start, start + _COLUMNS)
        components = product(members, -keep * grams[k, :, some])
        components += keep * sums[k, some] + weight * to_anchor[k, some]
        squares = np.square(components, out=components)
        second_a[k] += np.einsum("bn,bn->b", squares, members[:, some])
        second[k] += squares.sum(axis=1)
    error = np.zeros(means.ab.shape)
    for total, total_squares, n in ((first_a, second_a, n_a), (first - first_a, second - second_a, n_b)):
        error += np.maximum(total_squares - total * total / n, 0.0) / ((n - 1) * n)
    along = (1 - weight) * (means.ab - means.bb) + weight * (in_a / n_a - in_b / n_b)
    # |v|^2 is left out: v is the same for all splits, and in use it is the observed mean_b, already in in_b
    length = (1 - weight) ** 2 * means.bb + (1 - (1 - weight) ** 2) * in_b / n_b
    return dataclasses.replace(means, along=along, along_error=np.sqrt(error), length=length)


@dataclasses.dataclass(frozen=True)
class Draws:
    """The Gram matrices of K classes under every split.

    Attributes:
        observed, permuted, parts: the value itself (K,), under permutations (K, B), and between parts of the real
            samples (K, B); the latter two None without resamples.
        real_squares: (K,) unbiased ``tr S^2`` of the real samples; nan below four.
        noise_squares: (K,) ``tr V^2``, V the covariance of the difference of the means; nan below four on a side.
    """

    observed: SplitMeans
    permuted: SplitMeans | None
    parts: SplitMeans | None
    real_squares: np.ndarray
    noise_squares: np.ndarray


def draw(grams: np.ndarray, splits: Splits, *, anchor: Anchor | None = None) -> Draws:
    """:func:`split_means` for the observed split and all resamples."""
    means = split_means(grams, splits.labellings, anchor=anchor)
    n_fake, n_real = splits.n_fake, splits.n_real
    real = grams[:, n_fake:, n_fake:]
    on_parts = None if anchor is None else (0.0, anchor[1][:, n_fake:])
    parts = split_means(real, splits.parts, anchor=on_parts) if len(splits.parts) else None
    cross = _squared_sum(double_centre(grams[:, :n_fake, n_fake:])) / ((n_fake - 1) * (n_real - 1))
    fake_squares, real_squares = trace_of_squares(grams[:, :n_fake, :n_fake]), trace_of_squares(real)
    noise = fake_squares / n_fake**2 + real_squares / n_real**2 + 2 * cross / (n_fake * n_real)
    permuted = means[:, 1:] if len(splits.members) else None
    return Draws(means[:, 0], permuted, parts, real_squares, np.maximum(noise, 0.0))


def squared_residuals(gram: np.ndarray) -> np.ndarray:
    """(..., n) squared distances of n samples to their mean, times n / (n - 1): their mean is the unbiased trace."""
    n = gram.shape[-1]
    to_mean = gram.mean(axis=-1)
    squares = np.diagonal(gram, axis1=-2, axis2=-1) - 2 * to_mean + to_mean.mean(axis=-1, keepdims=True)
    return np.maximum(squares, 0.0) * (n / (n - 1))


def squared_distances(gram: np.ndarray) -> np.ndarray:
    """(..., N, N) squared distances from (..., N, N) inner products; 0 where only rounding is left."""
    norms = np.diagonal(gram, axis1=-2, axis2=-1)
    distances = -2 * gram  # then in place: of thousands of samples every copy fills gigabytes
    distances += norms[..., :, None]
    distances += norms[..., None, :]
    np.copyto(distances, 0.0, where=distances <= 2e-14 * norms[..., :, None])
    return distances


def participation(gram: np.ndarray) -> np.ndarray:
    """Participation ratio ``(tr S)^2 / tr S^2`` from (..., n, n), corrected for n; nan where undefined (n < 4)."""
    squared, squares = _trace_moments(gram)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((squares > 0) & (squared > 0), squared / squares, NAN)


def trace_of_squares(gram: np.ndarray) -> np.ndarray:
    """Unbiased ``tr S^2`` from the (..., n, n) Gram matrix of n >= 4 samples about any origin; nan below 4."""
    return _trace_moments(gram)[1]


def _trace_moments(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unbiased ``(tr S)^2`` and ``tr S^2``, whatever the law of the samples; (...,) each."""
    n = gram.shape[-1]
    if n < 4:
        return np.full(gram.shape[:-2], NAN), np.full(gram.shape[:-2], NAN)
    centred = double_centre(gram)
    norms = np.diagonal(centred, axis1=-2, axis2=-1)
    trace, squares = norms.sum(axis=-1) / (n - 1), _squared_sum(centred) / (n - 1) ** 2
    fourth = np.square(norms).sum(axis=-1) / (n - 1)
    factor = (n - 1) / (n * (n - 2) * (n - 3))
    return (
        factor * (2 * squares + (n**2 - 3 * n + 1) * trace**2 - n * fourth),
        factor * ((n - 1) * (n - 2) * squares + trace**2 - n * fourth),
    )


def _squared_sum(products: np.ndarray) -> np.ndarray:
    return np.einsum("...ij,...ij->...", products, products)


def double_centre(products: np.ndarray) -> np.ndarray:
    """Inner products (..., n, m) of two groups, each measured from its own mean instead."""
    rows = products.mean(axis=-1, keepdims=True)
    centred = products - rows
    centred -= products.mean(axis=-2, keepdims=True) - rows.mean(axis=-2, keepdims=True)
    return centred
