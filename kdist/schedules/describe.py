"""Schedules in words, for tables and legends."""

from __future__ import annotations

from .base import Schedule
from .constant import Constant, Interval
from .negative import EarlyNegative, LateNegative, NegativeWindow

__all__ = ["describe"]


def describe(schedule: Schedule) -> str:
    """How tables and legends call a schedule: in words where they are short, else ``str(schedule)``."""
    match schedule:
        case Constant(scale=1.0):
            return "no guidance"
        case Constant(scale):
            return f"constant {scale:g}"
        case Interval(scale, low, high, outside):
            return f"{scale:g} for sigma {low:g} to {high:g}, else {outside:g}"
        case LateNegative(scale, switch, late):
            return f"{scale:g}, then {late:g} below sigma {switch:g}"
        case EarlyNegative(scale, switch, early, end):
            tail = f", 1 below {end:g}" if end else ""
            return f"{early:g}, then {scale:g} below sigma {switch:g}{tail}"
        case NegativeWindow(scale, low, high, inside, after, ramp=0.0):
            after = scale if after is None else after
            return f"{scale:g}, {inside:g} for sigma {low:g} to {high:g}, then {after:g}"
    return str(schedule)
