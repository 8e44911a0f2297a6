"""Time the per-class statistics at data-set scale, side by side with clean-fid's Fréchet distance for one class.

    python -m scripts.benchmarks.evals --out bench_evals.json                      # 1000 classes x 50 x 2048, 2 threads
    python -m scripts.benchmarks.evals --classes 20 --resamples 999 --no-clean-fid   # small, with floors and p-values
    python -m scripts.benchmarks.evals --classes 40 --real-per-class 1300 --no-clean-fid --no-parts   # as in ImageNet

Features are Gaussian with a decaying spectrum and class means of their own; the generated ones have 0.64 of the
variance. Peak memory is the process's, so the inputs and Python's own are in it. On a machine that is busy with other
things the wall clock says little; CPU seconds (of all threads) say what the work costs.
"""

from __future__ import annotations

import json
import platform
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from kdist.compat import repair_torchvision
from kdist.evals import ClassMoments, compare_moments, frechet_distance, measure


def make_features(classes: int, per_class: int, dimension: int, scale: float, seed: int) -> np.ndarray:
    """(classes * per_class, dimension) float32, class by class; the class means do not depend on ``seed``."""
    spectrum = (np.arange(1, dimension + 1) ** -0.5).astype(np.float32)
    means = np.random.default_rng(0).normal(size=(classes, dimension)).astype(np.float32) * spectrum
    features = np.random.default_rng(seed).standard_normal((classes * per_class, dimension), dtype=np.float32)
    features *= np.float32(scale) * spectrum
    features.reshape(classes, per_class, dimension)[:] += means[:, None]  # in place: the array may fill the memory
    return features


def peak_gigabytes() -> float:
    """Largest resident size of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def clean_fid_of_one_class(real: np.ndarray, fake: np.ndarray) -> float:
    """clean-fid's distance between the Gaussians fitted to one class."""
    repair_torchvision()  # clean-fid imports it; the computation does not use it
    from cleanfid.fid import frechet_distance as clean_fid

    moments = [(x.mean(axis=0), np.cov(x, rowvar=False)) for x in (real.astype(float), fake.astype(float))]
    return float(clean_fid(*moments[0], *moments[1]))


