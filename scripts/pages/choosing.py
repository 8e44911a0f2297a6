"""docs/choosing.md: the words of choosing.md.j2, the numbers of F4 and F5 and of a few schedules on Fashion-MNIST.

python -m scripts.pages.choosing              # measures on Fashion-MNIST, some minutes of a core, and writes the page
python -m scripts.pages.choosing --page-only  # writes the page again from the records in docs/data
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import jinja2
import typer
from rich.console import Console

import kdist
from kdist.files import write_atomically
from scripts import reproduce
from scripts.results.figures import FIGURES
from scripts.results.store import Store, circumstances
from scripts.style import interval, markdown, number

__all__ = ["FASHION", "page"]

DOCS = Path(__file__).parents[2] / "docs"
RECORD = DOCS / "data" / "fashion_schedules.json"
PER_CLASS, SEED = 30, 0
FASHION: dict[str, kdist.Schedule] = {
    "no guidance": kdist.Constant(1.0),
    "constant 1.25": kdist.Constant(1.25),
    "interval: 2 for sigma 0.3 to 2.5, else 1": kdist.Interval(2.0, 0.3, 2.5),
    "constant 2": kdist.Constant(2.0),
    "early negative: 0, then 3 below sigma 10": kdist.EarlyNegative(3.0, 10.0),
}


def measured(schedule: kdist.Schedule) -> dict[str, Any]:
    """Distance with its interval, displacement, variance kept, accuracy and network calls on the shipped network."""
    from kdist.demo import run_demo

    (outcome,) = run_demo([schedule], data="fashion", per_class=PER_CLASS, seed=SEED, resamples=0)
    pooled = outcome.pixels.pooled
    return {
        "distance": [float(pooled.energy_distance), *map(float, pooled.energy_distance.interval)],
        "displacement": float(pooled.displacement),
        "variance": float(pooled.trace_ratio),
        "accuracy": float(pooled.accuracy),
        "accuracy_real": float(pooled.accuracy_real),
        "calls": float(outcome.nfe),
    }


def table(record: dict[str, Any]) -> str:
    """The schedules on Fashion-MNIST, the nearest to the real classes first."""
    lines = [
        [
            name,
            interval(row["distance"], 3),
            number(row["displacement"]),
            number(row["variance"]),
            number(row["accuracy"], 3),
            f"{row['calls']:g}",
        ]
        for name, row in sorted(record.items(), key=lambda item: item[1]["distance"][0])
    ]
    return markdown(["guidance", "distance", "means displaced", "variance kept", "accuracy", "calls"], lines)


def rows(*, measure: bool) -> dict[str, Any]:
    """What was measured of each Fashion-MNIST schedule; ``measure`` makes what is missing."""
    store = Store(RECORD, {"command": "python -m scripts.pages.choosing", **circumstances()}, frozen=not measure)
    found = {}
    for name, schedule in FASHION.items():
        key = {"schedule": str(schedule), "per_class": PER_CLASS, "seed": SEED}
        found[name] = store.get(key, lambda schedule=schedule: measured(schedule))
    store.finish()
    return found


def page() -> str:
    """The page, from the records alone."""
    texts = {
        name: reproduce.make(name, FIGURES[name], DOCS, quick=False, measure=False, console=Console())
        for name in ("F4", "F5")
    }
    fashion = rows(measure=False)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    template = environment.from_string((Path(__file__).parent / "choosing.md.j2").read_text())
    return template.render(
        **texts,
        fashion=table(fashion),
        real_accuracy=number(fashion["no guidance"]["accuracy_real"], 3),
        per_class=PER_CLASS,
        seed=SEED,
    )


def main(page_only: Annotated[bool, typer.Option("--page-only", help="measure nothing")] = False) -> None:
    """Make the page."""
    if not page_only:
        rows(measure=True)
    write_atomically(DOCS / "choosing.md", page())


if __name__ == "__main__":
    typer.run(main)
