"""The page: one self-contained HTML file, and the PNG files of its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kdist.files import versions

from ..statistics.estimate import Estimate
from ..statistics.results import ClassDistortion
from . import figures, html, plots
from .comparison import Comparison
from .gallery import gallery
from .glossary import MEANINGS, STATISTICS, Statistic, interval, number, present

__all__ = ["OUTPUTS", "Cell", "make_figures", "make_page", "shown_width"]

# all that a comparison with real or with reference sets may write beside results.json
_FIGURES = ("trade_off", "classes", "extreme_classes", "directions", "statistics", "prompts", "sets")
OUTPUTS = ("report.html", "classes.csv", "prompts.csv", *(f"{name}.png" for name in _FIGURES))
EXTREMES = 20  # classes at either end that are named when there are too many to name all
WITH_IMAGES = 4  # classes at either end whose images are shown
_IN_PANELS = ("vendi", "recall", "coverage", "log_det_ratio", "participation_ratio", "overshoot")
_PNG_DPI, _SCREEN_DPI = 160, 100


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
    shown = {statistic.field: statistic for statistic in present(reports.values())}
    if len(ranked) <= plots.FOREST_CLASSES:
        both = [shown[field] for field in ("trace_ratio", "energy_distance") if field in shown]
        drawn["classes"] = plots.class_forest(reports, [plots.Column("", ranked, statistic) for statistic in both])
    else:
        drawn["classes"] = plots.class_curve(reports)
        ends = {"most": ranked[:EXTREMES], "least": ranked[: -EXTREMES - 1 : -1]}
        columns = [
            plots.Column(f"the {EXTREMES} {which} shrunk classes", entries, shown["trace_ratio"])
            for which, entries in ends.items()
        ]
        drawn["extreme_classes"] = plots.class_forest(reports, columns)
    if comparison.first.pooled.directional_ratios:
        drawn["directions"] = plots.directions(reports)
    panels = [shown[field] for field in _IN_PANELS if field in shown]
    if panels:
        drawn["statistics"] = plots.set_panels(reports, panels)
    return {name: html.figure_png(figure, dpi=_PNG_DPI) for name, figure in drawn.items()}


def make_page(comparison: Comparison, pictures: dict[str, bytes], command: str) -> str:
    """The HTML of the report.

    Args:
        comparison: what was measured.
        pictures: What :func:`make_figures` gave.
        command: that repeats it.
    """
    reports, ranked = comparison.reports, comparison.ranked()
    statistics = present(reports.values())
    few = ranked if len(ranked) <= plots.FOREST_CLASSES else [*ranked[:EXTREMES], *ranked[-EXTREMES:]]
    with_images = ranked if len(ranked) <= 10 else [*ranked[:WITH_IMAGES], *ranked[-WITH_IMAGES:]]
    not_measured = {statistic.title for statistic in STATISTICS} - {statistic.title for statistic in statistics}
    return html.render(
        "compare.html",
        title=f"kdist: {', '.join(reports)} against {comparison.real.path}",
        comparison=comparison,
        summary=comparison.summary(),
        rows=_rows(comparison, statistics),
        pictures={name: (html.png_uri(png), shown_width(png)) for name, png in pictures.items()},
        galleries=gallery(comparison, with_images),
        ranked=ranked,
        class_rows=[_class_row(comparison, entry) for entry in few],
        meanings=[(title, note) for title, note in MEANINGS if title not in not_measured],
        number=number,
        interval=interval,
        versions=versions(),
        command=command,
    )


def shown_width(png: bytes) -> int:
    """CSS pixels: all figures at the same scale, so that their letters are of one size."""
    return round(int.from_bytes(png[16:20], "big") * _SCREEN_DPI / _PNG_DPI)


def _rows(comparison: Comparison, statistics: Sequence[Statistic]) -> list[tuple[str, list[Cell]]]:
    """A row per number: what real data give, then each generated set."""
    reports = list(comparison.reports.values())
    tested, count = comparison.settings["resamples"], comparison.first.pooled.n_classes
    rows = [
        (
            statistic.title,
            [
                _reference(comparison, statistic),
                *(_cell(statistic.of(report.pooled), statistic.form) for report in reports),
            ],
        )
        for statistic in statistics
    ]
    extra = []
    if len(reports) > 1:
        paired = [comparison.against_first.get(name) for name in comparison.reports]
        cells = [Cell("") if entry is None else _cell(entry.ratio, ".2f") for entry in paired]
        extra.append((f"variance against {comparison.fakes[0].name}", [Cell(""), *cells]))
    if tested:
        shrunk = [Cell(_of(report.pooled.shrunk, count)) for report in reports]
        widened = [Cell(_of(report.pooled.widened, count)) for report in reports]
        extra += [("classes shrunk", [Cell(""), *shrunk]), ("classes widened", [Cell(""), *widened])]
    rows[2:2] = extra  # after distance and variance kept
    if all(report.pooled.fid_mean is not None for report in reports):
        fid = [(report.pooled.fid_mean or 0.0) + (report.pooled.fid_covariance or 0.0) for report in reports]
        rows.append(("FID on these features", [Cell(""), *(Cell(number(value, ".3g")) for value in fid)]))
    return rows


def _reference(comparison: Comparison, statistic: Statistic) -> Cell:
    """What real data give: the floor at matched numbers, or the real data's own value."""
    pooled = comparison.first.pooled
    estimate = statistic.of(pooled)
    if statistic.reference:
        return Cell(number(getattr(pooled, statistic.reference), statistic.form))
    if estimate is None or estimate.floor is None:
        return Cell("" if statistic.ideal is None else format(statistic.ideal, "g"))
    return _cell(estimate.floor, statistic.form)


def _class_row(comparison: Comparison, entry: ClassDistortion) -> tuple[ClassDistortion, list[Cell]]:
    """Of each set: distance and, below it, variance kept; bold where the variance differs by more than chance."""
    level = 1 - comparison.first.settings["confidence"]
    cells = []
    for report in comparison.reports.values():
        distance, ratio = report[entry.label].energy_distance, report[entry.label].trace_ratio
        kept = f"{number(ratio, '.2f')} {interval(ratio, '.2f')}".strip()
        cells.append(Cell(number(distance, ".3f"), f"variance {kept}", strong=ratio.q_value < level))
    return entry, cells


def _cell(estimate: Estimate | None, form: str, *, strong: bool = False) -> Cell:
    return Cell(number(estimate, form), interval(estimate, form), strong)


def _of(found: int | None, count: int) -> str:
    return "–" if found is None else f"{found} of {count}"
