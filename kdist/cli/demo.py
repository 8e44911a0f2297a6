"""``kdist demo``: guidance schedules compared on a small network that is shipped."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..files import prepare_output
from .options import Device, Schedules, Seed, terminal

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option(help="folder for the report, its picture and results.json")] = Path("kdist-demo"),
    data: Annotated[str, typer.Option(help="digits (8x8) or fashion (Fashion-MNIST, 28x28: some minutes)")] = "digits",
    schedule: Schedules = None,
    solver: Annotated[str, typer.Option(help="a k-diffusion solver")] = "dpmpp_2m",
    steps: Annotated[int | None, typer.Option(help="solver steps  [default: 20; 10 with --quick]", min=1)] = None,
    per_class: Annotated[
        int | None, typer.Option(help="samples of each class  [default: 50; 15 with --quick]", min=2)
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="fewer samples and steps: a look in half a minute")] = False,
) -> None:
    """Compare guidance schedules on a shipped model of real images: table, results.json, report.html.

    Example: kdist demo --schedule 1 --schedule 3 --schedule late-negative:scale=3,sigma_switch=1 --out my-demo
    """
    # compiling k-diffusion's small functions would take longer than the whole demo; set before it is imported
    os.environ.setdefault("K_DIFFUSION_USE_COMPILE", "0")
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from .. import schedules
    from ..compat import import_k_diffusion, pick_device, repair_torchvision
    from ..demo import get_example, report, run_demo
    from ..demo.run import network_calls
    from ..solvers import get_solver

    console = terminal()
    example = get_example(data)
    chosen = tuple(schedules.parse(text) for text in schedule) if schedule else example.schedules
    steps = steps or (10 if quick else 20)
    per_class = per_class or (15 if quick else 50)
    device = pick_device(device)
    prepare_output(out)
    if repair_torchvision():
        console.print(
            "torchvision does not fit this torch build; declared what k-diffusion's import needs", style="dim"
        )
    import_k_diffusion()
    get_solver(solver)

    columns = (
        TextColumn("{task.description:<34.34}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("sampling", total=network_calls(chosen, solver, example.data.sigmas(steps)))
        outcomes = run_demo(
            chosen,
            data=data,
            per_class=per_class,
            solver=solver,
            steps=steps,
            seed=seed,
            device=device,
            resamples=49 if quick else 199,
            progress=lambda name, calls: bar.update(task, advance=calls, description=name),
        )
        bar.update(task, description="done")
    settings = {"data": data, "per_class": per_class, "solver": solver, "steps": steps, "seed": seed, "device": device}
    report.write(out, outcomes, settings, command=shlex.join(["kdist", *sys.argv[1:]]))
    console.print(report.table(outcomes))
    for name, note in report.notes().items():
        console.print(f"{name}: {note}", style="dim")
    console.print(f"\n{report.summary(outcomes)}")
    console.print(f"pictures and samples: {out / 'report.html'}   all numbers: {out / 'results.json'}")
