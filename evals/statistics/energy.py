"""Energy distance: how far two laws are apart, 0 only where they are the same (Székely and Rizzo, 2013).

    D(X, Y) = 2 E|X - Y| - E|X - X'| - E|Y - Y'|,        reported:  D(fake, real) / E|Y - Y'|,  Y, Y' real

X, X', Y, Y' independent. It sees every difference (place, spread, shape, directions, missing modes), in any number of
dimensions. Pairs of one set leave out a sample with itself (U-statistic), so that real against real gives 0 on
average at every n, and chance values below 0. Divided by the real samples' mean distance it has no unit: 0.01 is
slight, two classes far apart against their own size exceed 1.

Székely and Rizzo, Journal of Statistical Planning and Inference 143 (2013), 1249-1272.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .inputs import as_features
from .products import product

__all__ = ["distance_sums", "energy_distance"]

_DISTANCES_AT_ONCE = 1 << 22  # 32 MB


def energy_distance(real: Any, fake: Any) -> float:
    """Energy distance of generated from real samples, in units of the real samples' mean distance; unbiased D.

    Args:
        real: (N, d) features of real samples, array or tensor; at least two.
        fake: (M, d) features of generated samples, by the same extractor; at least two.

    Returns:
        0 where the laws agree, on average; single values may be slightly negative. Computed in float64.

    Raises:
        ValueError: widths that differ, fewer than two samples on a side, non-finite features, or real samples that
            are all the same.

    Examples:
        >>> import numpy as np
        >>> from kdist.evals import energy_distance
        >>> x = np.random.default_rng(0).normal(size=(400, 3))
        >>> round(energy_distance(x[:200], x[200:]), 2), round(energy_distance(x[:200], x[200:] + 1), 2)
        (0.0, 0.46)
    """
    samples = [as_features("real", real), as_features("fake", fake)]
    if samples[0].shape[1] != samples[1].shape[1]:
        raise ValueError(
            f"real and fake must have the same feature width; got {samples[0].shape[1]} and {samples[1].shape[1]}"
        )
    for name, features in zip(("real", "fake"), samples, strict=True):
        if len(features) < 2:
            raise ValueError(f"distances within a set need at least two samples; {name} has {len(features)}")
    origin = samples[0].mean(axis=0, dtype=np.float64)  # short vectors: less cancellation in the squared distances
    y, x = (features.astype(np.float64) - origin for features in samples)
    within_real = distance_sums(y, y)[0].sum() / (len(y) * (len(y) - 1))
    if not within_real > 1e-7 * np.linalg.norm(origin):  # below the rounding of float32 features
        raise ValueError("the real samples are all the same (to rounding): there is no distance to compare with")
    within_fake = distance_sums(x, x)[0].sum() / (len(x) * (len(x) - 1))
    between = distance_sums(x, y)[0].sum() / (len(x) * len(y))
    return float((2 * between - within_fake - within_real) / within_real)


def distance_sums(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) and (m,) sums of the Euclidean distances between (n, d) and (m, d) float64 samples, over the other set.

    From inner products, which is many times as fast as differences; so both are to be given about a point among them.
    A sample's distance to itself, where both are the same array, is exactly 0.
    """
    norms = np.square(second).sum(axis=1)
    rows, columns = np.empty(len(first)), np.zeros(len(second))
    step = max(1, _DISTANCES_AT_ONCE // len(second))
    for start in range(0, len(first), step):
        some = slice(start, start + step)
        block = first[some]
        distances = product(block, second.T)
        distances *= -2
        distances += norms
        distances += np.square(block).sum(axis=1)[:, None]
        if first is second:
            distances[np.arange(len(block)), start + np.arange(len(block))] = 0.0
        np.sqrt(np.maximum(distances, 0.0, out=distances), out=distances)
        rows[some] = distances.sum(axis=1)
        columns += distances.sum(axis=0)
    return rows, columns
