"""Guidance in high dimension with exponentially many classes: when distortion appears, what it leaves (mean field).

``P = exp(alpha d)`` class centres ``N(0, I_d)``, classes ``N(centre, c I)``, ``d -> inf``. A guided sample of a class
has overlap ``m`` with its centre and variance ``q`` per dimension; ``Delta = c + sigma**2``, ``g = q / Delta``. While
the bulk of other classes rules the unconditional score (:mod:`.rivals` says when), with ``lam`` the sampling noise,

    dm / dlog(Delta) = (1 + lam)/2 [(1 + w - w y) m - (1 + w)]                                                  (M5)
    dg / dlog(Delta) = [(1 + lam)(1 + w - w y) - 1] g - lam                                                     (M6)

and once the own class rules (``w`` has no effect any more)

    m - 1 ~ Delta**((1 + lam)/2),        g - 1 ~ Delta**lam                                                     (M7)

so noise heals what the bulk did and the ODE (``lam = 0``) keeps ``g`` for good. Equations: docs/theory_mixtures.md.

Source: Ventura, Achilli, Ambrogioni, Lucibello, arXiv 2602.00716 (2026).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..integrate import ScheduleLike
from .path import Dynamics, Grid, integrate
from .rivals import Array, bulk_entropy_cost, own_log_density, positive

__all__ = [
    "MeanField",
    "PhaseDiagram",
    "critical_alpha",
    "guided_critical_alpha",
    "mean_field",
    "phase_diagram",
    "switch_variance",
]


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

    Examples:
        >>> from kdist.theory import mean_field
        >>> path = mean_field(0.3, 2.0, within_var=0.1, sigma_max=40)
        >>> kept = path.variance[-1] / path.within_var
        >>> print(path.overlap[-1].round(2), kept.round(2), round(path.switch_sigma, 2))
        1.13 0.78 1.88
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
        alphas: The axis of class numbers.
        scales: The axis of guidance scales.
        overlap: final ``m``; 1 is undistorted.
        variance_ratio: final ``q / c``; 1 is undistorted.
        switch_sigma: where the own class takes over, nan where it never does.

    Examples:
        >>> from kdist.theory import phase_diagram
        >>> phase_diagram([0.1, 0.6], [1, 2, 4], within_var=0.1, sigma_max=40).variance_ratio.round(2)
        array([[1.  , 0.93, 0.9 ],
               [1.  , 0.56, 0.36]])
    """

    alphas: Array
    scales: Array
    overlap: Array
    variance_ratio: Array
    switch_sigma: Array


def switch_variance(alpha: float | Array) -> float | Array:
    """``Delta`` at which the own class takes over without guidance, ``1 / (exp(2 alpha) - 1)`` (M8).

    Examples:
        >>> from kdist.theory import switch_variance
        >>> print(round(switch_variance(0.3), 3))
        1.216
    """
    if not np.all(np.asarray(alpha) > 0):
        raise ValueError(f"alpha must be positive; got {alpha}")
    return 1 / np.expm1(2 * alpha)


def critical_alpha(within_var: float | Array) -> float | Array:
    """``alpha`` from which classes overlap: unguided, the own class never takes over, ``log(1 + 1/c) / 2`` (M8).

    Examples:
        >>> from kdist.theory import critical_alpha
        >>> print(round(critical_alpha(0.1), 3))
        1.199
    """
    if not np.all(np.asarray(within_var) > 0):
        raise ValueError(f"within_var must be positive; got {within_var}")
    return np.log1p(1 / within_var) / 2


