"""``kdist tune``: the schedule for a model, found and certified on it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .features import blaming, load_object
from .options import Device, Seed, Weights, grouped, terminal, value_limits

if TYPE_CHECKING:
    from rich.console import Console

    from ..tuning.search import Progress
    from ..tuning.subjects import Subject
    from ..tuning.tuned import Tuned

__all__ = ["tune"]

_QUICK = {"steps": 10, "samples": 100}
_SAMPLES = 300  # of each class at full guidance: the default budget


@dataclass(frozen=True)
class Goal:
    """What samples are measured with, and what must hold of them."""

    extractor: Annotated[
        str, typer.Option("--extractor", "-e", help="features for the distance: pixels, inception, clip, dinov2, ...")
    ] = "pixels"
    weights: Weights = None
    value_range: Annotated[str, typer.Option(help="black,white of what generate returns")] = "-1,1"
    judge: Annotated[
        str | None,
        typer.Option(help="module:name of judge(images)  [default: logistic regression on the real features]"),
    ] = None
    accuracy: Annotated[
        float | None,
        typer.Option(
            help="share of samples that the judge must recognise  [default: none; digits and fashion, without another "
            "condition: that of their real images]",
            min=0,
            max=1,
        ),
    ] = None
    separability: Annotated[float | None, typer.Option(help="scatter between over within classes, at least")] = None
    displacement: Annotated[
        float | None, typer.Option(help="distance of class means in real standard deviations, at most")
    ] = None
    calls_per_sample: Annotated[float | None, typer.Option(help="network calls for one sample, at most")] = None

    def limits(self) -> tuple[float, float]:
        """``value_range`` as two numbers."""
        limits = value_limits(self.value_range)
        assert limits is not None
        return limits

    def arguments(self, subject: Subject, device: str, notes: Console) -> dict[str, Any]:
        """The judge, the features and the conditions as :func:`kdist.tune` takes them."""
        from ..tuning import subjects
        from ..tuning.scores import pixels

        features: Any = None
        if self.extractor != "pixels" or self.weights is not None:
            from kdist.evals.features import build_extractor

            extractor = build_extractor(load_object(self.extractor, "--extractor"), device=device, weights=self.weights)
            features = subjects.as_function(extractor, self.limits())
        judge = load_object(self.judge, "--judge") if self.judge is not None else subject.judge
        accuracy = self.accuracy
        if subject.accuracy and (accuracy, self.separability, self.displacement, self.judge) == (None,) * 4:
            accuracy = subject.accuracy  # with no condition at all, no guidance would be the answer
            notes.print(f"accuracy at least {accuracy}, about that of real images; --accuracy asks for another")
        if accuracy is not None and judge is None:
            images, labels = subject.real
            judge, share = subjects.linear_judge(features or pixels(images), images, labels)
            notes.print(f"judge: logistic regression, right on {share:.1%} of the real images (cross-validated)")
        return {
            "judge": judge,
            "features": features,
            "accuracy": accuracy,
            "separability": self.separability,
            "displacement": self.displacement,
            "calls_per_sample": self.calls_per_sample,
        }


@dataclass(frozen=True)
class Shipped:
    """How a shipped model is sampled."""

    weak: Annotated[bool, typer.Option("--weak", help="digits, fashion: try the weak model too")] = False
    solver: Annotated[str, typer.Option(help="digits, fashion: a k-diffusion solver")] = "dpmpp_2m"
    steps: Annotated[
        int | None, typer.Option(help="digits, fashion: of the solver  [default: 20; 10 with --quick]", min=2)
    ] = None
    quick: Annotated[bool, typer.Option("--quick", help="digits, fashion: a third of the samples, half the steps")] = (
        False
    )


@grouped
def tune(
    subject: Annotated[
        str, typer.Argument(help="digits, fashion, or module:name of generate(schedule, labels, seeds)")
    ],
    goal: Goal,
    shipped: Shipped,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="folder for schedule.json, report.html, front.csv, study.db")
    ] = Path("kdist-tune"),
    real: Annotated[
        str | None, typer.Option(help="real images with labels: folder of class folders, .zip or .npz (x, y)")
    ] = None,
    calls: Annotated[
        int | None, typer.Option(help="budget of network calls  [default: 300 samples of each class at full guidance]")
    ] = None,
    per_class: Annotated[int, typer.Option(help="samples of each class for a first look at a schedule", min=2)] = 5,
    family: Annotated[list[str] | None, typer.Option(help="only this family of schedules, repeatable")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    storage: Annotated[
        str | None, typer.Option(help="URL of an Optuna storage that several workers share  [default: OUT/study.db]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="insist on going on with a study that is there")] = False,
) -> None:
    """Search the guidance schedule for a model on the model itself, and certify it on fresh seeds.

    An interrupted run goes on where it stopped, by the same command.

    Example: kdist tune digits --accuracy 0.98 --out tuned

    Example: kdist tune mine:generate --real real.npz --extractor inception --accuracy 0.95 --calls 200000 --out tuned
    """
    os.environ.setdefault("K_DIFFUSION_USE_COMPILE", "0")  # compiling takes longer than it saves
    import kdist

    from ..compat import pick_device

    notes, device = terminal(stderr=True), pick_device(device)
    tuned_on, calls = _subject(subject, shipped, real, goal.limits(), calls, device)
    arguments = goal.arguments(tuned_on, device, notes)
    with _progress(notes) as progress, blaming(subject, goal.extractor, goal.judge or ""):
        tuned = kdist.tune(
            tuned_on.generate,
            real=tuned_on.real,
            **arguments,
            calls=calls,
            per_class=per_class,
            families=family,
            choices={"weak": [False, True]} if shipped.weak else None,
            seed=seed,
            out=out,
            storage=storage,
            resume=resume,
            progress=progress,
        )
    _show(tuned, out, terminal(), notes)


def _subject(
    name: str, options: Shipped, real: str | None, limits: tuple[float, float], calls: int | None, device: str
) -> tuple[Subject, int | None]:
    """What is tuned, and the budget."""
    from ..tuning import subjects

    if name in subjects.SHIPPED or ":" not in name:
        steps = options.steps or (_QUICK["steps"] if options.quick else 20)
        shipped = subjects.shipped(name, steps=steps, solver=options.solver, device=device)
        samples = _QUICK["samples"] if options.quick else _SAMPLES
        return shipped, calls or _default_calls(shipped.generate, 10, samples)
    if real is None:
        raise ValueError("--real is needed: the images that samples should be like (without any: kdist.tune in Python)")
    generate = load_object(name, "what to tune")
    return subjects.Subject(generate, subjects.load_real(real, limits), None), calls


def _default_calls(generate: Any, classes: int, samples: int) -> int:
    return 2 * int((generate.sigmas > 0).sum()) * classes * samples


@contextlib.contextmanager
def _progress(console: Console) -> Iterator[Any]:
    """A bar of the calls spent, with the best schedule so far below it."""
    import rich.progress
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

    from ..schedules import describe

    columns = (
        TextColumn("{task.description:<11}"), BarColumn(bar_width=12),
        TextColumn("{task.completed:,}/{task.total:,} calls"),
        TimeElapsedColumn(), TextColumn("{task.fields[best]}"),
    )  # fmt: skip
    with rich.progress.Progress(*columns, console=console) as bar:
        task = bar.add_task("looking", total=0, best="")

        def show(state: Progress) -> None:
            best = ""
            if state.best is not None:
                best = f"best {state.best.distance:.3f}: {describe(state.best.candidate.schedule)[:40]}"
            bar.update(task, completed=state.spent, total=state.total, description=state.doing, best=best)

        yield show


def _show(tuned: Tuned, out: Path, console: Console, notes: Console) -> None:
    """The certified numbers as a table, the verdict, where the files are."""
    from rich import box
    from rich.table import Table

    from ..tuning.page import certified_rows

    table = Table(title=f"certified on {tuned.certified.samples} samples from fresh seeds, ± 95 %", box=box.SIMPLE)
    shown = certified_rows(tuned)
    columns = [name for name in shown[0] if name not in ("schedule", "displacement", "separability")]
    for name in ("", *columns):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for title, row in zip(("tuned", shown[1]["schedule"]), shown, strict=True):
        table.add_row(title, *(row[name].replace(" ± ", "±") for name in columns))
    console.print(table)
    console.print(f"tuned: {tuned.schedule}", soft_wrap=True)
    for warning in tuned.warnings:
        notes.print(f"warning: {warning}", style="yellow")
    console.print(tuned.certified.verdict)
    console.print(
        f"schedule: {out / 'schedule.json'}   report: {out / 'report.html'}   all tried: {out / 'front.csv'}",
        style="dim",
        soft_wrap=True,
    )
