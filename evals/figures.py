"""The pictures of a comparison: variance kept against what it costs, and class by class.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; markers differ as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .distortion import DistortionReport

__all__ = ["COLOURS", "MARKERS", "class_ratios", "trade_off"]

COLOURS = ("#000000", "#0072B2", "#56B4E9", "#CC79A7", "#E69F00", "#009E73", "#D55E00", "#7F7F7F", "#B8A800")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "*")


def style(index: int) -> tuple[str, str]:
    """Colour and marker of the index-th entry."""
    return COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]


def trade_off(reports: Mapping[str, DistortionReport], *, calls: Sequence[float] | None = None) -> Figure:
    """Variance kept against classifier accuracy (where there is one) and against separability.

    Args:
        reports: name to report, in the order of the legend.
        calls: network calls per sample of each, shown as the marker's area.
    """
    import matplotlib.pyplot as plt

    with_accuracy = all(report.pooled.accuracy is not None for report in reports.values())
    count = 2 if with_accuracy else 1
    figure, axes = plt.subplots(
        1, count, figsize=(4.3 * count + 3, 4.4), sharey=True, squeeze=False, layout="constrained"
    )
    areas = [70.0] * len(reports) if calls is None else [4.0 * call for call in calls]
    first = next(iter(reports.values())).pooled
    for index, (name, report) in enumerate(reports.items()):
        colour, marker = style(index)
        pooled = report.pooled
        spread = [[pooled.trace_ratio - pooled.trace_ratio.lo], [pooled.trace_ratio.hi - pooled.trace_ratio]]
        places = [pooled.accuracy, pooled.separability] if with_accuracy else [pooled.separability]
        for ax, place in zip(axes[0], places, strict=True):
            ax.errorbar(place, pooled.trace_ratio, yerr=spread, color=colour, linewidth=1, zorder=2)
            label = name if calls is None else f"{name}  ({calls[index]:g} calls)"
            ax.scatter(
                place, pooled.trace_ratio, s=areas[index], color=colour, marker=marker, label=label,
                edgecolor="white", linewidth=0.8, zorder=3,
            )  # fmt: skip
    references = [first.accuracy_real, first.separability_real] if with_accuracy else [first.separability_real]
    names = ["classifier accuracy", "separability (between / within scatter)"][-count:]
    for ax, reference, name in zip(axes[0], references, names, strict=True):
        ax.axhline(1, color="0.6", linewidth=0.8, zorder=0)
        if reference is not None:
            ax.axvline(reference, color="0.6", linewidth=0.8, zorder=0)
            ax.annotate(
                "real data",
                (reference, 1),
                textcoords="offset points",
                xytext=(-3, 3),
                ha="right",
                fontsize=8,
                color="0.4",
            )
        ax.set_xlabel(name)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("variance kept: trace ratio, mean over classes")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8.5, labelspacing=1.1)
    return figure


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
        spread = [[r - r.lo for r in ratios], [r.hi - r for r in ratios]]
        ax.errorbar(
            positions + offsets[index], [float(r) for r in ratios], yerr=spread, fmt=marker, color=colour,
            markersize=4.5, linewidth=1, label=name,
        )  # fmt: skip
    ax.axhline(1, color="0.6", linewidth=0.8, zorder=0)
    ax.set_xticks(positions, names)
    ax.set_xlabel("class")
    ax.set_ylabel("variance kept (trace ratio)")
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False, fontsize=8.5)
    return figure
