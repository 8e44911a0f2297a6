"""How time grows, of `measure` with classes, dimension and samples, of `solver_moments` with steps: log-log plots.

    python -m scripts.benchmarks.growth --out docs/figures/growth.png

One size changes at a time, the others stay at 40 classes, 64 dimensions and 20 + 20 samples per class (seeds 1 and 2).
Predicted is Euler's ancestral solver, which draws noise at every step, in 64 directions at a constant scale of 4.
Processor seconds, the least of three runs; the exponent is the slope of the four largest sizes.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from kdist import digits
from kdist.evals import measure
from kdist.theory import GaussianPair, solver_moments
from scripts.style import COLOURS, MARKERS

from .evals import make_features

BASE = {"classes": 40, "dimension": 64, "samples per class": 20}
SIZES = {
    "classes": (10, 20, 40, 80, 160, 320),
    "dimension": (32, 64, 128, 256, 512, 1024, 2048),
    "samples per class": (10, 20, 40, 80, 160, 320),
    "steps": (10, 20, 40, 80, 160, 320),
}
FITTED = 4


def measured(classes: int, dimension: int, samples: int, resamples: int) -> Callable[[], object]:
    """A call of ``measure`` at these sizes."""
    real, fake = (make_features(classes, samples, dimension, scale, seed) for scale, seed in ((1.0, 1), (0.8, 2)))
    labels = np.repeat(np.arange(classes), samples)
    return functools.partial(measure, real, fake, labels, labels, resamples=resamples)


def predicted(steps: int) -> Callable[[], object]:
    """A call of ``solver_moments`` with so many steps."""
    width = BASE["dimension"]
    pair = GaussianPair(np.linspace(0.5, 1.5, width), np.linspace(0.1, 1, width), 0.0, np.linspace(1, 2, width))
    return functools.partial(solver_moments, pair, 4.0, "euler_ancestral", digits.sigmas(steps))


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Of the processor, the least of several runs."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


def main(
    out: Annotated[Path, typer.Option(help="The figure.")] = Path("growth.png"),
    resamples: Annotated[int, typer.Option(help="As in measure.", min=0)] = 199,
    repeats: Annotated[int, typer.Option(help="Runs of each size.", min=1)] = 3,
) -> None:
    """Time, print, draw."""
    import matplotlib.pyplot as plt

    torch.set_num_threads(1)
    figure, axes = plt.subplots(2, 2, figsize=(7, 6), sharey=True, layout="constrained")
    for axis, (name, sizes), colour, marker in zip(axes.flat, SIZES.items(), COLOURS, MARKERS, strict=False):
        calls = (measured(*(BASE | {name: n}).values(), resamples) if name in BASE else predicted(n) for n in sizes)
        taken = [seconds(call, repeats) for call in calls]
        slope, offset = np.polyfit(np.log(sizes[-FITTED:]), np.log(taken[-FITTED:]), 1)
        print(f"{name}: exponent {slope:.2f};", ", ".join(f"{n}: {t:.2g} s" for n, t in zip(sizes, taken, strict=True)))
        line = np.array(sizes[-FITTED:], dtype=float)
        axis.loglog(sizes, taken, marker, color=colour)
        axis.loglog(line, np.exp(offset) * line**slope, color=colour, label=f"exponent {slope:.2f}")
        axis.set_xlabel(name)
        axis.set_xticks(sizes, [str(size) for size in sizes], fontsize=8)
        axis.minorticks_off()
        axis.set_title("measure" if name in BASE else "solver_moments")
        axis.legend(frameon=False, loc="upper left")
    figure.supylabel("processor seconds")
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    typer.run(main)
