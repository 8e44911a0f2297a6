"""What chance alone would give: permutations for p-values, real against real for floors.

Classes with the same numbers of samples are worked on together, K of them along the first axis of every array. The
splits of N samples into groups are 0/1 rows, drawn once for each pair of sizes and shared by all classes of that size
(each class takes them in an order of its own, so that draws of different classes are independent). A :class:`Null`
holds one statistic: as observed, with the labels real/generated permuted, and as found between disjoint parts of the
real samples. A :class:`Finding` is what every statistic answers with.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from scipy import special

from .estimate import NAN, Estimate, Estimates

__all__ = ["Finding", "Null", "Resampling", "Splits", "joined", "pool", "quantiles", "random_splits"]

_POOLS = 8  # sizes whose splits are kept

Scale = Literal["plain", "ratio", "square", "logarithm"]


def random_splits(total: int, n_a: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """``count`` random splits of ``total`` samples with ``n_a`` in group a: (count, total) of 0 and 1."""
    first = np.zeros(total)
    first[:n_a] = 1
    return generator.permuted(np.broadcast_to(first, (count, total)), axis=1)


@dataclasses.dataclass(frozen=True)
class Splits:
    """Every split of a class's samples (generated first) into group a (generated) and b (real); 1 marks group a.

    Attributes:
        n_fake, n_real: sizes.
        confidence: the confidence of intervals and floors.
        generators: draw what else is random, one for each of the K classes.
        labellings: (1 + B, N) who is generated: as it is, then permuted.
        parts: (B, n_real) disjoint parts of the real samples; part a has n_fake samples, or half of the real ones
            where they are too few. No rows with fewer than four real samples.
        orders, part_orders: (K, B) the order in which each class takes the permuted labellings and the parts.
        widening: how much wider the law of a difference of means is at the sizes compared than between the parts.
    """

    n_fake: int
    n_real: int
    confidence: float
    generators: Sequence[np.random.Generator]
    labellings: np.ndarray
    parts: np.ndarray
    orders: np.ndarray
    part_orders: np.ndarray
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

    def null(
        self, observed: np.ndarray, permuted: np.ndarray, parts: np.ndarray | None = None, *, two_sided: bool = True
    ) -> Null:
        """From (K,) and (K, B) statistics in the order of :attr:`members` and :attr:`parts`; each has its own."""
        floor = None if parts is None else np.take_along_axis(parts, self.part_orders, axis=1)
        return Null(observed, np.take_along_axis(permuted, self.orders, axis=1), floor, two_sided)


@dataclasses.dataclass(frozen=True)
class Resampling:
    """How intervals, floors and p-values are made: confidence, number of resamples (0: none), a generator per class."""

    confidence: float
    count: int
    generators: Sequence[np.random.Generator]
    seed: int = 0
    pools: dict[tuple[int, int], np.ndarray] = dataclasses.field(default_factory=dict, repr=False)

    def of(self, n_fake: int, n_real: int) -> Splits:
        """The splits of classes of these sizes."""
        part = min(n_fake, n_real // 2)
        widening = NAN
        if part >= 2:
            level = (1 + self.confidence) / 2  # the spread of few real samples is itself estimated: Student's quantile
            widening = float(special.stdtrit(n_real - 1, level) / special.ndtri(level))
            widening *= math.sqrt((1 / n_real + 1 / n_fake) / (1 / part + 1 / (n_real - part)))
        orders = self._orders()
        return Splits(
            n_fake=n_fake,
            n_real=n_real,
            confidence=self.confidence,
            generators=self.generators,
            labellings=self._draw(n_fake + n_real, n_fake),
            parts=self._draw(n_real, part)[1:] if part >= 2 else np.zeros((0, n_real)),
            orders=orders,
            part_orders=self._orders() if part >= 2 else orders,
            widening=widening,
        )

    def _orders(self) -> np.ndarray:
        orders = [generator.permutation(self.count) for generator in self.generators if self.count]
        return np.array(orders, dtype=np.int64).reshape(len(self.generators), self.count)

    def _draw(self, total: int, n_a: int) -> np.ndarray:
        """(1 + B, total): the first n_a as group a, then at random; the same for everyone who asks."""
        key = (total, n_a)
        rows = self.pools.get(key)
        if rows is None:
            rows = np.zeros((1 + self.count, total))
            rows[0, :n_a] = 1
            if self.count:
                rows[1:] = random_splits(total, n_a, self.count, np.random.default_rng([self.seed, total, n_a]))
            while len(self.pools) >= _POOLS:
                self.pools.pop(next(iter(self.pools)), None)
            self.pools[key] = rows
        return rows


@dataclasses.dataclass(frozen=True)
class Null:
    """One statistic of K classes: observed, its permuted draws and its real-against-real draws.

    Attributes:
        observed: (K,) the test statistic.
        permuted: (K, B) the same after permuting who is real and who is generated.
        floor: (K, B) the number of the :class:`Finding` (its logarithm for ratios) between disjoint parts of the real
            samples; rows that are not finite, or None for all of them, where there is none.
        two_sided: small values count as much as large ones.
    """

    observed: np.ndarray
    permuted: np.ndarray
    floor: np.ndarray | None = None
    two_sided: bool = True

    def p_values(self) -> np.ndarray:
        """(K,) share of permutations at least as extreme, the observed labelling counted as one of them."""
        if not self.permuted.shape[1]:
            return np.full(len(self.observed), NAN)
        observed, permuted = self.observed[:, None], np.where(np.isnan(self.permuted), np.inf, self.permuted)
        with np.errstate(invalid="ignore"):  # infinities less infinities: undefined, and so left out below
            if self.two_sided:
                centre = quantiles(permuted, (0.5,))[0][:, None]
                observed, permuted = np.abs(observed - centre), np.abs(permuted - centre)
            ties = 1e-12 * np.abs(observed)  # the observed split met again among the permutations
            extreme = (permuted >= observed - ties).sum(axis=1)
        return np.where(np.isfinite(self.observed), (1 + extreme) / (1 + permuted.shape[1]), NAN)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One statistic of K classes, with what an average over classes needs; arrays are (K,).

    Attributes:
        estimate: values and intervals, on the scale on which classes are averaged.
        error: standard errors (of the logarithms where ``scale`` is "ratio").
        null: None where nothing was resampled.
        degrees: the degrees of freedom of ``error``.
        bias: how much the value is too large on average; taken off in averages, where errors shrink and biases
            do not.
        unit_spread: (K,) squared relative spread, per sample, of what the value is divided by, where classes are alike
            in it: in averages none is taken to be less than all of them show. ``unit_samples``: how many it is from.
        floor: real against real, where no draws in ``null`` say it.
        scale: "plain"; "ratio": errors and floor are those of the logarithm; "square": shown as its root;
            "logarithm": shown as its exponential.
    """

    estimate: Estimates
    error: np.ndarray
    null: Null | None = None
    degrees: np.ndarray | float = math.inf
    bias: np.ndarray | float = 0.0
    unit_spread: np.ndarray | None = None
    unit_samples: int = 1
    floor: Estimates | None = None
    scale: Scale = "plain"

    @classmethod
    def undefined(cls, count: int, scale: Scale = "plain", *, draws: int = 0) -> Finding:
        """Of so many classes, with so many draws of its null (0: none)."""
        nothing = np.full(count, NAN)
        null = Null(nothing, np.full((count, draws), NAN)) if draws else None
        return cls(Estimates.undefined(count), nothing, null, scale=scale)

    def shown(self, confidence: float) -> list[Estimate]:
        """The estimates as reported, with floor and p-value."""
        return show(self.estimate, self.null, self.scale, confidence, self.floor)


