"""A designed schedule of few numbers: guidance at ``scale``, a window at ``min_scale``, and what comes after.

For the ODE the log-ratio of a direction is closed (docs/theory.md, equation 4): with ``R(t) = log((u + t)/(c + t))``
and scales ``s`` above the window, ``m`` inside, ``a`` below,

    log V/c = const - (s - m) R(hi**2) + (a - m) R(lo**2)                                                        (1)

a function of one edge plus a function of the other, each monotonic. So its range over a cell of edges is known from the
cell's corners, and cells that hold no answer are thrown away until an answer is found or none is left: a proof that
there is no such window. A solver's windows are finitely many, and all are tried, if they are not too many. With noise
or bounds on overshoot there is a search instead.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import direct, minimize

from kdist import LateNegative, NegativeWindow, Schedule
from kdist.solvers import called_sigmas

from ..integrate import Array
from .target import TOLERANCE, Effect, Target

__all__ = ["Found", "window"]

_RESOLUTION = 0.004  # of a window's upper edge, in log sigma: what three digits can tell
_SIMPLER = 0.01  # merit that a window with more numbers must add
_ROUNDING = 1e-6  # in a log-ratio: what quadrature may differ from equation (1) by, and more
_CELLS = 40_000  # looked at before the proof is given up
_EDGES = 24  # between a solver's levels
_CALLS = 300  # of the search that proves nothing
_PENALTY = 100.0  # of a unit of shortfall, in units of merit
_BLOCK = 2**21  # numbers at a time

Edges = tuple[float, float]


@dataclass(frozen=True)
class Found:
    """A schedule, and whether it is proven that no other of its kind meets a target that this one misses."""

    schedule: Schedule
    proven: bool = False


def window(target: Target, *, candidates: int = 8) -> Found:
    """The best :class:`LateNegative` or :class:`NegativeWindow` with ``min_scale`` inside, in three digits.

    First, for some lower edges (none, or one of ``candidates``) and each scale after it (1, or the early scale again)
    the lowest upper edge that keeps the variance: the lower it is, the longer the push. Taken is the one of highest
    merit among those that meet the target. Where none does, both edges are searched together, in as many digits as it
    needs; if that fails as well, the one that comes closest is returned.
    """
    best = max(_lowest_edges(target, candidates), key=lambda schedule: _rank(target, schedule))
    if target.met(best):
        return Found(best)
    tried, proven = [best], True
    for after in _afters(target):
        edges, nothing = _both_edges(target, after)
        proven &= nothing
        if edges is not None:
            tried.append(_rounded(target, edges, after))
    return Found(max(tried, key=lambda schedule: _rank(target, schedule)), proven)


def _rank(target: Target, schedule: Schedule) -> tuple[float, float]:
    effect = target.effect(schedule)
    missed = max(float(target.shortfalls(effect).max()), TOLERANCE)
    return -missed, target.merit(effect) - (_SIMPLER if isinstance(schedule, NegativeWindow) else 0)


def _afters(target: Target) -> list[float]:
    return sorted({max(1.0, target.min_scale), target.scale})


def _limits(target: Target) -> Edges:
    """Between which noise levels the edges are looked for."""
    low, high = target.range
    return low, high if target.hold is None else min(high, target.hold)


def _ceiling(target: Target) -> float:
    """No upper edge is higher, wherever the kernels live."""
    return math.inf if target.hold is None else target.hold


def _build(target: Target, sigma_lo: float, sigma_hi: float, after: float | None) -> Schedule:
    if not sigma_lo:
        return LateNegative(target.scale, sigma_hi, target.min_scale)
    return NegativeWindow(target.scale, sigma_lo, sigma_hi, target.min_scale, after)


# One edge


def _lowest_edges(target: Target, candidates: int) -> Iterator[Schedule]:
    low, ceiling = _limits(target)
    edges = np.geomspace(2 * low, ceiling / 1.1, candidates)[:-1] if ceiling > 2.2 * low else np.array([])
    if target.solver is not None:  # windows that differ between its noise levels are the same to it
        edges = np.array([s for s in target.sigmas or () if low <= s < ceiling / 1.1])
        edges = edges[:: max(1, len(edges) // candidates)]
    yield _lowest_edge(target, 0.0, None, low, ceiling)
    for edge, after in itertools.product(edges, _afters(target)):
        sigma_lo = _round(float(edge))
        yield _lowest_edge(target, sigma_lo, after, max(low, 1.1 * sigma_lo), ceiling)


def _lowest_edge(target: Target, sigma_lo: float, after: float | None, low: float, high: float) -> Schedule:
    """The schedule with the lowest upper edge that keeps the variance: by bisection, or among a solver's levels."""

    def build(sigma_hi: float) -> Schedule:
        return _build(target, sigma_lo, sigma_hi, after)

    # what a lower edge makes worse; separation and widening it makes better
    needed = dataclasses.replace(target, separation=None, max_variance=None)
    if target.solver is not None:  # few levels, and coarse steps need not answer in order: try them one by one
        levels = sorted(_round(s) for s in target.sigmas or () if low <= s <= high)
        return next((build(s) for s in levels if needed.met(build(s))), build(_round(high, up=False)))
    below = 1.0 if after is None else after  # without a lower edge nothing comes after it
    cells = _Cells(needed, below) if _closed(needed) else None

    def met(sigma_hi: float) -> bool:
        if cells is None:
            return needed.met(build(sigma_hi))
        return bool(cells.shortfall(np.array([[sigma_lo, sigma_hi]]))[0] <= TOLERANCE - _ROUNDING)

    edges = np.geomspace(low, high, max(2, math.ceil(math.log(high / low) / _RESOLUTION)))
    first, last = 0, len(edges) - 1
    if not met(_round(high, up=False)):
        return build(_round(high, up=False))
    while last > first:
        middle = (first + last) // 2
        first, last = (first, middle) if met(_round(edges[middle])) else (middle + 1, last)
    return build(_round(edges[last], up=last < len(edges) - 1))


