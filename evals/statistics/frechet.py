"""Fréchet distance between two Gaussians fitted to features, split into its mean and its covariance part.

    d^2 = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr sqrt(S1 S2)

With fewer samples than dimensions the square root of a d x d matrix is not needed: for centred features X1, X2

    tr sqrt(S1 S2) = nuclear norm of  X1 X2^T / sqrt((n1 - 1)(n2 - 1)),

exactly, an n1 x n2 matrix (the non-zero eigenvalues of S1 S2 are the squared singular values of that matrix).
At small n the estimate is biased upwards by much more than a class's shrinkage changes it, and a shrunk law can score
better than the true one: never read a per-class value without its floor.

Dowson and Landau, Journal of Multivariate Analysis 12 (1982); Heusel et al. (2017) for its use on Inception features.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import linalg

from .products import eigenvalues, product, scatter_matrix, singular_values
from .workers import Each

__all__ = ["Frechet", "frechet_distance", "frechet_from_moments", "frechet_in_parts", "nuclear_norm"]

_ROWS_AT_ONCE = 4096
_SMALL = 256  # rows of a matrix whose singular values take no time worth saving


class Frechet(NamedTuple):
    """The two parts of the squared Fréchet distance, as estimated (biased upwards at small n).

    Examples:
        >>> import numpy as np
        >>> from kdist.evals import frechet_distance
        >>> x = np.random.default_rng(0).normal(size=(200, 3))
        >>> found = frechet_distance(x, x + 1.0)
        >>> print(round(found.mean, 6), round(abs(found.covariance), 6))
        3.0 0.0
    """

    mean: float
    covariance: float

    @property
    def total(self) -> float:
        """The usual squared distance ("FID")."""
        return self.mean + self.covariance


def frechet_distance(first: np.ndarray, second: np.ndarray) -> Frechet:
    """Fréchet distance between (n1, d) and (n2, d) features, in float64.

    Raises:
        ValueError: widths that differ, or fewer than two samples on a side.

    Examples:
        >>> import numpy as np
        >>> from kdist.evals import frechet_distance
        >>> x = np.random.default_rng(0).normal(size=(200, 3))
        >>> print(round(sum(frechet_distance(x, x + 1.0)), 6))
        3.0
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(f"features must be (n1, d) and (n2, d) with the same d; got {first.shape} and {second.shape}")
    if min(len(first), len(second)) < 2:
        raise ValueError(f"a covariance needs at least two samples; got {len(first)} and {len(second)}")
    return frechet_in_parts(first, second, map)


def frechet_in_parts(first: np.ndarray, second: np.ndarray, each: Each) -> Frechet:
    """The same of checked arrays; ``each`` is ``map``, or that of an executor which works side by side."""
    if max(len(first), len(second)) > first.shape[1]:
        return frechet_from_moments(*itertools.chain(*_moments([first, second], each)))
    means = first.mean(axis=0, dtype=np.float64), second.mean(axis=0, dtype=np.float64)
    first, second = first - means[0], second - means[1]
    degrees = len(first) - 1, len(second) - 1
    cross = nuclear_norm(product(first, second.T)) / np.sqrt(degrees[0] * degrees[1])
    traces = np.vdot(first, first) / degrees[0] + np.vdot(second, second) / degrees[1]
    return Frechet(float(np.sum((means[0] - means[1]) ** 2)), float(traces - 2 * cross))


def nuclear_norm(matrices: np.ndarray) -> np.ndarray:
    """Sums of the singular values of (..., n, m) matrices.

    Of large ones they are the roots of the eigenvalues of ``A A^T``, in half to a third of the time. Those below 1e-8
    of the largest are lost to rounding then.
    """
    if min(matrices.shape[-2:]) <= _SMALL:
        return singular_values(matrices).sum(axis=-1)
    if matrices.shape[-2] > matrices.shape[-1]:
        matrices = matrices.swapaxes(-1, -2)
    squares = eigenvalues(product(matrices, matrices.swapaxes(-1, -2)))
    return np.sqrt(np.maximum(squares, 0.0)).sum(axis=-1)


def _moments(sets: Sequence[np.ndarray], each: Each) -> list[tuple[np.ndarray, np.ndarray]]:
    """Mean and covariance of each set in float64, without a float64 copy of all features.

    Products of float32 features are made in float32, 4096 rows at a time, and added up in float64: the distance is
    then good to about 1e-6 of itself, singular covariances included (twice as fast, as all of measure's time is here).
    """
    means = list(each(functools.partial(np.mean, axis=0, dtype=np.float64), sets))

    def scattered(part: tuple[int, int]) -> np.ndarray:
        k, start = part
        centred = sets[k][start : start + _ROWS_AT_ONCE] - _rounded(means[k], sets[k])
        return scatter_matrix(centred)

    parts = [(k, start) for k, features in enumerate(sets) for start in range(0, len(features), _ROWS_AT_ONCE)]
    scatters = [np.zeros((len(mean), len(mean))) for mean in means]
    for (k, _), part in zip(parts, each(scattered, parts), strict=True):
        scatters[k] += part
    found = []
    for features, mean, scatter in zip(sets, means, scatters, strict=True):
        rest = mean - _rounded(mean, features)
        scatter -= len(features) * np.outer(rest, rest)
        found.append((mean, scatter / (len(features) - 1)))
    return found


def _rounded(mean: np.ndarray, features: np.ndarray) -> np.ndarray:
    """In float32 if the features are."""
    return mean.astype(np.float32) if features.dtype == np.float32 else mean


def frechet_from_moments(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> Frechet:
    """Fréchet distance from means (d,) and covariances (d, d), singular ones included.

    ``tr sqrt(S1 S2)`` is the sum of the square roots of the eigenvalues of the symmetric ``R^T S2 R``, ``S1 = R R^T``.

    Examples:
        >>> import numpy as np
        >>> from kdist.evals import frechet_from_moments
        >>> found = frechet_from_moments(np.zeros(2), np.eye(2), np.ones(2), 4 * np.eye(2))
        >>> print(round(found.mean, 6), round(found.covariance, 6))
        2.0 2.0
    """
    try:
        root = np.linalg.cholesky(cov1)
    except linalg.LinAlgError:  # singular: more dimensions than samples
        values, vectors = linalg.eigh(cov1)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
    squares = product(product(root.T, cov2), root)
    cross = np.sqrt(np.maximum(eigenvalues(squares), 0.0)).sum()
    difference = np.asarray(mean1) - np.asarray(mean2)
    return Frechet(float(difference @ difference), float(np.trace(cov1) + np.trace(cov2) - 2 * cross))
