"""Guidance in high dimension with exponentially many classes: when distortion appears, what it leaves (mean field).

``P = exp(alpha d)`` class centres ``N(0, I_d)``, classes ``N(centre, c I)``, ``d -> inf``. A guided sample of a class
has overlap ``m`` with its centre and variance ``q`` per dimension; ``Delta = c + sigma**2``, ``g = q / Delta``. While
the bulk of other classes rules the unconditional score (:mod:`.potential` says when), with ``lam`` the sampling noise,

    dm / dlog(Delta) = (1 + lam)/2 [(1 + w - w y) m - (1 + w)]                                                  (M5)
    dg / dlog(Delta) = [(1 + lam)(1 + w - w y) - 1] g - lam                                                     (M6)

and once the own class rules (``w`` has no effect any more)

    m - 1 ~ Delta**((1 + lam)/2),        g - 1 ~ Delta**lam                                                     (M7)

so noise heals what the bulk did and the ODE (``lam = 0``) keeps ``g`` for good. Equations: docs/theory_mixtures.md.

Source: Ventura, Achilli, Ambrogioni, Lucibello, arXiv 2602.00716 (2026).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .integrate import ScheduleLike, scale_function, split_log_range
from .potential import Array, bulk_entropy_cost, bulk_state, own_log_density, positive

__all__ = [
    "MeanField",
    "PhaseDiagram",
    "critical_alpha",
    "guided_critical_alpha",
    "mean_field",
    "phase_diagram",
    "switch_variance",
]

_STEP = 0.025  # of the Runge-Kutta steps in log(Delta): fourth order, error below 1e-6
_MAX_STEPS = 200_000
_FLOOR = 1e-3  # sigma / sqrt(c) below which a schedule's changes have no effect, and it is not called


@dataclass(frozen=True, eq=False)
class MeanField:
    """A class on its way from noise to data, in the limit of many dimensions.

    Args:
        sigma: (n,) noise levels, from ``sigma_max`` down to the data.
        overlap: (n,) ``m``: 1 is the class centre, above it is overshoot.
        variance: (n,) ``q`` per dimension; the undistorted class has ``within_var + sigma**2``.
        switch_sigma: noise level at which the own class took over the unconditional score; None if it never does.
        margin: (n,) log-density per dimension of the own class minus that of all the others (M1 - M2 or M4).
        within_var: variance of each class per dimension.
    """

    sigma: Array
    overlap: Array
    variance: Array
    switch_sigma: float | None
    margin: Array
    within_var: float

    @property
    def variance_ratio(self) -> Array:
        """(n,) ``q / (c + sigma**2)``; the last entry is the generated over the true variance, 1 without distortion."""
        return self.variance / (self.within_var + self.sigma**2)


@dataclass(frozen=True, eq=False)
class PhaseDiagram:
    """What guidance leaves in the data, over (alpha, scale). Arrays are (number of alphas, number of scales).

    Args:
        alphas, scales: the axes.
        overlap: final ``m``; 1 is undistorted.
        variance_ratio: final ``q / c``; 1 is undistorted.
        switch_sigma: where the own class takes over, nan where it never does.
    """

    alphas: Array
    scales: Array
    overlap: Array
    variance_ratio: Array
    switch_sigma: Array


def switch_variance(alpha: float | Array) -> float | Array:
    """``Delta`` at which the own class takes over without guidance, ``1 / (exp(2 alpha) - 1)`` (M8)."""
    if not np.all(np.asarray(alpha) > 0):
        raise ValueError(f"alpha must be positive; got {alpha}")
    return 1 / np.expm1(2 * alpha)


def critical_alpha(within_var: float | Array) -> float | Array:
    """``alpha`` from which classes overlap: unguided, the own class never takes over, ``log(1 + 1/c) / 2`` (M8)."""
    if not np.all(np.asarray(within_var) > 0):
        raise ValueError(f"within_var must be positive; got {within_var}")
    return np.log1p(1 / within_var) / 2


def guided_critical_alpha(
    schedule: ScheduleLike, *, within_var: float, sigma_max: float, sigma_min: float = 0.0, noise: float = 0.0
) -> float:
    """``alpha`` from which a *guided* sample is never resolved, so that the Gaussian result holds to the end.

    Guidance narrows a class and moves it away from the others, so at scales above 1 this lies above
    :func:`critical_alpha` (a result beyond the paper; equation M12). Arguments as for :func:`mean_field`. Found by
    bisection, to 1e-5.
    """
    grid = _Grid.build([schedule], within_var, sigma_min, sigma_max)
    gaussian = _integrate(grid, np.array([math.inf]), noise, 1.0, keep=True)
    delta = np.exp(grid.ell)
    m, q = np.concatenate(gaussian.overlaps), np.concatenate(gaussian.ratios) * delta
    r, y = m**2 + q, delta / (1 + delta)
    # above this alpha the bulk neither loses (M1 against M2) nor freezes (M3) anywhere on the Gaussian path
    loses = own_log_density(m, q, delta) - np.log(y) / 2 + r / (2 * (1 + delta))
    low, high = 0.0, float(max(loses.max(), bulk_entropy_cost(y, r).max()))
    while high - low > 1e-5:
        alphas = np.linspace(low, high, 33)[1:]
        resolved = ~np.isnan(_integrate(grid, alphas, noise, 1.0, keep=False).switch)
        last = int(resolved.nonzero()[0].max()) if resolved.any() else -1
        low, high = (alphas[last] if last >= 0 else low), alphas[min(last + 1, 31)]
    return high


def mean_field(
    alpha: float,
    schedule: ScheduleLike,
    *,
    within_var: float,
    sigma_max: float,
    sigma_min: float = 0.0,
    noise: float = 0.0,
    start_overlap: float = 1.0,
) -> MeanField:
    """Overlap and variance of a guided class, with the switch found on the guided path itself.

    Args:
        alpha: log of the number of classes per dimension; ``math.inf`` gives the Gaussian result at every noise level.
        schedule: a kdist schedule, a constant scale, or a callable ``sigma -> scale``; integration is split where it
            jumps.
        within_var: variance ``c`` of each class per dimension (centres have variance 1).
        sigma_max: where sampling starts.
        sigma_min: where it ends; 0 is the data.
        noise: ``lam``, 0 the probability-flow ODE, 1 the reverse SDE.
        start_overlap: ``m`` at ``sigma_max``: 1 starts from the noised class, 0 from pure noise, as samplers do. The
            difference in the result falls as ``1 / sigma_max``.

    Returns:
        The path from ``sigma_max`` to ``sigma_min``.

    Raises:
        ValueError: ``alpha`` or ``within_var`` not positive, bad limits, a negative ``noise``, a schedule that is not
            finite somewhere or too strong to integrate.
        TypeError: ``schedule`` is neither a schedule nor a number nor a callable.
    """
    positive("alpha", alpha, finite=False)
    grid = _Grid.build([schedule], within_var, sigma_min, sigma_max)
    run = _integrate(grid, np.array([alpha]), noise, start_overlap, keep=True)
    m, g, margin = (np.concatenate(values) for values in (run.overlaps, run.ratios, run.margins))
    sigma = grid.sigma
    switch = float(run.switch[0])
    return MeanField(
        sigma=sigma,
        overlap=m,
        variance=g * np.exp(grid.ell),
        switch_sigma=None if math.isnan(switch) else switch,
        margin=margin,
        within_var=grid.within_var,
    )


def phase_diagram(
    alphas: Sequence[float] | Array,
    scales: Sequence[float] | Array,
    *,
    within_var: float,
    sigma_max: float,
    sigma_min: float = 0.0,
    noise: float = 0.0,
    start_overlap: float = 1.0,
    family: Callable[[float], ScheduleLike] = float,
) -> PhaseDiagram:
    """What guidance leaves over a grid of class numbers and scales: :func:`mean_field` on all of it at once.

    Args:
        alphas: (A,) each as in :func:`mean_field`.
        scales: (S,) guidance scales.
        family: the schedule of a scale; the default is the constant one, ``some_schedule.with_scale`` any other.
        within_var, sigma_max, sigma_min, noise, start_overlap: as in :func:`mean_field`.
    """
    rows, columns = np.array(alphas, dtype=np.float64), np.array(scales, dtype=np.float64)
    if rows.ndim != 1 or columns.ndim != 1 or not rows.size or not columns.size:
        raise ValueError(f"alphas and scales must be lists, not empty; got shapes {rows.shape} and {columns.shape}")
    if not (rows > 0).all():
        raise ValueError(f"alphas must be positive; got {rows.min()}")
    grid = _Grid.build([family(float(scale)) for scale in columns], within_var, sigma_min, sigma_max)
    run = _integrate(grid, rows[:, None], noise, start_overlap, keep=False)
    return PhaseDiagram(rows, columns, run.overlaps[-1], run.ratios[-1], run.switch)


# Integration


@dataclass(frozen=True, eq=False)
class _Grid:
    """Steps in ``ell = log(Delta)``, downwards, and each schedule's weight at the start, middle and end of each."""

    ell: Array  # (n + 1,)
    weight: Array  # (n, 3, number of schedules)
    within_var: float

    @property
    def sigma(self) -> Array:
        return _sigma(self.ell, self.within_var)

    @classmethod
    def build(cls, schedules: Sequence[ScheduleLike], within_var: float, sigma_min: float, sigma_max: float) -> _Grid:
        c, top = positive("within_var", within_var), positive("sigma_max", sigma_max)
        if not 0 <= sigma_min < top:
            raise ValueError(f"sigma_min must be in [0, sigma_max={top}); got {sigma_min}")
        floor = max(sigma_min, min(_FLOOR * math.sqrt(c), top / 2))
        functions = [scale_function(schedule) for schedule in schedules]
        edges = {math.log(top), math.log(floor)}
        for schedule in schedules:
            edges.update(split_log_range(schedule, floor, top))
        sigmas = np.exp(sorted(edges, reverse=True))
        sigmas[0] = top
        if sigma_min < floor:
            sigmas = np.append(sigmas, sigma_min)
        pieces, weights = [np.log(c + sigmas[:1] ** 2)], []
        for high, low in itertools.pairwise(sigmas):
            # just inside the panel, so that a jump at its end is not seen from the wrong side
            inside = np.clip(np.array([1e-7, 0.25, 0.5, 0.75, 1 - 1e-7]) * (low - high) + high, floor, top)
            strength = max(float(np.abs(f(inside) - 1).max()) for f in functions)
            span = math.log(c + high**2) - math.log(c + low**2)
            steps = max(2, math.ceil(span / _STEP * (1 + strength / 5)))
            if steps > _MAX_STEPS:
                raise ValueError(f"schedule reaches scale {strength + 1:.3g} above sigma={low:.3g}: bound it (clip)")
            half = np.linspace(math.log(c + high**2), math.log(c + low**2), 2 * steps + 1)
            at = np.clip(_sigma(half, c), max(floor, low * (1 + 1e-7)), high * (1 - 1e-7))
            values = np.stack([f(at) - 1 for f in functions], axis=-1)
            weights.append(np.stack([values[:-1:2], values[1::2], values[2::2]], axis=1))
            pieces.append(half[2::2])
        return cls(np.concatenate(pieces), np.concatenate(weights), c)


