"""Smooth curves over the logarithm of the noise level: ramps, triangles, exponentials and beta curves.

All four move along the progress ``p = log(sigma_max / sigma) / log(sigma_max / sigma_min)``, clamped to [0, 1]: 0 at
``sigma_max`` and above, 1 at ``sigma_min`` and below. The papers draw their curves over the fraction of the steps or
over diffusion time; here it is log sigma, the same for every solver and step count. So each class is a paper's
*shape*; numbers that a paper tuned on its own time axis have to be tuned again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .base import Schedule
from .fields import finite, ordered_sigmas
from .levels import at_or_below

__all__ = ["Beta", "Exponential", "Ramp", "Triangle"]


def _check_range(owner: Schedule, low: str = "sigma_min", high: str = "sigma_max") -> None:
    ordered_sigmas(owner, low, high)
    if getattr(owner, low) == 0:
        raise ValueError(f"{owner.kind}: {low} must be above 0, the curve runs along log sigma")


def _progress(sigma: torch.Tensor, high: float, low: float) -> torch.Tensor:
    """0 at ``high`` and above, 1 at ``low`` and below, linear in log sigma in between; exact at both ends."""
    part = (math.log(high) - sigma.clamp_min(torch.finfo(sigma.dtype).tiny).log()) / math.log(high / low)
    part = part.clamp(0, 1).masked_fill(sigma >= high * (1 - torch.finfo(sigma.dtype).eps), 0)
    return part.masked_fill(at_or_below(sigma, low), 1)


def _between(first: float, second: float, part: torch.Tensor) -> torch.Tensor:
    """From ``first`` (``part`` 0) to ``second`` (``part`` 1): both levels come out exact."""
    return (1 - part) * first + part * second


def _meets_one_pass(first: float, second: float) -> bool:
    """Whether a continuous curve between two levels passes 0 or 1, where one network pass is enough."""
    low, high = sorted((first, second))
    return low <= 0 <= high or low <= 1 <= high


@dataclass(frozen=True)
class Ramp(Schedule):
    """From ``start`` at ``sigma_max`` to ``end`` at ``sigma_min``, held outside (Wang et al. 2024, arXiv 2404.13040).

    ``scale = start + (end - start) * f(p)``, monotone and continuous. ``shape`` is ``f``:

    - ``linear``: ``p``
    - ``power``: ``p ** power``
    - ``cosine``: ``(1 - cos(pi * p ** power)) / 2``, their powered cosine for ``power != 1``

    ``power=None`` is 1, and 2 for ``shape="power"``. The paper's clamped ramps are ``Ramp(...).clip(minimum)``, its
    finding is that increasing ramps (``start < end``) serve best.

    Examples:
        >>> import kdist
        >>> schedule = kdist.Ramp(1, 4, sigma_min=0.02, sigma_max=20)
        >>> [round(schedule(sigma), 2) for sigma in (20.0, 1.0, 0.02)]
        [1.0, 2.3, 4.0]
    """

    start: float
    end: float
    sigma_min: float
    sigma_max: float
    shape: str = "linear"
    power: float | None = None

    def __post_init__(self) -> None:
        finite(self, "start", "end")
        finite(self, "power", optional=True)
        _check_range(self)
        if self.shape not in ("linear", "cosine", "power"):
            raise ValueError(f"ramp: shape must be 'linear', 'cosine' or 'power'; got {self.shape!r}")
        if self.power is not None and self.shape == "linear":
            raise ValueError("ramp: a linear ramp has no power; use shape='power' or shape='cosine'")
        if self.power is not None and self.power <= 0:
            raise ValueError(f"ramp: power must be above 0; got {self.power}")

    def _scale(self, sigma: torch.Tensor) -> torch.Tensor:
        part = _progress(sigma, self.sigma_max, self.sigma_min)
        power = self.power if self.power is not None else 2.0 if self.shape == "power" else 1.0
        if power != 1:
            part = part**power
        if self.shape == "cosine":
            part = 0.5 - 0.5 * torch.cos(math.pi * part)
        return _between(self.start, self.end, part)

    def with_scale(self, scale: float) -> Ramp:
        """The larger end at ``scale``; the other end stays."""
        ends = (self.start, scale) if self.end >= self.start else (scale, self.end)
        return Ramp(*ends, self.sigma_min, self.sigma_max, self.shape, self.power)

    @property
    def breakpoints(self) -> tuple[float, ...]:
        return (self.sigma_min, self.sigma_max)

    @property
    def can_skip(self) -> bool:
        return _meets_one_pass(self.start, self.end)


@dataclass(frozen=True)
class Triangle(Schedule):
    """``scale`` at ``sigma_peak``, falling to ``floor`` at ``sigma_max`` and ``sigma_min`` (TV-CFG, Jin et al. 2025).

    Linear in log sigma on both sides, continuous, ``floor`` outside: weak early, strong in the middle, weak late, as
    arXiv 2509.22007 argues from the three stages of guided sampling. A ``floor`` above ``scale`` is Wang et al.'s V.

    Examples:
        >>> import kdist
        >>> schedule = kdist.Triangle(4, sigma_peak=1, sigma_min=0.02, sigma_max=20)
        >>> [round(schedule(sigma), 2) for sigma in (20.0, 3.0, 1.0, 0.02)]
        [1.0, 2.9, 4.0, 1.0]
    """

    scale: float
    sigma_peak: float
    sigma_min: float
    sigma_max: float
    floor: float = 1.0

    def __post_init__(self) -> None:
        finite(self, "scale", "floor")
        _check_range(self, "sigma_min", "sigma_peak")
        ordered_sigmas(self, "sigma_peak", "sigma_max")

    def _scale(self, sigma: torch.Tensor) -> torch.Tensor:
        rise = _progress(sigma, self.sigma_max, self.sigma_peak)
        fall = _progress(sigma, self.sigma_peak, self.sigma_min)
        return _between(self.floor, self.scale, rise - fall)

    @property
    def breakpoints(self) -> tuple[float, ...]:
        return (self.sigma_min, self.sigma_peak, self.sigma_max)

    @property
    def can_skip(self) -> bool:
        return _meets_one_pass(self.floor, self.scale)


@dataclass(frozen=True)
class Exponential(Schedule):
    """``floor + (scale - floor) * exp(-decay * (1 - p))``: strongest at the data (C2FG, Gao et al. 2026, 2603.08155).

    The paper's control function is ``omega_0 * exp(-lambda * t)`` in diffusion time, that is ``floor=0``: the bound on
    how much the two scores differ decays with noise. ``scale`` is reached at ``sigma_min`` and held below,
    ``floor + (scale - floor) * exp(-decay)`` holds above ``sigma_max``. A negative ``decay`` turns it round.

    Examples:
        >>> import kdist
        >>> schedule = kdist.Exponential(3, sigma_min=0.02, sigma_max=20)
        >>> schedule(0.02), round(schedule(20.0), 2)
        (3.0, 1.27)
    """

    scale: float
    sigma_min: float
    sigma_max: float
    decay: float = 2.0
    floor: float = 1.0

    def __post_init__(self) -> None:
        finite(self, "scale", "floor", "decay")
        _check_range(self)

    def _scale(self, sigma: torch.Tensor) -> torch.Tensor:
        part = _progress(sigma, self.sigma_max, self.sigma_min)
        return _between(self.floor, self.scale, torch.exp(-self.decay * (1 - part)))

    @property
    def breakpoints(self) -> tuple[float, ...]:
        return (self.sigma_min, self.sigma_max)

    @property
    def can_skip(self) -> bool:
        early = self.floor + (self.scale - self.floor) * math.exp(min(-self.decay, 700.0))  # no overflow: refused later
        return _meets_one_pass(early, self.scale)


@dataclass(frozen=True)
class Beta(Schedule):
    """``floor + (scale - floor) * B(p) / max B``, ``B(p) = p**(a - 1) * (1 - p)**(b - 1)`` (beta-CFG, Malarz et al.
    2025, arXiv 2502.10574): one bump, nothing at either end.

    ``scale`` is the height of the peak, at ``p = (a - 1) / (a + b - 2)``; the density's own normalisation is left out
    (the paper multiplies by the density, with ``floor=0``). Its gradient normalisation is a rule, not a schedule.
    ``a`` and ``b`` must be above 1, so that the curve is continuous: ``floor`` at both ends and outside.

    Examples:
        >>> import kdist
        >>> schedule = kdist.Beta(3, sigma_min=0.02, sigma_max=20)
        >>> round(schedule(0.63), 2), schedule(30.0)
        (3.0, 1.0)
    """

    scale: float
    sigma_min: float
    sigma_max: float
    a: float = 2.0
    b: float = 2.0
    floor: float = 1.0

    def __post_init__(self) -> None:
        finite(self, "scale", "floor", "a", "b")
        _check_range(self)
        if min(self.a, self.b) <= 1:
            raise ValueError(f"beta: a and b must be above 1 for a single bump; got a={self.a}, b={self.b}")

    def _scale(self, sigma: torch.Tensor) -> torch.Tensor:
        part = _progress(sigma, self.sigma_max, self.sigma_min)
        mode = (self.a - 1) / (self.a + self.b - 2)
        # both factors relative to their value at the peak: large a and b cannot underflow there
        bump = (part / mode) ** (self.a - 1) * ((1 - part) / (1 - mode)) ** (self.b - 1)
        return _between(self.floor, self.scale, bump.clamp_max(1))

    @property
    def breakpoints(self) -> tuple[float, ...]:
        return (self.sigma_min, self.sigma_max)

    @property
    def can_skip(self) -> bool:
        return _meets_one_pass(self.floor, self.scale)
