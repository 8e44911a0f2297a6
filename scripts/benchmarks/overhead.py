"""What the guidance wrapper costs, side by side with classifier-free guidance written by hand.

    python -m scripts.benchmarks.overhead
    python -m scripts.benchmarks.overhead --only-constant --steps 3 --rounds 201 --json overhead.json
    python -m scripts.benchmarks.overhead --device cuda
    python -m scripts.benchmarks.overhead --compile          # torch.compile too: minutes of compiling first
    python -m scripts.benchmarks.overhead --bare --batch 1 --rounds 301   # no network: what is left is the wrapper

In every round each variant samples once, in an order that changes from round to round; a ratio is the median over the
rounds of the ratio within a round, so that slow changes of the machine's speed cancel. On the CPU times are processor
seconds of this process (other work on the machine hardly counts), on an accelerator wall-clock seconds.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

import kdist
from kdist import digits
from kdist.files import write_atomically
from kdist.solvers import sample

Denoiser = Callable[..., torch.Tensor]
SCALE = 4.0
SCHEDULES: dict[str, kdist.Schedule] = {
    "constant": kdist.Constant(SCALE),
    "interval": kdist.Interval(SCALE, sigma_lo=0.3, sigma_hi=3.0),
    "negative window": kdist.NegativeWindow(SCALE, sigma_lo=0.3, sigma_hi=3.0),
    "negative at the end": kdist.LateNegative(SCALE, sigma_switch=1.0),
}


@dataclass(frozen=True)
class Variant:
    """One way to sample: a denoiser, and what it is compared with."""

    schedule: str
    code: str
    denoiser: Denoiser
    calls: float


def by_hand(model: Denoiser, schedule: kdist.Schedule) -> Denoiser:
    """The usual few lines, with an ``if`` for each pass that is not needed; one scale for the whole batch."""

    def denoise(x: torch.Tensor, sigma: torch.Tensor, class_cond: torch.Tensor) -> torch.Tensor:
        scale = schedule(float(sigma[0])) if schedule.can_skip else SCALE
        null = torch.full_like(class_cond, digits.UNCOND)
        if scale == 1:
            return model(x, sigma, class_cond=class_cond)
        if scale == 0:
            return model(x, sigma, class_cond=null)
        both = torch.cat([null, class_cond])
        uncond, cond = model(torch.cat([x, x]), torch.cat([sigma, sigma]), class_cond=both).chunk(2)
        return uncond + (cond - uncond) * scale

    return denoise


def nothing(x: torch.Tensor, sigma: torch.Tensor, class_cond: torch.Tensor) -> torch.Tensor:
    """A model that takes no time."""
    return x


def wrapped(model: Denoiser, schedule: kdist.Schedule) -> Denoiser:
    return kdist.guide(model, schedule, uncond={"class_cond": digits.UNCOND})


def variants(
    model: Denoiser, sigmas: torch.Tensor, solver: str, *, only_constant: bool = False, compiled: bool = False
) -> list[Variant]:
    """Every schedule by hand and wrapped, and first the model alone; with ``compiled``, the interval compiled too."""
    made = [Variant("none", "model alone", model, kdist.Constant(1).nfe(sigmas, solver))]
    for name, schedule in SCHEDULES.items():
        if only_constant and name != "constant":
            continue
        calls = schedule.nfe(sigmas, solver)
        made.append(Variant(name, "by hand", by_hand(model, schedule), calls))
        made.append(Variant(name, "kdist", wrapped(model, schedule), calls))
    if compiled:
        interval = SCHEDULES["interval"]
        calls = interval.nfe(sigmas, solver)
        made.append(Variant("interval", "guide(compile(model))", wrapped(torch.compile(model), interval), calls))
        everything = kdist.Constant(SCALE).nfe(sigmas, solver)  # no pass is left out inside a graph
        made.append(Variant("interval", "compile(guide(model))", torch.compile(wrapped(model, interval)), everything))
    return made


def clock(device: torch.device) -> Callable[[], float]:
    """Seconds of the processor on the CPU; seconds of the wall after waiting for the device elsewhere."""
    if device.type == "cpu":
        return time.process_time

    def wall() -> float:
        torch.accelerator.synchronize(device)
        return time.perf_counter()

    return wall


def measure(made: list[Variant], x: torch.Tensor, sigmas: torch.Tensor, solver: str, rounds: int) -> list[list[float]]:
    """Seconds of every variant (outer) in every round (inner)."""
    now = clock(x.device)
    labels = torch.arange(len(x), device=x.device) % digits.NUM_CLASSES
    seconds: list[list[float]] = [[] for _ in made]
    for turn in range(-1, rounds):  # the first round warms up
        order = list(range(len(made)))
        shift = turn % len(made)
        order = order[shift:] + order[:shift]
        for position in order if turn % 2 else reversed(order):
            start = now()
            sample(solver, made[position].denoiser, x, sigmas, extra_args={"class_cond": labels})
            if turn >= 0:
                seconds[position].append(now() - start)
    return seconds


def ratio(seconds: list[float], reference: list[float]) -> tuple[float, float, float]:
    """Median of the ratios within rounds, with its quartiles."""
    ratios = sorted(mine / other for mine, other in zip(seconds, reference, strict=True))
    if len(ratios) < 2:
        return ratios[0], ratios[0], ratios[0]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return middle, low, high


def summarise(made: list[Variant], seconds: list[list[float]]) -> list[dict[str, Any]]:
    """One row per variant: time, against by hand, and against what its number of calls predicts.

    The prediction is the wrapped constant schedule's time of the same round, times the quotient of the calls.
    """
    position = {(variant.schedule, variant.code): index for index, variant in enumerate(made)}
    constant = position["constant", "kdist"]
    rows = []
    for index, variant in enumerate(made):
        row: dict[str, Any] = {
            "schedule": variant.schedule,
            "code": variant.code,
            "calls": variant.calls,
            "seconds": statistics.median(seconds[index]),
        }
        if variant.code not in ("model alone", "by hand"):
            row["over_by_hand"] = ratio(seconds[index], seconds[position[variant.schedule, "by hand"]])
            share = variant.calls / made[constant].calls
            row["over_calls"] = ratio(seconds[index], [share * reference for reference in seconds[constant]])
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]], title: str) -> Table:
    shown = Table(title=title)
    for heading in ("schedule", "code", "calls", "ms per run", "time / by hand", "time / calls' share of constant"):
        shown.add_column(heading, justify="left" if heading in ("schedule", "code") else "right")
    for row in rows:
        pairs = [
            f"{row[key][0]:.3f} ({row[key][1]:.3f}-{row[key][2]:.3f})" if key in row else ""
            for key in ("over_by_hand", "over_calls")
        ]
        shown.add_row(row["schedule"], row["code"], f"{row['calls']:g}", f"{1e3 * row['seconds']:.3g}", *pairs)
    return shown


def main(
    batch: Annotated[int, typer.Option(help="Samples per run.", min=1)] = 64,
    steps: Annotated[int, typer.Option(help="Steps per run.", min=1)] = 10,
    rounds: Annotated[int, typer.Option(help="How often every variant samples.", min=1)] = 21,
    solver: Annotated[str, typer.Option(help="A k-diffusion solver.")] = "euler",
    device: Annotated[str, typer.Option(help="cpu, cuda, ...")] = "cpu",
    threads: Annotated[int, typer.Option(help="Processor threads of torch.", min=1)] = 1,
    model: Annotated[Path, typer.Option(help="Weights of a digits model.", exists=True)] = digits.MODEL_PATH,
    only_constant: Annotated[bool, typer.Option("--only-constant", help="Leave the other schedules out.")] = False,
    bare: Annotated[bool, typer.Option("--bare", help="A model that returns x in the network's place.")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="Time torch.compile as well.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")] = None,
) -> None:
    """Time guided sampling of the digits model: wrapped by kdist, and written by hand."""
    torch.set_num_threads(threads)
    sigmas = digits.sigmas(steps).to(device)
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(batch, 1, 8, 8, generator=generator) * digits.SIGMA_MAX).to(device)
    network = nothing if bare else digits.load_model(model, device=device)
    made = variants(network, sigmas, solver, only_constant=only_constant, compiled=compiled)
    with torch.inference_mode():
        rows = summarise(made, measure(made, x, sigmas, solver, rounds))
    kind = "processor" if torch.device(device).type == "cpu" else "wall-clock"
    title = f"{solver}, {steps} steps, batch {batch}, {rounds} rounds, {device}, {kind} time, median (quartiles)"
    Console(width=120).print(table(rows, title))
    if json_path is not None:
        settings = {
            "solver": solver, "steps": steps, "batch": batch, "rounds": rounds, "device": device, "threads": threads,
            "clock": kind, "torch": torch.__version__, "python": platform.python_version(),
        }  # fmt: skip
        write_atomically(json_path, json.dumps({"settings": settings, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
