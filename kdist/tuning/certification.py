"""The finalists again, from seeds that nothing was chosen by: the numbers to believe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..schedules import Constant, Schedule, describe
from .bounds import Bound
from .racing import Race, Standing
from .scores import Columns, Value, influence, values

__all__ = ["Certificate", "Certified", "rival"]

CHUNK = 20  # samples of a class drawn at once: the most that a killed run loses
SHOWN = 8  # samples of a class on the page


@dataclass(frozen=True)
class Certified:
    """One schedule on fresh seeds.

    Attributes:
        schedule, choices: what guided.
        columns: what was measured, sample by sample.
        calls_per_sample: network calls for one sample.
        images: the first samples of each class, for the page; a class a row.
    """

    schedule: Schedule
    choices: Mapping[str, Any]
    columns: Columns
    calls_per_sample: float
    images: np.ndarray

    @property
    def name(self) -> str:
        """In words."""
        chosen = ", ".join(f"{name} {getattr(v, '__name__', v)}" for name, v in self.choices.items() if v)
        return describe(self.schedule) + (f" ({chosen})" if chosen else "")

    @property
    def values(self) -> dict[str, Value]:
        """Every statistic with its standard error."""
        return values(self.columns)

    def of_class(self, number: int) -> dict[str, Value]:
        """The same of one class."""
        rows = self.columns["class"] == number
        return values({name: column[rows] for name, column in self.columns.items()})


@dataclass(frozen=True)
class Certificate:
    """The report on fresh seeds: the schedule, a constant scale of the same accuracy, and what was promised.

    Attributes:
        tuned, constant, unguided: each on the same fresh seeds; ``unguided`` is None where calls did not suffice.
        promised: distance and accuracy that the search expected of the tuned schedule.
        bounds: what had to hold.
        paired: whether the same seeds give the same noise, so that differences are taken sample by sample.
    """

    tuned: Certified
    constant: Certified
    promised: Mapping[str, float]
    bounds: tuple[Bound, ...]
    paired: bool

    @property
    def samples(self) -> int:
        """Samples of each schedule."""
        return len(self.tuned.columns["own"])

    def difference(self, name: str) -> Value:
        """Tuned less constant, of ``distance`` or ``accuracy``, with its standard error."""
        a, b = self.tuned.values[name], self.constant.values[name]
        if not self.paired:
            return Value(a.value - b.value, math.hypot(a.error, b.error))
        effect = influence(self.tuned.columns)[name] - influence(self.constant.columns)[name]
        return Value(a.value - b.value, float(effect.std(ddof=1) / math.sqrt(len(effect))))

    @property
    def better(self) -> bool:
        """No constant itself, closer to the real classes than the constant beyond chance, and not less accurate beyond
        chance."""
        if isinstance(self.tuned.schedule, Constant) or self.difference("distance").interval()[1] >= 0:
            return False
        return "accuracy" not in self.tuned.values or self.difference("accuracy").interval()[1] >= 0

    @property
    def missed(self) -> list[str]:
        """The bounds that do not hold on the fresh seeds, in words."""
        found = []
        for bound in self.bounds:
            if bound.name == "calls_per_sample":
                continue
            value = self.tuned.values[bound.name]
            number, error = value.value, value.error
            if bound.name == "displacement":
                number = math.sqrt(max(number, 0.0))
                error = error / (2 * max(number, 1e-3))
            if not bound.holds(number):
                chance = "within chance" if abs(number - bound.limit) < 1.96 * error else "beyond chance"
                found.append(f"{bound} is missed, {chance}: {number:.3f}")
        return found

    @property
    def verdict(self) -> str:
        """One sentence, whichever way the numbers point."""
        distance = self.tuned.values["distance"].value
        other = self.constant.values["distance"].value
        what = f"energy distance {distance:.3f} against {other:.3f}"
        if "accuracy" in self.tuned.values:
            a, b = self.tuned.values["accuracy"].value, self.constant.values["accuracy"].value
            what += f" at accuracy {a:.3f} against {b:.3f}"
        what += f", {self.tuned.calls_per_sample:g} against {self.constant.calls_per_sample:g} calls"
        if isinstance(self.tuned.schedule, Constant):
            return (
                f"Nothing better than a constant scale was found: {self.tuned.name}, {what} for {self.constant.name}."
            )
        if self.better:
            return f"Better than {describe(self.constant.schedule)}: {what}."
        return f"Not better than {describe(self.constant.schedule)}: {what}."

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""

        def plain(certified: Certified) -> dict[str, Any]:
            found = {name: [v.value, v.error] for name, v in certified.values.items()}
            return {"schedule": certified.schedule.to_dict(), "calls_per_sample": certified.calls_per_sample, **found}

        return {
            "verdict": self.verdict,
            "better": self.better,
            "missed": self.missed,
            "samples": self.samples,
            "paired": self.paired,
            "tuned": plain(self.tuned),
            "constant": plain(self.constant),
            "promised": dict(self.promised),
        }


def rival(race: Race, winner: Standing) -> Constant:
    """The constant scale to compare with: of the same accuracy as far as is known, else the closest to the real set."""
    grid = [Constant(round(1 + 0.05 * k, 2)) for k in range(round((race.space.scales[1] - 1) / 0.05) + 1)]
    if isinstance(winner.candidate.schedule, Constant):
        grid = [scale for scale in grid if scale != winner.candidate.schedule]
    name = "accuracy" if "accuracy" in winner.candidate.values else "distance"
    believed = race.believed(name, [(scale, _default_choices(race)) for scale in grid])
    if name == "distance":
        return grid[int(np.argmin(believed))]
    wanted = race.believed(name, [(winner.candidate.schedule, winner.candidate.choices)])[0]
    # accuracy rises with a constant scale; what is believed may wiggle
    rising = np.maximum.accumulate(believed)
    return grid[int(np.argmax(rising >= min(wanted, rising[-1])))]


def _default_choices(race: Race) -> dict[str, Any]:
    return {name: values[0] for name, values in race.space.choices.items()}
