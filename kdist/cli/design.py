"""``kdist design`` and ``kdist design-early``: a schedule that theory expects to keep the variance of every class."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..files import png, write_with_pictures
from .options import Seed, grouped, json_file, terminal
from .predict import predicted_table
from .runs import GaussianRun, Run

if TYPE_CHECKING:
    import numpy as np

    from kdist.theory import Distortion, MixtureDesign

    from ..schedules import Schedule

__all__ = ["design_command", "design_early_command"]


class Shape(str, Enum):
    """Of a designed schedule."""

    window = "window"
    free = "free"


Out = Annotated[Path, typer.Option("--out", "-o", help="the file to write; a .png beside it shows the schedule")]


@grouped
def design_command(
    run: GaussianRun,
    scale: Annotated[float, typer.Option(help="guidance scale early in sampling, the largest anywhere")] = 4.0,
    keep_variance: Annotated[float, typer.Option(help="smallest share of variance kept in any direction")] = 0.95,
    min_scale: Annotated[float, typer.Option(help="smallest scale allowed anywhere")] = 0.0,
    shape: Annotated[Shape, typer.Option(help="window: few numbers; free: a curve")] = Shape.window,
    hold: Annotated[float | None, typer.Option(help="sigma down to which --scale must hold")] = None,
    max_variance: Annotated[float | None, typer.Option(help="largest variance ratio in any direction")] = None,
    overshoot: Annotated[float | None, typer.Option(help="largest overshoot of any class")] = None,
    separation: Annotated[float | None, typer.Option(help="smallest overshoot wanted of every class")] = None,
    out: Out = Path("schedule.json"),
) -> None:
    """Design a schedule that keeps the variance of every class, if classes are Gaussian; or say why none does.

    Example: kdist design --features real.npz --scale 4 --keep-variance 0.95 --shape window --out schedule.json
    """

    from kdist.theory import compare, design, distortion, solver_moments
    from kdist.theory.figures import draw_prediction

    console = terminal()
    sigmas, options = run.sigmas(), run.solver_options()
    json_file(out)
    pairs, note = run.pairs()
    # without a solver there are no steps, only the range of sigma
    chosen = design(
        list(pairs.values()),
        scale,
        sigmas=sigmas if run.solver else [run.sigma_max, 0.0],
        keep_variance=keep_variance,
        min_scale=min_scale,
        shape=shape.value,
        noise=run.noise,
        hold=hold,
        max_variance=max_variance,
        overshoot=overshoot,
        separation=separation,
        solver=run.solver,
        **options,
    )
    constant = f"{scale:g}"
    schedules: dict[str, Schedule | float] = {"designed": chosen, constant: scale, "1": 1.0}
    results: dict[str, dict[str, Distortion]] = {}
    for text, candidate in schedules.items():
        results[text] = {
            name: compare(pair, solver_moments(pair, candidate, run.solver, sigmas, **options))
            if run.solver
            else distortion(pair, candidate, sigma_max=run.sigma_max, noise=run.noise or 0.0)
            for name, pair in pairs.items()
        }
    shown = {text: results[text] for text in ("designed", constant)}
    _write(out, chosen, lambda: draw_prediction({"designed": chosen}, pairs, shown))
    console.print(predicted_table(results, str(run), {"1": "no guidance"}))
    if note:
        console.print(note)
    console.print(
        f"Certified: no direction keeps less than {keep_variance:g} of the variance that the same run has at scale 1. "
        "(The table is against the real variance, solver and all.)",
    )
    if shape is Shape.window:
        console.print(f"schedule: {chosen}", soft_wrap=True)
    console.print(_how_to_use(out))


@grouped
def design_early_command(
    run: Run,
    unguided: Annotated[
        tuple[float, float],
        typer.Option(help="trace ratio and overshoot of your network's samples at scale 1, from kdist measure"),
    ] = (1.0, 0.0),
    solver: Annotated[str, typer.Option(help="a k-diffusion solver without noise of its own")] = "dpmpp_2m",
    accuracy_loss: Annotated[float, typer.Option(help="accuracy that may be lost on the mixture", min=0)] = 0.005,
    per_class: Annotated[int, typer.Option(help="samples of each class for every candidate", min=2)] = 60,
    verify: Annotated[
        Path | None,
        typer.Option(help=".npz with x and y: some 20 samples per class of your network under the designed schedule"),
    ] = None,
    seed: Seed = 0,
    out: Out = Path("schedule.json"),
) -> None:
    """Design a schedule that begins without the class, from a mixture of Gaussians.

    It aims at variance and overshoot, not at the whole law: kdist tune measures that on the network itself. Candidates
    are sampled from the exact mixture of one Gaussian per class. Needs features with full class covariances:
    pixels or latents of a few hundred numbers at most. The network is known by --unguided only, which need not be
    enough: sample it with the schedule, and run the same command again with --verify, which refuses on a mismatch.

    Example: kdist design-early --sigma-max 20 --unguided 0.92 0.01 --out schedule.json
    """
    import numpy as np
    import torch
    from rich.progress import Progress

    from kdist.theory import GaussianMixtureDenoiser, design_on_mixture

    console = terminal()
    json_file(out)
    sigmas = torch.tensor(run.sigmas(), dtype=torch.float64)
    x, y = run.arrays()
    mixture = GaussianMixtureDenoiser.fit(x, np.unique(y, return_inverse=True)[1])
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("candidates", total=None)
        design = design_on_mixture(
            mixture,
            sigmas,
            unguided=unguided,
            solver=solver,
            accuracy_loss=accuracy_loss,
            per_class=per_class,
            seed=seed,
            on_run=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if verify is not None:
        console.print(_verified(design, verify, x, y), highlight=False)
    _write(out, design.schedule, lambda: _curve(design.schedule, run))
    console.print(
        f"predicted for your network: variance {design.trace_ratio:.2f} of real, overshoot {design.overshoot:+.2f}, "
        f"{design.schedule.nfe(sigmas, solver):g} network calls per sample. Of the mixture's own samples "
        f"{design.accuracy:.1%} are likeliest in their class, {design.accuracy_unguided:.1%} without guidance.",
    )
    console.print(f"schedule: {design.schedule}", soft_wrap=True)
    console.print(_how_to_use(out))


def _verified(design: MixtureDesign, path: Path, x: np.ndarray, y: np.ndarray) -> str:
    """The network's run held against the design, in a sentence; ValueError where they disagree."""
    from kdist.evals.features.feature_set import load_sampled
    from kdist.theory.designs import verify_design

    try:
        samples, labels = load_sampled(path)
    except (ValueError, OSError) as error:
        raise type(error)(f"--verify: {error}") from error
    found = verify_design(design, samples, labels, x, y)
    return (
        f"verified on {len(labels)} samples of the network: variance {found.trace_ratio:.2f} of real, overshoot "
        f"{found.overshoot:+.2f} (standard errors {found.trace_ratio * found.log_trace_error:.2f} and "
        f"{found.overshoot_error:.2f})"
    )


def _curve(schedule: Schedule, run: Run) -> bytes:
    """A PNG file of the schedule over the run's noise levels."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    schedule.plot(sigma_min=run.sigma_min, sigma_max=run.sigma_max, ax=axes)
    return png(figure, dpi=110)


def _write(out: Path, schedule: Schedule, draw: Callable[[], bytes]) -> None:
    """The schedule and its picture, changed together."""
    numbers = {out.name: schedule.to_json() + "\n"}
    write_with_pictures(out.parent, numbers, former=[f"{out.stem}.png"], draw=lambda: {out.stem: draw()})


def _how_to_use(out: Path) -> str:
    return f"kdist.from_json({str(out)!r}) or --schedule {out} uses it; picture: {out.with_suffix('.png')}"
