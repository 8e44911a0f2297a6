"""Which first looks help a search? ``kdist tune`` on the digits with and without each kind, at equal network calls.

What is taken away are kinds of :meth:`kdist.tuning.space.Space.warm_starts`, what is added are schedules that this
package designs, through the option ``warm_starts``. A `Response` is measured on the network itself, and what that costs
is taken from the search.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch

import kdist
from kdist.tuning.space import Draw, Space
from kdist.tuning.subjects import Subject
from scripts.results.searches import early, first_look, network, true
from scripts.results.store import Store
from scripts.style import markdown, number

__all__ = ["ARMS", "compute", "table"]

ONE = {"family": "constant", "scale": 1.0}  # a search must begin somewhere
ADDED = ("design", "design-early", "Response")
ARMS: dict[str, Callable[[Mapping[str, Any]], bool] | str] = {
    "all": lambda start: True,
    "without constants": lambda start: start["family"] != "constant",
    "without intervals": lambda start: start["family"] != "interval",
    "without negative ones and the ramp": lambda start: start["family"] in ("constant", "interval"),
    "constants only": lambda start: start["family"] == "constant",
    "no guidance only": lambda start: start == ONE,
    **{f"all, and {name}": name for name in ADDED},
}
PROBES, PER_CLASS, BANDS = 8, 4, 4  # of a Response, a third of a small budget
DRAWN, TAKEN = 400, 3  # schedules that a Response predicts, and how many of them are looked at


def compute(
    store: Store, *, subject: str, steps: int, samples: int, accuracy: float, calls_per_sample: float, seeds: int,
    truth: int, arms: Sequence[str] = tuple(ARMS),
) -> list[dict[str, Any]]:  # fmt: skip
    """One row for each kind (``arms``: not all of them) and seed: what was found, and what is true of it on fresh
    samples."""
    settings = {"steps": steps, "samples": samples, "accuracy": accuracy, "calls_per_sample": calls_per_sample}
    rows, get = [], partial(network, subject, steps)
    for seed in range(seeds):
        for arm in arms:
            key = {"warm starts": arm, "subject": subject, **settings, "seed": seed}
            found = store.get(key, partial(search, get, arm, seed, **settings))
            fresh = {"subject": subject, "steps": steps, "truth": truth, "schedule": found["schedule"]}
            seen = store.get(fresh, partial(true, get, found["schedule"], truth))
            rows.append({"arm": arm, "seed": seed, "bound": accuracy, **found, **seen})
    return rows


def search(
    get: Callable[[], Subject], arm: str, seed: int, *, steps: int, samples: int, accuracy: float,
    calls_per_sample: float,
) -> dict[str, Any]:  # fmt: skip
    """What ``kdist tune`` finds with these warm starts."""
    given, kind, today = get(), ARMS[arm], Space.warm_starts
    calls = 2 * steps * len(given.real[1].unique()) * samples
    added, spent = schedules(kind, given, calls_per_sample, seed) if isinstance(kind, str) else ([], 0)

    def starts(space: Space, others: Sequence[kdist.Schedule] = ()) -> list[dict[str, Any]]:
        return [start for start in today(space, others) if isinstance(kind, str) or kind(start)] or [ONE]

    with mock.patch.object(Space, "warm_starts", starts):
        tuned = kdist.tune(
            given.generate, real=given.real, judge=given.judge, accuracy=accuracy, calls_per_sample=calls_per_sample,
            calls=calls - spent, per_class=first_look(samples), warm_starts=added, seed=2000 + seed,
        )  # fmt: skip
    return {"schedule": str(tuned.schedule), "added": list(map(str, added)), "spent before": spent}


def schedules(kind: str, given: Subject, calls_per_sample: float, seed: int) -> tuple[list[kdist.Schedule], int]:
    """Schedules that this package designs for a network, and the network calls that they cost."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # beyond the probes, wider than the whole: guesses that will be measured
        if kind == "design-early":
            return [kdist.parse(early(given))], 0
        return (_designed(given), 0) if kind == "design" else _by_response(given, calls_per_sample, seed)


def _designed(given: Subject) -> list[kdist.Schedule]:
    """``kdist design`` for the real images' class Gaussians: as much guidance as keeps nearly all variance."""
    from kdist.theory import GaussianPair, InfeasibleDesign, design

    images, labels = given.real
    pairs = [GaussianPair.from_data(images.flatten(1), labels, class_) for class_ in labels.unique().tolist()]
    found = []
    for scale in (2.0, 3.0):
        try:
            found.append(design(pairs, scale, sigmas=given.generate.sigmas, keep_variance=0.9))  # type: ignore[attr-defined]
        except InfeasibleDesign:
            continue
    return found


def _by_response(given: Subject, calls_per_sample: float, seed: int) -> tuple[list[kdist.Schedule], int]:
    """Of random schedules, those that a measured Response predicts to tell classes apart as a constant 2 does, with the
    least change of mean and variance."""
    from kdist.theory import Response
    from kdist.theory.designs.separated import total_distortion

    generate: Any = given.generate
    labels = given.real[1].unique().sort().values.repeat_interleave(PER_CLASS)
    noise = torch.randn(len(labels), *generate.shape, generator=torch.Generator().manual_seed(seed))
    response = Response.measure(
        generate.model, noise * generate.sigmas[0], labels, generate.sigmas, uncond=generate.uncond, probes=PROBES,
        bands=BANDS, seed=seed,
    )  # fmt: skip

    def predicted(schedule: kdist.Schedule) -> tuple[float, float]:
        """Distortion, and separation in units of that without guidance."""
        found = response.predict(schedule)
        ratio, overshoot = float(np.exp(found.log_trace_ratio.mean())), float(found.overshoot.mean())
        return total_distortion(ratio, overshoot), (1 + overshoot) / ratio**0.5

    levels = [float(sigma) for sigma in response.sigmas]
    space, rng = Space(levels), np.random.default_rng(seed)
    drawn = [space.suggest(Draw(rng))[0] for _ in range(DRAWN)]
    cheap = [schedule for schedule in drawn if schedule.nfe(generate.sigmas) <= calls_per_sample]
    enough = predicted(kdist.Constant(2.0))[1]
    scored = [(*predicted(schedule), schedule) for schedule in cheap]
    kept = sorted((row for row in scored if row[1] >= enough), key=lambda row: row[0])
    return [row[2] for row in kept[:TAKEN]], response.calls


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Each kind's mean over seeds, and its difference to all of today's, seed by seed."""
    head = ["warm starts", "searches", "energy distance", "worst", "less that of all", "accuracy", "below the bound"]
    body, reference = [], {row["seed"]: row["distance"][0] for row in rows if row["arm"] == "all"}
    for arm in ARMS:
        own = [row for row in rows if row["arm"] == arm]
        if not own:
            continue
        distance = np.array([row["distance"][0] for row in own])
        gap = distance - [reference[row["seed"]] for row in own]
        error = f" ± {gap.std(ddof=1) / len(gap) ** 0.5:.3f}" if len(gap) > 1 else ""
        accuracy = [row["accuracy"][0] for row in own]
        body.append(
            [
                arm, str(len(own)), number(float(distance.mean()), 3), number(float(distance.max()), 3),
                "" if arm == "all" else f"{gap.mean():+.3f}{error}", number(float(np.mean(accuracy)), 3),
                str(sum(value < row["bound"] for value, row in zip(accuracy, own, strict=True))),
            ]
        )  # fmt: skip
    return markdown(head, body)
