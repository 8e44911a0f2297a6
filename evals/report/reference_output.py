"""What a comparison with a reference set is written as: terminal tables, results.json, prompts.csv, one HTML page."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from kdist.files import versions, write_with_pictures

from ..sources import BadImage
from ..statistics.estimate import Estimate
from . import html, plots
from .files import estimate_columns
from .gallery import ClassStrips, side_by_side
from .glossary import Statistic, interval, number
from .page import EXTREMES, OUTPUTS, WITH_IMAGES, Cell, shown_width
from .reference import Numbers, ReferenceComparison
from .sets import describe
from .table import FEW, plain_table

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["REFERENCE_SCHEMA", "print_reference_tables", "write_reference_report"]

REFERENCE_SCHEMA = "kdist.reference/1"
STATISTICS: tuple[Statistic, ...] = (
    Statistic(
        "distance", "distance", ".3f",
        "Energy distance between the samples of a prompt and the reference's, over the reference's mean pairwise "
        "distance, no sample held against its own pair. 0 only if both follow the same law; the grey floor is what "
        "exchanging the two members of random pairs gives. Far from the reference is neither good nor bad by itself.",
        ideal=0.0,
    ),
    Statistic(
        "variance", "variance", ".2f",
        "Total variance of a prompt's samples over that of the reference's, pair by pair; over prompts the geometric "
        "mean. 0.7: three tenths of the reference's variance are gone.",
        ideal=1.0,
    ),
    Statistic(
        "displacement", "displacement", ".2f",
        "Distance of a prompt's mean from the reference's, over the distance of that from the mean of all prompts. "
        "Guidance moves prompts apart: 0 is the reference's place.",
        ideal=0.0,
    ),
    Statistic(
        "pairwise_distance", "pairwise distance", ".2f",
        "Mean distance between two samples of a prompt, over the reference's.", ideal=1.0,
    ),
    Statistic(
        "vendi_ratio", "Vendi ratio", ".2f",
        "Vendi score (effective number of different samples of a prompt, by cosines about the reference's mean) over "
        "the reference's at the same number of samples.", ideal=1.0,
    ),
    Statistic("vendi", "Vendi score", ".2f", "The score itself; it grows with the number of samples."),
    Statistic(
        "separability", "separability", ".2f",
        "Scatter between prompts over that within them: how far the prompts are apart against their own spread.",
    ),
    Statistic(
        "alignment", "prompt alignment", ".3f",
        "Mean cosine of CLIP's embeddings of image and prompt. It ranks sets of the same prompts and is no scale of "
        "its own.",
    ),
    Statistic(
        "alignment_gain", "alignment gained", "+.3f",
        "The alignment less that of the reference image of the same prompt and seed.", ideal=0.0,
    ),
)  # fmt: skip


def write_reference_report(out: Path, comparison: ReferenceComparison, *, command: str) -> list[Path]:
    """Write every output; should a picture or the page fail, the numbers are written without them.

    Returns:
        The files written.

    Raises:
        OSError: no space, no permission.
    """
    numbers = {"results.json": _results(comparison, command), "prompts.csv": _prompts_csv(comparison)}
    return write_with_pictures(
        out,
        numbers,
        former=OUTPUTS,
        draw=lambda: _figures(comparison),
        page=lambda pictures: _page(comparison, pictures, command),
    )


def print_reference_tables(comparison: ReferenceComparison, console: Console) -> None:
    """The sets, and the prompts of the least varied one, in 80 columns."""
    first = next(iter(comparison.against.values()))
    count = len(first.prompts)
    sets = plain_table(f"mean over {count} prompts, relative to {comparison.reference.path}", gap=0)
    sets.add_column("", overflow="fold", min_width=12, max_width=30)
    shown = [
        statistic
        for statistic in _measured(comparison)
        if statistic.field not in ("vendi_ratio", "alignment", "separability")
    ]
    for statistic in shown:
        sets.add_column(statistic.title.replace(" ", "\n"), justify="right", no_wrap=True)
    alone = [number(first.pooled.vendi_reference, ".2f") if each.field == "vendi" else "" for each in shown]
    sets.add_row("reference", *alone, end_section=True, style="dim")
    for name, found in comparison.against.items():
        cells = [(each, each.of(cast(Any, found.pooled))) for each in shown]
        sets.add_row(
            name,
            *(
                f"{number(value, each.form)} {interval(value, each.form) if each.field == 'variance' else ''}".strip()
                for each, value in cells
            ),
        )
    console.print(sets, markup=False)
    ranked = comparison.ranked()
    few = ranked if len(ranked) <= 2 * FEW else [*ranked[:FEW], *ranked[-FEW:]]
    table = plain_table(f"{comparison.least_varied}: prompts, the least varied first")
    table.add_column("prompt", overflow="ellipsis", no_wrap=True, max_width=26)
    for head in ("pairs", "variance [95 %]", "q", "Vendi", "reference"):
        table.add_column(head, justify="right", no_wrap=True)
    for entry in few:
        ratio = entry.variance
        table.add_row(
            entry.name,
            str(entry.pairs),
            f"{number(ratio, '.2f')} {interval(ratio, '.2f')}",
            number(ratio.q_value, ".3f"),
            number(entry.vendi, ".2f"),
            number(entry.vendi_reference, ".2f"),
        )
    console.print(table, markup=False)


def _measured(comparison: ReferenceComparison) -> list[Statistic]:
    pooled = [found.pooled for found in comparison.against.values()]
    return [s for s in STATISTICS if all(getattr(entry, s.field) is not None for entry in pooled)]


def _results(comparison: ReferenceComparison, command: str) -> str:
    content = {
        "schema": REFERENCE_SCHEMA,
        "command": command,
        "settings": comparison.settings,
        "versions": versions(),
        "reference": describe(comparison.reference),
        "sets": [
            {
                **describe(entry),
                "by_seed": found.by_seed,
                "less_varied": found.less_varied,
                "more_varied": found.more_varied,
                "pooled": _plain(found.pooled),
                "prompts": [_plain(each) for each in found.prompts.values()],
            }
            for entry in comparison.sets
            for found in (comparison.against[entry.name],)
        ],
        "summary": comparison.summary(),
        "warnings": list(comparison.warnings),
    }
    return json.dumps(content, indent=1, ensure_ascii=False)


def _plain(entry: Numbers) -> dict[str, Any]:
    found = {field.name: getattr(entry, field.name) for field in dataclasses.fields(entry)}
    return {name: value.to_dict() if isinstance(value, Estimate) else value for name, value in found.items()}


def _prompts_csv(comparison: ReferenceComparison) -> str:
    """A row per set and prompt; what was not measured is left empty."""
    rows = []
    for name, found in comparison.against.items():
        for entry in found.prompts.values():
            row: dict[str, Any] = {"set": name}
            for field in dataclasses.fields(entry):
                value = getattr(entry, field.name)
                row |= estimate_columns(field.name, value) if isinstance(value, Estimate) else {field.name: value}
            rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, dict.fromkeys(key for row in rows for key in row), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _figures(comparison: ReferenceComparison) -> dict[str, bytes]:
    # records of the same form as a real set's: label, name, estimates by name, pooled
    against, ranked = cast(Any, comparison.against), cast(Any, comparison.ranked())
    shown = {statistic.field: statistic for statistic in _measured(comparison)}
    second = shown.get("alignment_gain", shown["vendi_ratio"])
    if len(ranked) <= plots.FOREST_CLASSES:
        columns = [plots.Column("", ranked, statistic) for statistic in (shown["variance"], second)]
    else:
        ends = {"least": ranked[:EXTREMES], "most": ranked[: -EXTREMES - 1 : -1]}
        columns = [
            plots.Column(f"the {EXTREMES} {which} varied prompts", entries, shown["variance"])
            for which, entries in ends.items()
        ]
    panels = [
        statistic for statistic in shown.values() if statistic.field not in ("vendi", "alignment", "separability")
    ]
    drawn = {"sets": plots.set_panels(against, panels), "prompts": plots.class_forest(against, columns)}
    return {name: html.figure_png(figure) for name, figure in drawn.items()}


def _page(comparison: ReferenceComparison, pictures: dict[str, bytes], command: str) -> str:
    ranked, statistics = comparison.ranked(), _measured(comparison)
    few = ranked if len(ranked) <= 2 * EXTREMES else [*ranked[:EXTREMES], *ranked[-EXTREMES:]]
    with_images = ranked if len(ranked) <= 10 else [*ranked[:WITH_IMAGES], *ranked[-WITH_IMAGES:]]
    first = next(iter(comparison.against.values())).pooled
    own = {
        "vendi": number(first.vendi_reference, ".2f"),
        "separability": number(first.separability_reference, ".2f"),
        "alignment": number(first.alignment_reference, ".3f"),
    }
    rows = [
        (each.title, Cell(own.get(each.field, "" if each.ideal is None else format(each.ideal, "g"))),
         [_cell(each, found.pooled) for found in comparison.against.values()])
        for each in statistics
    ]  # fmt: skip
    return html.render(
        "reference.html",
        title=f"kdist: {', '.join(comparison.against)} relative to {comparison.reference.path}",
        comparison=comparison,
        summary=comparison.summary(),
        rows=rows,
        few=few,
        columns=[each for each in statistics if each.field in ("variance", "vendi", "alignment")],
        cell=_cell,
        galleries=_gallery(comparison, with_images),
        pictures={name: (html.png_uri(png), shown_width(png)) for name, png in pictures.items()},
        meanings=[(each.title, each.note) for each in statistics],
        versions=versions(),
        command=command,
    )


def _gallery(comparison: ReferenceComparison, prompts: Sequence[Numbers], shown: int = 10) -> list[ClassStrips]:
    """The first pairs of these prompts in every set whose images are at hand, one seed a column."""
    sets = [(entry, entry.images) for entry in (comparison.reference, *comparison.sets) if entry.images is not None]
    found = []
    for prompt in prompts if sets else ():
        rows = np.flatnonzero(comparison.reference.features.y == prompt.label)[:shown]
        loaded = [images.load(entry.features.index[rows].tolist()) for entry, images in sets]
        uris, pixelated = side_by_side([[p for p in row if not isinstance(p, BadImage)] for row in loaded])
        kept = [
            comparison.against[e.name][prompt.label].variance if e.name in comparison.against else None for e, _ in sets
        ]
        strips = tuple((e.name, value, uri) for (e, _), value, uri in zip(sets, kept, uris, strict=True))
        found.append(ClassStrips(cast(Any, prompt), strips, pixelated))
    return found


def _cell(statistic: Statistic, entry: Numbers) -> Cell:
    value = statistic.of(cast(Any, entry))
    strong = statistic.field == "variance" and value is not None and value.q_value < 0.05
    return Cell(number(value, statistic.form), interval(value, statistic.form), strong)
