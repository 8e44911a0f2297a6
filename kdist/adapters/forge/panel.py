"""What the panel's fields mean: a schedule of one of five families, and its picture."""

from __future__ import annotations

from typing import Any

# absolute: as an extension this folder is not part of the package
import kdist
from kdist.adapters.reading import read_schedule
from kdist.schedules.terms import InTerms

__all__ = ["FAMILIES", "TERMS", "curve", "panel_schedule"]

# the family, and which of its fields "other scale", "upper level" and "lower level" are
FAMILIES: dict[str, tuple[type[kdist.Schedule], dict[str, str]]] = {
    "late negative": (kdist.LateNegative, {"other": "late", "upper": "sigma_switch"}),
    "early negative": (kdist.EarlyNegative, {"other": "early", "upper": "sigma_switch", "lower": "sigma_end"}),
    "negative window": (kdist.NegativeWindow, {"other": "inside", "upper": "sigma_hi", "lower": "sigma_lo"}),
    "interval": (kdist.Interval, {"other": "outside", "upper": "sigma_hi", "lower": "sigma_lo"}),
    "constant": (kdist.Constant, {}),
}
TERMS = {"sigma": "sigma", "percent of steps": "percent", "flow s (0 to 1)": "s"}


def panel_schedule(
    family: str, peak: float, other: float, upper: float, lower: float, terms: str = "sigma", text: str = ""
) -> kdist.Schedule | InTerms:
    """The schedule of the panel's fields; one in percent of the steps waits for a run's levels, ``on(sigmas)``.

    Args:
        family: one of :data:`FAMILIES`.
        peak: its guidance scale.
        other: the scale after a late switch, before an early one, inside the window, or outside the interval.
        upper, lower: its noise levels in ``terms``; where there is one switch, it is ``upper``.
        terms: one of :data:`TERMS`.
        text: any other schedule, as :func:`kdist.parse` reads it; empty for the fields above.

    Raises:
        ValueError: fields that make no schedule, or a schedule for class labels.
    """
    if text.strip():
        return read_schedule(text)
    if family not in FAMILIES or terms not in TERMS:
        raise ValueError(f"unknown family {family!r} or terms {terms!r}; known: {', '.join([*FAMILIES, *TERMS])}")
    cls, names = FAMILIES[family]
    given = {"other": other, "upper": upper, "lower": lower}
    fields: dict[str, Any] = {"scale": peak, **{name: given[field] for field, name in names.items()}}
    waiting = InTerms(TERMS[terms], cls, fields)
    if terms == "percent of steps":
        waiting.on([2.0**-step for step in range(1001)])  # any levels show what is wrong
        return waiting
    return waiting.on(None)


def curve(schedule: kdist.Schedule | InTerms, sigmas: list[float]) -> Any:
    """The schedule over a run's levels as a matplotlib figure, its steps marked."""
    from matplotlib.figure import Figure  # no pyplot: web UIs draw outside the main thread

    placed = schedule.on(sigmas) if isinstance(schedule, InTerms) else schedule
    steps = [sigma for sigma in sigmas if sigma > 0]
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.add_subplot()
    placed.plot(sigma_min=min(steps), sigma_max=max(steps), ax=axes, linewidth=2)
    axes.plot(steps, [placed(step) for step in steps], "o", color="0.2", markersize=4)
    axes.set_title(f"{len(steps)} steps")
    return figure
