"""How varied and how good the samples of a class are, from its Gram matrix, always compared at the same number.

- Vendi score (Friedman and Dieng, TMLR 2023): exp of the entropy of the eigenvalues of the similarity matrix / n; the
  effective number of different samples, 1 to n. The similarity here is the cosine about the global mean.
- Recall and precision (Kynkäänniemi et al., NeurIPS 2019): share of real samples inside the k-th-neighbour ball of a
  generated one, and of generated samples inside that of a real one.
- Coverage and density (Naeem et al., ICML 2020): share of real samples whose own k-th-neighbour ball holds a
  generated one, and how many of those balls hold a generated sample, over k.
- The two parts of the Fréchet distance.

All of them change with the number of samples. So each is computed between half of the generated samples and half of
the real ones, ``m = min(n_real, n_fake) // 2`` of each, and its floor between those real samples and m *other* real
ones; both are averaged over random halves. Their spread gives the interval: by the delete-half jackknife (Shao and Wu,
Annals of Statistics 17, 1989) the variance over random halves is the variance of the statistic of the whole.

The participation ratio ``(tr S)^2 / tr S^2`` (effective number of directions) is corrected for n instead, by unbiased
estimates of its parts (Himeno and Yamada, Journal of Multivariate Analysis 130, 2014).
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from .estimate import NAN, Estimates
from .frechet import nuclear_norm
from .gram import double_centre, participation, squared_distances
from .products import eigenvalues
from .resampling import Finding, Null, Splits

__all__ = ["MATCHED", "coverage", "density", "matched_findings", "precision", "recall", "vendi"]

MATCHED = (
    "frechet_mean",
    "frechet_covariance",
    "vendi",
    "recall",
    "coverage",
    "precision",
    "density",
    "participation_ratio",
)

_CHUNK = 1 << 18  # inner products handled in one go: 2 MB


def vendi(gram: np.ndarray) -> np.ndarray:
    """Vendi score of n samples from (..., n, n) inner products; those of length 0 count as similar to nothing."""
    lengths = np.sqrt(np.maximum(np.diagonal(gram, axis1=-2, axis2=-1), 0.0))
    lengths = np.where(lengths > 0, lengths, np.inf)
    similarity = gram / (lengths[..., :, None] * lengths[..., None, :])
    every = np.arange(gram.shape[-1])
    similarity[..., every, every] = 1.0
    shares = np.maximum(eigenvalues(similarity), 0.0) / gram.shape[-1]
    return np.exp(special.entr(shares).sum(axis=-1))


def recall(distances: np.ndarray, n_fake: int, *, neighbours: int = 5) -> np.ndarray:
    """Recall from (..., N, N) squared distances, generated samples first.

    Raises:
        ValueError: no more generated samples than ``neighbours``.
    """
    return _near_generated(distances, n_fake, neighbours).any(axis=-2).mean(axis=-1)


def coverage(distances: np.ndarray, n_fake: int, *, neighbours: int = 5) -> np.ndarray:
    """Coverage from (..., N, N) squared distances, generated samples first.

    Raises:
        ValueError: no more real samples than ``neighbours``.
    """
    return _near_real(distances, n_fake, neighbours).any(axis=-2).mean(axis=-1)


def precision(distances: np.ndarray, n_fake: int, *, neighbours: int = 5) -> np.ndarray:
    """Precision from (..., N, N) squared distances, generated samples first.

    Raises:
        ValueError: no more real samples than ``neighbours``.
    """
    return _near_real(distances, n_fake, neighbours).any(axis=-1).mean(axis=-1)


def density(distances: np.ndarray, n_fake: int, *, neighbours: int = 5) -> np.ndarray:
    """Density from (..., N, N) squared distances, generated samples first; about 1 for a perfect generator.

    Raises:
        ValueError: no more real samples than ``neighbours``.
    """
    return _near_real(distances, n_fake, neighbours).sum(axis=-1).mean(axis=-1) / neighbours


def _near_generated(distances: np.ndarray, n_fake: int, neighbours: int) -> np.ndarray:
    """(..., n_fake, n_real): whether the k-th-neighbour ball of a generated sample holds a real one."""
    radii = _radii(distances[..., :n_fake, :n_fake], neighbours)
    return distances[..., :n_fake, n_fake:] <= radii[..., :, None]


def _near_real(distances: np.ndarray, n_fake: int, neighbours: int) -> np.ndarray:
    """(..., n_fake, n_real): whether the k-th-neighbour ball of a real sample holds a generated one."""
    radii = _radii(distances[..., n_fake:, n_fake:], neighbours)
    return distances[..., :n_fake, n_fake:] <= radii[..., None, :]


def _radii(distances: np.ndarray, neighbours: int) -> np.ndarray:
    """Squared distance of each sample to its k-th neighbour, itself (at distance 0) not counted."""
    if distances.shape[-1] <= neighbours:
        raise ValueError(f"{neighbours} neighbours need more than {neighbours} samples; got {distances.shape[-1]}")
    return np.partition(distances, neighbours, axis=-1)[..., neighbours]


def matched_findings(
    grams: np.ndarray, splits: Splits, *, halves: int, permutations: int, neighbours: int
) -> tuple[dict[str, Finding], int]:
    """The statistics of :data:`MATCHED` of K classes, and the number of samples on either side.

    Args:
        grams: (K, N, N) inner products about the global mean, generated samples first.
        splits: every split of the samples, :class:`Splits`.
        halves: how many random halves; at least 3.
        permutations: how many permutations of all samples give the p-values; 0 for none. Each costs O(N^3).
        neighbours: k of recall, coverage, precision and density.
    """
    n_fake, n_real, count = splits.n_fake, splits.n_real, len(grams)
    size = min(n_real, n_fake) // 2
    if size < 2:
        return {name: Finding.undefined(count) for name in MATCHED}, size
    orders, permuted_orders = [], []
    everyone = np.arange(n_fake + n_real)
    for generator in splits.generators:
        generated = np.stack([generator.permutation(n_fake)[:size] for _ in range(halves)])
        real = n_fake + np.stack([generator.permutation(n_real)[: 2 * size] for _ in range(halves)])
        reference, other = real[:, :size], real[:, size:]
        orders.append(np.concatenate([np.hstack([generated, reference]), np.hstack([other, reference])]))
        if permutations:
            drawn = generator.permuted(np.tile(everyone, (permutations, 1)), axis=1)
            permuted_orders.append(np.concatenate([everyone[None], drawn]))
    values, floors = np.split(_statistics(grams, np.stack(orders), size, neighbours), 2, axis=1)
    centre, floor_centre = values.mean(axis=1), floors.mean(axis=1)
    corrected = MATCHED.index("participation_ratio")  # needs no matching: all samples can be used
    centre[:, corrected] = participation(grams[:, :n_fake, :n_fake]) / participation(grams[:, n_fake:, n_fake:])
    errors, spread = (draws.std(axis=1, ddof=1) * math.sqrt(1 + 1 / halves) for draws in (values, floors))
    permuted = _statistics(grams, np.stack(permuted_orders), n_fake, neighbours) if permutations else None
    found = {}
    for j, name in enumerate(MATCHED):
        null = None if permuted is None else Null(permuted[:, 0, j], permuted[:, 1:, j])
        floor = Estimates.student(floor_centre[:, j], spread[:, j], halves - 1, splits.confidence)
        value = Estimates.student(centre[:, j], errors[:, j], halves - 1, splits.confidence)
        found[name] = Finding(value, errors[:, j], null, halves - 1, floor=floor)
    return found, size


def _statistics(grams: np.ndarray, orders: np.ndarray, n_first: int, neighbours: int) -> np.ndarray:
    """(K, B, 8) statistics of B pairs of groups of each class, in the order of :data:`MATCHED`.

    Args:
        grams: (K, N, N) inner products of all samples.
        orders: (K, B, n) samples of either group, the first group's first.
        n_first: size of the first group, which plays the generated one.
        neighbours: k of recall, coverage, precision and density.
    """
    count, draws, size = orders.shape
    which, rows = np.repeat(np.arange(count), draws), orders.reshape(-1, size)
    step = max(1, _CHUNK // size**2)
    parts = []
    for start in range(0, len(rows), step):
        some, classes = rows[start : start + step], which[start : start + step]
        blocks = grams[classes[:, None, None], some[:, :, None], some[:, None, :]]
        parts.append(_batch_statistics(blocks, n_first, neighbours))
    return np.concatenate(parts).reshape(count, draws, -1)


def _batch_statistics(gram: np.ndarray, n_first: int, neighbours: int) -> np.ndarray:
    first, second, cross = gram[:, :n_first, :n_first], gram[:, n_first:, n_first:], gram[:, :n_first, n_first:]
    mean = first.mean(axis=(1, 2)) + second.mean(axis=(1, 2)) - 2 * cross.mean(axis=(1, 2))
    traces = np.zeros(len(gram))
    for block in (first, second):
        n = block.shape[-1]
        traces += (np.trace(block, axis1=1, axis2=2) - block.sum(axis=(1, 2)) / n) / (n - 1)
    nuclear = nuclear_norm(double_centre(cross)) / math.sqrt((first.shape[-1] - 1) * (second.shape[-1] - 1))
    by_neighbours = [np.full(len(gram), NAN)] * 4
    if min(first.shape[-1], second.shape[-1]) > neighbours:
        distances = squared_distances(gram)
        recalled = _near_generated(distances, n_first, neighbours).any(axis=-2)
        near = _near_real(distances, n_first, neighbours)
        counts = near.sum(axis=-1) / neighbours
        by_neighbours = [x.mean(axis=-1) for x in (recalled, near.any(axis=-2), counts > 0, counts)]
    ratio = participation(first) / participation(second)
    return np.stack([mean, traces - 2 * nuclear, vendi(first), *by_neighbours, ratio], axis=1)