def joined(found: Sequence[Finding]) -> Finding:
    """One finding of all classes of several; all of them were resampled, or none."""
    error, degrees, bias = (
        np.concatenate([np.broadcast_to(getattr(entry, name), entry.error.shape) for entry in found])
        for name in ("error", "degrees", "bias")
    )
    estimates = Estimates(*(np.concatenate(part) for part in zip(*(entry.estimate for entry in found), strict=True)))
    nulls, null = [entry.null for entry in found if entry.null is not None], None
    if nulls:
        floors = [np.full(part.permuted.shape, NAN) if part.floor is None else part.floor for part in nulls]
        observed, permuted = (np.concatenate([getattr(n, name) for n in nulls]) for name in ("observed", "permuted"))
        null = Null(observed, permuted, np.concatenate(floors), nulls[0].two_sided)
    return Finding(estimates, error, null, degrees, bias, scale=found[0].scale)


def show(
    estimate: Estimates, null: Null | None, scale: Scale, confidence: float, floor: Estimates | None = None
) -> list[Estimate]:
    """Estimates on the scale that is reported, with the floor (drawn, or as passed) and p-value of their null."""
    p_values, drawn = np.full(len(estimate.value), NAN), False
    if null is not None:
        p_values, drawn = null.p_values(), null.floor is not None
    if null is not None and null.floor is not None:
        low, middle, high = quantiles(null.floor, ((1 - confidence) / 2, 0.5, (1 + confidence) / 2))
        floor = Estimates(middle, low, high)
        floor = floor.map(np.exp) if scale == "ratio" else floor
    if scale in _SHOWN:
        estimate = estimate.map(_SHOWN[scale])
        floor = None if floor is None else floor.map(_SHOWN[scale])
    floors: list[Estimate | None] = [None] * len(p_values)
    if floor is not None:
        floors = [
            None if drawn and not math.isfinite(value) else Estimate(value, (lo, hi))
            for value, lo, hi in zip(*(part.tolist() for part in floor), strict=True)
        ]
    return [
        Estimate(value, (lo, hi), floor=own, p_value=p)
        for value, lo, hi, own, p in zip(*(part.tolist() for part in estimate), floors, p_values.tolist(), strict=True)
    ]


