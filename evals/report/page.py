"""The page: one self-contained HTML file, and the PNG files of its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .. import figures, html
from ..estimates import Estimate
from ..records import ClassDistortion
from . import plots
from .comparison import Comparison
from .files import versions
from .gallery import gallery
from .statistics_shown import MEANINGS, Statistic, interval, number, present

__all__ = ["make_figures", "make_page"]

EXTREMES = 20  # classes at either end that are named when there are too many to name all
WITH_IMAGES = 4  # classes at either end whose images are shown
_IN_PANELS = ("vendi", "recall", "coverage", "log_det_ratio", "participation_ratio", "overshoot", "mean_shift")


@dataclass(frozen=True)
class Cell:
    """A number of a table with its interval, ready to print; ``strong`` where it is more than chance."""

    value: str
    interval: str = ""
    strong: bool = False


def make_figures(comparison: Comparison) -> dict[str, bytes]:
    """Name to PNG; what cannot be drawn (a trade-off of one set, directions of one class) is left out."""
    reports, ranked = comparison.reports, comparison.ranked()
    drawn: dict[str, Any] = {}
    if len(reports) > 1 and comparison.first.pooled.n_classes > 1:
        drawn["trade_off"] = figures.trade_off(reports, front=comparison.front())
    if len(ranked) <= plots.FOREST_CLASSES:
        drawn["classes"] = plots.class_forest(reports, {"": ranked})
    else:
        drawn["classes"] = plots.class_curve(reports)
        ends = {
            f"the {EXTREMES} most shrunk classes": ranked[:EXTREMES],
            f"the {EXTREMES} least shrunk classes": ranked[: -EXTREMES - 1 : -1],
        }
        drawn["extreme_classes"] = plots.class_forest(reports, ends)
    if comparison.first.pooled.directional_ratios:
        drawn["directions"] = plots.directions(reports)
    panels = [statistic for statistic in present(reports.values()) if statistic.field in _IN_PANELS]
    drawn["statistics"] = plots.set_panels(reports, panels)
    return {name: html.figure_png(figure) for name, figure in drawn.items()}


def make_page(comparison: Comparison, pictures: dict[str, bytes], command: str) -> str:
    """The HTML of the report.

    Args:
        comparison: what was measured.
        pictures: of :func:`make_figures`.
        command: that repeats it.
    """
    reports, ranked = comparison.reports, comparison.ranked()
    statistics = present(reports.values())
    few = ranked if len(ranked) <= plots.FOREST_CLASSES else [*ranked[:EXTREMES], *ranked[-EXTREMES:]]
    with_images = ranked if len(ranked) <= 10 else [*ranked[:WITH_IMAGES], *ranked[-WITH_IMAGES:]]
    titles = {statistic.title for statistic in statistics}
    unused = {statistic.title for statistic in _all_statistics()} - titles
    return html.render(
        "compare.html",
        title=f"kdist: {', '.join(reports)} against {comparison.real.path}",
        comparison=comparison,
        summary=comparison.summary(),
        statistics=statistics,
        reference=[_reference(comparison, statistic) for statistic in statistics],
        rows=[(name, _set_cells(comparison, name, statistics)) for name in reports],
        pictures={name: html.png_uri(png) for name, png in pictures.items()},
        galleries=gallery(comparison, with_images),
        ranked=ranked,
        class_rows=[_class_row(comparison, entry) for entry in few],
        meanings=[(title, note) for title, note in MEANINGS if title not in unused],
        number=number,
        interval=interval,
        versions=versions(),
        command=command,
    )


def _all_statistics() -> Sequence[Statistic]:
    from .statistics_shown import STATISTICS

    return STATISTICS


def _reference(comparison: Comparison, statistic: Statistic) -> Cell:
    """What real data give: the floor at matched numbers, or the real data's own value."""
    pooled = comparison.first.pooled
    estimate = statistic.of(pooled)
    if statistic.reference:
        return Cell(number(getattr(pooled, statistic.reference), statistic.form))
    if estimate is None or estimate.floor is None:
        return Cell("" if statistic.ideal is None else format(statistic.ideal, "g"))
    return _cell(estimate.floor, statistic.form)


def _set_cells(comparison: Comparison, name: str, statistics: Sequence[Statistic]) -> list[Cell]:
    pooled = comparison.reports[name].pooled
    cells = [_cell(statistic.of(pooled), statistic.form) for statistic in statistics]
    fid = None if pooled.fid_mean is None else pooled.fid_mean + (pooled.fid_covariance or 0.0)
    tested = comparison.reports[name].settings["resamples"]
    counts = [Cell(f"{count} of {pooled.n_classes}" if tested else "–") for count in (pooled.shrunk, pooled.widened)]
    paired = comparison.against_first.get(name)
    against = Cell("") if paired is None else _cell(paired.ratio, ".2f")
    return [*counts, *cells, Cell(number(fid, ".3g")), against]


def _class_row(comparison: Comparison, entry: ClassDistortion) -> tuple[ClassDistortion, list[Cell]]:
    level = 1 - comparison.first.settings["confidence"]
    ratios = [report[entry.label].trace_ratio for report in comparison.reports.values()]
    return entry, [_cell(ratio, ".2f", strong=ratio.q_value < level) for ratio in ratios]


def _cell(estimate: Estimate | None, form: str, *, strong: bool = False) -> Cell:
    return Cell(number(estimate, form), interval(estimate, form), strong)
