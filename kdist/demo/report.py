"""What the demo shows: a table in the terminal, ``results.json`` and one self-contained ``report.html``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..files import versions, write_with_pictures
from .run import Outcome

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

    from kdist.evals import Estimate

__all__ = ["notes", "summary", "table", "write"]

ENOUGH = 0.02  # accuracy that a schedule may lack of real images, to be compared by distance
SHOWN = ("energy_distance", "trace_ratio", "overshoot", "displacement", "accuracy")  # in the terminal and first
FURTHER = (
    "variance_main", "variance_rest", "trace_ratio_correct", "kid", "precision", "coverage", "separability",
)  # fmt: skip
CALLS = (
    "Network evaluations per sample. A scale of 1 needs no unconditional pass, a scale of 0 no conditional one; passes "
    "that are not needed are not run."
)


def notes(*fields: str) -> dict[str, str]:
    """What numbers mean, by their title: those that the terminal shows, or the given ones."""
    from kdist.evals.report.glossary import STATISTICS

    found = {each.title: each.note for each in STATISTICS if each.field in (fields or SHOWN)}
    return found if fields else found | {"calls": CALLS}


def summary(outcomes: Sequence[Outcome]) -> str:
    """The run in a few sentences, from its own numbers, whichever way they point."""
    return " ".join(_sentences(outcomes))


def _sentences(outcomes: Sequence[Outcome]) -> list[str]:
    """What the worst schedule did, and what is better.

    The schedule that is farthest from the real classes, then the closest among those that are recognised about as
    often as real images are; another is called farther only where their paired interval says so.
    """
    from kdist.evals.report.sentences import closeness, outcome

    def distance(entry: Outcome) -> float:
        return float(entry.pixels.pooled.energy_distance)

    first = outcomes[0]
    farthest = max(outcomes, key=distance)
    worst = outcome(farthest.name, farthest.pixels, "accuracy")
    if len(outcomes) == 1:
        return [worst]
    real, noun = first.pixels.pooled.accuracy_real or 1.0, first.example.noun
    recognised = [entry for entry in outcomes if (entry.pixels.pooled.accuracy or 0.0) > real - ENOUGH]
    if recognised:
        among = f"Compared among those recognised like real {noun} ({real:.3f}, less {ENOUGH:g} at most)."
    else:
        recognised = list(outcomes)
        among = f"None is recognised like real {noun} ({real:.3f}); compared among all."
    closest = min(recognised, key=distance)
    farther = {entry.name: _gap(closest, entry) for entry in recognised if entry is not closest}
    return [worst, among, closeness(f"{closest.name} ({distance(closest):.3f}, {closest.nfe:g} calls)", farther)]


def _gap(first: Outcome, other: Outcome) -> Estimate | None:
    """How much farther ``other`` is from the real classes, by samples from the same noise."""
    from kdist.evals.features import Features
    from kdist.evals.report import paired_distance

    def features(images: torch.Tensor, labels: torch.Tensor) -> Features:
        return Features(images.flatten(1).numpy(), labels.numpy(), torch.arange(len(labels)).numpy(), {})

    real = features(*first.example.data.load_data())
    return paired_distance(real, features(first.samples, first.labels), features(other.samples, other.labels))


def table(outcomes: Sequence[Outcome]) -> Table:
    """The comparison for a terminal of 80 columns."""
    from rich import box
    from rich.table import Table

    first, noun = outcomes[0].pixels.pooled, outcomes[0].example.noun
    result = Table(
        title=f"{noun} under guidance, mean over the ten classes", caption=_floor_line(outcomes), box=box.SIMPLE
    )
    result.add_column("guidance scale")
    for column in ("dis-\ntance", "variance kept", "over-\nshoot", "dis-\nplaced", "accu-\nracy", "calls"):
        result.add_column(column, justify="right", no_wrap=True, vertical="bottom")
    result.add_row(
        f"real {noun}", "0", "1", "0", "0", _number(first.accuracy_real, ".3f"), "",
        end_section=True,
    )  # fmt: skip
    for outcome in outcomes:
        pooled = outcome.pixels.pooled
        ratio = pooled.trace_ratio
        result.add_row(
            outcome.name,
            f"{pooled.energy_distance:.3f}",
            f"{ratio:.2f} [{ratio.lo:.2f}, {ratio.hi:.2f}]",
            f"{pooled.overshoot:+.2f}",
            f"{pooled.displacement:.2f}",
            _number(pooled.accuracy, ".3f"),
            f"{outcome.nfe:g}",
        )
    return result


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _floor_line(outcomes: Sequence[Outcome]) -> str:
    """What no schedule can be told from, in one line."""
    pooled = outcomes[0].pixels.pooled
    distance, ratio = pooled.energy_distance.floor, pooled.trace_ratio.floor
    if distance is None or ratio is None:
        return ""
    return (
        f"floor: real against real at the same size gives distance {distance.lo:.3f} to {distance.hi:.3f}, "
        f"variance {ratio.lo:.2f} to {ratio.hi:.2f}"
    )


def write(out: Path, outcomes: Sequence[Outcome], settings: Mapping[str, Any], command: str) -> None:
    """``results.json``, ``report.html`` and ``trade_off.png``, for a page or a talk, changed together."""
    write_with_pictures(
        out,
        {"results.json": _numbers(outcomes, settings)},
        former=["report.html", "trade_off.png"],
        draw=lambda: {"trade_off": _trade_off(outcomes)},
        page=lambda pictures: _page(outcomes, settings, command),
    )


def _numbers(outcomes: Sequence[Outcome], settings: Mapping[str, Any]) -> str:
    """Everything measured, for other programs."""
    content = {
        "schema": "kdist.demo/1",
        "settings": dict(settings),
        "versions": versions(),
        "schedules": [
            {
                "name": outcome.name,
                "schedule": outcome.schedule.to_dict(),
                "nfe": outcome.nfe,
                "seconds": round(outcome.seconds, 3),
                "pixels": outcome.pixels.to_dict(),
                "features": outcome.features.to_dict(),
            }
            for outcome in outcomes
        ],
    }
    return json.dumps(content, indent=1)


def _trade_off(outcomes: Sequence[Outcome]) -> bytes:
    from kdist.evals.report import figures, html

    figure = figures.trade_off({o.name: o.pixels for o in outcomes}, calls=[o.nfe for o in outcomes])
    return html.figure_png(figure)


def _page(outcomes: Sequence[Outcome], settings: Mapping[str, Any], command: str) -> str:
    """The report: trade-off, schedules, table, samples, classes, what the numbers mean, how to repeat it."""
    from kdist.evals.report import figures, html
    from kdist.evals.report.glossary import STATISTICS, number

    pixels = {outcome.name: outcome.pixels for outcome in outcomes}
    example = outcomes[0].example
    real_images, real_labels = example.data.load_data()
    shown = 8
    return html.render(
        "report.html",
        folder=Path(__file__).parent,
        title="kdist demo: what guidance does to each class",
        sentences=_sentences(outcomes),
        example=example,
        outcomes=outcomes,
        first=outcomes[0].pixels.pooled,
        trade_off=html.figure_uri(figures.trade_off(pixels, calls=[outcome.nfe for outcome in outcomes])),
        curves=html.figure_uri(_curves(outcomes)),
        classes=html.figure_uri(figures.class_ratios(pixels)),
        sheets=[(f"real {example.noun}", _sheet(real_images, real_labels, shown))]
        + [(o.name, _sheet(o.samples, o.labels, shown)) for o in outcomes],
        floor=_floor_line(outcomes),
        further=[each for each in STATISTICS if each.field in FURTHER],
        number=number,
        notes=notes() | notes(*FURTHER),
        settings=settings,
        versions=versions(),
        command=command,
    )


def _sheet(images: torch.Tensor, labels: torch.Tensor, shown: int) -> str:
    """The first images of every class, a class a row; the same places hold the same noise in every sheet."""
    from kdist.evals.report import html

    shown = min(shown, int(labels.bincount().min()))
    rows = torch.cat([images[labels == label][:shown] for label in labels.unique()])
    enlarged = max(1, 32 // images.shape[-1])
    return html.image_uri(html.grid(rows.numpy(), shown).repeat(enlarged, 0).repeat(enlarged, 1))


def _curves(outcomes: Sequence[Outcome]) -> Figure:
    """Every schedule's scale against sigma, one small panel each."""
    import matplotlib.pyplot as plt

    from kdist.evals.report.figures import style

    columns = min(3, len(outcomes))
    rows = -(-len(outcomes) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(3.7 * columns, 2.1 * rows),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for index, ax in enumerate(axes.flat):
        if index >= len(outcomes):
            ax.set_visible(False)
            continue
        outcomes[index].schedule.plot(ax=ax, color=style(index)[0], linewidth=2)
        ax.set_title(outcomes[index].name, fontsize=8)
        ax.spines[["top", "right"]].set_visible(False)
        if index + columns < len(outcomes):
            ax.set_xlabel("")
        ax.tick_params(labelbottom=index + columns >= len(outcomes))  # the last panel of each column
        if index % columns:
            ax.set_ylabel("")
    return figure
