"""Families of schedules on the glyphs, tuned alike: six settings each, those of F9, compared at equal accuracy.

Against the smallest and the largest set of competitors. On the tuning seed every setting is sampled; at each target
accuracy a family stands for its setting of least energy distance that reaches it, and that one is sampled anew from
the noise of F8's other rows, which nothing was chosen by. The targets are the judge's accuracy on held-out images (the
lower end of its 95 % interval) and what a constant 2 reaches (the same).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import kdist
from kdist import digits
from scripts.glyphs.experiment import Experiment
from scripts.glyphs.measure import Judge, Plan, measure_all
from scripts.glyphs.theory import class_means
from scripts.results.families import FAMILIES, PLAIN, Family
from scripts.results.networks import at_least
from scripts.style import interval, markdown, number

__all__ = ["SCHEDULED", "compare", "tables"]

SCHEDULED = tuple(  # a change of the schedule alone
    family for family in (PLAIN, *FAMILIES) if family.group not in ("rule", "weak") and family.settings[0].cads is None
)
TARGETS = {"real": "of held-out images", "constant": "of constant 2"}


def compare(
    own: Experiment,
    folder: Path,
    *,
    seed: int,
    per_class: int,
    tune_seed: int,
    tune_per_class: int,
    steps: int,
    families: Sequence[Family] = SCHEDULED,
) -> list[dict[str, Any]]:
    """Rows by ``kind``: ``target`` (accuracies of a set), ``tried`` (on the tuning seed), ``reported``.

    Args:
        own: the network and its data.
        folder: the samples' folder; an interrupted run resumes.
        seed, per_class: what is reported.
        tune_seed, tune_per_class: what settings are chosen by.
        steps: the solver's.
        families: what is compared; the first is no guidance, the second a constant scale, 2 among others.
    """
    judge, real, origin = Judge(own.train), own.held_out.first(own.sets[0]), class_means(own.train).mean(0)
    tuning = own.plan(folder, per_class=tune_per_class, seed=tune_seed, steps=steps)
    reporting = own.plan(folder, per_class=per_class, seed=seed, steps=steps)
    smallest, largest = own.sets[0], own.sets[-1]
    rows: list[dict[str, Any]] = []
    for classes, token in ((p, own.nulls[p]) for p in (smallest, largest)):

        def measured(plan: Plan, schedules: Mapping[str, kdist.Schedule], p: int = classes, t: int = token) -> Any:
            sigmas = digits.sigmas(plan.steps)
            options: dict[str, Any] = {"solver_names": ["dpmpp_2m"], "resamples": 0, "description": f"tuned, {p}"}
            found = measure_all(plan, [p], [t], real, origin, judge, schedules=schedules, **options)
            calls = [schedule.nfe(sigmas) for schedule in schedules.values()]
            alone = [
                row | {"accuracy": row["accuracy"][str(p)], "accuracy_real": row["accuracy_real"][str(p)], "calls": n}
                for row, n in zip(found, calls, strict=True)
            ]
            return dict(zip(schedules, alone, strict=True))

        scales = {str(each): each.scales(digits.sigmas(tuning.steps)) for own in families for each in own.settings}
        tried = measured(tuning, scales)
        wanted = {"real": tried["1"]["accuracy_real"][1], "constant": tried["2"]["accuracy"][1]}
        rows.append({"kind": "target", "set": classes, "accuracy_real": tried["1"]["accuracy_real"], **wanted})
        for family in families:
            about = {"family": family.name, "set": classes}
            found = [tried[str(setting)] for setting in family.settings]
            for setting, values in zip(family.settings, found, strict=True):
                rows.append({"kind": "tried", "setting": str(setting), **values, **about})
            places = {target: at_least(found, accuracy) for target, accuracy in wanted.items()}
            for target, place in ({"unguided": 0} if family is PLAIN else places).items():
                row: dict[str, Any] = {"kind": "reported", "target": target, "setting": None, **about}
                if place is not None:
                    text = str(family.settings[place])
                    row |= {**measured(reporting, {text: scales[text]})[text], "setting": text, **about}
                rows.append(row)
    return rows


def tables(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """``tuned_real`` and ``tuned_constant``, Markdown by target: a row for every family and set, the nearest first."""
    head = [
        "P",
        "guidance",
        "setting",
        "distance",
        "means displaced",
        "overshoot",
        "variance kept",
        "accuracy",
        "calls",
    ]
    found = {}
    for target in TARGETS:
        lines = []
        for aim in (row for row in rows if row["kind"] == "target"):
            own = [row for row in rows if row["kind"] == "reported" and row["set"] == aim["set"]]
            own = [row for row in own if row["target"] in (target, "unguided")]
            for row in sorted((r for r in own if r["setting"]), key=lambda r: r["energy_distance"][0]):
                lines.append(
                    [
                        str(aim["set"]),
                        row["family"],
                        f"`{row['setting']}`",
                        interval(row["energy_distance"], 3),
                        *(number(row[name][0]) for name in ("displacement", "overshoot", "trace_ratio")),
                        f"{row['accuracy'][0]:.2f}",
                        f"{row['calls']:g}",
                    ]
                )
            missed = [row["family"] for row in own if not row["setting"]]
            if missed:
                lines.append([str(aim["set"]), ", ".join(missed), "not reached", *[""] * (len(head) - 3)])
        found[f"tuned_{target}"] = markdown(head, lines)
    return found
