"""How honest are the intervals, floors and p-values of ``kdist.evals.measure``? Simulated coverage and false alarms.

    python -m scripts.benchmarks.intervals --repeats 2000       # the tables of docs/statistics.md

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
from kdist.evals.statistics.energy import energy_distance
from kdist.evals.statistics.estimate import Estimate
from kdist.evals.statistics.gram import squared_distances
from kdist.evals.statistics.moments import shift_findings
from kdist.evals.statistics.pairwise import compare_pairs
from kdist.evals.statistics.resampling import Finding, Resampling
from kdist.evals.statistics.spread import trace_ratio_finding
from kdist.evals.statistics.stack import sample_warnings

SPREAD = np.arange(1, 9) ** -0.5
GLOBAL_MEAN = np.eye(8)[0] * 3
LAWS = ("gaussian", "t5", "exponential", "lognormal", "outliers")
SIZES = ((20, 20), (20, 100), (20, 200), (50, 50), (200, 20))
CLASSES = 20
SHIFT = 0.9 / np.sqrt((SPREAD**2).sum())  # 0.3 of the way of three


def draw(rng: np.random.Generator, law: str, *shape: int) -> np.ndarray:
    """(*shape, 8) samples with mean 0 and, but for the outliers, covariance diag(SPREAD^2)."""
    x = rng.normal(size=(*shape, 8))
    if law == "t5":
        x *= np.sqrt(3 / rng.chisquare(5, size=(*shape, 1)))
    elif law == "exponential":
        x = rng.exponential(size=x.shape) - 1
    elif law == "lognormal":
        x = (np.exp(x) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)
    elif law == "outliers":
        x *= np.where(rng.random((*shape, 1)) < 0.02, 6, 1) / np.sqrt(1 + 35 * 0.02)
    return x * SPREAD


def findings(fake: np.ndarray, real: np.ndarray, resampling: Resampling) -> tuple[dict[str, Finding], int]:
    """The statistics of K classes, (K, n, 8), and how many are said to have heavy tails."""
    z = np.concatenate([fake, real], axis=1) - GLOBAL_MEAN
    grams, splits = z @ z.transpose(0, 2, 1), resampling.of(fake.shape[1], real.shape[1])
    distances = squared_distances(grams)
    found = {"trace_ratio": trace_ratio_finding(grams, splits), "energy": energy_finding(distances, splits)}
    warnings = sample_warnings(grams, distances, fake.shape[1])
    warned = sum(any("heavy tails" in note for note in notes) for notes in warnings)
    return found | shift_findings(grams, splits), warned


def one_line(law: str, n_real: int, n_fake: int, repeats: int, permutations: int, seed: int) -> list[float]:
    """Coverage of intervals and floors, false alarms, the share warned of."""
    rng, pools = np.random.default_rng(seed), {}
    truths = {"trace_ratio": 0.64, "overshoot": 0.3, "mean_shift": SHIFT}
    planted: dict[str, list[Estimate]] = {name: [] for name in truths}
    same: dict[str, list[Estimate]] = {name: [] for name in ("trace_ratio", "energy", "overshoot")}
    warned = 0
    for _ in range(repeats // CLASSES):
        generators = rng.spawn(CLASSES)
        fake = 0.8 * draw(rng, law, CLASSES, n_fake) - 0.3 * GLOBAL_MEAN
        found, _ = findings(fake, draw(rng, law, CLASSES, n_real), Resampling(0.95, 0, generators))
        for name, estimates in planted.items():
            estimates += found[name].shown(0.95)
        resampling = Resampling(0.95, permutations, generators, seed, pools)
        found, heavy = findings(draw(rng, law, CLASSES, n_fake), draw(rng, law, CLASSES, n_real), resampling)
        warned += heavy
        for name, estimates in same.items():
            estimates += found[name].shown(0.95)
    columns = [np.mean([entry.lo < truth < entry.hi for entry in planted[name]]) for name, truth in truths.items()]
    columns.append(pooled_coverage(law, n_real, n_fake, 3 * repeats // 10, seed))
    for estimates in same.values():
        columns.append(np.mean([e.floor.lo <= e <= e.floor.hi for e in estimates if e.floor is not None]))
    for estimates in same.values():  # overshoot may be undefined
        columns.append(np.mean([e.p_value <= 0.05 for e in estimates if not np.isnan(e.p_value)]))
    return [float(value) for value in [*columns, warned / (CLASSES * (repeats // CLASSES))]]


def pooled_coverage(law: str, n_real: int, n_fake: int, repeats: int, seed: int) -> float:
    """Share of 95 % intervals of the mean shift's mean over 20 classes that hold the planted one."""
    rng, hits = np.random.default_rng(seed), 0
    splits = Resampling(0.95, 0, rng.spawn(CLASSES)).of(n_fake, n_real)
    for _ in range(repeats):
        fake = 0.8 * draw(rng, law, CLASSES, n_fake) - 0.3 * GLOBAL_MEAN
        z = np.concatenate([fake, draw(rng, law, CLASSES, n_real)], axis=1) - GLOBAL_MEAN
        mean = mean_finding([shift_findings(z @ z.transpose(0, 2, 1), splits)["mean_shift"]], 0.95)
        hits += mean.lo < SHIFT < mean.hi
    return hits / repeats


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


