"""The gallery of docs/gallery.md: ten schedules, each with its curve, digits drawn under it, and what was measured.

python -m scripts.pages.gallery              # measures, draws and writes page, pictures and record; some minutes
python -m scripts.pages.gallery --page-only  # writes the page again from docs/data/gallery.json
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

import kdist
from kdist.files import write_atomically
from scripts.style import COLOURS, interval, number

__all__ = ["CARDS", "Card", "measured", "page"]

DOCS = Path(__file__).parents[2] / "docs"
RECORD = DOCS / "data" / "gallery.json"
PER_CLASS, SEED = 100, 0


@dataclass(frozen=True)
class Card:
    """One schedule of the gallery: the name of its class, one sentence, the line of code that makes it."""

    name: str
    sentence: str
    code: str

    @property
    def schedule(self) -> kdist.Schedule:
        """What the line of code makes."""
        schedule: kdist.Schedule = eval(self.code, {"kdist": kdist})
        return schedule

    @property
    def picture(self) -> str:
        """Where its picture lies, from the page."""
        return f"figures/gallery/{self.name}.png"


_RANGE = "sigma_min=0.02, sigma_max=20"
CARDS = (
    Card("Constant", "The same scale at every noise level: the guidance that everyone knows.", "kdist.Constant(2)"),
    Card(
        "Interval",
        "Guides in the middle only. Outside, one network pass is enough.",
        "kdist.Interval(2, sigma_lo=0.3, sigma_hi=2)",
    ),
    Card(
        "Ramp",
        "Rises from 1 while the noise falls, here along a cosine.",
        f'kdist.Ramp(1, 2, {_RANGE}, shape="cosine")',
    ),
    Card("Triangle", "Weak early, strong in the middle, weak late.", f"kdist.Triangle(2, sigma_peak=1, {_RANGE})"),
    Card("Beta", "A smooth hill, the density of a beta distribution.", f"kdist.Beta(2, {_RANGE}, a=2, b=2)"),
    Card("Exponential", "Grows faster and faster towards the end.", f"kdist.Exponential(2, {_RANGE}, decay=5)"),
    Card(
        "LateNegative",
        "Strong first, then below 1: the end of sampling takes spread back.",
        "kdist.LateNegative(2, sigma_switch=1.2, late=0.5)",
    ),
    Card(
        "EarlyNegative",
        "Begins without the class and guides from the switch on.",
        "kdist.EarlyNegative(2, sigma_switch=1.2, early=0.25, sigma_end=0.1)",
    ),
    Card(
        "NegativeWindow",
        "Below 1 inside a window, guided before and after it; the edges can be soft.",
        "kdist.NegativeWindow(2, sigma_lo=0.7, sigma_hi=2, inside=0.5, ramp=0.5)",
    ),
    Card(
        "Piecewise",
        "Any numbers at any noise levels, for instance what a search has found.",
        "kdist.Piecewise(sigmas=(20, 4, 1, 0.3), scales=(1, 1.5, 2, 1))",
    ),
)

HEAD = """# Gallery

Ten schedules of the same peak, 2. Each picture has the curve on the left, read in the direction of sampling. On the
right are digits drawn under it, from the same noise in every picture.

- *Distance* is the [energy distance](glossary.md#energy-distance) to the real digits: 0 where the distributions agree
  (in brackets its 95 % interval).
- [*Variance kept*](glossary.md#variance-kept) is 1 where a class is as varied as the real one.
- *Accuracy* is that of the shipped classifier. A [*call*](glossary.md#call) is one evaluation of the network.

Without guidance: {unguided}.

These are numbers of the shipped digits network, for these settings. Which shape is best on your model is a question
for [a search](tuning.md), not for a picture. All fields of all schedules are in [Schedules](schedules.md).

```python
import kdist
from kdist import digits

model = digits.load_model()
guided = kdist.guide(model, kdist.Interval(2, 0.3, 2), uncond={{"class_cond": digits.UNCOND}})
```

<div class="grid cards" markdown>
"""
CARD = """
-   **{card.name}**

    {card.sentence}

    ![{card.name}: scale against sigma, and digits drawn with it]({card.picture})

    ```python
    {card.code}
    ```

    {numbers}
"""
FOOT = """
</div>

`python -m scripts.pages.gallery`: DPM-Solver++(2M), 20 steps, {count} samples of each digit, seed {seed}, against all
1797 real digits, in pixels. [data/gallery.json](data/gallery.json) has the record.
"""


def measured(schedule: kdist.Schedule) -> tuple[dict[str, Any], Any]:
    """What the page says of a schedule, and the samples (N, 1, 8, 8), sorted by class."""
    from kdist.demo import run_demo

    (outcome,) = run_demo([schedule], per_class=PER_CLASS, seed=SEED, resamples=0)
    pooled = outcome.pixels.pooled
    numbers = {
        "distance": float(pooled.energy_distance),
        "interval": pooled.energy_distance.interval,
        "variance": float(pooled.trace_ratio),
        "accuracy": float(pooled.accuracy),
        "calls": float(outcome.nfe),
    }
    return numbers, outcome.samples


def page(record: dict[str, Any]) -> str:
    """docs/gallery.md, from what was measured."""
    cards = [CARD.format(card=card, numbers=_line(record[card.name])) for card in CARDS]
    head = HEAD.format(unguided=_line(record["unguided"]))
    return head + "".join(cards) + FOOT.format(count=PER_CLASS, seed=SEED)


def _line(numbers: dict[str, Any]) -> str:
    """The numbers of a schedule in words."""
    distance = interval([numbers["distance"], *numbers["interval"]], 3)
    return (
        f"distance {distance}, variance kept {number(numbers['variance'])}, "
        f"accuracy {number(numbers['accuracy'], 3)}, {numbers['calls']:g} calls"
    )


def draw(card: Card, samples: Any, path: Path) -> None:
    """The curve, and two samples of each digit beside it."""
    import matplotlib.pyplot as plt

    from kdist.evals.report.html import grid

    figure, (left, right) = plt.subplots(1, 2, figsize=(6, 2.6), width_ratios=(3, 2), layout="constrained")
    card.schedule.plot(ax=left, sigma_max=20.0, color=COLOURS[0])
    left.set_ylim(-0.2, 2.3)
    first = samples.reshape(10, -1, *samples.shape[1:])[:, :2]  # two of each digit, in rows of five
    sheet = grid(first.transpose(0, 1).flatten(0, 1).numpy(), 5)
    right.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    right.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(
    page_only: Annotated[bool, typer.Option("--page-only", help="measure and draw nothing")] = False,
) -> None:
    """Make the gallery."""
    if not page_only:
        import matplotlib

        matplotlib.use("Agg")
        record = {"unguided": measured(kdist.Constant(1))[0]}
        for card in CARDS:
            record[card.name], samples = measured(card.schedule)
            draw(card, samples, DOCS / card.picture)
            typer.echo(f"{card.name}: {_line(record[card.name])}")
        write_atomically(RECORD, json.dumps(record, indent=1) + "\n")
    write_atomically(DOCS / "gallery.md", page(json.loads(RECORD.read_text())))


if __name__ == "__main__":
    typer.run(main)
