"""At the accuracy of a constant scale of 2: what part of its distance, and of its network calls, does a search reach?

The bound is the constant's own accuracy, on samples of the search's own seed; what that look costs is part of the
budget. Both are then sampled from the same fresh seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import kdist
from kdist.tuning.subjects import Subject
from scripts.results.searches import network, problem, true
from scripts.results.store import Store
from scripts.style import markdown, number

__all__ = ["PART", "compute", "reached", "search", "table"]

SCALE = 2.0
PART, CALLS = 0.2, 0.7  # of the constant's distance, and of its calls, that are wanted at most
LOOK = 10_000  # number of the block of seeds on which the constant is looked at, that no search comes to


def compute(
    store: Store, *, steps: int, samples: int, look: int, truth: Mapping[str, int], repeats: Mapping[str, int]
) -> list[dict[str, Any]]:
    """One row for each network and repeat.

    Args:
        samples: of each class at full guidance, that the whole budget is worth.
        look: samples of each class by which the constant's accuracy becomes the bound, out of that budget.
        truth: fresh samples of each class, by network.
        repeats: searches, by network.
    """
    rows = []
    for name, count in repeats.items():
        get = partial(network, name, steps)
        fresh = {"subject": name, "steps": steps, "truth": truth[name]}

        def truly(schedule: str, get: Any = get, fresh: Any = fresh) -> Any:
            return store.get({**fresh, "schedule": schedule}, partial(true, get, schedule, fresh["truth"]))

        for repeat in range(count):
            key = {"at the accuracy of": SCALE, "subject": name, "steps": steps, "samples": samples, "look": look}
            found = store.get(
                {**key, "repeat": repeat}, partial(search, get, repeat, steps=steps, samples=samples, look=look)
            )
            constant = truly(str(kdist.Constant(SCALE)))
            seen = truly(found["schedule"]) if "schedule" in found else None
            rows.append({"subject": name, "repeat": repeat, **found, "truth": seen, "constant": constant})
    return rows


def search(get: Callable[[], Subject], repeat: int, *, steps: int, samples: int, look: int) -> dict[str, Any]:
    """What ``kdist tune`` names at the constant's accuracy, within :data:`CALLS` of its calls."""
    given, seed = get(), 3000 + repeat
    measured = problem(given, seed)
    columns, spent, _ = measured.measure(kdist.Constant(SCALE), {}, "search", LOOK, look)
    bound = float(columns["accuracy"].mean())
    calls = 2 * steps * len(measured.classes) * samples
    try:
        tuned = kdist.tune(
            given.generate, real=given.real, judge=given.judge, accuracy=bound, calls=calls - spent, seed=seed,
            calls_per_sample=CALLS * 2 * steps,
        )  # fmt: skip
    except ValueError as error:
        if "is not reached" not in str(error):
            raise
        return {"bound": bound, "error": str(error)}
    return {"bound": bound, "schedule": str(tuned.schedule), "calls": tuned.calls + spent}


def reached(row: Mapping[str, Any]) -> dict[str, bool]:
    """Whether distance, calls and (within chance) accuracy on fresh samples are what is wanted."""
    ours, constant = row["truth"], row["constant"]
    if ours is None:
        return dict.fromkeys(("distance", "calls", "accuracy"), False)
    error = math.hypot(ours["accuracy"][1], constant["accuracy"][1])
    return {
        "distance": ours["distance"][0] <= PART * constant["distance"][0],
        "calls": ours["calls"] <= CALLS * constant["calls"],
        "accuracy": ours["accuracy"][0] >= constant["accuracy"][0] - 1.96 * error,
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Each search beside the constant, and what it reached."""
    head = ["network", "seed", "bound", "accuracy", "of constant 2", "energy distance", "of constant 2", "part",
            "calls", "reached"]  # fmt: skip
    body = []
    for row in rows:
        ours, constant = row["truth"], row["constant"]
        cells = [row["subject"], str(3000 + row["repeat"]), number(row["bound"], 3)]
        if ours is None:
            body.append([*cells, "", number(constant["accuracy"][0], 3), "", "", "", "", "nothing held the bound"])
            continue
        kept = reached(row)
        missed = [name for name, held in kept.items() if not held]
        body.append(
            [
                *cells, number(ours["accuracy"][0], 3), number(constant["accuracy"][0], 3),
                f"{ours['distance'][0]:.3f} ± {1.96 * ours['distance'][1]:.3f}", number(constant["distance"][0], 3),
                f"{ours['distance'][0] / constant['distance'][0]:.2f}",
                f"{ours['calls']:g} of {constant['calls']:g}",
                "all" if not missed else f"not {' and '.join(missed)}",
            ]
        )  # fmt: skip
    return markdown(head, body)
