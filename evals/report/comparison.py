"""Measure one or more generated sets against the real one, and say in words what came out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..features.feature_set import Features
from ..statistics.estimate import Estimate
from ..statistics.measure import measure
from ..statistics.results import ClassDistortion, DistortionReport
from .paired import PairedRatio, paired_distance, paired_ratio
from .sentences import closeness, few, outcome
from .sets import MeasuredSet, comparable

__all__ = ["Comparison", "compare_sets"]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What was measured; the input of every output.

    Attributes:
        real: the real set.
        fakes: the generated sets, in the order of the command line.
        reports: what :func:`~kdist.evals.measure` found, by the name of the set.
        against_first: variance of each further set over that of the first, by name; None where pairs are missing.
        farther: How much farther each other set is from the real classes than :attr:`closest`, paired, by name.
        warnings: what a reader must know, for all sets together.
        settings: options that decided the numbers.
    """

    real: MeasuredSet
    fakes: tuple[MeasuredSet, ...]
    reports: dict[str, DistortionReport]
    against_first: dict[str, PairedRatio | None]
    farther: dict[str, Estimate | None]
    warnings: tuple[str, ...]
    settings: dict[str, Any]

    @property
    def first(self) -> DistortionReport:
        """The report of the first generated set."""
        return next(iter(self.reports.values()))

    @property
    def worst_set(self) -> str:
        """The set that keeps the least variance."""
        return min(self.reports, key=lambda name: self.reports[name].pooled.trace_ratio)

    @property
    def closest(self) -> str:
        """The set with the smallest mean energy distance; others may not be told from it, see :attr:`farther`."""
        return _closest(self.reports)

    @property
    def judge(self) -> str | None:
        """What says that samples belong to their class: ``accuracy`` where all sets have it, else of neighbours."""
        for field in ("accuracy", "neighbour_accuracy"):
            if all(getattr(report.pooled, field) is not None for report in self.reports.values()):
                return field
        return None

    def ranked(self) -> list[ClassDistortion]:
        """The classes of :attr:`worst_set`, the most shrunk first."""
        return sorted(self.reports[self.worst_set].classes, key=lambda entry: entry.trace_ratio)

    def front(self) -> list[str]:
        """Sets that no other beats in both variance kept (up to that of real data) and :attr:`judge`, in their order.

        [] where nothing judges.
        """
        if self.judge is None:
            return []
        points = {
            name: (min(float(report.pooled.trace_ratio), 1.0), float(getattr(report.pooled, self.judge)))
            for name, report in self.reports.items()
        }
        return [
            name
            for name, (ratio, value) in points.items()
            if not any(r >= ratio and v >= value and (r, v) != (ratio, value) for r, v in points.values())
        ]

    def summary(self) -> list[str]:
        """The result in sentences: one per set, then which is closest to the real classes."""
        sentences = [outcome(name, report, self.judge) for name, report in self.reports.items()]
        if len(self.reports) > 1:
            sentences.append(closeness(self.closest, self.farther))
        return sentences


