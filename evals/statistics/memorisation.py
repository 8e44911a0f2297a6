"""Are generated samples copies of training samples? Distance to the nearest one, over that of held-out real samples.

    memorisation = mean_i min_t |fake_i - t|  /  mean_j min_t |real_j - t|,    t over the training samples of the class

1 for a generator that is no closer to its training set than new real samples are, towards 0 for one that copies it.
Held-out real samples at the same distance take out how dense the class is (Meehan, Chaudhuri and Dasgupta, AISTATS
2020, compare the same distances by ranks).
"""

from __future__ import annotations

import numpy as np

from .products import product

__all__ = ["nearest_distances"]

_DISTANCES_AT_ONCE = 1 << 22  # 32 MB


def nearest_distances(queries: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(n,) distance of each (n, d) query to the nearest of (m, d) reference samples; 0 where only rounding is left."""
    norms = np.square(reference).sum(axis=1)
    nearest, step = [], max(1, _DISTANCES_AT_ONCE // len(reference))
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        lengths = np.square(block).sum(axis=1)[:, None] + norms
        squares = lengths - 2 * product(block, reference.T)
        nearest.append(np.where(squares > 1e-14 * lengths, squares, 0.0).min(axis=1))
    return np.sqrt(np.concatenate(nearest))