def _sigma(ell: Array, within_var: float) -> Array:
    return np.sqrt(within_var * np.maximum(np.expm1(ell - math.log(within_var)), 0))


@dataclass
class _Run:
    """States at the nodes that were kept (always the last one), and where each path switched (nan: nowhere)."""

    overlaps: list[Array]
    ratios: list[Array]
    margins: list[Array]
    switch: Array


def _integrate(grid: _Grid, alpha: Array, noise: float, start_overlap: float, *, keep: bool) -> _Run:
    """M5 to M7 for all (alpha, schedule) at once; alpha broadcasts against the schedules."""
    if not (math.isfinite(noise) and noise >= 0):
        raise ValueError(f"noise is 0 for the ODE, 1 for the reverse SDE, not negative; got {noise}")
    if not math.isfinite(start_overlap):
        raise ValueError(f"start_overlap must be finite; got {start_overlap}")
    shape = np.broadcast_shapes(alpha.shape, grid.weight.shape[2:])
    alpha = np.broadcast_to(alpha, shape)
    delta = np.exp(grid.ell)
    m = np.full(shape, float(start_overlap))
    # start_overlap times a sample of the class, plus noise
    g = np.full(shape, (start_overlap**2 * grid.within_var + delta[0] - grid.within_var) / delta[0])
    margin = _margin(m, g, delta[0], alpha)
    own = margin > 0
    switch_ell = np.where(own, grid.ell[0], np.nan)
    switch_m, switch_g = m.copy(), g.copy()
    run = _Run([m], [g], [margin], np.empty(0))
    for i, (high, low) in enumerate(itertools.pairwise(grid.ell)):
        weight = np.broadcast_to(grid.weight[i].reshape(3, *(1,) * (len(shape) - 1), -1), (3, *shape))
        before, before_g, before_margin = m, g, margin
        m, g = _step(m, g, high, low - high, 1.0, weight, alpha, noise)
        margin = _margin(m, g, delta[i + 1], alpha)
        crossed = ~own & (margin > 0)
        if crossed.any():
            part, at_m, at_g = _locate(
                before[crossed], before_g[crossed], high, low - high, weight[:, crossed], alpha[crossed], noise,
                before_margin[crossed], margin[crossed],
            )  # fmt: skip
            switch_ell[crossed] = high + part * (low - high)
            switch_m[crossed], switch_g[crossed] = at_m, at_g
            own = own | crossed
        if own.any():
            ahead = np.where(own, grid.ell[i + 1] - switch_ell, 0.0)
            m = np.where(own, 1 + (switch_m - 1) * np.exp((1 + noise) / 2 * ahead), m)
            g = np.where(own, 1 + (switch_g - 1) * np.exp(noise * ahead), g)
            margin = _margin(m, g, delta[i + 1], alpha)
        if keep:
            run.overlaps.append(m)
            run.ratios.append(g)
            run.margins.append(margin)
    if not keep:
        run.overlaps, run.ratios, run.margins = [m], [g], [margin]
    run.switch = _sigma(switch_ell, grid.within_var)
    return run