def compare_sets(
    real: MeasuredSet,
    fakes: Sequence[MeasuredSet],
    *,
    common_classes: bool = False,
    seed: int = 0,
    resamples: int = 999,
    progress: Callable[[str], Any] | None = None,
    **options: Any,
) -> Comparison:
    """Measure every generated set.

    Args:
        real: the real set.
        fakes: the generated sets; their classes are matched with the real set's by name.
        common_classes: leave out classes that one of the sets lacks, and say so, instead of refusing.
        seed, resamples, options: the same as in :func:`~kdist.evals.measure`.
        progress: called with the set that is measured, and how far it is.

    Raises:
        ValueError: no generated set; see also :func:`~kdist.evals.measure`.
    """
    if not fakes:
        raise ValueError("fakes must hold at least one generated set")
    fakes = [comparable(real, fake) for fake in fakes]
    warnings: list[str] = []
    if common_classes:
        real, fakes, left_out = _common(real, fakes)
        if left_out:
            warnings.append(f"{len(left_out)} classes that not every set has were left out: {few(left_out)}")
    for entry in (real, *fakes):
        if entry.features.bad:
            names = [str(bad["name"]) for bad in entry.features.bad]
            warnings.append(f"{entry.name}: {len(names)} images could not be read and were left out: {few(names)}")
    reports = {}
    tell = progress or (lambda what: None)
    for fake in fakes:
        name = fake.name
        tell(name)
        reports[name] = _measure(
            real, fake, seed=seed, resamples=resamples,
            progress=lambda done, total, name=name: tell(f"{name}: {done} of {total} classes"), **options,
        )  # fmt: skip
    warnings += _shared_first(reports)
    against = {fake.name: paired_ratio(fakes[0].features, fake.features) for fake in fakes[1:]}
    unpaired = [name for name, ratio in against.items() if ratio is None]
    if unpaired:
        warnings.append(f"no comparison with {fakes[0].name}, fewer than three pairs in a class: {few(unpaired)}")
    features = {fake.name: fake.features for fake in fakes}
    closest = features.pop(_closest(reports))
    some: dict[str, Any] = {"per_class": options.get("per_class"), "seed": seed}
    farther = {name: paired_distance(real.features, closest, other, **some) for name, other in features.items()}
    settings = {"seed": seed, "resamples": resamples, "common_classes": common_classes, **options}
    return Comparison(real, tuple(fakes), reports, against, farther, tuple(warnings), settings)


def _measure(real: MeasuredSet, fake: MeasuredSet, **options: Any) -> DistortionReport:
    predictions: dict[str, Any] = {}
    guesses = real.features.recognised(), fake.features.recognised()
    if guesses[0] is not None and guesses[1] is not None:
        predictions = {"real_predictions": guesses[0], "fake_predictions": guesses[1]}
    try:
        return measure(
            real.features,
            fake.features,
            confidence=0.95,  # the report's texts say 95 % and 5 %
            **predictions,
            **options,
        )
    except ValueError as error:
        hint = ""
        if "of class" in str(error) and str(error).startswith("no "):
            hint = " (--common-classes does it)"
        elif "per_class=" in str(error):
            hint = " (--per-class on the command line)"
        raise ValueError(f"{real.path} and {fake.path}: {error}{hint}") from error


def _common(real: MeasuredSet, fakes: Sequence[MeasuredSet]) -> tuple[MeasuredSet, list[MeasuredSet], list[str]]:
    """All sets without the samples of classes that one of them lacks (or has a single sample of)."""
    sets = [real, *fakes]
    counts = [dict(zip(*np.unique(entry.features.y, return_counts=True), strict=True)) for entry in sets]
    every = sorted(set().union(*counts))
    kept = [label for label in every if all(count.get(label, 0) > 1 for count in counts)]
    if not kept:
        raise ValueError(f"{', '.join(entry.path for entry in sets)}: no class with two samples in every set")
    names = {label: name for entry in sets for label, name in entry.features.classes.items()}
    left_out = [names.get(int(label), str(label)) for label in every if label not in set(kept)]
    chosen = [dataclasses.replace(entry, features=_restrict(entry.features, kept)) for entry in sets]
    return chosen[0], chosen[1:], left_out


def _restrict(features: Features, labels: Sequence[int]) -> Features:
    return features.rows(np.isin(features.y, labels))


def _shared_first(reports: Mapping[str, DistortionReport]) -> list[str]:
    """The reports' warnings: those of all sets once, the others with the name of their set."""
    first, *others = reports.values()
    shared = [note for note in first.warnings if all(note in report.warnings for report in others)]
    own = [f"{name}: {note}" for name, report in reports.items() for note in report.warnings if note not in shared]
    return shared + own


def _closest(reports: Mapping[str, DistortionReport]) -> str:
    distances = {name: float(report.pooled.energy_distance) for name, report in reports.items()}
    return min(distances, key=lambda name: distances[name] if math.isfinite(distances[name]) else math.inf)
