"""What a seed per sample costs: ``SamplerSource`` beside k-diffusion's solvers called by hand, on the digits.

    python -m scripts.benchmarks.seeds
    python -m scripts.benchmarks.seeds --unguided --batch 16 --rounds 31

By hand is ``sample_...(model, x, sigmas)`` with one noise for the whole batch, made 8-bit: what the source gives, too.
Rounds, ratios and processor time are those of ``scripts.benchmarks.overhead``.
"""

from __future__ import annotations

import statistics
import warnings
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

import kdist
from kdist import digits
from kdist.evals.sources import SamplerSource, quantise
from kdist.solvers import get_solver, sample

from .overhead import Denoiser, clock, ratio

SOLVERS = ("euler", "euler_ancestral", "dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde")


def compare(model: Denoiser, solver: str, batch: int, steps: int, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds per round of the solver by hand and of the source."""
    sigmas, labels = digits.sigmas(steps), torch.arange(batch) % digits.NUM_CLASSES
    source = SamplerSource(model, get_solver(solver), sigmas, labels, shape=(1, 8, 8))
    now, hand, ours = clock(torch.device("cpu")), [], []

    def by_hand() -> None:
        x = torch.randn(batch, 1, 8, 8) * sigmas[0]
        quantise(sample(solver, model, x, sigmas, extra_args={"class_cond": labels}), (-1, 1))

    for turn in range(-1, rounds):  # the first round warms up
        pair = [(by_hand, hand), (lambda: source.load(range(batch)), ours)]
        for run, seconds in pair if turn % 2 else reversed(pair):
            start = now()
            run()
            if turn >= 0:
                seconds.append(now() - start)
    return hand, ours


def main(
    batch: Annotated[int, typer.Option(help="Samples per run.", min=1)] = 64,
    steps: Annotated[int, typer.Option(help="Steps per run.", min=1)] = 10,
    rounds: Annotated[int, typer.Option(help="How often each of the two samples.", min=1)] = 15,
    unguided: Annotated[bool, typer.Option("--unguided", help="One network pass per call, not two.")] = False,
) -> None:
    """Time solvers with each sample's own noise, and with one noise for the batch."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="torchsde")  # by hand, levels are rounded out of the tree
    network = digits.load_model()
    model = network if unguided else kdist.guide(network, 3.0, uncond={"class_cond": digits.UNCOND})
    table = Table(title=f"{steps} steps, batch {batch}, {rounds} rounds, processor time, median (quartiles)")
    for heading in ("solver", "by hand, ms", "source, ms", "source / by hand"):
        table.add_column(heading, justify="left" if heading == "solver" else "right")
    with torch.inference_mode():
        for solver in SOLVERS:
            hand, ours = compare(model, solver, batch, steps, rounds)
            middle, low, high = ratio(ours, hand)
            times = [f"{1e3 * statistics.median(seconds):.0f}" for seconds in (hand, ours)]
            table.add_row(solver, *times, f"{middle:.3f} ({low:.3f} to {high:.3f})")
    Console(width=100).print(table)


if __name__ == "__main__":
    typer.run(main)
