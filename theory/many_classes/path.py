"""The integration behind :mod:`.phases`: equations M5 to M7 and M13, for many paths at once.

``ell = log(Delta)`` runs downwards in Runge-Kutta steps that end where a schedule jumps; the takeover is located
inside its step, and after it the closed form M7 holds. Arrays of overlaps ``m`` and ratios ``g = q / Delta`` have one
entry for each pair of an ``alpha`` and a schedule.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from ..integrate import ScheduleLike, scale_function, split_log_range
from .rivals import Array, Real, bulk_ratio, bulk_state, own_log_density, positive

__all__ = ["Dynamics", "Grid", "Run", "integrate"]

_STEP = 0.025  # of the Runge-Kutta steps in log(Delta): fourth order, error below 1e-6
_MAX_STEPS = 200_000
_FLOOR = 1e-3  # sigma / sqrt(c) below which a schedule's changes have no effect, and it is not called


@dataclass(frozen=True, eq=False)
class Grid:
    """Steps in ``ell = log(Delta)``, downwards, and each schedule's weight at the start, middle and end of each."""

    ell: Array  # (n + 1,)
    weight: Array  # (n, 3, number of schedules)
    within_var: float

    @property
    def sigma(self) -> Array:
        return sigma_of(self.ell, self.within_var)

    @classmethod
    def build(
        cls,
        schedules: Sequence[ScheduleLike],
        within_var: float,
        sigma_min: float,
        sigma_max: float,
        dimension: float = math.inf,
    ) -> Grid:
        c, top = positive("within_var", within_var), positive("sigma_max", sigma_max)
        if not 0 <= sigma_min < top:
            raise ValueError(f"sigma_min must be in [0, sigma_max={top}); got {sigma_min}")
        floor = max(sigma_min, min(_FLOOR * math.sqrt(c), top / 2))
        # the takeover at finite d is about 1/d wide
        sharpness = min(dimension, 2000) / 200 if math.isfinite(dimension) else 0.0
        functions = [scale_function(schedule) for schedule in schedules]
        edges = {math.log(top), math.log(floor)}
        for schedule in schedules:
            edges.update(split_log_range(schedule, floor, top))
        sigmas = np.exp(sorted(edges, reverse=True))
        sigmas[0] = top
        if sigma_min < floor:
            sigmas = np.append(sigmas, sigma_min)
        # just inside each panel, so that a jump at its end is not seen from the wrong side
        part = np.array([1e-7, 0.25, 0.5, 0.75, 1 - 1e-7])
        inside = np.clip(sigmas[:-1, None] + part * np.diff(sigmas)[:, None], floor, top)
        strength = np.max([np.abs(f(inside) - 1).max(axis=1) for f in functions], axis=0)
        ends = np.log(c + sigmas**2)
        steps = np.maximum(2, np.ceil(-np.diff(ends) / _STEP * (1 + strength / 5 + sharpness)))
        if steps.max() > _MAX_STEPS:
            worst = int(steps.argmax())
            raise ValueError(
                f"schedule reaches scale {strength[worst] + 1:.3g} above sigma={sigmas[worst + 1]:.3g}: bound it (clip)"
            )
        halves = [np.linspace(*pair, 2 * int(n) + 1) for pair, n in zip(itertools.pairwise(ends), steps, strict=True)]
        at = [
            np.clip(sigma_of(half, c), max(floor, low * (1 + 1e-7)), high * (1 - 1e-7))
            for half, (high, low) in zip(halves, itertools.pairwise(sigmas), strict=True)
        ]
        # each schedule is called once with all levels
        values = np.stack([f(np.concatenate(at)) - 1 for f in functions], axis=-1)
        offsets = np.cumsum([0, *map(len, at[:-1])])
        starts = np.concatenate([o + np.arange(0, len(half) - 1, 2) for o, half in zip(offsets, halves, strict=True)])
        ell = np.concatenate([ends[:1], *(half[2::2] for half in halves)])
        return cls(ell, values[starts[:, None] + np.arange(3)], c)


