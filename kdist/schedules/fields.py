"""What schedules check of their fields, and how fields are written down."""

from __future__ import annotations

import json
import re
from typing import Any

import torch

__all__ = ["as_json", "as_text", "finite", "merged_breakpoints", "ordered_sigmas"]


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


def as_text(value: Any, *, nested: bool = False) -> str:
    """A field's value as :func:`kdist.parse` reads it."""
    if isinstance(value, tuple):
        items = ",".join(as_text(item, nested=True) for item in value)
        return f"[{items}]" if nested or len(value) < 2 else items
    if hasattr(value, "to_dict"):
        return f"({value})"
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z_][\w-]*", value) and value.lower() not in ("none", "nan", "inf", "infinity")
        return value if plain else json.dumps(value)
    return "none" if value is None else repr(value)


def as_json(value: Any) -> Any:
    """A field's value as JSON holds it."""
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, tuple):
        return [as_json(item) for item in value]
    return value


def merged_breakpoints(*schedules: Any) -> tuple[float, ...]:
    """Those of all of them, increasing."""
    return tuple(sorted({point for schedule in schedules for point in schedule.breakpoints}))
