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
from scipy import linalg

__all__ = ["coverage", "recall", "squared_distances", "vendi"]


def vendi(gram: np.ndarray) -> float:
    """Vendi score of n samples from their (n, n) inner products; those of length 0 count as similar to nothing."""
    lengths = np.sqrt(np.maximum(np.diagonal(gram), 0.0))
    lengths = np.where(lengths > 0, lengths, np.inf)
    similarity = gram / np.outer(lengths, lengths)
    np.fill_diagonal(similarity, 1.0)
    values = linalg.eigvalsh(similarity, check_finite=False) / len(gram)
    values = values[values > 0]
    return float(np.exp(-(values * np.log(values)).sum()))


def squared_distances(gram: np.ndarray) -> np.ndarray:
    """(N, N) squared distances from (N, N) inner products."""
    norms = np.diagonal(gram)
    return np.maximum(norms[:, None] + norms - 2 * gram, 0.0)


def recall(distances: np.ndarray, n_fake: int, *, neighbours: int = 5) -> float:
    """Recall from (N, N) squared distances, generated samples first."""
    radii = _radii(distances[:n_fake, :n_fake], neighbours)
    return float((distances[:n_fake, n_fake:] <= radii[:, None]).any(axis=0).mean())


def coverage(distances: np.ndarray, n_fake: int, *, neighbours: int = 5) -> float:
    """Coverage from (N, N) squared distances, generated samples first."""
    radii = _radii(distances[n_fake:, n_fake:], neighbours)
    return float((distances[:n_fake, n_fake:].min(axis=0) <= radii).mean())


def _radii(distances: np.ndarray, neighbours: int) -> np.ndarray:
    """Squared distance of each sample to its k-th neighbour, itself (at distance 0) not counted."""
    if len(distances) <= neighbours:
        raise ValueError(f"{neighbours} neighbours need more than {neighbours} samples; got {len(distances)}")
    return np.partition(distances, neighbours, axis=1)[:, neighbours]