def _margin(m: Array, g: Array, delta: Array | float, alpha: Array) -> Array:
    return own_log_density(m, g * delta, delta) - bulk_state(m, g * delta, delta, alpha).log_density


def _drift(m: Array, g: Array, ell: Array | float, weight: Array, alpha: Array, noise: float) -> tuple[Array, Array]:
    """M5 and M6."""
    delta = np.exp(ell)
    pull = 1 + weight - weight * bulk_state(m, g * delta, delta, alpha).ratio
    return (1 + noise) / 2 * (pull * m - (1 + weight)), ((1 + noise) * pull - 1) * g - noise


def _step(
    m: Array, g: Array, ell: float, width: float, part: Array | float, weight: Array, alpha: Array, noise: float
) -> tuple[Array, Array]:
    """A Runge-Kutta step over ``part`` of the width; the weight inside is the parabola through its three values."""
    first, middle, last = weight

    def at(fraction: Array | float) -> Array:
        u = 2 * fraction - 1
        return middle + u * (last - first) / 2 + u**2 * ((first + last) / 2 - middle)

    h = width * part
    k1, j1 = _drift(m, g, ell, first, alpha, noise)
    k2, j2 = _drift(m + h / 2 * k1, g + h / 2 * j1, ell + h / 2, at(part / 2), alpha, noise)
    k3, j3 = _drift(m + h / 2 * k2, g + h / 2 * j2, ell + h / 2, at(part / 2), alpha, noise)
    k4, j4 = _drift(m + h * k3, g + h * j3, ell + h, at(part), alpha, noise)
    return m + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), g + h / 6 * (j1 + 2 * j2 + 2 * j3 + j4)


def _locate(
    m: Array,
    g: Array,
    ell: float,
    width: float,
    weight: Array,
    alpha: Array,
    noise: float,
    margin_start: Array,
    margin_end: Array,
) -> tuple[Array, Array, Array]:
    """The part of a step at which the margin crosses 0, and the state there: secant steps kept inside the bracket."""
    low, high = np.zeros_like(m), np.ones_like(m)
    f_low, f_high = margin_start, margin_end
    part = high
    at_m, at_g = m, g
    for _ in range(8):  # nearly linear over a step this short: three would do
        part = low - f_low * (high - low) / (f_high - f_low)
        at_m, at_g = _step(m, g, ell, width, part, weight, alpha, noise)
        value = _margin(at_m, at_g, np.exp(ell + part * width), alpha)
        above = value > 0
        high, f_high = np.where(above, part, high), np.where(above, value, f_high)
        low, f_low = np.where(above, low, part), np.where(above, f_low, value)
        if (np.abs(value) < 1e-13).all():
            break
    return part, at_m, at_g
