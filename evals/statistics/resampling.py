"""What chance alone would give: permutations for p-values, real against real for floors.

The splits of N samples into groups are 0/1 rows, drawn once for each pair of sizes and shared by all classes of that
size (each class takes them in an order of its own, so that draws of different classes are independent). A
:class:`Null` holds one statistic of one class: as observed, with the labels real/generated permuted, and as found
between disjoint parts of the real samples. A :class:`Finding` is what every statistic of a class answers with.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import special

from .estimate import NAN, Estimate, exp

__all__ = ["Finding", "Null", "Resampling", "Splits", "pool", "quantile_estimate", "quantiles", "random_splits"]

_POOLS = 8  # sizes whose splits are kept

Scale = Literal["plain", "ratio", "square", "logarithm"]


def random_splits(total: int, n_a: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """``count`` random splits of ``total`` samples with ``n_a`` in group a: (count, total) of 0 and 1."""
    first = np.zeros(total)
    first[:n_a] = 1
    return generator.permuted(np.broadcast_to(first, (count, total)), axis=1)


@dataclasses.dataclass(frozen=True)
class Splits:
    """Every split of one class's samples (generated first) into group a (generated) and b (real); 1 marks group a.

    Attributes:
        n_fake, n_real: sizes.
        confidence: the confidence of intervals and floors.
        generator: draws what else is random about this class.
        labellings: (1 + B, N) who is generated: as it is, then permuted.
        parts: (B, n_real) disjoint parts of the real samples; part a has n_fake samples, or half of the real ones
            where they are too few. No rows with fewer than four real samples.
        widening: how much wider the law of a difference of means is at the sizes compared than between the parts.
    """

    n_fake: int
    n_real: int
    confidence: float
    generator: np.random.Generator
    labellings: np.ndarray
    parts: np.ndarray
    widening: float

    @property
    def observed(self) -> np.ndarray:
        """(1, N): the split as it is."""
        return self.labellings[:1]

    @property
    def members(self) -> np.ndarray:
        """(B, N): the permuted ones."""
        return self.labellings[1:]

    @property
    def degrees(self) -> int:
        """Degrees of freedom of the smaller set."""
        return min(self.n_fake, self.n_real) - 1


@dataclasses.dataclass(frozen=True)
class Resampling:
    """How intervals, floors and p-values are made: confidence, number of resamples (0: none), random generator."""

    confidence: float
    count: int
    generator: np.random.Generator
    seed: int = 0
    pools: dict[tuple[int, int], np.ndarray] = dataclasses.field(default_factory=dict, repr=False)

    def of(self, n_fake: int, n_real: int) -> Splits:
        """The splits of a class of these sizes."""
        part = min(n_fake, n_real // 2)
        widening = NAN
        if part >= 2:
            level = (1 + self.confidence) / 2  # the spread of few real samples is itself estimated: Student's quantile
            widening = float(special.stdtrit(n_real - 1, level) / special.ndtri(level))
            widening *= math.sqrt((1 / n_real + 1 / n_fake) / (1 / part + 1 / (n_real - part)))
        return Splits(
            n_fake=n_fake,
            n_real=n_real,
            confidence=self.confidence,
            generator=self.generator,
            labellings=self._draw(n_fake + n_real, n_fake),
            parts=self._draw(n_real, part)[1:] if part >= 2 else np.zeros((0, n_real)),
            widening=widening,
        )

    def _draw(self, total: int, n_a: int) -> np.ndarray:
        key = (total, n_a)
        if self.count and key not in self.pools:
            while len(self.pools) >= _POOLS:
                self.pools.pop(next(iter(self.pools)), None)
            self.pools[key] = random_splits(total, n_a, self.count, np.random.default_rng([self.seed, total, n_a]))
        pool = self.pools.get(key)
        rows = np.zeros((1 if pool is None else 1 + len(pool), total))
        rows[0, :n_a] = 1
        if pool is not None:
            np.take(pool, self.generator.permutation(len(pool)), axis=0, out=rows[1:], mode="clip")
        return rows


@dataclasses.dataclass(frozen=True)
class Null:
    """Observed statistic, its permuted draws and its real-against-real draws.

    Attributes:
        observed: the test statistic.
        permuted: (B,) the same after permuting who is real and who is generated.
        floor: (B,) the number of the :class:`Finding` (its logarithm for ratios) between disjoint parts of the real
            samples; None with fewer than 4 of them.
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
        observed, permuted = self.observed, np.where(np.isnan(self.permuted), np.inf, self.permuted)
        if self.two_sided:
            centre = quantiles(permuted, (0.5,))[0]
            observed, permuted = abs(observed - centre), abs(permuted - centre)
        ties = 1e-12 * abs(observed)  # the observed split met again among the permutations
        return float((1 + (permuted >= observed - ties).sum()) / (1 + len(permuted)))


@dataclasses.dataclass(frozen=True)
class Finding:
    """One statistic of one class, with what an average over classes needs.

    Attributes:
        estimate: value and interval, on the scale on which classes are averaged.
        error: its standard error (of its logarithm where ``scale`` is "ratio").
        null: None where nothing was resampled.
        degrees: the degrees of freedom of ``error``.
        bias: how much the value is too large on average; taken off in averages, where errors shrink and biases
            do not.
        floor: real against real, where no draws in ``null`` say it.
        scale: "plain"; "ratio": errors and floor are those of the logarithm; "square": shown as its root;
            "logarithm": shown as its exponential.
    """

    estimate: Estimate
    error: float = NAN
    null: Null | None = None
    degrees: float = math.inf
    bias: float = 0.0
    floor: Estimate | None = None
    scale: Scale = "plain"

    def shown(self, confidence: float) -> Estimate:
        """The estimate as reported, with floor and p-value."""
        return show(self.estimate, self.null, self.scale, confidence, self.floor)


def show(
    estimate: Estimate, null: Null | None, scale: Scale, confidence: float, floor: Estimate | None = None
) -> Estimate:
    """An estimate on the scale that is reported, with the floor (drawn, or as passed) and p-value of its null."""
    if null is not None and null.floor is not None:
        floor = quantile_estimate(null.floor, confidence)
        floor = floor.map(exp) if scale == "ratio" else floor
    p_value = NAN if null is None else null.p_value()
    full = Estimate(estimate, estimate.interval, floor=floor, p_value=p_value)
    if scale == "square":
        return full.map(lambda square: math.sqrt(max(square, 0.0)) if not math.isnan(square) else NAN)
    return full.map(exp) if scale == "logarithm" else full


def pool(nulls: Sequence[Null | None]) -> Null | None:
    """Null of the mean over classes, draw by draw; classes where the statistic is undefined are left out."""
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
    low, middle, high = quantiles(draws, ((1 - confidence) / 2, 0.5, (1 + confidence) / 2))
    return Estimate(middle, (low, high))


def quantiles(draws: np.ndarray, levels: Sequence[float]) -> list[float]:
    """``np.quantile`` of (B,) draws, at a tenth of its price for the few hundred calls that a class needs."""
    places = [level * (len(draws) - 1) for level in levels]
    around = [(int(place), min(int(place) + 1, len(draws) - 1)) for place in places]
    ordered = np.partition(draws, sorted({place for pair in around for place in pair}))
    found = []
    for place, (below, above) in zip(places, around, strict=True):
        low, high = float(ordered[below]), float(ordered[above])
        found.append(low if low == high else low + (place - below) * (high - low))  # infinities stay what they are
    return found
