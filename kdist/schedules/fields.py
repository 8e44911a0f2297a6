"""What schedules check of their fields."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["finite", "ordered_sigmas"]


def finite(owner: Any, *names: str, optional: bool = False) -> None:
    """Store the named fields as floats; raise ValueError where one is not a number that float32 can hold."""
    for name in names:
        value = getattr(owner, name)
        if value is None and optional:
            continue
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"{owner.kind}: {name} must be a number; got {value!r}") from None
        if not abs(number) <= torch.finfo(torch.float32).max:
            raise ValueError(f"{owner.kind}: {name} must be finite, in float32 too; got {number}")
        object.__setattr__(owner, name, number)


def ordered_sigmas(owner: Any, low: str = "sigma_lo", high: str = "sigma_hi") -> None:
    """Raise ValueError unless 0 <= low < high."""
    finite(owner, low, high)
    lo, hi = getattr(owner, low), getattr(owner, high)
    if lo < 0:
        raise ValueError(f"{owner.kind}: {low} is a noise level and cannot be negative; got {lo}")
    if not lo < hi:
        raise ValueError(f"{owner.kind}: {low} must be below {high}; got {low}={lo}, {high}={hi} (swap them?)")