@dataclass(frozen=True, eq=False)
class Dynamics:
    """What moves a path: ``alpha`` (one per path), sampling noise ``lam``, and the dimension (infinite: mean field)."""

    alpha: Array
    noise: float
    dimension: float = math.inf

    def __post_init__(self) -> None:
        if not (math.isfinite(self.noise) and self.noise >= 0):
            raise ValueError(f"noise is 0 for the ODE, 1 for the reverse SDE, not negative; got {self.noise}")
        positive("dimension", self.dimension, finite=False)

    def of(self, paths: npt.NDArray[np.intp]) -> Dynamics:
        """These paths alone."""
        return replace(self, alpha=self.alpha[paths])

    def margin(self, m: Array, g: Array, delta: Real) -> Array:
        """M1 minus M2 or M4."""
        return own_log_density(m, g * delta, delta) - bulk_state(m, g * delta, delta, self.alpha).log_density

    def drift(self, m: Array, g: Array, ell: Real, weight: Array) -> tuple[Array, Array]:
        """M5 and M6; at finite dimension M13."""
        delta = np.exp(ell)
        own: Real = 0.0
        if math.isfinite(self.dimension):
            bulk, ratio = bulk_state(m, g * delta, delta, self.alpha)
            own = expit(self.dimension * (own_log_density(m, g * delta, delta) - bulk))
        else:
            ratio = bulk_ratio(m**2 + g * delta, delta, self.alpha)
        pull = 1 + weight - weight * (own + (1 - own) * ratio)
        aim = 1 + weight - weight * own
        return (1 + self.noise) / 2 * (pull * m - aim), ((1 + self.noise) * pull - 1) * g - self.noise

    def step(self, m: Array, g: Array, ell: Real, h: Real, weight: Sequence[Array]) -> tuple[Array, Array]:
        """A Runge-Kutta step of width ``h``, from the weights at its start, middle and end."""
        first, middle, last = weight
        k1, j1 = self.drift(m, g, ell, first)
        k2, j2 = self.drift(m + h / 2 * k1, g + h / 2 * j1, ell + h / 2, middle)
        k3, j3 = self.drift(m + h / 2 * k2, g + h / 2 * j2, ell + h / 2, middle)
        k4, j4 = self.drift(m + h * k3, g + h * j3, ell + h, last)
        return m + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), g + h / 6 * (j1 + 2 * j2 + 2 * j3 + j4)

    def takeover(
        self, m: Array, g: Array, before: Array, after: Array, ell: Real, width: Real, weight: Array
    ) -> tuple[Array, Array, Array]:
        """The part of a step at which the margin crosses 0, and ``m`` and ``g`` there; ``before`` and ``after`` are the
        margins at the step's ends. Over a part of it the weight is a parabola through its three values (3, ...)."""
        first, middle, last = weight

        def at(fraction: Array) -> Array:
            u = 2 * fraction - 1
            return middle + u * (last - first) / 2 + u**2 * ((first + last) / 2 - middle)

        low, high, f_low, f_high = np.zeros_like(m), np.ones_like(m), before, after
        part, at_m, at_g = high, m, g
        for _ in range(8):  # regula falsi; nearly linear over a step this short: three would do
            part = low - f_low * (high - low) / (f_high - f_low)
            at_m, at_g = self.step(m, g, ell, width * part, (first, at(part / 2), at(part)))
            value = self.margin(at_m, at_g, np.exp(ell + part * width))
            above = value > 0
            high, f_high = np.where(above, part, high), np.where(above, value, f_high)
            low, f_low = np.where(above, low, part), np.where(above, f_low, value)
            if (np.abs(value) < 1e-13).all():
                break
        return part, at_m, at_g


@dataclass(frozen=True, eq=False)
class Run:
    """States at the nodes that were kept, (nodes, *paths), and where each path switched (nan: nowhere)."""

    overlap: Array
    ratio: Array
    margin: Array
    switch: Array


class _Paths(NamedTuple):
    """Some of the paths, at one noise level or each at its own: their numbers, and their states."""

    number: npt.NDArray[np.intp]
    m: Array
    g: Array
    margin: Array

    def where(self, chosen: npt.NDArray[np.bool_]) -> _Paths:
        index = np.flatnonzero(chosen)
        return _Paths(*(values.take(index) for values in self))  # type: ignore[arg-type]