def guided_critical_alpha(
    schedule: ScheduleLike, *, within_var: float, sigma_max: float, sigma_min: float = 0.0, noise: float = 0.0
) -> float:
    """``alpha`` from which a *guided* sample is never resolved, so that the Gaussian result holds to the end.

    Guidance narrows a class and moves it away from the others, so at scales above 1 this lies above
    :func:`critical_alpha` (a result beyond the paper; equation M12). Arguments as for :func:`mean_field`. Found on
    ever finer grids, to 1e-5.

    Examples:
        >>> from kdist.theory import guided_critical_alpha
        >>> print(round(guided_critical_alpha(2.0, within_var=0.1, sigma_max=40), 2))
        1.63
    """
    grid = Grid.build([schedule], within_var, sigma_min, sigma_max)
    gaussian = integrate(grid, Dynamics(np.array([math.inf]), noise), 1.0, keep=True)
    delta = np.exp(grid.ell)
    m, q = gaussian.overlap[:, 0], gaussian.ratio[:, 0] * delta
    r, y = m**2 + q, delta / (1 + delta)
    # above this alpha the bulk neither loses (M1 against M2) nor freezes (M3) anywhere on the Gaussian path
    loses = own_log_density(m, q, delta) - np.log(y) / 2 + r / (2 * (1 + delta))
    low, high = 0.0, float(max(loses.max(), bulk_entropy_cost(y, r).max()))
    while high - low > 1e-5:
        alphas = np.linspace(low, high, 513)  # two rounds of so many at once take less time than four of 32
        resolved = ~np.isnan(integrate(grid, Dynamics(alphas[1:], noise), 1.0, keep=False).switch)
        last = int(np.append(-1, resolved.nonzero()[0]).max())
        low, high = alphas[last + 1], alphas[min(last + 2, 512)]
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
    dimension: float | None = None,
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
        dimension: ``d`` for the first correction to infinitely many dimensions, beyond the paper: the takeover as
            gradual as the posterior probability of the own class makes it (M13). ``switch_sigma`` is then where that
            probability is one half. None is the mean field.

    Returns:
        The path from ``sigma_max`` to ``sigma_min``.

    Raises:
        ValueError: ``alpha``, ``within_var`` or ``dimension`` not positive, bad limits, a negative ``noise``, a
            schedule that is not finite somewhere or too strong to integrate.
        TypeError: ``schedule`` is neither a schedule nor a number nor a callable.

    Examples:
        >>> from kdist.theory import mean_field
        >>> path = mean_field(0.3, 2.0, within_var=0.1, sigma_max=40)  # exp(0.3 d) classes in d dimensions
        >>> print(path.overlap[-1].round(2))  # 1 would be no overshoot
        1.13
    """
    positive("alpha", alpha, finite=False)
    dynamics = Dynamics(np.array([alpha]), noise, math.inf if dimension is None else dimension)
    grid = Grid.build([schedule], within_var, sigma_min, sigma_max, dynamics.dimension)
    run = integrate(grid, dynamics, start_overlap, keep=True)
    sigma = grid.sigma
    switch = float(run.switch[0])
    return MeanField(
        sigma=sigma,
        overlap=run.overlap[:, 0],
        variance=run.ratio[:, 0] * np.exp(grid.ell),
        switch_sigma=None if math.isnan(switch) else switch,
        margin=run.margin[:, 0],
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
        within_var: Variance of a class per direction, as in :func:`mean_field`.
        sigma_max: Noise level of the start, as there.
        sigma_min: Noise level of the end, as there.
        noise: 0 for the ODE, 1 for the reverse SDE, as there.
        start_overlap: Overlap at the start, as there.

    Examples:
        >>> from kdist.theory import phase_diagram
        >>> phase_diagram([0.1, 0.6], [1, 2, 4], within_var=0.1, sigma_max=40).overlap.round(2)
        array([[1.  , 1.08, 1.15],
               [1.  , 1.18, 1.37]])
    """
    rows, columns = np.array(alphas, dtype=np.float64), np.array(scales, dtype=np.float64)
    if rows.ndim != 1 or columns.ndim != 1 or not rows.size or not columns.size:
        raise ValueError(f"alphas and scales must be lists, not empty; got shapes {rows.shape} and {columns.shape}")
    if not (rows > 0).all():
        raise ValueError(f"alphas must be positive; got {rows.min()}")
    grid = Grid.build([family(float(scale)) for scale in columns], within_var, sigma_min, sigma_max)
    run = integrate(grid, Dynamics(rows[:, None], noise), start_overlap, keep=False)
    return PhaseDiagram(rows, columns, run.overlap[-1], run.ratio[-1], run.switch)