def _closed(target: Target) -> bool:
    """Whether equation (1) says all that the target asks."""
    return target.solver is None and target.noise == 0 and target.overshoot is None and target.separation is None


def _round(sigma: float, *, up: bool = True, digits: int = 3) -> float:
    """That many significant digits."""
    unit = 10.0 ** (math.floor(math.log10(sigma)) - digits + 1)
    whole = math.ceil(sigma / unit - 1e-9) if up else math.floor(sigma / unit + 1e-9)
    return float(f"{whole * unit:.{digits}g}")


# Both edges


def _both_edges(target: Target, after: float) -> tuple[Edges | None, bool]:
    """Edges of a window that meets the target, or comes close; and whether it is proven that none meets it."""
    if target.solver is not None:
        return _of_levels(target, after)
    if _closed(target):
        edges, proven = _Cells(target, after).search()
        if edges is None:
            return None, proven
    else:
        edges = _anywhere(target, after)
    return _polished(target, edges, after), False


def _of_levels(target: Target, after: float) -> tuple[Edges | None, bool]:
    """Every window that the solver can tell from the others: edges between two of the levels at which it calls."""
    calls = called_sigmas(target.solver or "", list(target.sigmas or ()), **target.solver_options)
    levels = sorted({s for s in calls if s > 0})
    ceiling = _ceiling(target)
    above = [math.sqrt(a * b) for a, b in itertools.pairwise(levels)] + [1.05 * levels[-1]]
    edges = [
        levels[0] / 2,
        *(min(edge, ceiling) for level, edge in zip(levels, above, strict=True) if level <= ceiling),
    ]
    thin = math.ceil(len(edges) / _EDGES)
    pairs = list(itertools.combinations(edges[::thin], 2))
    if not pairs:
        return None, False
    missed = [float(target.shortfalls(target.effect(_build(target, *pair, after))).max()) for pair in pairs]
    best = int(np.argmin(missed))
    return pairs[best], thin == 1 and missed[best] > TOLERANCE


def _anywhere(target: Target, after: float) -> Edges:
    """Where the worst shortfall is least, by DIRECT (Jones et al. 1993), which looks everywhere and proves nothing."""
    low, ceiling = (math.log(s) for s in _limits(target))
    shortfall = _of_edges(target, after, lambda effect: float(target.shortfalls(effect).max()))
    box = [(low, ceiling), (math.log(1.02), ceiling - low + 1)]
    found = direct(shortfall, box, maxfun=_CALLS, locally_biased=True, len_tol=1e-5).x
    return math.exp(found[0] - found[1]), math.exp(found[0])


def _polished(target: Target, edges: Edges, after: float) -> Edges:
    """Edges nearby of more merit, requirements first."""

    def price(effect: Effect) -> float:
        missed = max(0.0, float(target.shortfalls(effect).max()) - TOLERANCE / 2)
        return _PENALTY * missed - target.merit(effect)

    cost, start = _of_edges(target, after, price), [math.log(edges[1]), math.log(edges[1] / edges[0])]
    simplex = [start, [start[0] + 0.02, start[1]], [start[0], start[1] + 0.02]]
    options = {"maxfev": 120, "xatol": 1e-4, "fatol": 1e-6, "initial_simplex": simplex}
    found = minimize(cost, start, method="Nelder-Mead", options=options)
    x = found.x if found.fun < cost(np.array(start)) else start
    return math.exp(x[0] - x[1]), math.exp(x[0])


