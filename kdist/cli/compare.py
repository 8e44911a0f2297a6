"""``kdist measure`` and ``kdist compare``: what generation did to each class, from files to a report.

Bad input is a ValueError, OSError or ImportError, which the ``kdist`` command shows as one line (exit code 2).
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..files import prepare_output
from .options import AllowUnknownWeights, Device, MaxBad, Seed, Weights, first_process, grouped, terminal, value_limits

__all__ = ["compare_command", "measure_command"]

Real = Annotated[str, typer.Argument(help="real set: feature file, class folders, .zip or .npz of images")]
Out = Annotated[Path, typer.Option("--out", "-o", help="folder for report.html, results.json, classes.csv, PNG")]


@dataclass(frozen=True)
class Settings:
    """How sets are read and measured."""

    extractor: Annotated[
        str,
        typer.Option(
            "--extractor", "-e", help="for images: inception, clip, dinov2, digits, pixels, a TorchScript file"
        ),
    ] = "inception"
    weights: Weights = None
    allow_unknown_weights: AllowUnknownWeights = False
    value_range: Annotated[
        str | None, typer.Option("--value-range", help="black,white of float images in .npz, e.g. -1,1")
    ] = None
    cache: Annotated[
        Path | None, typer.Option(help="folder for features of images  [default: the user's cache folder]")
    ] = None
    device: Device = "auto"
    seed: Seed = 0
    resamples: Annotated[
        int | None,
        typer.Option(
            help="permutations and real-against-real splits per class  [default: 999; 99 with --quick]", min=0
        ),
    ] = None
    quick: Annotated[bool, typer.Option("--quick", help="a first look: fewer resamples and splits, no FID")] = False
    common_classes: Annotated[
        bool, typer.Option("--common-classes", help="leave out classes that one of the sets lacks")
    ] = False
    max_bad: MaxBad = 10


@grouped
def measure_command(
    real: Real,
    fake: Annotated[str, typer.Argument(help="generated set, the same kinds")],
    settings: Settings,
    out: Out = Path("kdist-measure"),
) -> None:
    """What generation did to each class: variance kept, overshoot, diversity, with floors and intervals.

    Example:  kdist measure real.npz samples/ --extractor inception --out report
    """
    _run(real, [fake], [], settings, out)


@grouped
def compare_command(
    real: Real,
    fakes: Annotated[list[str], typer.Argument(help="generated sets, for example one per guidance scale")],
    settings: Settings,
    name: Annotated[
        list[str] | None, typer.Option(help="what to call the sets, once each  [default: file names]")
    ] = None,
    out: Out = Path("kdist-compare"),
) -> None:
    """Several generated sets against one real set: the trade-off of a guidance sweep, class by class.

    Sets drawn from the same seeds in the same order are compared pair by pair.

    Example:  kdist compare real.npz scale1.npz scale2.npz scale4.npz --out sweep
    """
    _run(real, fakes, name or [], settings, out)


def _run(real: str, fakes: Sequence[str], names: Sequence[str], settings: Settings, out: Path) -> None:
    from rich.markup import escape

    from kdist.evals.report import compare_sets, open_sets, write_report
    from kdist.evals.report.table import print_tables

    prepare_output(out)
    console, notes = terminal(), terminal(stderr=True)
    real_set, *fake_sets = open_sets(
        real,
        fakes,
        names=names,
        extractor=settings.extractor,
        weights=settings.weights,
        allow_unknown_weights=settings.allow_unknown_weights,
        device=settings.device,
        value_range=value_limits(settings.value_range),
        cache=settings.cache,
        max_bad=settings.max_bad,
        progress=True,
    )
    if not first_process():  # under accelerate launch all processes extract, one measures
        return
    options = {"splits": 4, "neighbour_queries": 500, "fid": False} if settings.quick else {}
    with notes.status("measuring") as status:
        comparison = compare_sets(
            real_set,
            fake_sets,
            common_classes=settings.common_classes,
            seed=settings.seed,
            resamples=settings.resamples if settings.resamples is not None else 99 if settings.quick else 999,
            progress=lambda name: status.update(f"measuring {escape(name)}"),
            **options,
        )
        status.update("writing the report")
        write_report(out, comparison, command=shlex.join(["kdist", *sys.argv[1:]]))
    print_tables(comparison, console)
    for warning in comparison.warnings:
        notes.print(f"warning: {warning}", style="yellow")
    for sentence in comparison.summary():
        console.print(f"\n{sentence}")
    console.print(
        f"report: {out / 'report.html'}   numbers: {out / 'results.json'}, {out / 'classes.csv'}",
        style="dim",
        soft_wrap=True,
    )
