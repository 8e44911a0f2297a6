"""Design a guidance schedule that keeps the variance of the classes, or say why none does.

    schedule = design(pairs, scale=4.0, keep_variance=0.95)

A schedule that never goes below scale 1 always shrinks (docs/theory.md, section 5), so what is designed is how strong
guidance early is paid back late. Every design is certified through :func:`kdist.theory.moments` (or the given
solver) before it is returned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from kdist import Constant, LateNegative, Schedule

from ..gaussian.finite_steps import Solver
from ..gaussian.pair import GaussianPair
from .curves import free
from .target import Target
from .windows import Found, window

__all__ = ["InfeasibleDesign", "design"]


class InfeasibleDesign(ValueError):
    """No schedule of the asked-for shape was found that meets the target; the message says what is reachable.

    Args:
        message: what was asked and what is reachable.
        reachable: the largest ``keep_variance`` found for that scale and minimum scale.
        proven: whether it is proven that there is none; else none was found.

    Examples:
        >>> from kdist.theory import GaussianPair, InfeasibleDesign, design
        >>> try:
        ...     design(GaussianPair(1.0, 0.3, 0.0, 1.0), 3.0, min_scale=1.0)
        ... except InfeasibleDesign as error:
        ...     print(error.proven, round(error.reachable, 2))
        True 0.42
    """

    def __init__(self, message: str, reachable: float, *, proven: bool = False) -> None:
        super().__init__(message)
        self.reachable, self.proven = reachable, proven


def design(
    pair_or_pairs: GaussianPair | Sequence[GaussianPair],
    scale: float,
    *,
    sigmas: Sequence[float] | torch.Tensor | None = None,
    keep_variance: float = 1.0,
    min_scale: float = 0.0,
    shape: Literal["window", "free"] = "window",
    noise: float | None = None,
    hold: float | None = None,
    overshoot: float | None = None,
    separation: float | None = None,
    max_variance: float | None = None,
    smoothness: float = 0.01,
    solver: Solver | None = None,
    **solver_options: Any,
) -> Schedule:
    """A schedule that guides with ``scale`` early and keeps the variance of every class in every direction.

    Among the schedules that meet the target, the one with the largest mean overshoot (the push towards the class),
    less the mean log-variance it leaves above what was asked, so that directions are not widened without need.

    Args:
        pair_or_pairs: one class or all classes of a data set.
        scale: guidance scale at high sigma, where sampling starts, and the largest anywhere; at least 1.
        sigmas: (steps + 1,) the run's noise levels. They set the range of sigma, and the steps where ``solver`` is
            given. None: from infinity to 0.
        keep_variance: smallest ratio of guided to unguided variance (same run at scale 1) in any direction of any
            pair, met to a relative 1e-4.
        min_scale: smallest scale allowed anywhere. Below 0 goes beyond arXiv 2602.00716 (``w >= -1``).
        shape: ``window``: a :class:`kdist.LateNegative` or :class:`kdist.NegativeWindow`, numbers in three digits;
            ``free``: a :class:`kdist.Piecewise` curve, linear in log sigma.
        noise: ``lam`` of the sampler, 0 ODE (default), 1 reverse SDE. A ``solver`` brings its own.
        hold: sigma down to which ``scale`` must hold; None leaves it to the design.
        overshoot: largest overshoot of any class (see :class:`kdist.theory.Distortion`).
        separation: smallest overshoot wanted of every class.
        max_variance: largest ratio of guided to unguided variance in any direction.
        smoothness: ``free`` only: price of a bend, in units of overshoot (:func:`kdist.theory.designs.curves.free`).
        solver: name or function of a k-diffusion solver: design for its finite steps over ``sigmas``.
        solver_options: the solver's own (``eta``, ...).

    Returns:
        A :class:`kdist.Schedule`, certified.

    Raises:
        InfeasibleDesign: nothing of that shape was found that meets the target; ``reachable`` says how much variance
            can be kept, ``proven`` whether there is a proof (windows of the ODE that only variance limits).
        ValueError: arguments out of range, or that do not go together.
        TypeError: something other than Gaussian pairs that share their eigenvectors.

    Examples:
        >>> from kdist.theory import GaussianPair, design
        >>> pair = GaussianPair([1.0, 0.5], [0.3, 0.6], 0.0, 1.0)
        >>> print(design(pair, 3.0, keep_variance=0.95))
        late-negative:scale=3.0,sigma_switch=1.16
    """
    _check_solver(solver, solver_options, noise)
    target = Target(
        pairs=(pair_or_pairs,) if isinstance(pair_or_pairs, GaussianPair) else tuple(pair_or_pairs),
        scale=scale,
        keep_variance=keep_variance,
        min_scale=min_scale,
        noise=noise or 0.0,
        sigmas=None if sigmas is None else tuple(float(s) for s in sigmas),
        solver=solver,
        solver_options=solver_options,
        hold=hold,
        max_variance=max_variance,
        overshoot=overshoot,
        separation=separation,
    )
    _check_shape(shape, smoothness)
    if target.scale == 1 and target.met(1.0):
        return Constant(1.0)
    _check_room(target)
    found = window(target) if shape == "window" else Found(free(target, smoothness=smoothness))
    if not target.met(found.schedule):
        raise _infeasible(target, found, shape)
    return found.schedule


def _check_solver(solver: Solver | None, solver_options: Mapping[str, Any], noise: float | None) -> None:
    if solver is None and solver_options:
        raise ValueError(f"design has no {', '.join(solver_options)} (a solver's options need solver=...)")
    if solver is not None and noise is not None:
        raise ValueError("the solver sets the noise: leave noise out (eta=... sets a solver's)")


def _check_room(target: Target) -> None:
    """Between the smallest scale and the largest there must be a schedule to look for."""
    narrower = any((pair.cond_var < pair.uncond_var).any() for pair in target.pairs)
    if target.min_scale >= 1 and target.keep_variance >= 1 and narrower:
        raise _never_below_one(target)
    if target.min_scale == target.scale:
        raise ValueError(f"min_scale equals scale ({target.scale:g}): nothing is left to design")


def _check_shape(shape: str, smoothness: float) -> None:
    if shape not in ("window", "free"):
        raise ValueError(f"shape must be 'window' or 'free'; got {shape!r}")
    if not 0 <= smoothness < math.inf:
        raise ValueError(f"smoothness is a price, finite and not negative; got {smoothness}")


def _never_below_one(target: Target) -> InfeasibleDesign:
    """The paper's negative result, with what holding the scale down to the data's own width would cost."""
    whole = max(float(pair.uncond_var.max()) for pair in target.pairs)
    edge = target.hold or math.sqrt(whole)
    kept = math.exp(target.effect(LateNegative(target.scale, edge, target.min_scale)).log_ratio.min())
    return InfeasibleDesign(
        f"no schedule that stays at scale {target.min_scale:g} or above keeps {target.keep_variance:.4g} of the "
        "variance: any guidance above 1 shrinks a class that is narrower than the whole. For instance scale "
        f"{target.scale:g} down to sigma {edge:.3g} and {target.min_scale:g} below keeps {kept:.4g}. Allow a min_scale "
        "below 1 (at 0 guidance is turned off late, and the class widens again), or a keep_variance below 1",
        kept,
        proven=True,
    )


def _infeasible(target: Target, closest: Found, shape: str) -> InfeasibleDesign:
    """What the closest schedule of that shape reaches."""
    effect = target.effect(closest.schedule)
    kept = math.exp(float(effect.log_ratio.min()))
    asked = [
        f"{name}={value:g}"
        for name in ("keep_variance", "min_scale", "hold", "max_variance", "overshoot", "separation")
        if (value := getattr(target, name)) is not None
    ]
    advice = "Lower min_scale or scale" if shape == "free" else "Try shape='free', lower min_scale or scale"
    return InfeasibleDesign(
        f"no {shape} schedule with scale {target.scale:g} {'exists' if closest.proven else 'was found'} that meets "
        f"{', '.join(asked)}. The closest seen keeps "
        f"{kept:.4g} of the variance with overshoot {effect.overshoot.min():+.3f} to "
        f"{effect.overshoot.max():+.3f}. {advice}, or ask for no more than that",
        kept,
        proven=closest.proven,
    )
