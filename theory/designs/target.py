"""What a schedule is designed for, and how well a given schedule answers it.

Directions of all classes are laid end to end into one Gaussian pair, so that one prediction answers for all of them.
Variance is compared with the *same run without guidance* (scale 1), so that only guidance is judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..gaussian.finite_steps import Solver, solver_moments
from ..gaussian.pair import GaussianPair, Moments, moments
from ..integrate import Array, ScheduleLike
from ..mean_shift import overshoot

__all__ = ["TOLERANCE", "Effect", "Target", "join"]

TOLERANCE = 1e-4  # relative, in the variance ratio and in units of overshoot: what a certified design may miss by
PRICE = 1.0  # of a unit of mean log-variance above what is asked, in units of overshoot


def join(pairs: Sequence[GaussianPair]) -> tuple[GaussianPair, npt.NDArray[np.intp]]:
    """All directions of ``pairs`` as one pair (D,), and to which pair each belongs (D,)."""
    names = ("cond_mean", "cond_var", "uncond_mean", "uncond_var")
    whole = object.__new__(GaussianPair)  # its parts were checked, and warned about, when they were made
    for name in names:
        object.__setattr__(whole, name, np.concatenate([getattr(pair, name) for pair in pairs]))
    object.__setattr__(whole, "basis", None)
    return whole, np.repeat(np.arange(len(pairs)), [len(pair.cond_var) for pair in pairs])


@dataclass(frozen=True)
class Effect:
    """What a schedule does: log of the variance kept per direction (D,), overshoot per class (P,)."""

    log_ratio: Array
    overshoot: Array


@dataclass(frozen=True, eq=False)
class Target:
    """A design problem; :func:`kdist.theory.design` explains the fields."""

    pairs: tuple[GaussianPair, ...]
    scale: float
    keep_variance: float
    min_scale: float
    noise: float = 0.0
    sigmas: tuple[float, ...] | None = None
    solver: Solver | None = None
    solver_options: dict[str, Any] = field(default_factory=dict)
    hold: float | None = None
    max_variance: float | None = None
    overshoot: float | None = None
    separation: float | None = None

    def __post_init__(self) -> None:
        if not self.pairs or not all(isinstance(pair, GaussianPair) for pair in self.pairs):
            raise TypeError(
                "design takes one GaussianPair or a sequence of at least one (covariances that do not commute: use "
                "GaussianPair.from_data)"
            )
        for name in ("scale", "keep_variance", "min_scale", "noise", "hold", "max_variance", "overshoot", "separation"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} must be finite; got {value}")
        if self.scale < 1:
            raise ValueError(f"scale is the strong, early guidance: at least 1; got {self.scale}")
        if self.min_scale > self.scale:
            raise ValueError(f"min_scale must not be above scale; got {self.min_scale} and {self.scale}")
        if not self.keep_variance > 0:
            raise ValueError(f"keep_variance is a ratio of variances and must be positive; got {self.keep_variance}")
        if self.max_variance is not None and self.max_variance < self.keep_variance:
            raise ValueError(f"max_variance={self.max_variance} is below keep_variance={self.keep_variance}")
        if self.hold is not None and self.hold < 0:
            raise ValueError(f"hold is a noise level and cannot be negative; got {self.hold}")
        if self.overshoot is not None and self.separation is not None and self.separation > self.overshoot:
            raise ValueError(f"separation={self.separation} asks for more than overshoot={self.overshoot} allows")
        levels = self.sigmas
        if self.solver is not None and levels is None:
            raise ValueError("a design for a solver's finite steps needs its sigmas")
        if levels is not None and (len(levels) < 2 or not (np.diff(levels) < 0).all() or levels[-1] < 0):
            raise ValueError("sigmas must be at least two noise levels, strictly decreasing and not negative")

    @property
    def whole(self) -> GaussianPair:
        """All directions of all classes."""
        return self._joined[0]

    @cached_property
    def _joined(self) -> tuple[GaussianPair, npt.NDArray[np.intp]]:
        return join(self.pairs)

    @cached_property
    def _unguided(self) -> Array:
        return self._moments(1.0).var

    @cached_property
    def range(self) -> tuple[float, float]:
        """Sigmas (low, high) between which a schedule matters: the run's own, or where the kernels live."""
        whole = self.whole
        low = 0.03 * math.sqrt(min(whole.cond_var.min(), whole.uncond_var.min()))
        high = 30 * math.sqrt(max(whole.cond_var.max(), whole.uncond_var.max()))
        if self.sigmas is None:
            return low, high
        end = self.sigmas[-1] if self.solver is None else min(s for s in self.sigmas if s > 0)
        low, high = max(low, end), min(high, self.sigmas[0])
        return (low, high) if low < high else (0.5 * high, high)

    def effect(self, schedule: ScheduleLike) -> Effect:
        """Predict ``schedule`` (with the solver, if the target names one)."""
        whole, owner = self._joined
        law = self._moments(schedule)
        moved = [
            overshoot(law.mean[own], whole.cond_mean[own], whole.uncond_mean[own])
            for own in np.split(np.arange(len(owner)), np.flatnonzero(np.diff(owner)) + 1)
        ]
        # a class whose mean is the global one has nowhere to overshoot to
        return Effect(np.log(law.var / self._unguided), np.nan_to_num(moved, nan=0.0))

    def _moments(self, schedule: ScheduleLike) -> Moments:
        whole = self.whole
        if self.solver is not None and self.sigmas is not None:
            return solver_moments(whole, schedule, self.solver, self.sigmas, **self.solver_options)
        if self.sigmas is None:
            return moments(whole, schedule, sigma_max=math.inf, noise=self.noise)
        return moments(whole, schedule, sigma_max=self.sigmas[0], sigma_min=self.sigmas[-1], noise=self.noise)

    def merit(self, effect: Effect) -> float:
        """What is maximised: mean overshoot, less the mean log-variance over all directions."""
        return float(effect.overshoot.mean() - PRICE * effect.log_ratio.mean())

    def shortfalls(self, effect: Effect) -> Array:
        """(M,) by how much each requirement is missed (negative: met with room); linear in ``effect``."""
        parts = [math.log(self.keep_variance) - effect.log_ratio]
        if self.max_variance is not None:
            parts.append(effect.log_ratio - math.log(self.max_variance))
        if self.overshoot is not None:
            parts.append(effect.overshoot - self.overshoot)
        if self.separation is not None:
            parts.append(self.separation - effect.overshoot)
        return np.concatenate(parts)

    def met(self, schedule: ScheduleLike) -> bool:
        """Whether ``schedule`` meets every requirement to :data:`TOLERANCE`."""
        return bool((self.shortfalls(self.effect(schedule)) <= TOLERANCE).all())
