"""What came out, in sentences: one per generated set, and which of them is closest to the real classes.

A set is called closer than another only where their paired interval says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..statistics.estimate import Estimate
from ..statistics.results import DistortionReport, PooledDistortion
from .glossary import number, percent

__all__ = ["closeness", "few", "outcome"]

_JUDGED = {"accuracy": "recognised", "neighbour_accuracy": "nearest to their own class"}


def outcome(name: str, report: DistortionReport, judge: str | None) -> str:
    """One generated set: how recognisable, how far from the real classes, and in what the distance lies.

    Args:
        name: Name of the set.
        report: what was measured.
        judge: ``accuracy`` or ``neighbour_accuracy``, whichever all sets have; None for neither.
    """
    pooled = report.pooled
    parts = []
    if judge is not None:
        own, real = (number(getattr(pooled, field), ".3f") for field in (judge, f"{judge}_real"))
        parts.append(f"{_JUDGED[judge]} {own} (real {real})")
    distance, floor = pooled.energy_distance, pooled.energy_distance.floor
    if floor is None:
        parts.append(f"{number(distance, '.2f')} from the real classes")
    elif _beside(distance) > 0:
        form = ".2f" if distance > 0.1 else ".3f"
        parts.append(f"{number(distance, form)} from the real classes ({_range(floor, form)})")
    else:
        parts.append(f"not to be told from real by distance ({number(distance, '.3f')}, {_range(floor, '.3f')})")
    return f"{name}: {', '.join(parts)}: {'; '.join(_reasons(pooled))}."


def closeness(closest: str, farther: Mapping[str, Estimate | None]) -> str:
    """Which of several sets is closest to the real classes, and which others cannot be told from it.

    Args:
        closest: the set with the smallest mean energy distance.
        farther: How much farther each other set is than it, paired; None where there are no pairs.
    """
    told = {name: gap for name, gap in farther.items() if gap is not None and gap.lo > 0}
    alike = [name for name, gap in farther.items() if gap is not None and not gap.lo > 0]
    unknown = [name for name, gap in farther.items() if gap is None]
    text = f"Smallest distance: {closest}."
    if told:
        shown = [f"{name} by {gap:.3f} [{gap.lo:.3f}, {gap.hi:.3f}]" for name, gap in told.items()]
        text += f" Farther than it, by their paired intervals: {few(shown, separator='; ')}."
    if alike:
        text += f" Not to be told from it: {few(alike, separator='; ')}."
    if unknown:
        text += f" Too few pairs to compare with it: {few(unknown, separator='; ')}."
    return text


def few(items: list[str], most: int = 5, *, separator: str = ", ") -> str:
    """The first of them, and how many more there are."""
    more = [f"and {len(items) - most} more"] if len(items) > most else []
    return separator.join([*items[:most], *more])


def _reasons(pooled: PooledDistortion) -> list[str]:
    """Variance, place of the means, number of shrunk classes: what a reader can act on."""
    ratio, side = pooled.trace_ratio, _beside(pooled.trace_ratio)
    if side < 0:
        found = [f"{percent(1 - ratio)} of the variance gone"]
    elif side > 0:
        found = [f"{percent(ratio - 1)} more variance than real"]
    else:
        found = [f"variance {number(ratio, '.2f')} of real"]
    main, rest = pooled.variance_main, pooled.variance_rest
    if main is not None and rest is not None and _beside(main) < 0 < _beside(rest):
        found.append(f"main directions {main:.2f}, rest {rest:.2f}: structure lost, noise added")
    displacement = pooled.displacement
    if math.isfinite(displacement):
        out = _beside(displacement) > 0
        found.append(f"means {number(displacement, '.2f')} out" if out else "means in place")
    if pooled.shrunk is not None:
        found.append(f"{pooled.shrunk} of {pooled.n_classes} classes shrunk, {pooled.widened} widened")
    return found


def _beside(estimate: Estimate) -> int:
    """-1 below, +1 above what real against real gives; 0 within it, or where that is not known."""
    floor = estimate.floor
    if floor is not None and math.isfinite(floor.lo):
        return int(estimate > floor.hi) - int(estimate < floor.lo)
    return 0


def _range(floor: Estimate, form: str) -> str:
    return f"floor {number(floor.lo, form)} to {number(floor.hi, form)}"
