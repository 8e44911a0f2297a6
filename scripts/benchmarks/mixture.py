"""What an exact mixture of very many centres costs, beside the least that its definition asks for.

    python -m scripts.benchmarks.mixture
    python -m scripts.benchmarks.mixture --centres 100000 --rounds 41 --json mixture.json

The least is ``(x @ means.T).exp().sum(1)`` on the whole, one matrix product; a denoiser needs a second one, for the
mean of the centres. Both run once in every round, in changing order; the ratio is the median of the rounds' ratios, in
processor seconds on the CPU. The peak of memory is the process's own (torch included) before the least is run for the
first time, which holds all its numbers at once.
"""

from __future__ import annotations

import json
import resource
import statistics
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from kdist.files import write_atomically
from kdist.theory import GaussianMixtureDenoiser


def least(x: torch.Tensor, means: torch.Tensor) -> torch.Tensor:
    return (x @ means.T).exp().sum(1)


def measure(centres: int, dimension: int, batch: int, rounds: int, device: str, seed: int) -> dict[str, float]:
    """Median ratio, seconds of both, and the peak of memory in GB."""
    cuda = device.startswith("cuda")
    clock = time.perf_counter if cuda else time.process_time
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(centres, dimension, generator=generator)
    # a class of all centres: what is measured is the sum over them
    whole = torch.zeros(centres, dtype=torch.int64)
    model = GaussianMixtureDenoiser(means, 0.01, labels=whole, dtype=torch.float32).to(device)
    means, x = means.to(device), torch.randn(batch, dimension, generator=generator).to(device) / dimension
    sigma = torch.ones(batch, device=device)
    times: dict[str, list[float]] = {"mixture": [], "least": []}
    calls = {"mixture": lambda: model(x, sigma, 1), "least": lambda: least(x, means)}
    peak = 0.0
    with torch.no_grad():
        for n in range(rounds + 1):
            for name in list(calls)[:: 1 if n % 2 == 0 else -1]:
                start = clock()
                calls[name]()
                if cuda:
                    torch.cuda.synchronize()
                if n:  # the first round warms up
                    times[name].append(clock() - start)
                elif name == "mixture":
                    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    ratios = [a / b for a, b in zip(times["mixture"], times["least"], strict=True)]
    return {
        "centres": centres,
        "ratio": statistics.median(ratios),
        **{name: statistics.median(values) for name, values in times.items()},
        "peak_gb": peak,
    }


def main(
    centres: Annotated[list[int] | None, typer.Option(help="Repeatable.  [default: 100000, 1000000]")] = None,
    dimension: Annotated[int, typer.Option(min=1)] = 46,
    batch: Annotated[int, typer.Option(min=1, help="Samples per call.")] = 256,
    rounds: Annotated[int, typer.Option(min=1)] = 11,
    device: Annotated[str, typer.Option()] = "cpu",
    seed: Annotated[int, typer.Option()] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers there.")] = None,
) -> None:
    """Print seconds, ratio and memory."""
    console, found = Console(), []
    for count in centres or [100_000, 1_000_000]:
        row = measure(count, dimension, batch, rounds, device, seed)
        found.append(row)
        console.print(
            f"{count} centres: {row['mixture']:.3f} s, product, exp and sum {row['least']:.3f} s, ratio "
            f"{row['ratio']:.2f}, peak {row['peak_gb']:.2f} GB",
            highlight=False,
        )
    if json_file is not None:
        write_atomically(json_file, json.dumps(found, indent=1))


if __name__ == "__main__":
    typer.run(main)
