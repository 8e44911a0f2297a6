"""How honest are the intervals and p-values of ``kdist.evals.measure``? Simulated coverage, bias and false alarms.

    python -m scripts.benchmarks.intervals --repeats 400        # the table of docs/statistics.md

One class in 8 dimensions (variance 1/j along direction j), its global mean three spreads of the first direction away.
"heavy" is multivariate t with 5 degrees of freedom. Planted: trace ratio 0.64 and overshoot 0.3; false alarms are
p <= 0.05 where real and generated follow the same law.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from kdist.evals import Estimate
from kdist.evals.statistics.moments import shift_findings
from kdist.evals.statistics.resampling import Resampling
from kdist.evals.statistics.spread import trace_ratio_finding

SPREAD = np.arange(1, 9) ** -0.5
GLOBAL_MEAN = np.eye(8)[0] * 3
SIZES = ((20, 20), (50, 50), (200, 200), (50, 20), (300, 50), (300, 20))


def draw(rng: np.random.Generator, law: str, n: int) -> np.ndarray:
    """n samples with mean 0 and covariance diag(SPREAD^2)."""
    x = rng.normal(size=(n, 8)) * SPREAD
    return x if law == "gaussian" else x * np.sqrt(3 / rng.chisquare(5, size=(n, 1)))


def estimates(fake: np.ndarray, real: np.ndarray, resampling: Resampling) -> dict[str, Estimate]:
    """The statistics of one class of real and generated samples."""
    z = np.concatenate([fake, real]) - GLOBAL_MEAN
    gram, splits = z @ z.T, resampling.of(len(fake), len(real))
    found = {**shift_findings(gram, splits), "trace_ratio": trace_ratio_finding(gram, splits)}
    return {name: finding.shown(0.95) for name, finding in found.items()}


def main(
    repeats: Annotated[int, typer.Option(min=10, help="Simulated classes per line.")] = 400,
    permutations: Annotated[int, typer.Option(min=19, help="Of each null.")] = 99,
    seed: Annotated[int, typer.Option(help="Of everything.")] = 0,
) -> None:
    """Print coverage of the 95 % intervals, mean estimates and false alarms."""
    table = Table(title=f"{repeats} simulated classes per line, seed {seed}")
    for column in ("law", "real", "fake", "trace", "overshoot", "shift", "mean trace", "mean overshoot", "alarms"):
        table.add_column(column, justify="right")
    lines = [(law, *sizes) for law in ("gaussian", "heavy") for sizes in SIZES]
    for law, n_real, n_fake in track(lines, transient=True):
        rng = np.random.default_rng(seed)
        covered, values, alarms = np.zeros(3), np.zeros(2), np.zeros(3)
        shift = 0.9 / np.sqrt((SPREAD**2).sum())
        for _ in range(repeats):
            fake = 0.8 * draw(rng, law, n_fake) - 0.3 * GLOBAL_MEAN
            found = estimates(fake, draw(rng, law, n_real), Resampling(0.95, 0, rng))
            pairs = ((found["trace_ratio"], 0.64), (found["overshoot"], 0.3), (found["mean_shift"], shift))
            covered += [estimate.lo < truth < estimate.hi for estimate, truth in pairs]
            values += float(found["trace_ratio"]), float(found["overshoot"])
            null = estimates(draw(rng, law, n_fake), draw(rng, law, n_real), Resampling(0.95, permutations, rng))
            alarms += [null[name].p_value <= 0.05 for name in ("trace_ratio", "overshoot", "mean_shift")]
        numbers = [f"{c:.3f}" for c in covered / repeats] + [f"{v:.3f}" for v in values / repeats]
        table.add_row(law, str(n_real), str(n_fake), *numbers, " ".join(f"{a:.3f}" for a in alarms / repeats))
    Console(width=110).print(table)


if __name__ == "__main__":
    typer.run(main)
