"""Decoding and resizing beside clean-fid's loop, the network left out: same numbers, and how much faster?

    python -m scripts.benchmarks.decoding
    python -m scripts.benchmarks.decoding --images 512 --wall

Both run over the same folder with the same workers (clean-fid's are processes, ours threads) into a network that
returns one pixel. Before that, all pixels of some images are held against each other. Processor seconds are those of
this process and of its workers; ``--wall`` takes the wall's. Ratios are medians over rounds of ratios within a round.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from kdist.compat import repair_torchvision
from kdist.evals.features.extraction import extract
from kdist.evals.features.extractor import Extractor
from kdist.evals.features.simple import from_callable

from .features import write_images
from .overhead import ratio

CPU = torch.device("cpu")
COMPARED = 8


def clean_fid(folder: Path, network: Callable[[torch.Tensor], torch.Tensor], batch: int, workers: int) -> np.ndarray:
    from cleanfid import fid

    settings = {"num_workers": workers, "batch_size": batch, "device": CPU, "verbose": False}
    return fid.get_folder_features(str(folder), network, **settings)


def ours(folder: Path, network: Callable[[torch.Tensor], torch.Tensor], batch: int, workers: int) -> np.ndarray:
    extractor: Extractor = from_callable(CPU, network, size=299)
    return extract(folder, extractor, batch_size=batch, workers=workers).x


def processor_seconds() -> float:
    """Of this process and of the workers that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def compare(
    folder: Path, batch: int, workers: int, rounds: int, now: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Seconds per round of clean-fid's loop and of ours."""
    seconds: dict[Callable[..., np.ndarray], list[float]] = {clean_fid: [], ours: []}
    for turn in range(-1, rounds):  # the first round warms up
        for loop in list(seconds)[:: 1 if turn % 2 else -1]:
            start = now()
            loop(folder, lambda x: x[:, :, 150, 150], batch, workers)
            if turn >= 0:
                seconds[loop].append(now() - start)
    return seconds[clean_fid], seconds[ours]


def main(
    images: Annotated[int, typer.Option(help="Images per folder.", min=1)] = 128,
    sizes: Annotated[str, typer.Option(help="Pixels per side, several with commas.")] = "64,256,512",
    batch: Annotated[int, typer.Option(help="Images per batch.", min=1)] = 32,
    workers: Annotated[int, typer.Option(help="Processes of clean-fid, threads of kdist.", min=1)] = 2,
    rounds: Annotated[int, typer.Option(help="How often each runs over a folder.", min=1)] = 7,
    wall: Annotated[bool, typer.Option("--wall", help="Seconds of the wall, not of the processor.")] = False,
) -> None:
    """Print milliseconds per image and their ratios."""
    repair_torchvision()
    torch.set_num_threads(1)
    kind, now = ("wall-clock", time.perf_counter) if wall else ("processor", processor_seconds)
    table = Table(title=f"{images} images, batches of {batch}, {workers} workers, {kind} time, median (quartiles)")
    for heading in ("images", "clean-fid, ms per image", "kdist, ms per image", "clean-fid / kdist"):
        table.add_column(heading, justify="left" if heading == "images" else "right")
    with tempfile.TemporaryDirectory() as name:
        for size in map(int, sizes.split(",")):
            for suffix in ("png", "jpg"):
                few, many = (Path(name) / f"{size}_{suffix}_{count}" for count in (COMPARED, images))
                write_images(few, COMPARED, size, 0, 60.0, suffix)
                write_images(many, images, size, 1, 60.0, suffix)
                np.testing.assert_array_equal(
                    *(loop(few, lambda x: x.flatten(1), COMPARED, workers) for loop in (clean_fid, ours))
                )
                theirs, mine = compare(many, batch, workers, rounds, now)
                middle, low, high = ratio(theirs, mine)
                times = [f"{1e3 * statistics.median(seconds) / images:.2f}" for seconds in (theirs, mine)]
                table.add_row(f"{size} px {suffix}", *times, f"{middle:.2f} ({low:.2f} to {high:.2f})")
    Console(width=100).print(table)


if __name__ == "__main__":
    typer.run(main)
