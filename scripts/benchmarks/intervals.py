"""How honest are the intervals, floors and p-values of ``kdist.evals.measure``? Simulated coverage and false alarms.

    python -m scripts.benchmarks.intervals --repeats 300        # the tables of docs/statistics.md

One class in 8 dimensions (variance 1/j along direction j), its global mean three spreads of the first direction away.
Laws: "gaussian"; "t5", multivariate t with 5 degrees of freedom; "exponential" and "lognormal" along each direction;
"outliers", Gaussian with 2 % of the samples six times as far out. Planted: variance 0.64, overshoot 0.3. Floors and
false alarms (p <= 0.05) are for real and generated samples of the same law. Last column: share of classes with the
warning of heavy tails.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from kdist.evals.features.feature_set import Features
from kdist.evals.report.paired import paired_ratio
from kdist.evals.statistics.averages import mean_finding
from kdist.evals.statistics.discrepancy import energy_finding
from kdist.evals.statistics.gram import squared_distances
from kdist.evals.statistics.moments import shift_findings
from kdist.evals.statistics.one_class import sample_warnings
from kdist.evals.statistics.resampling import Finding, Resampling, Splits
from kdist.evals.statistics.spread import trace_ratio_finding

SPREAD = np.arange(1, 9) ** -0.5
GLOBAL_MEAN = np.eye(8)[0] * 3
LAWS = ("gaussian", "t5", "exponential", "lognormal", "outliers")
SIZES = ((20, 20), (20, 100), (20, 200), (50, 50), (200, 20))
CLASSES = 20
SHIFT = 0.9 / np.sqrt((SPREAD**2).sum())  # 0.3 of the way of three


def draw(rng: np.random.Generator, law: str, n: int) -> np.ndarray:
    """n samples with mean 0 and, but for the outliers, covariance diag(SPREAD^2)."""
    x = rng.normal(size=(n, 8))
    if law == "t5":
        x *= np.sqrt(3 / rng.chisquare(5, size=(n, 1)))
    elif law == "exponential":
        x = rng.exponential(size=(n, 8)) - 1
    elif law == "lognormal":
        x = (np.exp(x) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)
    elif law == "outliers":
        x *= np.where(rng.random((n, 1)) < 0.02, 6, 1) / np.sqrt(1 + 35 * 0.02)
    return x * SPREAD


def findings(fake: np.ndarray, real: np.ndarray, splits: Splits) -> tuple[dict[str, Finding], bool]:
    """The statistics of one class, and whether it is said to have heavy tails."""
    z = np.concatenate([fake, real]) - GLOBAL_MEAN
    gram = z @ z.T
    distances = squared_distances(gram)
    found = {"trace_ratio": trace_ratio_finding(gram, splits), "energy": energy_finding(distances, splits)}
    warned = any("heavy tails" in note for note in sample_warnings(gram, distances, len(fake)))
    return found | shift_findings(gram, splits), warned


def one_line(law: str, n_real: int, n_fake: int, repeats: int, permutations: int, seed: int) -> list[float]:
    """Coverage of intervals and floors, false alarms, the share warned of."""
    rng = np.random.default_rng(seed)
    bare, full = Resampling(0.95, 0, rng), Resampling(0.95, permutations, rng, seed)
    truths = {"trace_ratio": 0.64, "overshoot": 0.3, "mean_shift": SHIFT}
    planted, same, warned = [], [], 0
    for _ in range(repeats):
        fake = 0.8 * draw(rng, law, n_fake) - 0.3 * GLOBAL_MEAN
        planted.append(findings(fake, draw(rng, law, n_real), bare.of(n_fake, n_real))[0])
        null, heavy = findings(draw(rng, law, n_fake), draw(rng, law, n_real), full.of(n_fake, n_real))
        same.append({name: finding.shown(0.95) for name, finding in null.items()})
        warned += heavy
    columns = [
        np.mean([entry[name].shown(0.95).lo < truth < entry[name].shown(0.95).hi for entry in planted])
        for name, truth in truths.items()
    ]
    groups = [rng.choice(repeats, CLASSES, replace=False) for _ in range(200)]
    pooled = [mean_finding([planted[k]["mean_shift"] for k in group], 0.95) for group in groups]
    columns.append(np.mean([mean.lo < SHIFT < mean.hi for mean in pooled]))
    for name in ("trace_ratio", "energy", "overshoot"):
        defined = [e[name] for e in same if e[name].floor is not None]  # overshoot may be undefined
        columns.append(np.mean([e.floor.lo <= e <= e.floor.hi for e in defined]))
    for name in ("trace_ratio", "energy", "overshoot"):
        p_values = [e[name].p_value for e in same]
        columns.append(np.mean([p <= 0.05 for p in p_values if not np.isnan(p)]))
    return [float(value) for value in [*columns, warned / repeats]]


def paired_coverage(law: str, n: int, repeats: int, seed: int) -> float:
    """Share of 95 % intervals of ``paired_ratio`` that hold a planted variance ratio of 0.64 between paired sets."""
    rng, hits = np.random.default_rng(seed), 0
    y, index = np.zeros(n, dtype=np.int64), np.arange(n)
    for _ in range(repeats):
        shared = draw(rng, law, n)
        other = 0.8 * (np.sqrt(0.8) * shared + np.sqrt(0.2) * draw(rng, law, n))
        found = paired_ratio(Features(shared, y, index, {}), Features(other, y, index, {}))
        assert found is not None
        hits += found.ratio.lo < 0.64 < found.ratio.hi
    return hits / repeats


def main(
    repeats: Annotated[int, typer.Option(min=20, help="Simulated classes per line.")] = 300,
    permutations: Annotated[int, typer.Option(min=19, help="Of each null.")] = 199,
    seed: Annotated[int, typer.Option(help="Of everything.")] = 0,
) -> None:
    """Print the tables."""
    headings = "law real fake trace oversh. shift pooled | trace energy oversh. | trace energy oversh. | warned paired"
    table = Table(*headings.replace("| ", "").split(), title=f"{repeats} simulated classes per line, seed {seed}")
    for law, (n_real, n_fake) in track([(law, sizes) for law in LAWS for sizes in SIZES], transient=True):
        numbers = one_line(law, n_real, n_fake, repeats, permutations, seed)
        paired = f"{paired_coverage(law, n_real, repeats, seed):.3f}" if n_real == n_fake else ""
        table.add_row(law, str(n_real), str(n_fake), *(f"{value:.3f}" for value in numbers), paired)
    console = Console(width=140)
    console.print(table)
    console.print(
        "columns: coverage of intervals (4), of floors (3), false alarms at 5 % (3), heavy tails said, paired"
    )


if __name__ == "__main__":
    typer.run(main)
