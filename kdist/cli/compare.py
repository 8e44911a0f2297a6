"""``kdist measure`` and ``kdist compare``: what generation did to each class, from files to a report.

Bad input is a ValueError, OSError or ImportError, which the ``kdist`` command shows as one line (exit code 2).
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ..files import prepare_output
from .options import (
    AllowUnknownWeights,
    Device,
    MaxBad,
    Seed,
    Size,
    Weights,
    first_process,
    grouped,
    terminal,
    value_limits,
)

__all__ = ["compare_command", "measure_command"]

Real = Annotated[str, typer.Argument(help="real set: feature file, class folders, .zip or .npz of images")]
Out = Annotated[Path, typer.Option("--out", "-o", help="folder for report.html, results.json, classes.csv, PNG")]


@dataclass(frozen=True)
class Settings:
    """How sets are read and measured."""

    extractor: Annotated[
        str,
        typer.Option(
            "--extractor", "-e", help="for images: inception, clip, dinov2, digits, fashion, pixels, a TorchScript file"
        ),
    ] = "inception"
    weights: Weights = None
    allow_unknown_weights: AllowUnknownWeights = False
    size: Size = None
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
    per_class: Annotated[
        int | None,
        typer.Option(help="compare at most so many samples of a class on each side, at random; FID is of all", min=2),
    ] = None
    quick: Annotated[bool, typer.Option("--quick", help="a first look: fewer resamples and splits, no FID")] = False
    common_classes: Annotated[
        bool, typer.Option("--common-classes", help="leave out classes that one of the sets lacks")
    ] = False
    max_bad: MaxBad = 10

    @property
    def permutations(self) -> int:
        """``resamples``, or its default."""
        return self.resamples if self.resamples is not None else 99 if self.quick else 999

    def reading(self) -> dict[str, Any]:
        """How :func:`kdist.evals.report.open_sets` reads the sets."""
        return {
            "extractor": self.extractor,
            "weights": self.weights,
            "allow_unknown_weights": self.allow_unknown_weights,
            "size": self.size,
            "device": self.device,
            "value_range": value_limits(self.value_range),
            "cache": self.cache,
            "max_bad": self.max_bad,
            "progress": True,
        }


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
    sets: Annotated[
        list[str],
        typer.Argument(
            metavar="REAL FAKES...", help="the real set, then generated ones; all generated with --reference"
        ),
    ],
    settings: Settings,
    reference: Annotated[
        str | None,
        typer.Option(help="without real images: the generated set, of the same prompts and seeds, to compare with"),
    ] = None,
    clip: Annotated[
        Path | None, typer.Option(help="with --reference: CLIP folder in transformers' format, for prompt alignment")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="with --clip: prompts, one a line per class folder  [default: folder names]")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="what to call the sets, once each  [default: file names]")
    ] = None,
    out: Out = Path("kdist-compare"),
) -> None:
    """Several generated sets against one real set: the trade-off of a guidance sweep, class by class.

    Sets drawn from the same seeds in the same order are compared pair by pair.

    Without real images, --reference names the set (say, of scale 1) that all others are held against, by prompt and
    seed: folders hold prompt/seed.png.

    Example:  kdist compare real.npz scale1.npz scale2.npz scale4.npz --out sweep

    Example:  kdist compare --reference scale1/ scale5/ late/ --extractor clip --clip clip-vit-base-patch32
    """
    if reference is not None:
        _run_reference(reference, sets, name or [], settings, clip, prompts, out)
        return
    for option, value in (("--clip", clip), ("--prompts", prompts)):
        if value is not None:
            raise ValueError(f"{option} belongs to --reference, which compares generated sets by prompt and seed")
    if len(sets) < 2:
        raise ValueError(
            f"compare needs a real set and a generated one; got only {sets[0]} (no real images? --reference SET)"
        )
    _run(sets[0], sets[1:], name or [], settings, out)


def _run(real: str, fakes: Sequence[str], names: Sequence[str], settings: Settings, out: Path) -> None:
    from rich.markup import escape

    from kdist.evals.report import compare_sets, open_sets, write_report
    from kdist.evals.report.table import print_tables

    prepare_output(out)
    console, notes = terminal(), terminal(stderr=True)
    real_set, *fake_sets = open_sets(real, fakes, names=names, **settings.reading())
    if not first_process():  # under accelerate launch all processes extract, one measures
        return
    options = {"splits": 4, "neighbour_queries": 500, "fid": False} if settings.quick else {}
    if settings.per_class is not None:
        options["per_class"] = settings.per_class
    with notes.status("measuring") as status:
        comparison = compare_sets(
            real_set,
            fake_sets,
            common_classes=settings.common_classes,
            seed=settings.seed,
            resamples=settings.permutations,
            progress=lambda what: status.update(f"measuring {escape(what)}"),
            **options,
        )
        status.update("writing the report")
        write_report(out, comparison, command=shlex.join(["kdist", *sys.argv[1:]]))
    print_tables(comparison, console)
    _report(comparison.warnings, comparison.summary(), out, "classes.csv")


def _run_reference(
    reference: str,
    sets: Sequence[str],
    names: Sequence[str],
    settings: Settings,
    clip: Path | None,
    prompts: Path | None,
    out: Path,
) -> None:
    from rich.markup import escape

    from kdist.compat import repair_torchvision
    from kdist.evals.features.alignment import load_clip, read_prompts
    from kdist.evals.features.extractor import resolve_device
    from kdist.evals.report import compare_to_reference, open_sets, write_reference_report
    from kdist.evals.report.reference_output import print_reference_tables

    if settings.common_classes:
        raise ValueError("--common-classes is for real sets; with --reference prompts that a set lacks are left out")
    if settings.per_class is not None:
        raise ValueError("--per-class is for real sets; with --reference all samples of a prompt are compared")
    if prompts is not None and clip is None:
        raise ValueError("--prompts are read by the CLIP model: give its folder with --clip")
    prepare_output(out)
    texts = [] if prompts is None else read_prompts(prompts)
    judge = None
    if clip is not None:
        repair_torchvision()  # transformers imports it
        judge = load_clip(clip, resolve_device(settings.device))
    reference_set, *others = open_sets(reference, sets, role="reference", names=names, **settings.reading())
    if not first_process():
        return
    with terminal(stderr=True).status("measuring") as status:
        comparison = compare_to_reference(
            reference_set,
            others,
            clip=judge,
            prompts=texts,
            seed=settings.seed,
            resamples=settings.permutations,
            progress=lambda name: status.update(f"measuring {escape(name)}"),
        )
        status.update("writing the report")
        write_reference_report(out, comparison, command=shlex.join(["kdist", *sys.argv[1:]]))
    print_reference_tables(comparison, terminal())
    _report(comparison.warnings, comparison.summary(), out, "prompts.csv")


def _report(warnings: Sequence[str], summary: Sequence[str], out: Path, table: str) -> None:
    console, notes = terminal(), terminal(stderr=True)
    for warning in warnings:
        notes.print(f"warning: {warning}", style="yellow")
    for sentence in summary:
        console.print(f"\n{sentence}")
    console.print(
        f"report: {out / 'report.html'}   numbers: {out / 'results.json'}, {out / table}", style="dim", soft_wrap=True
    )
