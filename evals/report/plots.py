"""The report's pictures beyond the trade-off: classes, directions, and statistics set by set.

Generated sets keep their colour and marker in every picture; grey is always real against real.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..statistics.estimate import Estimate
from ..statistics.results import ClassDistortion, DistortionReport
from .figures import arms, style
from .glossary import Statistic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FOREST_CLASSES", "Column", "class_curve", "class_forest", "directions", "set_panels"]

FOREST_CLASSES = 40  # as many rows as can be read in one picture
_REAL: dict[str, Any] = {"color": "0.88", "linewidth": 1.2, "zorder": 0}  # the line shows a band of no width


@dataclass(frozen=True)
class Column:
    """One panel of :func:`class_forest`: classes, top first, under a title, and the statistic that is drawn."""

    title: str
    entries: Sequence[ClassDistortion]
    statistic: Statistic


def class_forest(reports: Mapping[str, DistortionReport], columns: Sequence[Column]) -> Figure:
    """A class a row, with its interval and the band of real against real.

    Args:
        reports: name to report.
        columns: panels side by side; at most :data:`FOREST_CLASSES` classes each.
    """
    import matplotlib.pyplot as plt

    rows = max(len(column.entries) for column in columns)
    step = max(0.13 * len(reports) + 0.14, 0.3)  # a name takes two lines
    figure, axes = plt.subplots(
        1, len(columns), figsize=(4.6 * len(columns) + 0.8, rows * step + 1.5), squeeze=False, layout="constrained"
    )
    offsets = np.linspace(-0.3, 0.3, len(reports)) if len(reports) > 1 else np.zeros(1)
    for ax, column in zip(axes[0], columns, strict=True):
        perfect = _floors(ax, column)
        if column.statistic.ideal is not None:
            ax.axvline(column.statistic.ideal, color="0.5", linewidth=0.8, zorder=1)
            perfect.append(column.statistic.ideal)
        shown: list[Estimate] = []
        for index, (name, report) in enumerate(reports.items()):
            colour, marker = style(index)
            found = [column.statistic.of(report[entry.label]) or Estimate(math.nan) for entry in column.entries]
            shown += found
            ax.errorbar(
                [float(value) for value in found], np.arange(len(found)) + offsets[index],
                xerr=arms(found), fmt=marker, color=colour,
                markersize=4, linewidth=1, label=name,
            )  # fmt: skip
        ax.set_xlim(_limits(ax.get_xlim(), shown, perfect))
        _say_what_is_beyond(ax, shown, np.concatenate([np.arange(len(column.entries)) + o for o in offsets]))
        ax.set_yticks(range(len(column.entries)), [_two_lines(entry.name) for entry in column.entries], fontsize=8)
        ax.set_ylim(rows - 0.5, -0.5)
        ax.set_title(column.title, fontsize=9)
        ax.set_xlabel(column.statistic.title)
        ax.spines[["top", "right"]].set_visible(False)
    _legend(figure, axes[0, 0])
    return figure


def _limits(drawn: tuple[float, float], shown: Sequence[Estimate], perfect: Sequence[float]) -> tuple[float, float]:
    """The axis without the few intervals that are so long, and the few values so far out, that nothing else could be
    read: they run out of it. What would be perfect is always on it."""
    values = np.array([float(value) for value in shown])
    lengths = np.array([value.half_width for value in shown])
    known = np.isfinite(values)
    if not known.any():
        return drawn
    typical = 4 * np.nanmedian(lengths) if np.isfinite(lengths).any() else 0.0
    low, high = _range(values)
    margin = typical + 0.1 * (high - low)
    if not margin > 0:
        return drawn
    low, high = min([low, *perfect]), max([high, *perfect])
    return max(drawn[0], low - margin), min(drawn[1], high + margin)


def _range(values: np.ndarray) -> tuple[float, float]:
    """From the least to the greatest, without the few (one in twenty at most) that are far from all others."""
    known = values[np.isfinite(values)]
    low, high = np.quantile(known, (0.05, 0.95))
    near = known[(known >= low - (high - low)) & (known <= high + (high - low))]
    return float(near.min()), float(near.max())


def _say_what_is_beyond(ax: Axes, shown: Sequence[Estimate], places: np.ndarray) -> None:
    """Values that the axis leaves out stand at its edge as numbers."""
    low, high = ax.get_xlim()
    for value, place in zip(shown, places, strict=True):
        if math.isfinite(value) and not low <= value <= high:
            words, edge, side = (f"← {value:.2f}", 0.01, "left") if value < low else (f"{value:.2f} →", 0.99, "right")
            where: Any = (edge, place)
            ax.annotate(words, where, xycoords=("axes fraction", "data"), ha=side, va="center", fontsize=7)


def _floors(ax: Axes, column: Column) -> list[float]:
    """Draws the bands; the ends of the median one."""
    drawn = []
    for place, entry in enumerate(column.entries):
        estimate = column.statistic.of(entry)
        floor = None if estimate is None else estimate.floor
        if floor is not None:
            ax.fill_betweenx(
                [place - 0.42, place + 0.42], floor.lo, floor.hi, label="real against real" if not place else None,
                **_REAL,
            )  # fmt: skip
            drawn.append(floor.interval)
    return np.median(drawn, axis=0).tolist() if drawn else []


def class_curve(reports: Mapping[str, DistortionReport]) -> Figure:
    """All classes at once: variance kept in sorted order, and its histogram, with the band of real against real."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9.8, 4.2), width_ratios=(2.2, 1), sharey=True, layout="constrained"
    )
    floors = [e.trace_ratio.floor for e in next(iter(reports.values())).classes if e.trace_ratio.floor is not None]
    perfect = [1.0]
    if floors:
        band = np.median([floor.interval for floor in floors], axis=0).tolist()
        left.axhspan(*band, label="real against real\n(median class)", **_REAL)
        right.axhspan(*band, **_REAL)
        perfect += band
    ratios = {name: np.array([float(e.trace_ratio) for e in report.classes]) for name, report in reports.items()}
    everything = np.concatenate(list(ratios.values()))
    low, high = _range(everything)
    low, high = min([low, *perfect]), max([high, *perfect])
    bins = np.histogram_bin_edges(everything, bins=40, range=(low, high))
    for index, (name, values) in enumerate(ratios.items()):
        colour, _ = style(index)
        left.plot(np.arange(1, len(values) + 1), np.sort(values), color=colour, linewidth=1.6, label=name)
        right.hist(values, bins=bins, orientation="horizontal", histtype="step", color=colour, linewidth=1.3)
    for ax in (left, right):
        ax.axhline(1, color="0.5", linewidth=0.8, zorder=1)
        ax.spines[["top", "right"]].set_visible(False)
    margin = 0.05 * (high - low)
    if margin > 0:
        left.set_ylim(low - margin, high + margin)
    for beyond, place in ((everything[everything > high], 0.97), (everything[everything < low], 0.03)):
        if len(beyond):
            words = "out of the picture: " + ", ".join(f"{value:.2f}" for value in np.sort(beyond)[:6])
            words += f" and {len(beyond) - 6} more" if len(beyond) > 6 else ""
            left.text(0.5, place, words, transform=left.transAxes, ha="center", va="center", fontsize=8)
    left.set_xlabel("classes, the most shrunk first (each set in its own order)")
    left.set_ylabel("variance kept (trace ratio)")
    right.set_xlabel("number of classes")
    _legend(figure, left)
    return figure


