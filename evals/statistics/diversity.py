"""How varied the samples of a class are: Vendi score, recall, coverage. All from the class's Gram matrix.

- Vendi score (Friedman and Dieng, TMLR 2023): exp of the entropy of the eigenvalues of the similarity matrix / n; the
  effective number of different samples, 1 to n. The similarity here is the cosine about the global mean.
- Recall (Kynkäänniemi et al., NeurIPS 2019): share of real samples inside the k-th-neighbour ball of a generated
  one.
- Coverage (Naeem et al., ICML 2020): share of real samples whose own k-th-neighbour ball holds a generated one.

All of them change with the number of samples: compare only values at the same n.
"""

from __future__ import annotations

import numpy as np
from scipy import special

__all__ = ["coverage", "recall", "squared_distances", "vendi"]


def vendi(gram: np.ndarray) -> np.ndarray:
    """Vendi score of n samples from (..., n, n) inner products; those of length 0 count as similar to nothing."""
    lengths = np.sqrt(np.maximum(np.diagonal(gram, axis1=-2, axis2=-1), 0.0))
    lengths = np.where(lengths > 0, lengths, np.inf)
    similarity = gram / (lengths[..., :, None] * lengths[..., None, :])
    every = np.arange(gram.shape[-1])
    similarity[..., every, every] = 1.0
    shares = np.maximum(np.linalg.eigvalsh(similarity), 0.0) / gram.shape[-1]
    return np.exp(special.entr(shares).sum(axis=-1))


def squared_distances(gram: np.ndarray) -> np.ndarray:
    """(..., N, N) squared distances from (..., N, N) inner products."""
    norms = np.diagonal(gram, axis1=-2, axis2=-1)
    return np.maximum(norms[..., :, None] + norms[..., None, :] - 2 * gram, 0.0)


def recall(distances: np.ndarray, n_fake: int, *, neighbours: int = 5) -> np.ndarray:
    """Recall from (..., N, N) squared distances, generated samples first.

    Raises:
        ValueError: no more generated samples than ``neighbours``.
    """
    radii = _radii(distances[..., :n_fake, :n_fake], neighbours)
    return (distances[..., :n_fake, n_fake:] <= radii[..., :, None]).any(axis=-2).mean(axis=-1)


def coverage(distances: np.ndarray, n_fake: int, *, neighbours: int = 5) -> np.ndarray:
    """Coverage from (..., N, N) squared distances, generated samples first.

    Raises:
        ValueError: no more real samples than ``neighbours``.
    """
    radii = _radii(distances[..., n_fake:, n_fake:], neighbours)
    return (distances[..., :n_fake, n_fake:].min(axis=-2) <= radii).mean(axis=-1)


def _radii(distances: np.ndarray, neighbours: int) -> np.ndarray:
    """Squared distance of each sample to its k-th neighbour, itself (at distance 0) not counted."""
    if distances.shape[-1] <= neighbours:
        raise ValueError(f"{neighbours} neighbours need more than {neighbours} samples; got {distances.shape[-1]}")
    return np.partition(distances, neighbours, axis=-1)[..., neighbours]
