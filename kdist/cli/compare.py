"""``kdist measure`` and ``kdist compare``: what generation did to each class, from files to a report.

Bad input is a ValueError, OSError or ImportError, which the ``kdist`` command shows as one line (exit code 2).
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["compare_command", "measure_command"]

Real = Annotated[str, typer.Argument(help="real set: feature file, class folders, .zip or .npz of images")]
Out = Annotated[Path, typer.Option("--out", "-o", help="folder for report.html, results.json, classes.csv, PNG")]
ExtractorName = Annotated[
    str,
    typer.Option("--extractor", "-e", help="for images: inception, clip, dinov2, digits, pixels, a TorchScript file"),
]
Weights = Annotated[str | None, typer.Option(help="weight file of the extractor; folder or hub name for dinov2")]
UnknownWeights = Annotated[
    bool, typer.Option("--allow-unknown-weights", help="accept weights with another SHA-256 than the published")
]
Range = Annotated[str | None, typer.Option("--value-range", help="black,white of float images in .npz, e.g. -1,1")]
Cache = Annotated[Path | None, typer.Option(help="folder for features of images  [default: the user's cache folder]")]
Device = Annotated[str, typer.Option(help="for features: auto, cpu, cuda, ...")]
Seed = Annotated[int, typer.Option(help="of permutations and splits", min=0)]
Resamples = Annotated[
    int | None,
    typer.Option(help="permutations and real-against-real splits per class  [default: 999; 99 with --quick]", min=0),
]
Quick = Annotated[bool, typer.Option("--quick", help="a first look: fewer resamples and splits, no FID")]
Common = Annotated[bool, typer.Option("--common-classes", help="leave out classes that one of the sets lacks")]
MaxBad = Annotated[int, typer.Option(help="unreadable images that are set aside before the run stops", min=0)]


def measure_command(
    real: Real,
    fake: Annotated[str, typer.Argument(help="generated set, the same kinds")],
    out: Out = Path("kdist-measure"),
    extractor: ExtractorName = "inception",
    weights: Weights = None,
    allow_unknown_weights: UnknownWeights = False,
    value_range: Range = None,
    cache: Cache = None,
    device: Device = "auto",
    seed: Seed = 0,
    resamples: Resamples = None,
    quick: Quick = False,
    common_classes: Common = False,
    max_bad: MaxBad = 10,
) -> None:
    """What generation did to each class: variance kept, overshoot, diversity, with floors and intervals.

    Example:  kdist measure real.npz samples/ --extractor inception --out report
    """
    _run(
        real, [fake], [], out, extractor, weights, allow_unknown_weights, value_range, cache, device, seed, resamples,
        quick, common_classes, max_bad,
    )  # fmt: skip


def compare_command(
    real: Real,
    fakes: Annotated[list[str], typer.Argument(help="generated sets, for example one per guidance scale")],
    name: Annotated[
        list[str] | None, typer.Option(help="what to call the sets, once each  [default: file names]")
    ] = None,
    out: Out = Path("kdist-compare"),
    extractor: ExtractorName = "inception",
    weights: Weights = None,
    allow_unknown_weights: UnknownWeights = False,
    value_range: Range = None,
    cache: Cache = None,
    device: Device = "auto",
    seed: Seed = 0,
    resamples: Resamples = None,
    quick: Quick = False,
    common_classes: Common = False,
    max_bad: MaxBad = 10,
) -> None:
    """Several generated sets against one real set: the trade-off of a guidance sweep, class by class.

    Sets drawn from the same seeds in the same order are compared pair by pair.

    Example:  kdist compare real.npz scale1.npz scale2.npz scale4.npz --out sweep
    """
    _run(
        real, fakes, name or [], out, extractor, weights, allow_unknown_weights, value_range, cache, device, seed,
        resamples, quick, common_classes, max_bad,
    )  # fmt: skip


def _run(
    real: str,
    fakes: Sequence[str],
    names: Sequence[str],
    out: Path,
    extractor: str,
    weights: str | None,
    allow_unknown_weights: bool,
    value_range: str | None,
    cache: Path | None,
    device: str,
    seed: int,
    resamples: int | None,
    quick: bool,
    common_classes: bool,
    max_bad: int,
) -> None:
    from rich.console import Console

    from kdist.evals.report import compare_sets, open_sets, write_report
    from kdist.evals.report.table import print_tables
    from kdist.files import prepare_output

    from .features import parse_limits

    prepare_output(out)
    console, notes = Console(), Console(stderr=True)
    real_set, *fake_sets = open_sets(
        real,
        fakes,
        names=names,
        extractor=extractor,
        weights=weights,
        allow_unknown_weights=allow_unknown_weights,
        device=device,
        value_range=None if value_range is None else parse_limits(value_range),
        cache=cache,
        max_bad=max_bad,
        progress=True,
    )
    if os.environ.get("RANK", "0") != "0":  # under accelerate launch all processes extract, one measures
        return
    options = {"splits": 4, "neighbour_queries": 500, "fid": False} if quick else {}
    with notes.status("measuring") as status:
        comparison = compare_sets(
            real_set,
            fake_sets,
            common_classes=common_classes,
            seed=seed,
            resamples=(99 if quick else 999) if resamples is None else resamples,
            progress=lambda name: status.update(f"measuring {name}"),
            **options,
        )
        status.update("writing the report")
        write_report(out, comparison, command=shlex.join(["kdist", *sys.argv[1:]]))
    print_tables(comparison, console)
    for warning in comparison.warnings:
        notes.print(f"warning: {warning}", style="yellow", highlight=False, markup=False)
    for sentence in comparison.summary():
        console.print(f"\n{sentence}", highlight=False, markup=False)
    console.print(
        f"report: {out / 'report.html'}   numbers: {out / 'results.json'}, {out / 'classes.csv'}",
        style="dim",
        highlight=False,
        soft_wrap=True,
    )
