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
from scripts.results.searches import first_look, network, problem, true
from scripts.results.store import Store
from scripts.style import markdown, number

__all__ = ["PART", "compute", "of_methods", "reached", "search", "table"]

SCALE = 2.0
PART, CALLS = 0.2, 0.7  # of the constant's distance, and of its calls, that are wanted at most
LOOK = 10_000  # number of the block of seeds on which the constant is looked at, that no search comes to


def compute(store: Store, *, steps: int, look: int, networks: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each network and repeat.

    Args:
        look: samples of each class by which the constant's accuracy becomes the bound, out of the budget.
        networks: for each ``samples`` of each class at full guidance, that the whole budget is worth, ``truth``, fresh
            samples of each class, and ``repeats``, the numbers of the searches.
    """
    rows = []
    for name, given in networks.items():
        get = partial(network, name, steps)
        fresh = {"subject": name, "steps": steps, "truth": given["truth"]}

        def truly(schedule: str, get: Any = get, fresh: Any = fresh) -> Any:
            return store.get({**fresh, "schedule": schedule}, partial(true, get, schedule, fresh["truth"]))

        settings = {"steps": steps, "samples": given["samples"], "look": look}
        for repeat in given["repeats"]:
            key = {"at the accuracy of": SCALE, "subject": name, **settings, "repeat": repeat}
            found = store.get(key, partial(search, get, repeat, **settings))
            constant = truly(str(kdist.Constant(SCALE)))
            seen = truly(found["schedule"]) if "schedule" in found else None
            about = {"subject": name, "samples": given["samples"], "repeat": repeat}
            rows.append({**about, **found, "truth": seen, "constant": constant})
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
            calls_per_sample=CALLS * 2 * steps, per_class=first_look(samples),
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
    head = [
        "network", "seed", "samples' worth", "bound", "accuracy", "of constant 2", "energy distance", "of constant 2",
        "part", "calls", "reached",
    ]  # fmt: skip
    body = []
    for row in rows:
        ours, constant = row["truth"], row["constant"]
        cells = [row["subject"], str(3000 + row["repeat"]), str(row["samples"]), number(row["bound"], 3)]
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


def of_methods(rows: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> str:
    """What every method's schedules, found under other bounds, are beside the constant of :data:`SCALE`."""
    head = ["network", "method", "distance: part of constant 2's", "calls: part of its", "accuracy less its",
            "reached, of repeats"]  # fmt: skip
    constants = {row["subject"]: row for row in rows if row["method"] == "constant" and row["scale"] == SCALE}
    body = []
    for subject, constant in constants.items():
        for method, label in labels.items():
            every = [row for row in rows if (row["subject"], row["method"]) == (subject, method)]
            pairs = [{"truth": row if "distance" in row else None, "constant": constant} for row in every]
            found = [pair["truth"] for pair in pairs if pair["truth"]]
            if not every:
                continue

            def mean(name: str, found: Any = found) -> float:
                return sum(row[name][0] if name != "calls" else row[name] for row in found) / len(found)

            shown = [""] * 3
            if found:
                shown = [
                    f"{mean('distance') / constant['distance'][0]:.2f}",
                    f"{mean('calls') / constant['calls']:.2f}",
                    f"{mean('accuracy') - constant['accuracy'][0]:+.3f}",
                ]
            reach = sum(all(reached(pair).values()) for pair in pairs)
            body.append([subject, label, *shown, f"{reach} of {len(every)}"])
    return markdown(head, body)
