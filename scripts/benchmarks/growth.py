"""How the time of `measure` grows with classes, dimension and samples: a log-log plot with the exponents.

    python -m scripts.benchmarks.growth --out docs/figures/growth.png

One size changes at a time, the others stay at 40 classes, 64 dimensions and 20 + 20 samples per class. Processor
seconds, the least of three runs; the exponent is the slope of the four largest sizes. Seeds 1 and 2.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from kdist.evals import measure
from scripts.style import COLOURS, MARKERS

from .evals import make_features

BASE = {"classes": 40, "dimension": 64, "samples per class": 20}
SIZES = {
    "classes": (10, 20, 40, 80, 160, 320),
    "dimension": (32, 64, 128, 256, 512, 1024, 2048),
    "samples per class": (10, 20, 40, 80, 160, 320),
}
FITTED = 4


def seconds(classes: int, dimension: int, samples: int, resamples: int, repeats: int) -> float:
    """Of the processor, the least of several runs."""
    real, fake = (make_features(classes, samples, dimension, scale, seed) for scale, seed in ((1.0, 1), (0.8, 2)))
    labels, found = np.repeat(np.arange(classes), samples), []
    for _ in range(repeats):
        start = time.process_time()
        measure(real, fake, labels, labels, resamples=resamples)
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
    figure, axes = plt.subplots(1, len(SIZES), figsize=(9, 3), sharey=True, layout="constrained")
    for axis, (name, sizes), colour, marker in zip(axes, SIZES.items(), COLOURS, MARKERS, strict=False):
        taken = [seconds(*(BASE | {name: size}).values(), resamples, repeats) for size in sizes]
        slope, offset = np.polyfit(np.log(sizes[-FITTED:]), np.log(taken[-FITTED:]), 1)
        print(f"{name}: exponent {slope:.2f};", ", ".join(f"{n}: {t:.2f} s" for n, t in zip(sizes, taken, strict=True)))
        line = np.array(sizes[-FITTED:], dtype=float)
        axis.loglog(sizes, taken, marker, color=colour)
        axis.loglog(line, np.exp(offset) * line**slope, color=colour, label=f"exponent {slope:.2f}")
        axis.set_xlabel(name)
        axis.set_xticks(sizes, [str(size) for size in sizes], fontsize=8)
        axis.minorticks_off()
        axis.legend(frameon=False)
    axes[0].set_ylabel("processor seconds")
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    typer.run(main)
