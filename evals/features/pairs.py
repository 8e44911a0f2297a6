"""Which samples of two sets belong together: those of one class and one seed, as the sets themselves say."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .feature_set import Features

__all__ = ["Pairs", "paired_rows"]


class Pairs(NamedTuple):
    """Rows that belong together.

    Attributes:
        first, other: (P,) rows of either set; pair i is ``first[i]`` with ``other[i]``.
        by_seed: both sets say which seeds they were drawn from, and share some; else rows are paired by their place in
            the source, and whether they have anything in common is not known.
    """

    first: np.ndarray
    other: np.ndarray
    by_seed: bool


def paired_rows(first: Features, other: Features) -> Pairs:
    """Rows of one class and seed where both sets know their seeds and share some, else of one class and place.

    Args:
        first, other: sets with the same class numbers, see :func:`make_comparable`.
    """
    if first.seeds is not None and other.seeds is not None:
        rows, other_rows = _common(first.y, first.seeds, other.y, other.seeds)
        if len(rows):
            return Pairs(rows, other_rows, True)
    rows, other_rows = _common(first.y, first.index, other.y, other.index)
    return Pairs(rows, other_rows, False)


def _common(
    y: np.ndarray, key: np.ndarray, other_y: np.ndarray, other_key: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    kind = np.dtype([("class", np.int64), ("key", np.uint64)])
    one, two = np.empty(len(y), kind), np.empty(len(other_y), kind)
    one["class"], one["key"] = y, key
    two["class"], two["key"] = other_y, other_key
    _, rows, other_rows = np.intersect1d(one, two, return_indices=True)
    return rows, other_rows
