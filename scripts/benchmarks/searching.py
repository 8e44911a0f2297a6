"""What `Response`, `kdist.tune` and `phase_diagram` spend outside the network or the arithmetic that they are for.

    python -m scripts.benchmarks.searching
    python -m scripts.benchmarks.searching --calls 120000 --per-class 50

Processor seconds of the whole call, and of the network's forward passes in it (digits, guided calls of two rows). What
is left is split for ``tune``: sampling outside the network, judging and measuring, and the search itself; loading
Optuna and kdist.evals, once for each process, is told apart. A phase diagram has no network: its share is everything
outside the steps of its integration. One thread.
"""

from __future__ import annotations

import importlib
import time
import warnings
from collections.abc import Callable
from typing import Annotated, Any
from unittest import mock

import numpy as np
import torch
import typer

import kdist
from kdist import digits
from kdist.theory import Response, phase_diagram
from kdist.theory.many_classes.path import Dynamics


class Clocked:
    """A function and the processor seconds it took, inner calls of itself counted once."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds, self._inside = function, 0.0, False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._inside:
            return self.function(*args, **kwargs)
        start, self._inside = time.process_time(), True
        try:
            return self.function(*args, **kwargs)
        finally:
            self.seconds += time.process_time() - start
            self._inside = False


def report(name: str, whole: Clocked, parts: dict[str, float]) -> None:
    (core, seconds), *others = parts.items()
    print(
        f"{name}: {whole.seconds:.2f} s, of which {core} {seconds:.2f} s: {1 - seconds / whole.seconds:.1%} beside it"
    )
    for part, more in others:
        print(f"    {part}: {more / whole.seconds:.1%}")


def response(per_class: int, steps: int) -> None:
    model, whole = Clocked(digits.load_model()), Clocked(Response.measure)
    labels = torch.arange(digits.NUM_CLASSES).repeat_interleave(per_class)
    sigmas = digits.sigmas(steps)
    start = torch.randn(len(labels), 1, 8, 8, generator=torch.Generator().manual_seed(0)) * sigmas[0]
    whole(model, start, labels, sigmas, uncond={"class_cond": digits.UNCOND}, probes=12, bands=4, seed=0)
    report(f"Response.measure, 12 probes, {len(labels)} samples", whole, {"the network": model.seconds})


def tune(steps: int, calls: int) -> None:
    model, whole, judge = Clocked(digits.load_model()), Clocked(kdist.tune), Clocked(digits.load_classifier())
    load = Clocked(importlib.import_module)
    for module in ("kdist.tuning.tuned", "kdist.evals.features"):
        load(module)
    print(f"loading Optuna and kdist.evals: {load.seconds:.2f} s, once")
    generate = Clocked(kdist.generator(model, digits.sigmas(steps), (1, 8, 8), uncond={"class_cond": digits.UNCOND}))
    whole(generate, real=digits.load_data(), judge=judge, accuracy=0.95, calls=calls, seed=0)
    parts = {"the network": model.seconds, "sampling outside it": generate.seconds - model.seconds,
             "the judge": judge.seconds, "the rest": whole.seconds - generate.seconds - judge.seconds}  # fmt: skip
    report(f"tune, {calls} calls", whole, parts)


def phases(side: int) -> None:
    step, margin, whole = Clocked(Dynamics.step), Clocked(Dynamics.margin), Clocked(phase_diagram)
    equations = {"step": lambda *given: step(*given), "margin": lambda *given: margin(*given)}
    with mock.patch.multiple(Dynamics, **equations):
        whole(np.linspace(0.05, 1.5, side), np.linspace(1, 8, side), within_var=0.2, sigma_max=100.0)
    seconds = {"the Runge-Kutta steps and margins": step.seconds + margin.seconds}
    report(f"phase_diagram, {side} x {side}", whole, seconds)


def main(
    per_class: Annotated[int, typer.Option(help="Samples of each class for Response.", min=4)] = 20,
    steps: Annotated[int, typer.Option(help="Steps of the solver.", min=2)] = 20,
    calls: Annotated[int, typer.Option(help="Budget of tune.", min=1000)] = 40_000,
    side: Annotated[int, typer.Option(help="Points of the phase diagram in each direction.", min=2)] = 60,
) -> None:
    """Print the share of processor time beside the network or the equations."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    response(per_class, steps)
    phases(side)
    tune(steps, calls)


if __name__ == "__main__":
    typer.run(main)
