"""Schedules made of schedules: sums, products, limits and one after another."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .base import Schedule, finite, merged_breakpoints

__all__ = ["Clip", "Product", "Sum", "Then"]


class _Composed(Schedule):
    """Fields that are schedules follow the batch."""

    def bind(self, extra_args: Mapping[str, Any], batch: int) -> Schedule:
        parts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        bound = {name: part.bind(extra_args, batch) for name, part in parts.items() if isinstance(part, Schedule)}
        return dataclasses.replace(self, **bound)


@dataclass(frozen=True)
class Sum(_Composed):
    """``first(sigma) + second(sigma)``."""

    first: Schedule
    second: Schedule

    def _scale(self, sigma: torch.Tensor) -> torch.Tensor:
        return self.first(sigma) + self.second(sigma)

    @property
    def breakpoints(self) -> tuple[float, ...]:
        return merged_breakpoints(self.first, self.second)


@dataclass(frozen=True)
class Product(_Composed):
    """``first(sigma) * second(sigma)``."""

    first: Schedule
    second: Schedule

    def _scale(self, sigma: torch.Tensor) -> torch.Tensor:
        return self.first(sigma) * self.second(sigma)

    @property
    def breakpoints(self) -> tuple[float, ...]:
        return merged_breakpoints(self.first, self.second)


@dataclass(frozen=True)
class Clip(_Composed):
    """``schedule(sigma)`` kept inside ``[minimum, maximum]``; its kinks at the limits are not listed as breakpoints."""

    schedule: Schedule
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        finite(self, "minimum", "maximum", optional=True)
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"clip: minimum={self.minimum} is above maximum={self.maximum}")

    def _scale(self, sigma: torch.Tensor) -> torch.Tensor:
        scale = self.schedule(sigma)
        if self.minimum is None and self.maximum is None:
            return scale
        return scale.clamp(self.minimum, self.maximum)

    def with_scale(self, scale: float) -> Clip:
        return Clip(self.schedule.with_scale(scale), self.minimum, self.maximum)

    @property
    def breakpoints(self) -> tuple[float, ...]:
        return self.schedule.breakpoints


@dataclass(frozen=True)
class Then(_Composed):
    """``earlier`` above ``sigma = at``, ``later`` at and below it."""

    earlier: Schedule
    later: Schedule
    at: float

    def __post_init__(self) -> None:
        finite(self, "at")
        if self.at < 0:
            raise ValueError(f"then: at is a noise level and cannot be negative; got {self.at}")

    def _scale(self, sigma: torch.Tensor) -> torch.Tensor:
        return torch.where(sigma > self.at, self.earlier(sigma), self.later(sigma))

    def with_scale(self, scale: float) -> Then:
        return Then(self.earlier.with_scale(scale), self.later.with_scale(scale), self.at)

    @property
    def breakpoints(self) -> tuple[float, ...]:
        early = [point for point in self.earlier.breakpoints if point > self.at]
        late = [point for point in self.later.breakpoints if point < self.at]
        return tuple(sorted({*early, self.at, *late}))

    @property
    def can_skip(self) -> bool:
        return self.earlier.can_skip or self.later.can_skip
