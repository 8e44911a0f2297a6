"""Quadrature over noise levels, shared by every prediction that integrates a schedule.

Integrals run over ``t = sigma**2`` but are taken in ``L = log sigma``, where the kernels ``1 / (c + t)`` are smooth
steps of unit width. The range is cut into panels, each with Gauss-Legendre nodes; panels end where the schedule jumps
or has a kink, so that inside a panel everything is analytic and the error falls geometrically with the nodes.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from kdist import Schedule

__all__ = [
    "Array",
    "Quadrature",
    "RunLimits",
    "ScheduleLike",
    "quadrature",
    "run_limits",
    "scale_function",
    "split_log_range",
]

Array = npt.NDArray[np.float64]
ScheduleLike = Schedule | float | Callable[[float], float]

NODES = 12  # per panel
WIDTH = 1.5  # of a panel in log sigma: with 12 nodes 1 / (c + t) is integrated to 1e-12
RESOLVED = 1e-9  # largest interpolation error of the schedule that is left inside a panel
_FLOOR = 1e-3  # sigma / sqrt(smallest variance) below which t itself, not log sigma, is the variable
_CEILING = 1e4  # sigma / sqrt(largest variance) that stands for the start of an infinite range


def scale_function(schedule: ScheduleLike) -> Callable[[Array], Array]:
    """``schedule`` as a function of a float64 array of noise levels (any shape), its values checked.

    A number is a constant scale; a :class:`kdist.Schedule` is called once with all levels; any other callable once
    per level with a float.

    Raises:
        TypeError: neither a schedule, a number nor a callable.
        ValueError: (from the returned function) the schedule fails or is not finite at some sigma.
    """
    if isinstance(schedule, Schedule):

        def values(sigma: Array) -> Array:
            return schedule(torch.from_numpy(np.ascontiguousarray(sigma, dtype=np.float64))).numpy()
    elif callable(schedule):

        def values(sigma: Array) -> Array:
            return np.array([_call(schedule, float(s)) for s in sigma.ravel()]).reshape(sigma.shape)
    elif isinstance(schedule, int | float | np.number):
        constant = float(schedule)

        def values(sigma: Array) -> Array:
            return np.full(sigma.shape, constant)
    else:
        raise TypeError(f"schedule must be a kdist.Schedule, a number or a callable; got {type(schedule).__name__}")

    def checked(sigma: Array) -> Array:
        scale = values(np.asarray(sigma, dtype=np.float64))
        if not np.isfinite(scale).all():
            where = float(np.asarray(sigma)[~np.isfinite(scale)].flat[0])
            raise ValueError(f"schedule is not finite at sigma={where:.6g}; it must be defined over the whole run")
        return scale

    return checked


def _call(schedule: Callable[[float], float], sigma: float) -> float:
    try:
        return float(schedule(sigma))
    except (ArithmeticError, ValueError) as error:
        raise ValueError(f"schedule is undefined at sigma={sigma:.6g} ({error})") from error


def split_log_range(schedule: ScheduleLike, low: float, high: float, width: float = WIDTH) -> Array:
    """Edges (P + 1,) in log sigma between which ``schedule`` is smooth, from ``log low`` to ``log high``, increasing.

    The edges are the schedule's own ``breakpoints``, a grid of spacing at most ``width``, and jumps and kinks found in
    callables that do not list any. Found are those that show between samples about 0.06 apart in log sigma; a
    narrower feature needs a Schedule with ``breakpoints``.
    """
    scale = scale_function(schedule)
    start, end = math.log(low), math.log(high)
    listed = schedule.breakpoints if isinstance(schedule, Schedule) else ()
    fixed = sorted({start, end, *(math.log(b) for b in listed if low < b < high)})
    panels = np.cumsum([0, *np.maximum(1, np.ceil(np.diff(fixed) / width))])
    grid = np.interp(np.arange(panels[-1] + 1), panels, fixed)
    pending, edges = list(itertools.pairwise(grid)), set(grid)
    x, _, _ = _legendre()
    probe, interpolate = _probe()
    for _ in range(60):  # each round splits every unresolved panel once
        if not pending:
            break
        a, b = np.array(pending).T
        points = (a + b)[:, None] / 2 + (b - a)[:, None] / 2 * np.concatenate([x, probe])
        values = scale(np.exp(points))
        error = np.abs(values[:, NODES:] - values[:, :NODES] @ interpolate.T).max(1)
        bad = (error > RESOLVED * (1 + np.abs(values).max(1))) & (b - a > 1e-7)
        pending = []
        for a_i, b_i in zip(a[bad], b[bad], strict=True):
            middle = _locate(scale, a_i, b_i)
            edges.add(middle)
            pending += [(a_i, middle), (middle, b_i)]
    return np.array(sorted(edges))


def _locate(scale: Callable[[Array], Array], a: float, b: float) -> float:
    """Where in (a, b) the schedule bends most: at its jump if it has one, at its kink if not."""
    low, high = a, b
    while high - low > 1e-14 * max(1.0, abs(low)):
        grid = np.linspace(low, high, 17)
        bend = np.abs(np.diff(scale(np.exp(grid)), 2))
        if not bend.max() > 0:
            break
        peak = int(bend.argmax()) + 1
        low, high = grid[peak - 1], grid[peak + 1]
    middle = (low + high) / 2
    # a split at the very edge would leave the panel as it was
    return middle if a + 1e-3 * (b - a) < middle < b - 1e-3 * (b - a) or high - low < 1e-8 else (a + b) / 2


@functools.cache
def _legendre() -> tuple[Array, Array, Array]:
    """Nodes, weights and the matrix that integrates from -1 to each node, on [-1, 1]."""
    x, weights = np.polynomial.legendre.leggauss(NODES)
    powers = np.polynomial.legendre.legvander(x, NODES - 1)
    integrals = np.stack(
        [np.polynomial.legendre.legval(x, np.polynomial.legendre.legint(column, lbnd=-1)) for column in np.eye(NODES)],
        axis=1,
    )
    return x, weights, np.linalg.solve(powers.T, integrals.T).T


@functools.cache
def _probe() -> tuple[Array, Array]:
    """Points between the nodes of [-1, 1] and the matrix that interpolates node values there."""
    x, _, _ = _legendre()
    points = np.concatenate([[-0.9999], (x[1:] + x[:-1]) / 2, [0.9999]])
    legvander = np.polynomial.legendre.legvander
    return points, np.linalg.solve(legvander(x, NODES - 1).T, legvander(points, NODES - 1).T).T


@dataclass(frozen=True)
class Quadrature:
    """Nodes over ``t = sigma**2``, low to high, and the guidance weight there.

    Args:
        t: (P, NODES) variances of the noise.
        jacobian: (P, NODES) ``dt`` per unit of the panel's own coordinate in [-1, 1].
        weight: (P, NODES) ``scale - 1``.
        start, end: range of ``t``.
        end_weight: weight at ``end``.
        infinite: the range has no upper end: above ``end`` the weight is ``end_weight``.
    """

    t: Array
    jacobian: Array
    weight: Array
    start: float
    end: float
    end_weight: float
    infinite: bool

    def integral(self, values: Array) -> Array:
        """Integral over ``t`` of ``values`` (P, NODES, d): (d,)."""
        _, weights, _ = _legendre()
        return np.tensordot(self.jacobian * weights, values, 2)

    def running(self, values: Array) -> tuple[Array, Array]:
        """Integrals from ``start`` up to every node (P, NODES, d), and over the whole range (d,)."""
        _, weights, matrix = _legendre()
        scaled = values * self.jacobian[..., None]
        panels = np.tensordot(weights, scaled, (0, 1))
        ends = panels.cumsum(0)
        inner = matrix @ scaled
        inner[1:] += ends[:-1, None]
        return inner, ends[-1]


@dataclass(frozen=True)
class RunLimits:
    """The part of a run that is integrated numerically: sigma from ``low`` to ``high``.

    Where the run starts at infinity, ``high`` stands for it and ``end_weight`` holds above.
    """

    low: float
    high: float
    end_weight: float
    infinite: bool


def run_limits(
    schedule: ScheduleLike, *, sigma_min: float, sigma_max: float, variances: Iterable[Array], floor: float = _FLOOR
) -> RunLimits:
    """Where numerical integration in log sigma starts and ends for kernels ``1 / (v + t)``, ``v`` in ``variances``.

    ``sigma_min = 0`` becomes ``floor`` times the smallest standard deviation; ``sigma_max = inf`` becomes 10^4 times
    the largest (or 10 times the last breakpoint), and the schedule must have settled there.

    Raises:
        ValueError: unless ``0 <= sigma_min < sigma_max``; a schedule without a limit as sigma grows.
    """
    low, high = float(sigma_min), float(sigma_max)
    if not 0 <= low < math.inf:
        raise ValueError(f"sigma_min must be finite and not negative; got {sigma_min}")
    if not high > low:
        raise ValueError(f"sigma_max must be above sigma_min={low}; got {sigma_max}")
    variances = list(variances)
    smallest = math.sqrt(min(float(v.min()) for v in variances))
    largest = math.sqrt(max(float(v.max()) for v in variances))
    scale, infinite = scale_function(schedule), math.isinf(high)
    if infinite:
        last = max(schedule.breakpoints, default=0.0) if isinstance(schedule, Schedule) else 0.0
        high = max(_CEILING * largest, 10 * last, 10 * low)
    settled, beyond = scale(np.array([high, 1e3 * high if infinite else high]))
    if abs(beyond - settled) > 1e-6 * (1 + abs(settled)):
        raise ValueError(
            f"schedule has no limit as sigma grows (scale {settled:.4g} at sigma {high:.3g}, {beyond:.4g} at "
            f"{1e3 * high:.3g}), so sigma_max=inf has no answer: give a finite sigma_max"
        )
    if low == 0:
        low = min(floor * smallest, high / 2)
    return RunLimits(low, high, float(settled) - 1, infinite)


def quadrature(schedule: ScheduleLike, *, sigma_min: float, sigma_max: float, variances: Iterable[Array]) -> Quadrature:
    """Nodes that resolve ``schedule`` and kernels ``1 / (v + t)`` for every ``v`` in ``variances``.

    At ``sigma_min = 0`` the last panel is taken in ``t``. For the rest, and for errors, see :func:`run_limits`.
    """
    limits = run_limits(schedule, sigma_min=sigma_min, sigma_max=sigma_max, variances=variances)
    scale = scale_function(schedule)
    # strong guidance makes exp(-int w k) steep, and negative weights let it grow: narrower panels for both
    grid = np.exp(np.linspace(math.log(limits.low), math.log(limits.high), 64))
    strength = float(np.abs(scale(grid) - 1).max())
    edges = split_log_range(schedule, limits.low, limits.high, WIDTH / (1 + strength / 10))
    x, _, _ = _legendre()
    half = np.diff(edges)[:, None] / 2
    t = np.exp(2 * ((edges[1:] + edges[:-1])[:, None] / 2 + half * x))
    jacobian = 2 * t * half
    if sigma_min == 0:
        first = limits.low**2
        t = np.concatenate([(first * (1 + x) / 2)[None], t])
        jacobian = np.concatenate([np.full((1, NODES), first / 2), jacobian])
    return Quadrature(
        t=t,
        jacobian=jacobian,
        weight=scale(np.sqrt(t)) - 1,
        start=float(sigma_min) ** 2,
        end=limits.high**2,
        end_weight=limits.end_weight,
        infinite=limits.infinite,
    )
