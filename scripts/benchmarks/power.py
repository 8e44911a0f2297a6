"""Which statistic finds which distortion? Share of simulated classes where it is found at the 5 % level.

    python -m scripts.benchmarks.power --repeats 200          # the table of docs/statistics.md

Real class: 32 dimensions, variance 1/j along direction j; n real and n generated samples. Planted, one at a time:

    shift        the mean by 0.25 of the class's spread, along all directions alike
    shrinkage    variance 0.7 of the real one, mean kept
    noise        unguided samples plus white noise that adds a quarter of the variance
    noise+loss   the same noise, and the structure shrunk so that the total variance is the real one
    mode         two thirds of the class only: real samples come from three clusters, generated ones from two
    directions   the same spectrum on other directions (reversed order): mean and total variance are right
    none         the same law: false alarms
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from kdist.evals.statistics.discrepancy import discrepancy, energy_finding, kid_finding
from kdist.evals.statistics.gram import draw, squared_distances
from kdist.evals.statistics.moments import shift_findings
from kdist.evals.statistics.resampling import Finding, Resampling
from kdist.evals.statistics.spread import held_out_squares, ratio_findings, trace_ratio_finding

WIDTH = 32
SPREAD = np.arange(1, WIDTH + 1) ** -0.5
TOTAL = float((SPREAD**2).sum())
CLUSTERS = np.sqrt(TOTAL) * np.eye(3, WIDTH) * 1.2

Draw = Callable[[np.random.Generator, int], np.ndarray]


def plain(rng: np.random.Generator, n: int) -> np.ndarray:
    """The real class."""
    return rng.normal(size=(n, WIDTH)) * SPREAD


def noisy(rng: np.random.Generator, n: int, kept: float) -> np.ndarray:
    """White noise of a quarter of the class's variance on what is ``kept`` of its own."""
    return np.sqrt(kept) * plain(rng, n) + np.sqrt(0.25 * TOTAL / WIDTH) * rng.normal(size=(n, WIDTH))


def clusters(rng: np.random.Generator, n: int, count: int) -> np.ndarray:
    """A class of so many clusters."""
    return plain(rng, n) + CLUSTERS[rng.integers(0, count, n)]


CASES: dict[str, tuple[Draw, Draw]] = {
    "shift": (plain, lambda rng, n: plain(rng, n) + 0.25 * np.sqrt(TOTAL / WIDTH)),
    "shrinkage": (plain, lambda rng, n: np.sqrt(0.7) * plain(rng, n)),
    "noise": (plain, lambda rng, n: noisy(rng, n, 1.0)),
    "noise+loss": (plain, lambda rng, n: noisy(rng, n, 0.75)),
    "mode": (lambda rng, n: clusters(rng, n, 3), lambda rng, n: clusters(rng, n, 2)),
    "directions": (plain, lambda rng, n: plain(rng, n)[:, ::-1]),
    "none": (plain, plain),
}


def findings(fake: np.ndarray, real: np.ndarray, resampling: Resampling) -> dict[str, Finding]:
    """The candidates for a headline, by name."""
    splits = resampling.of(len(fake), len(real))
    samples = np.concatenate([fake, real]) - real.mean(axis=0)
    gram = (samples @ samples.T)[None]
    distances = squared_distances(gram)
    bell = np.exp(-distances / np.median(distances[distances > 0]))
    squares = held_out_squares(gram, len(fake), 8)
    assert squares is not None
    main, rest = ratio_findings(squares, resampling.of(len(fake), squares.shape[1] - len(fake)))
    return {
        "energy distance": energy_finding(distances, splits),
        "MMD, Gaussian": discrepancy(bell, draw(bell, splits), splits),
        "KID": kid_finding(gram, np.zeros((1, len(samples))), 0.0, WIDTH, splits),
        "mean shift": shift_findings(gram, splits)["mean_shift"],
        "trace ratio": trace_ratio_finding(gram, splits),
        "main": main,
        "rest": rest,
    }


def main(
    repeats: Annotated[int, typer.Option(min=10, help="Simulated classes per line.")] = 200,
    permutations: Annotated[int, typer.Option(min=19, help="Of each test.")] = 99,
    seed: Annotated[int, typer.Option(help="Of everything.")] = 0,
) -> None:
    """Print the share of rejections at 5 %."""
    lines = [(case, n) for case in CASES for n in (20, 50)]
    table: Table | None = None
    for case, n in track(lines, transient=True):
        rng = np.random.default_rng(seed)
        resampling = Resampling(0.95, permutations, [rng], seed)
        found: dict[str, int] = {}
        for _ in range(repeats):
            real, fake = (law(rng, n) for law in CASES[case])
            for name, finding in findings(fake, real, resampling).items():
                assert finding.null is not None
                found[name] = found.get(name, 0) + (finding.null.p_values()[0] <= 0.05)
        if table is None:
            table = Table("planted", "n", *found, title=f"{repeats} classes per line, seed {seed}")
        table.add_row(case, str(n), *(f"{count / repeats:.2f}" for count in found.values()))
    Console(width=110).print(table)


if __name__ == "__main__":
    typer.run(main)
