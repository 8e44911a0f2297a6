"""Which schedule gets the next block of samples: the one that is best in a draw from what is known (Thompson, 1933).

Every schedule starts with one small block, the same seeds for all. After that a new schedule, or one more block for a
known one, is chosen alike: a function is drawn from the surrogate's posterior and its best feasible schedule is taken.
A schedule that could still win by its interval is drawn often, a hopeless one never; several workers need no
coordination, since each draws for itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..schedules import Schedule
from .bounds import FEWEST, Bound, straight, straight_limit
from .margins import SoftErrors
from .records import Candidate, identity
from .scores import Value
from .space import Draw, Space
from .surrogate import FIRST_THETA, Surrogate

__all__ = ["Race", "Standing"]

_POOL = 160  # new schedules to choose among
_ROUNDS = 4  # of Poisson regression, each from the last one's expectation
_CONFIDENT = 0.5  # that the bounds hold, of the schedule that is named best


@dataclass(frozen=True)
class Standing:
    """What is believed of a candidate: distance, and the probability that all bounds hold."""

    candidate: Candidate
    distance: float
    feasible: float


class Race:
    """The state of a search, from its measurements.

    Args:
        space: what may be tried.
        bounds: that must hold; those on calls are known without measuring.
        candidates: measured so far, at least one.
        paired: whether the same seeds give the same noise.
        cost: network calls for one sample of ``(schedule, choices)``.
        thetas: the surrogates' hyperparameters that an earlier race found, by statistic.
        fewest: share of errors, below which no bound on accuracy asks for less.
    """

    def __init__(
        self,
        space: Space,
        bounds: Sequence[Bound],
        candidates: Sequence[Candidate],
        *,
        paired: bool,
        cost: Any,
        thetas: Mapping[str, np.ndarray] | None = None,
        fewest: float = FEWEST,
    ) -> None:
        self.space, self.candidates, self._cost, self._paired = space, list(candidates), cost, paired
        self._fewest = fewest
        self._start = dict(thetas or {})
        self.bounds = [bound for bound in bounds if bound.name != "calls_per_sample"]
        self._most_calls = min((b.limit for b in bounds if b.name == "calls_per_sample"), default=np.inf)
        self.scale = _scale(self.candidates)
        self._lens = _lens(space.importance())
        self._points = np.array([self._point(c.schedule, c.choices) for c in self.candidates])
        names = ["distance", *dict.fromkeys(bound.name for bound in self.bounds)]
        self._fits = {name: self._fit(name) for name in names}

    @property
    def thetas(self) -> dict[str, np.ndarray]:
        """The surrogates' hyperparameters, by statistic."""
        return {name: fit.theta for name, fit in self._fits.items()}

    def _fit(self, name: str) -> Surrogate:
        rows = [(n, block) for n, c in enumerate(self.candidates) for block in c.blocks]
        number, block = [row[0] for row in rows], [row[1] for row in rows]
        samples = [float(len(self.candidates[n].blocks[k]["own"])) for n, k in rows]
        found = [self.candidates[n].of_block(k)[name] for n, k in rows]
        if name == "accuracy" and (soft := SoftErrors.of([self.candidates[n].blocks[k] for n, k in rows])):
            samples = [count / soft.noise for count in samples]
            found = [Value(1 - soft.share(self.candidates[n].blocks[k]), 0.0) for n, k in rows]

        def fit(scales: np.ndarray, theta: np.ndarray | None) -> Surrogate:
            y, errors = np.array(list(map(straight, [name] * len(rows), found, samples, scales[number]))).T
            points = self._points[number]
            return Surrogate(points, number, block, y, errors, paired=self._paired, theta=theta)

        scales, theta = np.full(len(self.candidates), self.scale[name]), self._start.get(name)
        if name == "accuracy":  # the expected shares of errors, from what the neighbours say too
            for _ in range(_ROUNDS):
                mean, _ = fit(scales, FIRST_THETA if theta is None else theta).posterior(
                    self._points, np.arange(len(self.candidates))
                )
                scales = np.clip(np.exp(-mean), FEWEST, 0.9)
        return fit(scales, theta)

    def _point(self, schedule: Schedule, choices: Mapping[str, Any]) -> np.ndarray:
        """A schedule as a vector: distances are differences of guidance where guidance does something."""
        weight = self._lens @ np.arcsinh(self.space.scales_at_levels(schedule) - 1)
        others = [0.5 * (choices[name] == value) for name, given in self.space.choices.items() for value in given]
        return np.concatenate([weight, others])

    def _limit(self, bound: Bound) -> float:
        return straight_limit(bound.name, bound.limit, self.scale[bound.name], self._fewest)

    @cached_property
    def standings(self) -> list[Standing]:
        """All candidates that keep to the calls, the best first: those that hold the bounds by their distance, then
        the others by how likely they do."""
        number = np.arange(len(self.candidates))
        distance, _ = self._fits["distance"].posterior(self._points, number)
        feasible = np.ones(len(number))
        for bound in self.bounds:
            mean, covariance = self._fits[bound.name].posterior(self._points, number)
            feasible *= _normal(
                bound.sign * (mean - self._limit(bound)) / np.sqrt(np.maximum(np.diag(covariance), 1e-12))
            )
        ranked = [
            Standing(c, float(np.sinh(d) * self.scale["distance"]), float(f))
            for c, d, f in zip(self.candidates, distance, feasible, strict=True)
            if c.calls_per_sample <= self._most_calls
        ]
        return sorted(
            ranked, key=lambda s: (s.feasible < _CONFIDENT, s.distance if s.feasible >= _CONFIDENT else -s.feasible)
        )

    def believed(self, name: str, schedules: Sequence[tuple[Schedule, Mapping[str, Any]]]) -> np.ndarray:
        """Expected ``distance`` or bounded statistic of any schedules, increasing with it but on the model's scale."""
        if name not in self._fits:
            self._fits[name] = self._fit(name)
        points = np.array([self._point(schedule, choices) for schedule, choices in schedules])
        return self._fits[name].posterior(points, np.full(len(points), -1))[0]

    def next_params(self, rng: np.random.Generator, *, again: bool = False) -> Mapping[str, Any]:
        """The parameters of the schedule that gets the next block; ``again``: of one that is known already."""
        drawn = [] if again else self._pool(rng)
        points = np.concatenate([self._points, np.array([p for _, p in drawn]).reshape(-1, self._points.shape[1])])
        number = np.concatenate([np.arange(len(self.candidates)), np.full(len(drawn), -1)])
        distance = _sample(rng, *self._fits["distance"].posterior(points, number))
        missed = np.zeros(len(points))
        for bound in self._drawn_bounds(rng):
            value = _sample(rng, *self._fits[bound.name].posterior(points, number))
            missed = np.maximum(missed, bound.sign * (self._limit(bound) - value))
        allowed = np.array([c.calls_per_sample <= self._most_calls for c in self.candidates] + [True] * len(drawn))
        missed[~allowed] = np.inf
        best = int(np.lexsort((distance, missed))[0])
        if best < len(self.candidates):
            return self.candidates[best].params
        return drawn[best - len(self.candidates)][0]

    def _drawn_bounds(self, rng: np.random.Generator) -> list[Bound]:
        """The bounds; without one but with a judge, a random accuracy, so that the whole front is explored."""
        if self.bounds or "accuracy" not in self.candidates[0].values:
            return self.bounds
        reached = [c.values["accuracy"].value for c in self.candidates]
        if "accuracy" not in self._fits:
            self._fits["accuracy"] = self._fit("accuracy")
        return [Bound("accuracy", float(rng.uniform(min(reached), max(reached))), 1)]

    def _pool(self, rng: np.random.Generator) -> list[tuple[dict[str, Any], np.ndarray]]:
        """New schedules: half of them anywhere, half near those that stand best."""
        known = {c.key for c in self.candidates}
        leaders = [s.candidate.params for s in self.standings[:6]]
        found: dict[str, tuple[dict[str, Any], np.ndarray]] = {}
        for index in range(_POOL):
            near = leaders[int(rng.integers(len(leaders)))] if index % 2 and leaders else {}
            draw = Draw(rng, near=near)
            schedule, choices = self.space.suggest(draw)
            key = identity(schedule, choices)
            if key in known or key in found:
                continue
            if self._most_calls == np.inf or self._cost(schedule, choices) <= self._most_calls:
                found[key] = dict(draw.params), self._point(schedule, choices)
        return list(found.values())


