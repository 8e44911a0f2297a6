"""The schedules that are searched: families whose edges lie between the sampler's own noise levels.

A schedule is what it does at the levels that the sampler asks about, so edges are counted in levels (``start=3``:
after three of them) and no two settings of one family give the same samples. Scales close to 1 and 0 are taken as 1
and 0: they spare a network call.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from ..schedules import (
    Constant,
    EarlyNegative,
    Interval,
    LateNegative,
    NegativeWindow,
    Piecewise,
    Ramp,
    Schedule,
)

__all__ = ["FAMILIES", "Draw", "Space"]

FAMILIES = ("constant", "interval", "ramp", "early-negative", "late-negative", "negative-window", "piecewise")
BANDS = (4, 8)  # of a piecewise schedule
_SNAP = 0.1
_SIGMA_DATA = 0.5  # standard deviation of images, the default of k-diffusion


class Suggests(Protocol):
    """What an Optuna trial and :class:`Draw` have in common."""

    def suggest_float(self, name: str, low: float, high: float) -> float: ...
    def suggest_int(self, name: str, low: int, high: int) -> int: ...
    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...


@dataclass
class Draw:
    """Random parameters, or the neighbours of given ones: each is kept, moved or drawn anew.

    Attributes:
        rng: where randomness comes from.
        near: parameters to stay near to.
        change: probability that a parameter is changed.
        step: size of a move, as a fraction of the parameter's range.
        params: what was drawn.
    """

    rng: np.random.Generator
    near: Mapping[str, Any] = field(default_factory=dict)
    change: float = 0.3
    step: float = 0.12
    params: dict[str, Any] = field(default_factory=dict)

    def _kept(self, name: str) -> bool:
        return name in self.near and self.rng.random() > self.change

    def suggest_float(self, name: str, low: float, high: float) -> float:
        if self._kept(name):
            value = self.near[name]
        elif name in self.near and self.rng.random() < 0.7:
            value = self.near[name] + self.step * (high - low) * self.rng.standard_normal()
        elif low < 1 < high and self.rng.random() < 0.4:
            value = self.rng.choice([0.0, 1.0, 1.0]) if low <= 0 else 1.0
        else:
            value = self.rng.uniform(low, high)
        self.params[name] = float(np.clip(value, low, high))
        return self.params[name]

    def suggest_int(self, name: str, low: int, high: int) -> int:
        if self._kept(name):
            value = self.near[name]
        elif name in self.near:
            value = self.near[name] + self.rng.choice([-2, -1, 1, 2])
        else:
            value = self.rng.integers(low, high + 1)
        self.params[name] = int(np.clip(value, low, high))
        return self.params[name]

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        kept = self.near.get(name) in choices and self.rng.random() > self.change / 3
        self.params[name] = self.near[name] if kept else choices[self.rng.integers(len(choices))]
        return self.params[name]


@dataclass(frozen=True)
class Space:
    """Everything that may be tried.

    Args:
        levels: (L,) decreasing noise levels that the sampler asks about, above 0.
        share: (L,) how much of an update guidance is at each of them; None where that is not known.
        scales: smallest and largest scale.
        families: names in :data:`FAMILIES`.
        choices: other arguments of ``generate`` and what they may be, e.g. ``{"weak": [False, True]}``.

    Raises:
        ValueError: fewer than two levels, an unknown family, scales that do not hold 1, an empty choice.
    """

    levels: Sequence[float]
    share: Sequence[float] | None = None
    scales: tuple[float, float] = (-1.0, 6.0)
    families: Sequence[str] = FAMILIES
    choices: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.levels) < 2:
            raise ValueError(
                f"a schedule needs two noise levels or more; the sampler asks for the scale at {len(self.levels)}: "
                "sample with more steps, or choose a constant scale by `kdist compare`"
            )
        if unknown := sorted(set(self.families) - set(FAMILIES)):
            raise ValueError(f"families has no {', '.join(unknown)}; there are {', '.join(FAMILIES)}")
        if not self.families:
            raise ValueError(f"families is empty; there are {', '.join(FAMILIES)}")
        low, high = self.scales
        if not (math.isfinite(low) and math.isfinite(high) and low <= 1 < high):
            raise ValueError(f"scales must be (smallest, largest) with smallest <= 1 < largest; got {self.scales}")
        for name, values in self.choices.items():
            if not len(values):
                raise ValueError(f"choices: {name} has no values to choose from")

    def edge(self, index: int) -> float:
        """A noise level between the levels ``index - 1`` and ``index``: above all for 0, below all for L."""
        if index <= 0:
            return _short(self.levels[0] * 1.5)
        if index >= len(self.levels):
            return 0.0
        return _short(math.sqrt(self.levels[index - 1] * self.levels[index]))

    def bands(self, count: int) -> list[int]:
        """(count + 1,) indices of the edges of ``count`` bands in which guidance does equally much."""
        weights = np.ones(len(self.levels)) if self.share is None else self.importance()
        done = np.concatenate([[0.0], np.cumsum(weights / weights.sum())])
        edges = [int(np.argmin(np.abs(done - part))) for part in np.linspace(0, 1, count + 1)]
        edges[0], edges[-1] = 0, len(self.levels)
        return sorted(set(edges))

    def importance(self) -> np.ndarray:
        """(L,) how far guidance moves an image: the step in log sigma, times the update's length in units of a noisy
        image, times guidance's share of it; at least a fifth of the mean."""
        sigma = np.asarray(self.levels)
        weights = np.abs(np.gradient(np.log(sigma)))
        if self.share is not None:  # a share of small updates is little: without noise there is nothing to move
            weights = weights * np.asarray(self.share) * sigma / np.hypot(sigma, _SIGMA_DATA)
        return np.maximum(weights, weights.mean() / 5)

    def suggest(self, trial: Suggests) -> tuple[Schedule, dict[str, Any]]:
        """A schedule and the choices beside it, from an Optuna trial or a :class:`Draw`."""
        family = trial.suggest_categorical("family", tuple(self.families))
        schedule = getattr(self, "_" + family.replace("-", "_"))(trial)
        chosen = {}
        for name, values in self.choices.items():
            by_name = {_named(value): value for value in values}
            chosen[name] = by_name[trial.suggest_categorical(name, tuple(by_name))]
        return schedule, chosen

    def scales_at_levels(self, schedule: Schedule) -> np.ndarray:
        """(L,) the schedule at the sampler's levels."""
        return schedule.evaluate(torch.tensor(list(self.levels), dtype=torch.float64)).numpy()

    def as_bands(self, schedule: Schedule) -> dict[str, Any]:
        """The parameters of the piecewise schedule that comes closest to any schedule."""
        at, edges = self.scales_at_levels(schedule), self.bands(BANDS[1])
        means = [float(np.clip(at[a:b].mean(), *self.scales)) for a, b in itertools.pairwise(edges)]
        means += means[-1:] * (BANDS[1] - len(means))
        return {"family": "piecewise", "bands": BANDS[1], **{f"scale_{k}": v for k, v in enumerate(means)}}

    def warm_starts(self, others: Sequence[Schedule] = ()) -> list[dict[str, Any]]:
        """Parameters worth a first look: constants, what the literature found, and any ``others`` as bands."""
        cut, last = self.bands(8), len(self.levels)
        at = [cut[min(k, len(cut) - 1)] for k in range(9)]
        bottom, top = self.scales
        starts: list[dict[str, Any]] = [{"family": "constant", "scale": s} for s in (1.0, 1.5, 2.0, 3.0)]
        # by what guidance does, and by where networks have been seen to want it: the third quarter of the levels
        places = [(at[i], at[j]) for i, j in ((2, 7), (2, 5), (4, 7), (6, 8))] + [(last // 2, 4 * last // 5)] * 2
        starts += [
            {"family": "interval", "scale": s, "start": start, "stop": stop}
            for s, (start, stop) in zip((2.0, 3.0, 3.0, 2.0, 2.0, 3.0), places, strict=True)
            if start < stop
        ]
        starts += [
            {"family": "early-negative", "scale": 3.0, "early": 0.0, "start": min(at[2], last - 1), "stop": last},
            {"family": "late-negative", "scale": 2.0, "late": 0.5, "stop": at[5]},
            {"family": "ramp", "first": 1.0, "last": 3.0},
        ]
        starts += [self.as_bands(schedule) for schedule in others]
        default = {name: _named(values[0]) for name, values in self.choices.items()}
        starts = [{**start, **default} for start in starts if start["family"] in self.families]
        starts = [start for start in starts if start.get("scale", 1.0) <= top]
        for start in starts:
            for name in {"first", "last", "early", "late"} & start.keys():
                start[name] = min(max(start[name], bottom), top)
        return starts or [dict(_anywhere(self).params)]

    # Families

    def _peak(self, trial: Suggests, name: str = "scale", low: float = 1.0) -> float:
        return _snap(trial.suggest_float(name, low, self.scales[1]))

    def _low(self, trial: Suggests, name: str) -> float:
        return _snap(trial.suggest_float(name, self.scales[0], 1.0))

    def _two_edges(self, trial: Suggests) -> tuple[float, float]:
        """``(sigma_lo, sigma_hi)`` from the numbers of levels before and up to the end of the interval."""
        last = len(self.levels)
        start, stop = trial.suggest_int("start", 0, last - 1), trial.suggest_int("stop", 1, last)
        start, stop = (start, stop) if start < stop else (stop - 1, start + 1)
        return self.edge(stop), self.edge(start)

    def _constant(self, trial: Suggests) -> Schedule:
        return Constant(self._peak(trial))

    def _interval(self, trial: Suggests) -> Schedule:
        return Interval(self._peak(trial), *self._two_edges(trial))

    def _ramp(self, trial: Suggests) -> Schedule:
        first, last = (_snap(trial.suggest_float(name, *self.scales)) for name in ("first", "last"))
        return Ramp(first, last, _short(self.levels[-1]), _short(self.levels[0]))

    def _early_negative(self, trial: Suggests) -> Schedule:
        end, switch = self._two_edges(trial)
        return EarlyNegative(self._peak(trial), switch, self._low(trial, "early"), end)

    def _late_negative(self, trial: Suggests) -> Schedule:
        switch = self.edge(trial.suggest_int("stop", 1, len(self.levels)))
        return LateNegative(self._peak(trial), switch, self._low(trial, "late"))

    def _negative_window(self, trial: Suggests) -> Schedule:
        low, high = self._two_edges(trial)
        after = _snap(trial.suggest_float("after", 0.0, self.scales[1]))
        return NegativeWindow(self._peak(trial), low, high, self._low(trial, "inside"), after)

    def _piecewise(self, trial: Suggests) -> Schedule:
        count = trial.suggest_int("bands", *BANDS)
        scales = [_snap(trial.suggest_float(f"scale_{k}", *self.scales)) for k in range(count)]
        edges = self.bands(count)
        return Piecewise(tuple(self.edge(index) for index in edges[:-1]), tuple(scales[: len(edges) - 1]))


def _anywhere(space: Space) -> Draw:
    draw = Draw(np.random.default_rng(0))
    space.suggest(draw)
    return draw


def _named(value: Any) -> str:
    """A choice as the study stores it."""
    return getattr(value, "__name__", None) or str(value)


def _snap(scale: float) -> float:
    rounded = round(float(scale), 2)
    return next((whole for whole in (0.0, 1.0) if abs(rounded - whole) < _SNAP), rounded)


def _short(sigma: float) -> float:
    return float(f"{sigma:.4g}")
