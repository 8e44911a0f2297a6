"""One Gram matrix per class serves its statistics and all their resamples.

Notation: ``G = Z Z^T`` over the n_a + n_b samples of two groups. A split is a 0/1 row over the samples: 1 for group a
(generated), 0 for group b (real). Sums over a group of inner products are all that means and traces need, so B splits
are one product ``A G`` of a (B, N) with an (N, N) matrix, and the observed split and every permuted one go through one
function. Leaving out products of a sample with itself gives the unbiased squares

    |mean_a|^2 = sum_{i != j in a} G_ij / n_a (n_a - 1)          tr S_a = mean_a G_ii - |mean_a|^2.

Any kernel may stand for the inner product: ``|mean_a - mean_b|^2`` is then its squared maximum mean discrepancy.

Unbiased ``(tr S)^2`` and ``tr S^2``: Himeno and Yamada, Journal of Multivariate Analysis 130 (2014).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from .estimate import NAN
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

_CHUNK = 1 << 17  # numbers per array in one go: 1 MB stays in the processor's cache

Anchor = tuple[float, np.ndarray]


@dataclasses.dataclass(frozen=True)
class SplitMeans:
    """Means and traces of B splits of one class's samples into a (generated) and b (real); each array is (B,).

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

    def __getitem__(self, rows: slice) -> SplitMeans:
        """Some of the splits."""
        return SplitMeans(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


def split_means(gram: np.ndarray, members: np.ndarray, *, anchor: Anchor | None = None) -> SplitMeans:
    """Means and traces of many splits of the same samples.

    Args:
        gram: (N, N) inner products.
        members: (B, N) of 0.0 and 1.0; every row has at least two of each.
        anchor: ``(w, <z_i, v>)`` of a fixed vector v: asks for products with ``u = (1 - w) mean_b + w v`` too.
    """
    at_once = max(1, _CHUNK // len(gram))
    parts = [_split_means(gram, members[i : i + at_once], anchor) for i in range(0, max(len(members), 1), at_once)]
    if len(parts) == 1:
        return parts[0]
    names = [field.name for field in dataclasses.fields(SplitMeans)]
    return SplitMeans(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _split_means(gram: np.ndarray, members: np.ndarray, anchor: Anchor | None) -> SplitMeans:
    norms, sums = np.diagonal(gram), gram.sum(axis=0)
    products = members @ np.column_stack([gram, norms, sums, np.ones(len(gram))])  # one pass over the splits
    to_a, (norms_a, with_all, n_a) = products[:, :-3], products[:, -3:].T  # to_a: each sample with the sum over a
    n_b = len(gram) - n_a
    norms_b = norms.sum() - norms_a
    inside_a = np.einsum("bn,bn->b", to_a, members)
    across = with_all - inside_a
    inside_b = sums.sum() - 2 * across - inside_a
    aa, bb = (inside_a - norms_a) / (n_a * (n_a - 1)), (inside_b - norms_b) / (n_b * (n_b - 1))
    ab, nothing = across / (n_a * n_b), np.full(len(members), NAN)
    means = SplitMeans(aa, ab, bb, norms_a / n_a - aa, norms_b / n_b - bb, nothing, nothing, nothing)
    return means if anchor is None else _with_anchor(means, sums - to_a, members, anchor)


def _with_anchor(means: SplitMeans, to_b: np.ndarray, members: np.ndarray, anchor: Anchor) -> SplitMeans:
    """``to_b``: (B, N) inner product of each sample with the sum over b; worked on in place, these arrays are big."""
    weight, to_anchor = anchor
    n_a = members.sum(axis=1)
    n_b = members.shape[1] - n_a
    total = members @ to_anchor
    in_a, in_b = total / n_a, (to_anchor.sum() - total) / n_b
    component = np.multiply(to_b, ((1 - weight) / n_b)[:, None], out=to_b)
    component += weight * to_anchor
    first, both = np.einsum("bn,bn->b", component, members), component.sum(axis=1)
    squares = np.square(component, out=component)
    second, both_second = np.einsum("bn,bn->b", squares, members), squares.sum(axis=1)
    rest, rest_second = both - first, both_second - second
    error = np.zeros(len(members))
    for sums, sums_of_squares, n in ((first, second, n_a), (rest, rest_second, n_b)):
        error += np.maximum(sums_of_squares - sums * sums / n, 0.0) / ((n - 1) * n)
    along = (1 - weight) * (means.ab - means.bb) + weight * (in_a - in_b)
    # |v|^2 is left out: v is the same for all splits, and in use it is the observed mean_b, already in in_b
    length = (1 - weight) ** 2 * means.bb + (1 - (1 - weight) ** 2) * in_b
    return dataclasses.replace(means, along=along, along_error=np.sqrt(error), length=length)


@dataclasses.dataclass(frozen=True)
class Draws:
    """One Gram matrix under every split of a class.

    Attributes:
        observed, permuted, parts: the value itself, under permutations, and between parts of the real samples; None
            without resamples.
        real_squares: unbiased ``tr S^2`` of the real samples; nan below four.
        noise_squares: ``tr V^2``, V the covariance of the difference of the means; nan below four on a side.
    """

    observed: SplitMeans
    permuted: SplitMeans | None
    parts: SplitMeans | None
    real_squares: float
    noise_squares: float


def draw(gram: np.ndarray, splits: Splits, *, anchor: Anchor | None = None) -> Draws:
    """:func:`split_means` for the observed split and all resamples."""
    means = split_means(gram, splits.labellings, anchor=anchor)
    real = slice(splits.n_fake, None)
    on_parts = None if anchor is None else (0.0, anchor[1][real])
    parts = split_means(gram[real, real], splits.parts, anchor=on_parts) if len(splits.parts) else None
    n_fake, n_real = splits.n_fake, splits.n_real
    cross = np.square(double_centre(gram[:n_fake, real])).sum() / ((n_fake - 1) * (n_real - 1))
    fake_squares, real_squares = trace_of_squares(gram[:n_fake, :n_fake]), trace_of_squares(gram[real, real])
    noise = fake_squares / n_fake**2 + real_squares / n_real**2 + 2 * float(cross) / (n_fake * n_real)
    permuted = means[1:] if len(splits.members) else None
    return Draws(means[:1], permuted, parts, real_squares, noise if math.isnan(noise) else max(noise, 0.0))


def squared_residuals(gram: np.ndarray) -> np.ndarray:
    """(n,) squared distances of n samples to their mean, times n / (n - 1): their mean is the unbiased trace."""
    n = len(gram)
    to_mean = gram.mean(axis=1)
    squares = np.diagonal(gram) - 2 * to_mean + to_mean.mean()
    return np.maximum(squares, 0.0) * (n / (n - 1))


def squared_distances(gram: np.ndarray) -> np.ndarray:
    """(..., N, N) squared distances from (..., N, N) inner products; 0 where only rounding is left."""
    norms = np.diagonal(gram, axis1=-2, axis2=-1)
    lengths = norms[..., :, None] + norms[..., None, :]
    distances = lengths - 2 * gram
    return np.where(distances > 1e-14 * lengths, distances, 0.0)


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