def reference_coverage(law: str, n: int, repeats: int, permutations: int, seed: int) -> list[float]:
    """Of sets held against a reference set, without real samples: intervals of distance and pairwise distance, alarms.

    Pairs share 80 % of their variance through the seed. Planted: 0.8 of every length; the distance that goes with it is
    that of 4000 samples.
    """
    rng, centre = np.random.default_rng(seed), np.zeros(8)
    truth = energy_distance(draw(rng, law, 4000), 0.8 * draw(rng, law, 4000))
    hits = np.zeros(3)
    for _ in range(repeats):
        shared, one, two = (draw(rng, law, n) for _ in range(3))
        first, other = (np.sqrt(0.8) * shared + np.sqrt(0.2) * own for own in (one, two))
        found = compare_pairs(first, 0.8 * other, centre, resamples=0, generator=rng)
        distance, spread = found.distance.estimate(), found.log_spread.estimate()
        null = compare_pairs(first, other, centre, resamples=permutations, generator=rng)
        alarm = 1 + (null.swapped >= null.distance.value).sum() <= 0.05 * (permutations + 1)
        hits += distance.lo < truth < distance.hi, spread.lo < np.log(0.8) < spread.hi, alarm
    return [float(share) for share in hits / repeats]


def main(
    repeats: Annotated[int, typer.Option(min=20, help="Simulated classes per line.")] = 2000,
    permutations: Annotated[int, typer.Option(min=19, help="Of each null.")] = 199,
    seed: Annotated[int, typer.Option(help="Of everything.")] = 0,
    laws: Annotated[list[str], typer.Option("--law", help="Only these laws.")] = list(LAWS),  # noqa: B006
    alone: Annotated[bool, typer.Option(help="The table of sets against real samples.")] = True,
    paired: Annotated[bool, typer.Option(help="The table of sets of the same seeds.")] = True,
) -> None:
    """Print the tables."""
    if unknown := sorted(set(laws) - set(LAWS)):
        raise typer.BadParameter(f"--law must be one of {', '.join(LAWS)}; got {', '.join(unknown)}")
    console = Console(width=140)
    if alone:
        _print_alone(console, laws, repeats, permutations, seed)
    if paired:
        _print_paired(console, laws, repeats // 4, permutations, seed)


def _print_alone(console: Console, laws: list[str], repeats: int, permutations: int, seed: int) -> None:
    headings = "law real fake trace oversh. shift pooled | trace energy oversh. | trace energy oversh. | warned"
    table = Table(*headings.replace("| ", "").split(), title=f"{repeats} simulated classes per line, seed {seed}")
    for law, (n_real, n_fake) in track([(law, sizes) for law in laws for sizes in SIZES], transient=True):
        numbers = one_line(law, n_real, n_fake, repeats, permutations, seed)
        table.add_row(law, str(n_real), str(n_fake), *(f"{value:.3f}" for value in numbers))
    console.print(table)
    console.print("columns: coverage of intervals (4), of floors (3), false alarms at 5 % (3), heavy tails said")


def _print_paired(console: Console, laws: list[str], repeats: int, permutations: int, seed: int) -> None:
    heads = ("law", "pairs", "variance", "distance", "pairwise", "alarms")
    pairs = Table(*heads, title=f"{repeats} paired sets per line")
    for law, n in track([(law, n) for law in laws for n in (20, 50)], transient=True):
        numbers = [
            paired_coverage(law, n, repeats, seed),
            *reference_coverage(law, n, repeats, permutations, seed),
        ]
        pairs.add_row(law, str(n), *(f"{value:.3f}" for value in numbers))
    console.print(pairs)
    console.print("columns: coverage of the intervals of three numbers against a reference set, its false alarms")


if __name__ == "__main__":
    typer.run(main)
