"""The terminal's tables, which fit into 80 columns."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .comparison import Comparison
from .glossary import interval, number, present

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["class_table", "comparison_table", "measure_table", "plain_table", "print_tables"]

FEW = 5  # classes at either end of the ranking
_WIDEST = 22  # of a floor with its range, in 80 columns; of one with more digits the range alone is shown


def measure_table(comparison: Comparison) -> Table:
    """One generated set: a statistic a row, with interval, floor and p-value."""
    report = comparison.first
    pooled = report.pooled
    table = plain_table(f"{comparison.fakes[0].name}: mean over {pooled.n_classes} classes", gap=0)
    for title in ("", "value", "95 % interval", "real vs real", "p"):
        # a p-value is never cut, whatever else is wide
        width = 5 if title == "p" else None
        table.add_column(title, justify="right" if title else "left", no_wrap=True, min_width=width)
    for statistic in present([report]):
        estimate = statistic.of(pooled)
        assert estimate is not None
        reference = number(getattr(pooled, statistic.reference), statistic.form) if statistic.reference else ""
        if estimate.floor is not None:
            floor, ends = estimate.floor, interval(estimate.floor, statistic.form)
            reference = f"{number(floor, statistic.form)} {ends}".strip()
            reference = ends if len(reference) > _WIDEST else reference
        p_value = number(estimate.p_value, ".3f") if math.isfinite(estimate.p_value) else ""
        table.add_row(
            statistic.title,
            number(estimate, statistic.form),
            interval(estimate, statistic.form),
            reference,
            p_value,
            style="bold" if statistic.field in ("energy_distance", "trace_ratio") else None,
        )
    if report.settings["resamples"]:
        for title, count in (("classes shrunk", pooled.shrunk), ("classes widened", pooled.widened)):
            table.add_row(title, "–" if count is None else str(count), f"of {pooled.n_classes}", "", "")
    if pooled.fid_mean is not None and pooled.fid_covariance is not None:
        table.add_row("FID on these features", number(pooled.fid_mean + pooled.fid_covariance, ".3g"), "", "", "")
    return table


def comparison_table(comparison: Comparison) -> Table:
    """Several generated sets: a set a row."""
    first = comparison.first.pooled
    table = plain_table(f"mean over {first.n_classes} classes, against {comparison.real.path}", gap=0)
    table.add_column("", overflow="fold", min_width=12, max_width=30)
    judge = comparison.judge or "accuracy"
    heading = "accu-\nracy" if judge == "accuracy" else "k-NN\nacc."
    for title in (
        "dis-\ntance",
        "variance\nkept [95 %]",
        "over-\nshoot",
        "dis-\nplaced",
        "classes\nshrunk",
        "cover-\nage",
        heading,
        "vs\nfirst",
    ):
        table.add_column(title, justify="right", no_wrap=True)
    ratio_floor = first.trace_ratio.floor
    distance, overshoot, displacement, coverage = (
        None if value is None or value.floor is None else value.floor
        for value in (first.energy_distance, first.overshoot, first.displacement, first.coverage)
    )
    table.add_row(
        "real vs real",
        number(distance, ".3f"),
        f"{number(ratio_floor, '.2f')} {interval(ratio_floor, '.2f')}",
        number(overshoot, "+.2f"),
        number(displacement, ".2f"),
        "",
        number(coverage, ".2f"),
        number(getattr(first, f"{judge}_real"), ".3f"),
        "",
        end_section=True,
        style="dim",
    )
    for name, report in comparison.reports.items():
        pooled = report.pooled
        against = comparison.against_first.get(name)
        table.add_row(
            name,
            number(pooled.energy_distance, ".3f"),
            f"{number(pooled.trace_ratio, '.2f')} {interval(pooled.trace_ratio, '.2f')}",
            number(pooled.overshoot, "+.2f"),
            number(pooled.displacement, ".2f"),
            "–" if pooled.shrunk is None else f"{pooled.shrunk}/{pooled.n_classes}",
            number(pooled.coverage, ".2f"),
            number(getattr(pooled, judge), ".3f"),
            "" if against is None else f"×{number(against.ratio, '.2f')}",
        )
    return table


def class_table(comparison: Comparison) -> Table:
    """The most and the least shrunk classes of the set that keeps the least variance."""
    ranked = comparison.ranked()
    few = ranked if len(ranked) <= 2 * FEW else [*ranked[:FEW], *ranked[-FEW:]]
    title = "classes, most shrunk first" if few is ranked else f"the {FEW} most and the {FEW} least shrunk classes"
    table = plain_table(f"{comparison.worst_set}: {title}")
    table.add_column("class", overflow="ellipsis", no_wrap=True, max_width=22)
    for head in ("real / fake", "variance kept [95 %]", "real vs real", "q"):
        table.add_column(head, justify="right", no_wrap=True)
    for place, entry in enumerate(few):
        ratio = entry.trace_ratio
        table.add_row(
            entry.name,
            f"{entry.n_real} / {entry.n_fake}",
            f"{number(ratio, '.2f')} {interval(ratio, '.2f')}",
            interval(ratio.floor, ".2f"),
            number(ratio.q_value, ".3f") if math.isfinite(ratio.q_value) else "",
            end_section=few is not ranked and place == FEW - 1,
        )
    return table


def print_tables(comparison: Comparison, console: Console) -> None:
    """Both tables that suit the number of generated sets."""
    console.print(
        comparison_table(comparison) if len(comparison.reports) > 1 else measure_table(comparison), markup=False
    )
    console.print(class_table(comparison), markup=False)


def plain_table(title: str, *, gap: int = 1) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    return Table(
        title=Text(title), box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", padding=(0, gap, 0, 0)
    )
