"""Sample the shipped digits model under several schedules: one npz of images per schedule, and one of the real digits.

    python scripts/examples/digits_sweep.py --out runs/digits --schedule 1 --schedule 2 --schedule 4
    kdist compare runs/digits/real.npz runs/digits/constant-*.npz --extractor digits --out runs/report

All schedules start from the same noise, in the same order, so ``kdist compare`` can compare them pair by pair.
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from kdist import digits, parse
from kdist.compat import pick_device
from kdist.demo import DEFAULT_SCHEDULES, run_demo
from kdist.evals.sources import quantise
from kdist.files import prepare_output, write_atomically


def main(
    out: Annotated[Path, typer.Option(help="folder for the npz files")] = Path("runs/digits"),
    schedule: Annotated[
        list[str] | None, typer.Option(help="a schedule, repeatable  [default: those of kdist demo]")
    ] = None,
    per_class: Annotated[int, typer.Option(help="samples of each digit", min=2)] = 50,
    solver: Annotated[str, typer.Option(help="a k-diffusion solver")] = "dpmpp_2m",
    steps: Annotated[int, typer.Option(help="solver steps", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="seed of the noise")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
) -> None:
    """Write real.npz and one npz per schedule: x (N, 1, 8, 8) uint8, y (N,)."""
    chosen = tuple(map(parse, schedule)) if schedule else DEFAULT_SCHEDULES
    place = pick_device(device)
    prepare_output(out)
    real, labels = digits.load_data("all")
    _write(out / "real.npz", real, labels)
    outcomes = run_demo(chosen, per_class=per_class, solver=solver, steps=steps, seed=seed, device=place, resamples=0)
    for outcome in outcomes:
        slug = re.sub(r"[^\w.+-]+", "-", outcome.name).strip("-")
        path = out / f"{slug}.npz"
        _write(path, outcome.samples, torch.arange(digits.NUM_CLASSES).repeat_interleave(per_class))
        typer.echo(f"{path}: {len(outcome.samples)} samples, {outcome.nfe:g} network calls each")


def _write(path: Path, images: torch.Tensor, labels: torch.Tensor) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x=quantise(images, (-1.0, 1.0)).numpy(), y=labels.numpy())
    write_atomically(path, buffer.getvalue())


if __name__ == "__main__":
    typer.run(main)
