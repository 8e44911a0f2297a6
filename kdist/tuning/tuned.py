"""A run from the first trial to the files, and what it gives back."""

from __future__ import annotations

import csv
import io
import json
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import prepare_output, write_with_pictures
from ..schedules import Schedule
from .bounds import Bound
from .certification import Certificate
from .problem import Problem
from .records import Candidate
from .search import Progress, Search
from .space import Space
from .study import ThompsonSampler, open_study

__all__ = ["Tuned", "run"]


@dataclass(frozen=True)
class Tuned:
    """What :func:`kdist.tune` found.

    Attributes:
        schedule: the schedule.
        choices: the other arguments of ``generate`` that belong to it.
        certified: the report on fresh seeds, beside a constant scale of the same accuracy.
        front: all schedules tried, as the search saw them; :attr:`best` has those that nothing beats.
        calls: network calls spent, all included.
        warnings: what should be known.
        problem, space, bounds: what was searched.
    """

    schedule: Schedule
    choices: Mapping[str, Any]
    certified: Certificate
    front: list[Candidate]
    calls: int
    warnings: list[str]
    problem: Problem
    space: Space
    bounds: tuple[Bound, ...]

    @property
    def best(self) -> list[Candidate]:
        """The candidates of :attr:`front` that no other beats in distance and accuracy (without a judge: in distance
        and network calls), by distance."""

        def gain(candidate: Candidate) -> float:
            value = candidate.values.get("accuracy")
            return -candidate.calls_per_sample if value is None else value.value

        found: list[Candidate] = []
        for candidate in sorted(self.front, key=lambda c: (c.values["distance"].value, -gain(c))):
            if not found or gain(candidate) > gain(found[-1]):
                found.append(candidate)
        return found

    def __str__(self) -> str:
        return f"{self.schedule}: {self.certified.verdict}"


def run(
    problem: Problem,
    space: Space,
    bounds: tuple[Bound, ...],
    *,
    calls: int,
    per_class: int,
    certify: float,
    warm_starts: Sequence[Schedule],
    sampler: Any,
    out: Path | None,
    storage: str | None,
    resume: bool,
    progress: Callable[[Progress], Any],
) -> Tuned:
    """Search, certify, write."""
    search = Search(problem, space, bounds, calls, per_class, certify, progress)
    search.check_budget()
    if out is not None:
        prepare_output(out)
    if sampler is None:
        start = space.warm_starts(warm_starts)
        sampler, search.exempt = ThompsonSampler(start, search.race, search.ending, problem.seed), len(start)
    where = storage or (None if out is None else f"sqlite:///{out / 'study.db'}")
    search.study = open_study(where, "kdist-tune", sampler, {**problem.about, "per_class": per_class}, resume=resume)
    search.run()
    certificate = search.certificate()
    tuned = Tuned(
        schedule=certificate.tuned.schedule,
        choices=certificate.tuned.choices,
        certified=certificate,
        front=search.known(),
        calls=search.spent(),
        warnings=_warnings(search, certificate),
        problem=problem,
        space=space,
        bounds=bounds,
    )
    if out is not None:
        write(out, tuned)
    return tuned


def _warnings(search: Search, certificate: Certificate) -> list[str]:
    found = list(certificate.missed)
    for bound in search.bounds:
        if bound.name == "accuracy" and 1 - bound.limit < search.fewest:
            found.append(
                f"{bound} is more than {search.calls} calls can tell: the search asked for {1 - search.fewest:.4f}; "
                "give more calls"
            )
    if not search.problem.seen.paired:
        found.insert(
            0,
            "generate gives other images for the same seed: candidates were compared as independent samples, which "
            "needs several times as many",
        )
    return found


def write(out: Path, tuned: Tuned) -> None:
    """``schedule.json``, ``front.csv``, ``certified.json`` and ``report.html``."""
    from .page import report

    about = {
        "schema": "kdist.tune/1",
        "calls": tuned.calls,
        "bounds": {bound.name: bound.limit for bound in tuned.bounds},
        "choices": {name: str(getattr(value, "__name__", value)) for name, value in tuned.choices.items()},
        "warnings": tuned.warnings,
        **tuned.certified.to_dict(),
    }
    numbers = {
        "schedule.json": tuned.schedule.to_json() + "\n",
        "front.csv": front_csv(tuned),
        "certified.json": json.dumps(about, indent=1),
    }
    command = shlex.join(["kdist", *sys.argv[1:]])
    write_with_pictures(out, numbers, former=["report.html"], draw=dict, page=lambda pictures: report(tuned, command))


def front_csv(tuned: Tuned) -> str:
    """Every candidate as the search saw it, one a row."""
    file = io.StringIO()
    writer = csv.writer(file)
    names = ["distance", "accuracy", "alignment", "variance", "displacement", "separability"]
    head = [part for name in names for part in (name, f"{name}_error")]
    writer.writerow(["schedule", "choices", "family", "calls_per_sample", "samples", "on_front", *head])
    best = {candidate.key for candidate in tuned.best}
    for candidate in sorted(tuned.front, key=lambda c: c.values["distance"].value):
        choices = " ".join(f"{k}={getattr(v, '__name__', v)}" for k, v in candidate.choices.items())
        row: list[Any] = [
            candidate.schedule, choices, candidate.family, f"{candidate.calls_per_sample:g}", candidate.samples,
            int(candidate.key in best),
        ]  # fmt: skip
        for name in names:
            value = candidate.values.get(name)
            row += ["", ""] if value is None else [_short(value.value), _short(value.error)]
        writer.writerow(row)
    return file.getvalue()


def _short(number: float) -> str:
    return "" if math.isnan(number) else f"{number:.4g}"