def _scale(candidates: Sequence[Candidate]) -> dict[str, float]:
    """Where a distance turns from linear to logarithmic, three times the noise of one block; and the share of errors
    over all candidates."""
    measured = [c.of_block(block) for c in candidates for block in c.blocks]
    scale = {name: max(3 * float(np.median([m[name].error for m in measured])), 1e-9) for name in measured[0]}
    if "accuracy" in scale:
        scale["accuracy"] = float(np.clip(1 - np.mean([m["accuracy"].value for m in measured]), 0.01, 0.9))
    return scale


def _lens(importance: np.ndarray) -> np.ndarray:
    """(L, L) from weights at the levels to a point: neighbouring levels, which do much the same, are blurred."""
    place = np.arange(len(importance))
    blur = np.exp(-np.square(np.subtract.outer(place, place)) / 2) * importance
    return blur / blur.sum(axis=1, keepdims=True) * np.sqrt(importance / importance.sum())[:, None]


def _sample(rng: np.random.Generator, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    jitter = 1e-8 * max(float(np.trace(covariance)) / len(mean), 1e-12)
    for _ in range(6):
        try:
            root = np.linalg.cholesky(covariance + jitter * np.eye(len(mean)))
            return mean + root @ rng.standard_normal(len(mean))
        except np.linalg.LinAlgError:
            jitter *= 10
    return mean + np.sqrt(np.maximum(np.diag(covariance), 0)) * rng.standard_normal(len(mean))


def _normal(z: np.ndarray) -> np.ndarray:
    from scipy.special import ndtr

    return ndtr(z)