def directions(reports: Mapping[str, DistortionReport]) -> Figure:
    """Variance ratio along each direction of the held-out basis, mean over classes, widest direction first."""
    import matplotlib.pyplot as plt

    count = len(next(iter(reports.values())).pooled.directional_ratios)
    figure, ax = plt.subplots(figsize=(8.6, 3.8), layout="constrained")
    places = np.arange(1, count + 1)
    floors = [ratio.floor for ratio in next(iter(reports.values())).pooled.directional_ratios]
    for place, floor in zip(places, floors, strict=True):
        if floor is not None:
            label = "real against real" if place == 1 else None
            ax.fill_between([place - 0.42, place + 0.42], floor.lo, floor.hi, label=label, **_REAL)
    offsets = np.linspace(-0.3, 0.3, len(reports)) if len(reports) > 1 else np.zeros(1)
    for index, (name, report) in enumerate(reports.items()):
        colour, marker = style(index)
        ratios = report.pooled.directional_ratios
        ax.errorbar(
            places + offsets[index], [float(r) for r in ratios],
            yerr=arms(ratios), fmt=marker, color=colour, markersize=4.5,
            linewidth=1, label=name,
        )  # fmt: skip
    ax.axhline(1, color="0.5", linewidth=0.8, zorder=1)
    ax.set_xticks(places)
    ax.set_xlabel("direction within classes, widest first")
    ax.set_ylabel("variance kept along it")
    ax.spines[["top", "right"]].set_visible(False)
    _legend(figure, ax)
    return figure


def set_panels(reports: Mapping[str, DistortionReport], statistics: Sequence[Statistic]) -> Figure:
    """One small panel per statistic, a generated set a row; the grey band is real against real."""
    import matplotlib.pyplot as plt

    columns = min(3, len(statistics))
    lines = math.ceil(len(statistics) / columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(3.0 * columns + 1.4, lines * (0.24 * len(reports) + 0.95)), sharey=True,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for ax, statistic in zip(axes.flat, statistics, strict=False):
        for row, (_, report) in enumerate(reports.items()):
            colour, marker = style(row)
            estimate = statistic.of(report.pooled)
            if estimate is None or not math.isfinite(estimate):
                continue
            if estimate.floor is not None:
                floor = estimate.floor
                ends = floor.interval if math.isfinite(floor.lo) else (floor, floor)
                ax.fill_betweenx([row - 0.45, row + 0.45], *ends, **_REAL)
            ax.errorbar(
                float(estimate), row, xerr=arms([estimate]), fmt=marker, color=colour, markersize=5, linewidth=1.2
            )
        if statistic.ideal is not None:
            ax.axvline(statistic.ideal, color="0.5", linewidth=0.8, zorder=1)
        ax.set_title(statistic.title, fontsize=9.5)
        ax.set_yticks(range(len(reports)), [_short(name, 34) for name in reports], fontsize=8)
        ax.set_ylim(len(reports) - 0.5, -0.5)
        ax.tick_params(axis="x", labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes.flat[len(statistics) :]:
        ax.set_visible(False)
    figure.get_layout_engine().set(hspace=0.08)  # type: ignore[union-attr, call-arg]
    return figure


def _legend(figure: Figure, ax: Axes) -> None:
    """Above the axes, in as many columns as the names leave room for."""
    handles, labels = ax.get_legend_handles_labels()
    width = 0.07 * max(map(len, labels)) + 0.6  # inches of one entry at this font size
    columns = max(1, int(figure.get_figwidth() // width))
    figure.legend(handles, labels, loc="outside upper left", frameon=False, fontsize=8.5, ncols=columns)


def _two_lines(name: str, width: int = 26) -> str:
    """Long names often begin alike: what tells them apart is further on."""
    rest = _short(name[width:], width)
    return f"{name[:width]}\n{rest}" if rest else name


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
