"""The search as an Optuna study: a trial is one schedule on one block of seeds, told at once.

So a killed run loses one block at most, several processes work on one storage, Optuna's dashboard shows everything,
and every Optuna sampler can take the place of :class:`ThompsonSampler`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import sqlalchemy.exc
from optuna.trial import TrialState

from .racing import Race
from .records import Record, unpack

__all__ = ["ThompsonSampler", "open_study", "read_records"]

optuna.logging.set_verbosity(optuna.logging.WARNING)


class ThompsonSampler(optuna.samplers.BaseSampler):
    """Warm starts first, then :class:`kdist.tuning.racing.Race`.

    Args:
        start: parameters to try first, each once.
        race: what is known now; None: nothing, many workers began together. They take warm starts on other seeds.
        ending: whether only known schedules are worth a block any more.
        seed: the seed of the draws; each trial draws by its own number.
    """

    def __init__(
        self, start: Sequence[Mapping[str, Any]], race: Callable[[], Race | None], ending: Callable[[], bool], seed: int
    ) -> None:
        self._start, self._race, self._ending, self._seed = list(start), race, ending, seed
        self._chosen: Mapping[str, Any] = {}

    def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        race = None if trial.number < len(self._start) else self._race()
        if race is None:
            self._chosen = self._start[trial.number % len(self._start)]
        else:
            rng = np.random.default_rng([self._seed, trial.number])
            self._chosen = race.next_params(rng, again=trial.number % 2 == 1 or self._ending())

    def infer_relative_search_space(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, search_space: Any
    ) -> dict[str, Any]:
        return {}

    def sample_independent(self, study: optuna.Study, trial: Any, param_name: str, param_distribution: Any) -> Any:
        return self._chosen[param_name]


def open_study(
    storage: Any, name: str, sampler: optuna.samplers.BaseSampler, about: Mapping[str, Any], *, resume: bool
) -> optuna.Study:
    """The study of that name, new or gone on with.

    Args:
        storage: an Optuna storage, a URL, or None for memory.
        about: what makes its numbers comparable; must be the same when it is gone on with.
        resume: insist that it exists.

    Raises:
        ValueError: it is of something else, or is not there with ``resume``.
    """
    study = optuna.create_study(
        storage=_made(storage), study_name=name, sampler=sampler, direction="minimize", load_if_exists=True
    )
    before = study.user_attrs.get("about")
    if before is not None:
        _check_same(before, json.loads(json.dumps(about)))
    elif resume:
        raise ValueError(f"nothing to resume: no study in {storage or 'memory'}; run without resume first")
    if before is None or before.keys() < about.keys():
        study.set_user_attr("about", {**about, **(before or {})})
    return study


def _made(storage: Any) -> Any:
    """The storage with its tables. Workers that start together meet each other's half-made tables: wait, look again."""
    for pause in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, None):
        try:
            return optuna.storages.get_storage(storage)
        except (sqlalchemy.exc.OperationalError, sqlalchemy.exc.IntegrityError):
            if pause is None:
                raise
            time.sleep(pause)


def _check_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ValueError where a study is of something else. Keys that it lacks were not yet noted when it began: what
    was measured then is not thrown away for that."""
    for key, value in now.items():
        if key not in before or _same(key, before[key], value):
            continue
        what = _OTHER.get(key, f"other {key}: {before[key]!r} there, {value!r} now")
        raise ValueError(f"cannot resume: this study is of {what}; choose another --out or study")


_OTHER = {
    "probe": "another model or sampler (the same seeds give other images)",
    "judge": "another judge (it answers otherwise on the same images, unless they come in another order)",
    "align": "another align (it answers otherwise on the same images, unless they come in another order)",
}


def _same(key: str, before: Any, now: Any) -> bool:
    """Equal, or for what a device computes, as near as rounding comes."""
    if key == "probe":
        return _close(before, now)
    if key not in ("judge", "align"):
        return bool(before == now)
    if before.keys() != now.keys():
        return False
    # labels follow from margins where there are some; alone, one in fifty may be on the edge
    flips = np.mean(np.not_equal(before["accuracy"], now["accuracy"])) if "accuracy" in now else 0.0
    return bool(flips <= 0.02) and all(_close(before[name], now[name]) for name in now if name != "accuracy")


def _close(before: Any, now: Any) -> bool:
    old, new = np.array(before), np.array(now)
    return old.shape == new.shape and np.allclose(old, new, atol=1e-2 * max(float(np.abs(old).max()), 1e-9))


def record_of(trial: optuna.trial.FrozenTrial) -> Record:
    """A finished trial as a record."""
    kept = trial.user_attrs
    return Record(kept["key"], kept["block"], trial.params, unpack(kept["columns"]), kept["calls"])


def read_records(study: optuna.Study, known: Container[int] = ()) -> list[tuple[int, Record]]:
    """What was measured so far, by all workers, with the numbers of the trials; without those that are ``known``."""
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    new = [trial for trial in finished if trial.number not in known and "columns" in trial.user_attrs]
    return [(trial.number, record_of(trial)) for trial in new]
