"""The pictures of a comparison: distance and variance kept against what they cost, and class by class.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; markers differ as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..statistics.estimate import Estimate
    from ..statistics.measure import DistortionReport

__all__ = ["COLOURS", "MARKERS", "arms", "class_ratios", "style", "trade_off"]

# ten, as a page may hold ten sets; the colours of kdist.plotting, in an order of its own: evals import only kdist.files
COLOURS = ("#000000", "#0072B2", "#56B4E9", "#CC79A7", "#E69F00", "#009E73", "#D55E00", "#7F7F7F", "#B8A800", "#661100")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "*")


def style(index: int) -> tuple[str, str]:
    """Colour and marker of the index-th entry."""
    return COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]


def trade_off(
    reports: Mapping[str, DistortionReport], *, calls: Sequence[float] | None = None, front: Sequence[str] = ()
) -> Figure:
    """Distance from the real classes, and variance kept, against accuracy.

    The accuracy is a classifier's, else that of nearest neighbours; without either it is the separability.

    Args:
        reports: name to report, in the order of the legend.
        calls: network calls per sample of each, shown as the marker's area.
        front: names of the sets that no other beats on both, joined by a dashed line in the second panel.

    Raises:
        ValueError: the reports have neither accuracy nor separability (a single class, no classifier).
    """
    import matplotlib.pyplot as plt

    judges = [panel for panel in _JUDGES if _measured(reports, panel[0])]
    if not judges:
        raise ValueError("a trade-off needs accuracy or separability, hence at least two classes")
    field, title = judges[0]  # a classifier's accuracy says it better than nearest neighbours, and those than scatter
    figure, axes = plt.subplots(1, 2, figsize=(11.6, 4.4), layout="constrained")
    reference = getattr(next(iter(reports.values())).pooled, field + "_real")
    for ax, (measured, right, name) in zip(axes, _DISTORTIONS, strict=True):
        for index, (label, report) in enumerate(reports.items()):
            colour, marker = style(index)
            value, place = getattr(report.pooled, measured), getattr(report.pooled, field)
            label = label if calls is None else f"{label}  ({calls[index]:g} calls)"
            ax.errorbar(
                place, value, xerr=arms([place]), yerr=arms([value]), color=colour, linewidth=1, zorder=2, alpha=0.7
            )
            ax.scatter(
                place, value, s=70 if calls is None else 4.0 * calls[index], color=colour, marker=marker, label=label,
                edgecolor="white", linewidth=0.8, zorder=3,
            )  # fmt: skip
        ax.axhline(right, color="0.6", linewidth=0.8, zorder=0)
        if reference is not None:
            ax.axvline(reference, color="0.6", linewidth=0.8, zorder=0)
            low, high = ax.get_xlim()
            side = 1 if reference < (low + high) / 2 else -1  # towards the middle of the panel
            ax.annotate(
                "real data", (reference, right), textcoords="offset points", xytext=(3 * side, 3),
                ha="left" if side > 0 else "right", fontsize=8, color="0.4",
            )  # fmt: skip
        ax.locator_params(axis="x", nbins=6)
        ax.set_xlabel(title)
        ax.set_ylabel(name)
        ax.spines[["top", "right"]].set_visible(False)
    if len(front) > 1:
        points = sorted((getattr(reports[n].pooled, field), reports[n].pooled.trace_ratio) for n in front)
        axes[1].plot(*zip(*points, strict=True), color="0.5", linewidth=1, linestyle="--", zorder=1)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8.5, labelspacing=1.1)
    return figure


_DISTORTIONS = (
    ("energy_distance", 0.0, "distance from the real classes (energy distance)"),
    ("trace_ratio", 1.0, "variance kept: trace ratio, mean over classes"),
)
_JUDGES = (
    ("accuracy", "classifier accuracy"),
    ("neighbour_accuracy", "accuracy by nearest real neighbours"),
    ("separability", "separability (between / within scatter)"),
)


def _measured(reports: Mapping[str, DistortionReport], field: str) -> bool:
    values = [getattr(report.pooled, field) for report in reports.values()]
    return all(value is not None and math.isfinite(value) for value in values)


def arms(estimates: Sequence[Estimate]) -> np.ndarray:
    """(2, n) lengths of the intervals' arms for ``errorbar``; nan, not drawn, where an interval is undefined."""
    lengths = np.array([[e - e.lo for e in estimates], [e.hi - e for e in estimates]])
    return np.maximum(lengths, 0.0)  # rounding may leave an end on the wrong side


def class_ratios(reports: Mapping[str, DistortionReport]) -> Figure:
    """Trace ratio of every class with its interval; the grey band is what real against real gives at the same n."""
    import matplotlib.pyplot as plt

    first = next(iter(reports.values()))
    names = [entry.name for entry in first.classes]
    figure, ax = plt.subplots(figsize=(max(7.0, 0.9 * len(names)), 4.2), layout="constrained")
    positions = np.arange(len(names))
    for position, entry in zip(positions, first.classes, strict=True):
        floor = entry.trace_ratio.floor
        if floor is not None:
            label = "real against real" if position == 0 else None
            ax.fill_between([position - 0.42, position + 0.42], floor.lo, floor.hi, color="0.9", zorder=0, label=label)
    offsets = np.linspace(-0.33, 0.33, len(reports)) if len(reports) > 1 else np.zeros(1)
    for index, (name, report) in enumerate(reports.items()):
        colour, marker = style(index)
        ratios = [entry.trace_ratio for entry in report.classes]
        ax.errorbar(
            positions + offsets[index], [float(r) for r in ratios], yerr=arms(ratios), fmt=marker, color=colour,
            markersize=4.5, linewidth=1, label=name,
        )  # fmt: skip
    ax.axhline(1, color="0.6", linewidth=0.8, zorder=0)
    ax.set_xticks(positions, names)
    ax.set_xlabel("class")
    ax.set_ylabel("variance kept (trace ratio)")
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False, fontsize=8.5)
    return figure