def integrate(grid: Grid, dynamics: Dynamics, start_overlap: float, *, keep: bool) -> Run:
    """All paths over the grid; ``dynamics.alpha`` broadcasts against the grid's schedules. ``keep``: every node."""
    if not math.isfinite(start_overlap):
        raise ValueError(f"start_overlap must be finite; got {start_overlap}")
    shape = np.broadcast_shapes(dynamics.alpha.shape, grid.weight.shape[2:])
    column = np.broadcast_to(np.arange(grid.weight.shape[2]), shape).ravel()  # of each path's schedule
    dynamics = replace(dynamics, alpha=np.broadcast_to(dynamics.alpha, shape).ravel())
    delta = np.exp(grid.ell)
    m = np.full(column.shape, float(start_overlap))
    # start_overlap times a sample of the class, plus noise
    g = np.full(column.shape, (start_overlap**2 * grid.within_var + delta[0] - grid.within_var) / delta[0])
    start = _Paths(np.arange(len(column)), m, g, dynamics.margin(m, g, delta[0]))

    nodes, crossings = _march(grid, dynamics, column, start, keep=keep)
    ell, m, g = np.where(start.margin > 0, grid.ell[0], np.nan), m.copy(), g.copy()  # of the takeover
    if crossings:  # all at once: set by set they take longer than all the steps
        step, number, m0, g0, before, after = map(np.concatenate, zip(*crossings, strict=True))
        high, width, weight = grid.ell[step], np.diff(grid.ell)[step], grid.weight[step, :, column[number]].T
        part, m[number], g[number] = dynamics.of(number).takeover(m0, g0, before, after, high, width, weight)
        ell[number] = high + part * width

    levels = np.array([level for level, _ in nodes])[:, None]
    # M7 where the own class rules, else what was integrated
    overlap = 1 + (m - 1) * np.exp((1 + dynamics.noise) / 2 * (levels - ell))
    ratio = 1 + (g - 1) * np.exp(dynamics.noise * (levels - ell))
    for node, (_, live) in enumerate(nodes):
        overlap[node, live.number], ratio[node, live.number] = live.m, live.g
    states = overlap, ratio, dynamics.margin(overlap, ratio, np.exp(levels))
    overlap, ratio, margin = (np.reshape(values, (-1, *shape)) for values in states)
    return Run(overlap, ratio, margin, sigma_of(ell, grid.within_var).reshape(shape))


def _march(
    grid: Grid, dynamics: Dynamics, column: npt.NDArray[np.intp], paths: _Paths, *, keep: bool
) -> tuple[list[tuple[float, _Paths]], list[tuple[npt.NDArray[Any], ...]]]:
    """The nodes (all, or the last) with the paths that were integrated there; and where a path's own class took over:
    the step, the path before it, and its margin after it."""
    delta, sharp = np.exp(grid.ell), math.isinf(dynamics.dimension)
    waiting = paths.margin <= 0  # for its takeover, by number
    live = paths.where(waiting) if sharp else paths
    nodes: list[tuple[float, _Paths]] = [(grid.ell[0], live)]
    crossings: list[tuple[npt.NDArray[Any], ...]] = []
    moved, of_live = dynamics.of(live.number), column[live.number]
    for i, (high, low) in enumerate(itertools.pairwise(grid.ell)):
        if not live.number.size:
            nodes += [(level, live) for level in grid.ell[i + 1 :]]
            break
        m, g = moved.step(live.m, live.g, high, low - high, grid.weight[i].take(of_live, axis=1))
        before, live = live, _Paths(live.number, m, g, moved.margin(m, g, delta[i + 1]))
        crossed = (live.margin > 0) & waiting[live.number]
        if crossed.any():
            crossings.append((np.full(crossed.sum(), i), *before.where(crossed), live.margin[crossed]))
            waiting[live.number[crossed]] = False
            if sharp:
                live = live.where(~crossed)
                moved, of_live = dynamics.of(live.number), column[live.number]
        if keep:
            nodes.append((low, live))
    return nodes if keep else [(grid.ell[-1], live)], crossings


def sigma_of(ell: Array, within_var: float) -> Array:
    """The noise level at ``log(within_var + sigma**2) = ell``."""
    return np.sqrt(within_var * np.maximum(np.expm1(ell - math.log(within_var)), 0))