def _of_edges(target: Target, after: float, value: Callable[[Effect], float]) -> Callable[[Array], float]:
    """``value`` of the effect, as a function of the log of the upper edge and of the log of the edges' ratio."""
    ceiling = _ceiling(target)

    def call(x: Array) -> float:
        hi = min(math.exp(x[0]), ceiling)
        return value(target.effect(_build(target, hi * math.exp(-max(x[1], 1e-3)), hi, after)))

    return call


def _rounded(target: Target, edges: Edges, after: float) -> Schedule:
    """The window in as few digits as it needs, at least three."""
    ceiling = _ceiling(target)
    for digits in range(3, 9):
        schedules = [
            _build(target, _round(edges[0], up=up_lo, digits=digits), _round(edges[1], up=up_hi, digits=digits), after)
            for up_lo, up_hi in itertools.product((False, True), repeat=2)
            if up_hi is False or _round(edges[1], digits=digits) <= ceiling
        ]
        best = max(schedules, key=lambda schedule: _rank(target, schedule))
        if target.met(best):
            return best
    return best


class _Cells:
    """Branch and bound over both edges with equation (1)."""

    def __init__(self, target: Target, after: float) -> None:
        whole, self.target = target.whole, target
        self.c, self.u = whole.cond_var, whole.uncond_var
        levels = target.sigmas or (math.inf, 0.0)
        self.start, self.end = float(levels[0]), float(levels[-1])
        self.falls, self.rises = target.scale - target.min_scale, after - target.min_scale
        self.constant = (target.scale - 1) * self.r(self.start) - (after - 1) * self.r(self.end)
        self.least = math.log(target.keep_variance)
        self.most = math.inf if target.max_variance is None else math.log(target.max_variance)

    def r(self, sigma: Array | float) -> Array:
        """(n, D) or (D,)"""
        t = np.clip(np.asarray(sigma, dtype=np.float64), self.end, self.start)[..., None] ** 2
        return np.log1p((self.u - self.c) / (self.c + t))

    def shortfall(self, edges: Array) -> Array:
        """(n,) the worst of edges (n, 2), low and high."""
        log_ratio = self.constant - self.falls * self.r(edges[:, 1]) + self.rises * self.r(edges[:, 0])
        return np.maximum(self.least - log_ratio, log_ratio - self.most).max(1)

    def bound(self, cells: Array) -> Array:
        """(n,) no window of the cells (n, 2, 2) misses by less."""
        by_hi, by_lo = (-self.falls * self.r(cells[:, 1])), self.rises * self.r(cells[:, 0])
        low, high = (self.constant + pick(by_hi, 1) + pick(by_lo, 1) for pick in (np.min, np.max))
        return np.maximum(self.least - high, low - self.most).max(1)

    def search(self) -> tuple[Edges | None, bool]:
        """A window that meets the target, None where there is none or none was found; whether there is none."""
        low, high = self.target.range
        top = _ceiling(self.target)
        ends = np.array([0.0, *(e for e in np.geomspace(low, high, 12) if e < top), top])
        sides = np.stack([ends[:-1], ends[1:]], 1)
        cells = np.array(list(itertools.product(sides, sides)))
        seen = 0
        while len(cells) and seen < _CELLS:
            cells = cells[cells[:, 1, 1] > cells[:, 0, 0]]  # an upper edge above the lower one
            cells = np.concatenate([part[self.bound(part) <= TOLERANCE] for part in self._blocks(cells)])
            seen += len(cells)
            middles = _middle(cells)
            if len(cells):
                missed = np.concatenate([self.shortfall(part) for part in self._blocks(middles)])
                missed[middles[:, 1] <= middles[:, 0]] = math.inf
                if missed.min() <= TOLERANCE / 2:
                    lo, hi = middles[missed.argmin()]
                    return (float(lo), float(hi)), False
            cells = _quartered(cells, middles)
        return None, not len(cells)

    def _blocks(self, values: Array) -> list[Array]:
        return np.array_split(values, 1 + values.size * len(self.c) // _BLOCK)


def _middle(cells: Array) -> Array:
    """(n, 2) of cells (n, 2, 2), on a log scale; an edge of 0 or infinity is some way from the other."""
    low, high = cells[..., 0], cells[..., 1]
    inside = np.sqrt(low * np.where(np.isinf(high), 1.0, high))
    return np.where(low == 0, np.where(np.isinf(high), 1.0, high / 8), np.where(np.isinf(high), 8 * low, inside))


def _quartered(cells: Array, middles: Array) -> Array:
    halves = [
        [np.stack([cells[:, side, 0], middles[:, side]], 1), np.stack([middles[:, side], cells[:, side, 1]], 1)]
        for side in (0, 1)
    ]
    return np.concatenate([np.stack([lo, hi], 1) for lo, hi in itertools.product(*halves)])