def main(
    classes: Annotated[int, typer.Option(min=2, help="Number of classes.")] = 1000,
    per_class: Annotated[int, typer.Option(min=4, help="Generated samples per class.")] = 50,
    real_per_class: Annotated[int, typer.Option(min=0, help="Real ones; 0: as many.")] = 0,
    dimension: Annotated[int, typer.Option(min=1, help="Width of the features.")] = 2048,
    threads: Annotated[int, typer.Option(min=1, help="Threads of BLAS and torch.")] = 2,
    resamples: Annotated[int, typer.Option(min=0, help="Also time measure() with so many; 0: do not.")] = 999,
    splits: Annotated[int, typer.Option(min=0, help="Random halves of measure(); 0 for none.")] = 8,
    clean_fid: Annotated[bool, typer.Option(help="Also time clean-fid's distance for one class.")] = True,
    parts: Annotated[bool, typer.Option(help="Also time Fréchet distances, streaming and measure() in part.")] = True,
    out: Annotated[Path | None, typer.Option(help="JSON file for the numbers.")] = None,
) -> None:
    """Time Fréchet distances, all statistics and streaming moments; print a table, write JSON."""
    torch.set_num_threads(threads)
    console = Console()
    rows: list[dict[str, Any]] = []

    def timed(what: str, call: Callable[[], Any], note: Callable[[Any], str] = lambda result: "") -> Any:
        with console.status(what):
            start, cpu_start = time.perf_counter(), time.process_time()
            result = call()
            seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        rows.append(
            {
                "what": what,
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
                "peak_gb": peak_gigabytes(),
                "note": note(result),
            }
        )
        return result

    with threadpool_limits(threads):
        real_per_class = real_per_class or per_class
        real = make_features(classes, real_per_class, dimension, 1.0, seed=1)
        fake = make_features(classes, per_class, dimension, 0.8, seed=2)
        labels = [np.repeat(np.arange(classes), n) for n in (real_per_class, per_class)]
        blocks = [[slice(k * n, (k + 1) * n) for k in range(classes)] for n in (real_per_class, per_class)]

        distances = None
        if parts or clean_fid:
            distances = timed(
                "Fréchet, every class",
                lambda: [frechet_distance(real[a], fake[b]).total for a, b in zip(*blocks, strict=True)],
                lambda d: f"class 0: {d[0]:.6f}",
            )
        if parts:
            timed("streaming moments", lambda: _streamed(real, fake, labels, classes), lambda d: f"trace ratio {d:.4f}")
            timed("all statistics", lambda: measure(real, fake, *labels, resamples=0, splits=splits), _headline)
        if parts and resamples:
            timed(
                f"classes alone, {resamples} resamples",
                lambda: measure(
                    real, fake, *labels, resamples=resamples, splits=splits, fid=False, neighbour_queries=0
                ),
                _headline,
            )
        if resamples:
            timed(
                f"with {resamples} resamples",
                lambda: measure(real, fake, *labels, resamples=resamples, splits=splits),
                _headline,
            )
        if clean_fid:
            timed(
                "clean-fid Fréchet, one class",
                lambda: clean_fid_of_one_class(real[blocks[0][0]], fake[blocks[1][0]]),
                lambda d: f"class 0: {d:.6f}",
            )

    sizes = {
        "classes": classes, "real_per_class": real_per_class, "per_class": per_class, "dimension": dimension,
        "threads": threads,
    }  # fmt: skip
    record = _record(console, rows, sizes, first_distance=distances[0] if clean_fid and distances else None)
    if out is not None:
        out.write_text(json.dumps(record, indent=2) + "\n")


def _record(
    console: Console, rows: list[dict[str, Any]], sizes: dict[str, int], *, first_distance: float | None
) -> dict[str, Any]:
    """Print the table; the same numbers for JSON, with clean-fid's against ours where it was timed."""
    title = "{classes} classes x ({real_per_class} + {per_class}) x {dimension}, {threads} threads".format(**sizes)
    table = Table(title=f"{title}, {platform.machine()}")
    for column in ("", "seconds", "CPU seconds", "peak GB", ""):
        table.add_column(column, justify="right" if column else "left")
    for row in rows:
        numbers = (f"{row['seconds']:.3f}", f"{row['cpu_seconds']:.3f}", f"{row['peak_gb']:.2f}")
        table.add_row(row["what"], *numbers, row["note"])
    console.print(table)
    record: dict[str, Any] = {"schema": "kdist.bench_evals/1", **sizes, "rows": rows}
    if first_distance is not None:
        ours = next(row["seconds"] for row in rows if row["what"] == "Fréchet, every class") / sizes["classes"]
        record["clean_fid_over_ours_per_class"] = rows[-1]["seconds"] / ours
        record["clean_fid_minus_ours"] = float(rows[-1]["note"].split()[-1]) - first_distance
        console.print(
            f"one class: clean-fid takes {record['clean_fid_over_ours_per_class']:.0f} times as long; "
            f"its value is {record['clean_fid_minus_ours']:+.2e} away"
        )
    return record


def _streamed(real: np.ndarray, fake: np.ndarray, labels: Sequence[np.ndarray], classes: int) -> float:
    pair = []
    for features, own in zip((real, fake), labels, strict=True):
        moments = ClassMoments(classes, features.shape[1])
        for start in range(0, len(features), 512):
            moments.update(features[start : start + 512], own[start : start + 512])
        pair.append(moments)
    return float(compare_moments(*pair).trace_ratio.mean())


def _headline(report: Any) -> str:
    ratio = report.pooled.trace_ratio
    return f"trace ratio {ratio:.4f} [{ratio.lo:.4f}, {ratio.hi:.4f}]"


if __name__ == "__main__":
    typer.run(main)
