"""The two schedules that everybody has: a constant scale, and a constant scale inside an interval."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .base import Schedule, finite, ordered_sigmas

__all__ = ["Constant", "Interval"]


@dataclass(frozen=True)
class Constant(Schedule):
    """``scale`` at every noise level (Ho & Salimans 2022, arXiv 2207.12598)."""

    scale: float

    def __post_init__(self) -> None:
        finite(self, "scale")

    def _scale(self, sigma: torch.Tensor) -> torch.Tensor:
        return torch.full_like(sigma, self.scale)

    @property
    def can_skip(self) -> bool:
        return self.scale in (0, 1)


@dataclass(frozen=True)
class Interval(Schedule):
    """``scale`` for ``sigma_lo < sigma <= sigma_hi``, ``outside`` elsewhere (Kynkäänniemi et al. 2024, 2404.07724).

    With ``outside=1`` the unconditional pass is not run outside the interval.
    """

    scale: float
    sigma_lo: float
    sigma_hi: float
    outside: float = 1.0

    def __post_init__(self) -> None:
        finite(self, "scale", "outside")
        ordered_sigmas(self)

    def _scale(self, sigma: torch.Tensor) -> torch.Tensor:
        inside = (sigma > self.sigma_lo) & (sigma <= self.sigma_hi)
        return torch.where(inside, torch.full_like(sigma, self.scale), torch.full_like(sigma, self.outside))

    @property
    def breakpoints(self) -> tuple[float, ...]:
        return (self.sigma_lo, self.sigma_hi)

    @property
    def can_skip(self) -> bool:
        return not {self.scale, self.outside}.isdisjoint({0, 1})