_SHOWN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "square": lambda squares: np.sqrt(np.maximum(squares, 0.0)),
    "logarithm": np.exp,
}


def pool(nulls: Sequence[Null | None]) -> Null | None:
    """Null of the mean over all classes, draw by draw; classes where the statistic is undefined are left out."""
    given = [null for null in nulls if null is not None]
    defined = [np.isfinite(null.observed) for null in given]
    count = sum(int(rows.sum()) for rows in defined)
    if not count:
        return None
    floor, with_floor = np.zeros(0), 0
    for null, rows in zip(given, defined, strict=True):
        if null.floor is not None:
            kept = null.floor[rows & np.isfinite(null.floor).all(axis=1)]
            floor, with_floor = (floor if with_floor else 0.0) + kept.sum(axis=0), with_floor + len(kept)
    return Null(
        observed=sum(null.observed[rows].sum() for null, rows in zip(given, defined, strict=True))[None] / count,
        permuted=sum(null.permuted[rows].sum(axis=0) for null, rows in zip(given, defined, strict=True))[None] / count,
        floor=floor[None] / with_floor if with_floor else None,
        two_sided=given[0].two_sided,
    )


def quantiles(draws: np.ndarray, levels: Sequence[float]) -> list[np.ndarray]:
    """Quantiles (K,) of (K, B) draws, for each level: one more draw falls below with just that probability.

    ``np.quantile(..., method="weibull")`` at a tenth of its price; its default is too narrow for a few hundred draws.
    """
    last = draws.shape[-1] - 1
    places = [min(max(level * (last + 2) - 1, 0), last) for level in levels]
    around = [(int(place), min(int(place) + 1, last)) for place in places]
    ordered = np.partition(draws, sorted({place for pair in around for place in pair}), axis=-1)
    found = []
    for place, (below, above) in zip(places, around, strict=True):
        low, high = ordered[..., below], ordered[..., above]
        with np.errstate(invalid="ignore"):  # infinities stay what they are
            found.append(np.where(low == high, low, low + (place - below) * (high - low)))
    return found
