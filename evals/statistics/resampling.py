"""What chance alone would give: permutations for p-values, real against real for floors.

A :class:`Null` holds one statistic of one class: as observed, with the labels real/generated permuted, and as found
between disjoint parts of the real samples. Nulls of different classes are independent; their draw-by-draw mean
(:func:`pool`) is the null of the mean over classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from .estimate import NAN, Estimate

__all__ = ["Null", "Resampling", "pool", "quantile_estimate"]


@dataclasses.dataclass(frozen=True)
class Resampling:
    """How intervals, floors and p-values are made: confidence, number of resamples (0: none), random generator."""

    confidence: float
    count: int
    generator: np.random.Generator


@dataclasses.dataclass(frozen=True)
class Null:
    """Observed statistic, its permuted draws and its real-against-real draws.

    Attributes:
        observed: the test statistic.
        permuted: (B,) the same after permuting who is real and who is generated.
        floor: (B,) the *reported* number between disjoint parts of the real samples; None with fewer than 4 of them.
        two_sided: small values count as much as large ones.
    """

    observed: float
    permuted: np.ndarray
    floor: np.ndarray | None = None
    two_sided: bool = True

    def p_value(self) -> float:
        """Share of permutations at least as extreme, the observed labelling counted as one of them."""
        if not (np.isfinite(self.observed) and len(self.permuted)):
            return NAN
        observed, permuted = self.observed, self.permuted
        if self.two_sided:
            centre = np.median(permuted)
            observed, permuted = abs(observed - centre), abs(permuted - centre)
        ties = 1e-12 * abs(observed)  # the observed split met again among the permutations
        return float((1 + (permuted >= observed - ties).sum()) / (1 + len(permuted)))

    def attach(self, estimate: Estimate, confidence: float) -> Estimate:
        """``estimate`` with this floor and p-value."""
        floor = None if self.floor is None else quantile_estimate(self.floor, confidence)
        return Estimate(estimate, estimate.interval, floor=floor, p_value=self.p_value())


def pool(nulls: Sequence[Null | None]) -> Null | None:
    """Null of the mean over classes; classes where the statistic is undefined are left out."""
    defined = [null for null in nulls if null is not None and np.isfinite(null.observed)]
    if not defined:
        return None
    floors = [null.floor for null in defined if null.floor is not None]
    return Null(
        observed=float(np.mean([null.observed for null in defined])),
        permuted=np.mean([null.permuted for null in defined], axis=0),
        floor=np.mean(floors, axis=0) if floors else None,
        two_sided=defined[0].two_sided,
    )


def quantile_estimate(draws: np.ndarray, confidence: float) -> Estimate:
    """Median of the draws with their central interval."""
    low, middle, high = np.quantile(draws, [(1 - confidence) / 2, 0.5, (1 + confidence) / 2])
    return Estimate(middle, (low, high))
