"""The whole of it: warm starts, race, certification, within one budget of network calls."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
from optuna.trial import FixedTrial, TrialState

from ..schedules import Schedule
from .bounds import Bound, told
from .certification import CHUNK, SHOWN, Certificate, Certified, rival
from .problem import Problem
from .racing import Race, Standing
from .records import Candidate, identity, pack, unpack
from .scores import join, values
from .space import Space
from .study import read_records

__all__ = ["Progress", "Search"]

_CERTIFY = "certified:"  # study attributes that keep the certification's chunks
SETTLE = 0.75  # of the search's calls, after which nothing new is tried
UNREACHABLE = 0.05  # probability that the bounds hold, below which there is nothing to certify
REFIT = 1.2  # growth of the study after which the surrogates' hyperparameters are found anew
PATIENCE = 2000  # schedules in a row that may cost too many calls
LEADER = 0.1  # of the search's samples that the best schedule gets at least; .10 to .20 in searches on the digits
MIN_BLOCKS = 12  # without which a search tells nothing


@dataclass(frozen=True)
class Progress:
    """Where a search is: network calls spent of how many, what is done now, and the best so far."""

    spent: int
    total: int
    doing: str
    best: Standing | None


@dataclass
class Search:
    """One worker on one study.

    Attributes:
        problem, space, bounds: what is searched.
        calls: the budget, certification included.
        per_class: samples of each class in one block.
        certify: share of the budget for fresh seeds.
        report: called after every block.
        study: where trials are kept; set before :meth:`run`.
        exempt: first trials, warm starts, that are measured whatever they cost: constants tell about the others.
    """

    problem: Problem
    space: Space
    bounds: tuple[Bound, ...]
    calls: int
    per_class: int
    certify: float
    report: Callable[[Progress], Any]
    study: optuna.Study = field(init=False)
    exempt: int = 0
    _read: set[int] = field(default_factory=set)  # trials that are in _known
    _known: dict[str, Candidate] = field(default_factory=dict)
    _calls: int = 0
    _spent: int = 0  # network calls, when they were last counted
    _races: dict[str, Any] = field(default_factory=dict)
    _refused: int = 0  # schedules in a row that cost too many calls
    _done: bool = False

    @property
    def most_calls(self) -> float:
        """The bound on network calls for one sample."""
        return min((bound.limit for bound in self.bounds if bound.name == "calls_per_sample"), default=math.inf)

    @property
    def fewest(self) -> float:
        """The share of errors that the samples of the best schedule, a tenth of the search's, tell from none."""
        each = min(2 * len(self.problem.seen.called), self.most_calls)
        return told(LEADER * self.calls * (1 - self.certify) / each)

    def check_budget(self) -> None:
        """Raise ValueError where the calls are too few to tell anything."""
        fewest = len(self.problem.seen.called)
        if self.most_calls < fewest:
            raise ValueError(
                f"calls_per_sample={self.most_calls:g} is not possible: the sampler alone makes {fewest} calls"
            )
        block = 2 * len(self.problem.seen.called) * self.per_class * len(self.problem.classes)
        needed = round((MIN_BLOCKS * block + self.problem.calls) / (1 - self.certify))
        if self.calls < needed:
            raise ValueError(
                f"calls={self.calls} is too few to tell anything: {len(self.problem.classes)} classes with "
                f"{self.per_class} samples each take {block} network calls for one look at one schedule; give at least "
                f"{needed}"
            )

    def race(self) -> Race | None:
        """What was known when the study was last read, None for nothing; made anew, and its hyperparameters found anew,
        only where enough is new."""
        last, trials = self._races, len(self._read)
        if not self._known:
            return None
        if last.get("trials") != trials:
            fresh = trials > REFIT * last.get("fitted", 0)
            thetas = None if fresh else last["race"].thetas
            paired, cost, known = self.problem.seen.paired, self.problem.calls_per_sample, list(self._known.values())
            last["race"] = Race(
                self.space, self.bounds, known, paired=paired, cost=cost, thetas=thetas, fewest=self.fewest
            )
            last["trials"], last["fitted"] = trials, trials if fresh else last["fitted"]
        return last["race"]

    def known(self, study: optuna.Study | None = None) -> list[Candidate]:
        """Every schedule measured, by all workers, in the order in which they were first tried."""
        for number, record in read_records(self.study if study is None else study, self._read):
            self._read.add(number)
            self._calls += record.calls
            if record.key not in self._known:
                schedule, choices = self.space.suggest(FixedTrial(dict(record.params)))
                cost = record.calls / len(record.columns["own"])
                self._known[record.key] = Candidate(schedule, choices, record.params, cost)
            before = self._known[record.key]
            # a new object: what was computed of the old one is of fewer blocks
            blocks = {**before.blocks, record.block: record.columns}
            self._known[record.key] = replace(before, blocks=blocks)
        return list(self._known.values())

    def run(self) -> None:
        """Measure until the search's part of the budget is spent."""
        budget = self.calls * (1 - self.certify)
        while not self._done and (used := self.spent()) < budget:
            self.report(Progress(used, self.calls, "searching", self._best()))
            self._trial()
            if self._refused > PATIENCE:
                raise ValueError(
                    f"calls_per_sample={self.most_calls:g}: of the last {PATIENCE} schedules of {self.space.families} "
                    "none was so cheap; allow more calls or other families"
                )

    def ending(self) -> bool:
        """Whether the search is in its last part, which only tells the known schedules apart."""
        return self._spent > SETTLE * self.calls * (1 - self.certify)

    def spent(self) -> int:
        """Network calls so far, of all workers; reads the study."""
        certified = sum(kept["calls"] for name, kept in self.study.user_attrs.items() if name.startswith(_CERTIFY))
        self.known()
        self._spent = self.problem.calls + self._calls + certified
        return self._spent

    def _best(self) -> Standing | None:
        race = self.race()
        return race.standings[0] if race and race.standings else None

    def _trial(self) -> None:
        trial = self.study.ask()
        try:
            self._measure(trial)
        except BaseException:  # Ctrl-C too: nobody waits for this trial
            self.study.tell(trial, state=TrialState.FAIL)
            raise

    def _measure(self, trial: optuna.Trial) -> None:
        schedule, choices = self.space.suggest(trial)
        if trial.number >= self.exempt and self.problem.calls_per_sample(schedule, choices) > self.most_calls:
            self._refused += 1  # known without measuring, and free
            return self._tell(trial, state=TrialState.PRUNED)
        key = identity(schedule, choices)
        trial.set_user_attr("key", key)
        block = self._claimed_block(trial, key)
        columns, calls, _ = self.problem.measure(schedule, choices, "search", block, self.per_class)
        found = values(columns)
        for name, value in found.items():
            trial.set_user_attr(name, value.value)
        trial.set_user_attr("calls", calls)
        trial.set_user_attr("columns", pack(columns))
        self._refused = 0
        self._tell(trial, found["distance"].value)

    def _tell(self, trial: optuna.Trial, value: float | None = None, state: TrialState | None = None) -> None:
        try:
            self.study.tell(trial, value, state)
        except RuntimeError as error:
            if "Study.stop" not in str(error):
                raise
            self._done = True  # the trial is told; a sampler that has shown all it has, a grid, stops the study

    def _claimed_block(self, trial: optuna.Trial, key: str) -> int:
        """A block of seeds on which this schedule is not measured, here or by another worker.

        Two that choose at the same moment choose the same: each looks again after it wrote down its choice, and keeps
        what nobody else has. The later trial goes on at once, the earlier one if the other stays.
        """
        while True:
            taken = self._taken(key, trial.number).values()
            block = next(block for block in range(len(taken) + 1) if block not in taken)
            trial.set_user_attr("block", block)
            for pause in (0.0, 0.1):
                time.sleep(pause)
                rivals = [number for number, theirs in self._taken(key, trial.number).items() if theirs == block]
                if not rivals:
                    return block
                if min(rivals) < trial.number:
                    break

    def _taken(self, key: str, number: int) -> dict[int, int | None]:
        """The blocks of all other trials of this schedule, by their numbers."""
        states = (TrialState.COMPLETE, TrialState.RUNNING)
        return {
            t.number: t.user_attrs.get("block")
            for t in self.study.get_trials(deepcopy=False, states=states)
            if t.user_attrs.get("key") == key and t.number != number
        }

    # Certification

    def certificate(self) -> Certificate:
        """The best schedule and a constant scale of its accuracy on fresh seeds."""
        self._races.clear()  # from the trials alone, not from when this process found the hyperparameters
        known, race = self.known(), self.race()
        if race is None or not race.standings:
            raise ValueError(f"calls_per_sample={self.most_calls:g}: nothing that was tried is so cheap; allow more")
        winner = race.standings[0]
        if winner.feasible < UNREACHABLE and not any(map(self._holds, known)):
            raise ValueError(self._reached())
        finalists = [(winner.candidate.schedule, winner.candidate.choices)]
        finalists.append((rival(race, winner), {name: v[0] for name, v in self.space.choices.items()}))
        each = sum(self.problem.calls_per_sample(*finalist) for finalist in finalists) * len(self.problem.classes)
        chunks = max(1, round(self.calls * self.certify / (each * CHUNK)))
        tuned, constant = (self._certified(*finalist, chunks) for finalist in finalists)
        promised = {"distance": winner.distance, "feasible": winner.feasible}
        promised.update({name: value.value for name, value in winner.candidate.values.items() if name != "distance"})
        promised["measured distance"] = winner.candidate.values["distance"].value
        return Certificate(tuned, constant, promised, self.bounds, self.problem.seen.paired)

    def _holds(self, candidate: Candidate) -> bool:
        """Whether its samples, few as they are, keep to the bounds."""
        found = {name: value.value for name, value in candidate.values.items()}
        found["displacement"] = math.sqrt(max(found["displacement"], 0.0))
        found["calls_per_sample"] = candidate.calls_per_sample
        return all(bound.holds(found[bound.name]) for bound in self.bounds)

    def _reached(self) -> str:
        """What was reached of the bounds, where nothing holds them."""
        bounds = [bound for bound in self.bounds if bound.name != "calls_per_sample"]
        found = []
        for bound in bounds:
            best = max(self.known(), key=lambda c: bound.sign * c.values[bound.name].value)
            value = best.values[bound.name].value
            shown = math.sqrt(max(value, 0.0)) if bound.name == "displacement" else value
            found.append(f"{bound.name} {shown:.3f} on {best.samples} samples by {best.schedule}")
        wanted = " and ".join(map(str, bounds))
        return f"{wanted} is not reached by anything that was tried; at most {', '.join(found)}: ask for less"

    def _certified(self, schedule: Schedule, choices: Mapping[str, Any], chunks: int) -> Certified:
        """One finalist on the fresh seeds; chunks that an earlier run finished are not drawn again."""
        parts, calls = [], 0
        for number in range(chunks):
            name = f"{_CERTIFY}{number}:{identity(schedule, choices)}"
            kept = self.study.user_attrs.get(name)
            if kept is None:
                self.report(Progress(self.spent(), self.calls, "certifying", self._best()))
                columns, cost, images = self.problem.measure(schedule, choices, "certify", number, CHUNK)
                shown = images.unflatten(0, (len(self.problem.classes), CHUNK))[:, :SHOWN].flatten(0, 1)
                kept = {"calls": cost, "columns": pack(columns)}
                if not number:
                    kept["images"] = {"shape": list(shown.shape), **pack({"pixels": shown.numpy().ravel()})}
                self.study.set_user_attr(name, kept)
            parts.append(unpack(kept["columns"]))
            calls += kept["calls"]
            if not number:
                pixels = unpack({"pixels": kept["images"]["pixels"]})["pixels"].reshape(kept["images"]["shape"])
        joined = join(parts)
        return Certified(schedule, choices, joined, calls / len(joined["own"]), pixels)
