"""A constant scale inside an interval of noise levels."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .base import Schedule
from .fields import finite, ordered_sigmas
from .levels import held

__all__ = ["Interval"]


@dataclass(frozen=True)
class Interval(Schedule):
    """``scale`` for ``sigma_lo < sigma <= sigma_hi``, ``outside`` elsewhere (Kynkäänniemi et al. 2024, 2404.07724).

    With ``outside=1`` the unconditional pass is not run outside the interval.

    Examples:
        >>> import kdist
        >>> schedule = kdist.Interval(4, sigma_lo=0.3, sigma_hi=2)
        >>> [schedule(sigma) for sigma in (5.0, 2.0, 0.3)]
        [1.0, 4.0, 1.0]
    """

    scale: float
    sigma_lo: float
    sigma_hi: float
    outside: float = 1.0

    def __post_init__(self) -> None:
        finite(self, "scale", "outside")
        ordered_sigmas(self)

    def _scale(self, sigma: torch.Tensor) -> torch.Tensor:
        return held(sigma, self.outside, (self.sigma_hi, self.scale), (self.sigma_lo, self.outside))

    def in_words(self) -> str:
        return f"{self.scale:g} for sigma {self.sigma_lo:g} to {self.sigma_hi:g}, else {self.outside:g}"

    @property
    def breakpoints(self) -> tuple[float, ...]:
        return (self.sigma_lo, self.sigma_hi)

    @property
    def can_skip(self) -> bool:
        return not {self.scale, self.outside}.isdisjoint({0, 1})
