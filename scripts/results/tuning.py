"""What ``kdist tune`` finds on a network, against other ways to look at equal numbers of network calls.

Every method may spend the same calls; what it names best is then sampled from fresh seeds, more of them than any
method saw: the truth of this figure. ``promised`` is what a method measured of its own choice; less the truth, it
is the winner's curse. :mod:`.reach` and :mod:`.warm_starts` have two more questions to the same search.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import kdist
from kdist.plotting import PALETTE
from scripts.results import reach as at_accuracy
from scripts.results import warm_starts as first_looks
from scripts.results.searches import find, network, true
from scripts.results.store import Store
from scripts.style import markdown, number, save

__all__ = ["METHODS", "compute", "draw", "texts"]

METHODS = {
    "tune": "kdist tune",
    "random": "random search",
    "grid": "grid of intervals",
    "tpe": "Optuna's default (TPE)",
    "hand": "by hand: interval 3, sigma 0.3 to 2.5",
    "early": "design-early",
}
CONSTANTS = (1.0, 1.5, 2.0)


def compute(
    store: Store,
    *,
    subjects: Mapping[str, Mapping[str, Any]],
    calls_per_sample: float,
    curse: Mapping[str, Any],
    reach: Mapping[str, Any],
    warm_starts: Mapping[str, Any],
    steps: int = 20,
) -> list[dict[str, Any]]:
    """One row for each network, method and repeat: the schedule, what was promised, what is true.

    Args:
        subjects: for each network ``accuracy``, ``samples`` of each class that the budget is worth at full guidance,
            ``truth``, fresh samples of each class, and ``repeats`` of each method.
        calls_per_sample: the bound for all methods.
        curse: ``repeats``, ``steps``, ``samples`` and ``accuracy`` of small searches on the first subject, whose
            promise is held against their certificate.
        reach, warm_starts: arguments of the ``compute`` of these modules.
    """
    rows: list[dict[str, Any]] = []
    for name, given in subjects.items():
        get = partial(network, name, steps)
        truth = {"subject": name, "steps": steps, "truth": given["truth"]}
        settings = {key: given[key] for key in ("accuracy", "samples")} | {"calls_per_sample": calls_per_sample}

        def add(row: dict[str, Any], name: str = name, get: Any = get, truth: Any = truth) -> None:
            found = {}
            if "nothing" not in row:
                key = {**truth, "schedule": row["schedule"]}
                found = store.get(key, partial(true, get, row["schedule"], truth["truth"]))
            rows.append({"part": "methods", "subject": name, **row, **found})

        for repeat in range(max(given["repeats"].values())):
            for method in METHODS:
                if repeat < given["repeats"].get(method, 0):
                    search = partial(find, get, method, repeat, steps=steps, **settings)
                    key = {"subject": name, "steps": steps, **settings, "method": method, "repeat": repeat}
                    add({"method": method, **store.get(key, search)})
        for scale in CONSTANTS:
            add({"method": "constant", "scale": scale, "schedule": str(kdist.Constant(scale))})
    small = {name: curse[name] for name in ("steps", "samples", "accuracy")}
    for repeat in range(curse["repeats"]):
        get = partial(network, next(iter(subjects)), curse["steps"])
        search = partial(find, get, "tune", 100 + repeat, calls_per_sample=2 * curse["steps"], **small)
        rows.append({"part": "curse", **store.get({"curse": small, "repeat": repeat}, search)})
    rows += [{"part": "reach", **row} for row in at_accuracy.compute(store, steps=steps, **reach)]
    return rows + [{"part": "warm starts", **row} for row in first_looks.compute(store, **warm_starts)]


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Accuracy against energy distance: constants as a line, what each method found as points."""
    import matplotlib.pyplot as plt

    rows = [row for row in rows if row["part"] == "methods"]
    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    fig, axes = plt.subplots(1, len(subjects), figsize=(5.4 * len(subjects), 4.4), squeeze=False, layout="constrained")
    for ax, subject in zip(axes[0], subjects, strict=True):
        mine = [row for row in rows if row["subject"] == subject]
        constants = [row for row in mine if row["method"] == "constant"]
        ax.plot(
            [r["accuracy"][0] for r in constants],
            [r["distance"][0] for r in constants],
            color="0.6",
            marker="o",
            ms=3,
            lw=1,
            label="constant scales",
        )
        for row in constants:
            ax.annotate(
                f"{row['scale']:g}",
                (row["accuracy"][0], row["distance"][0]),
                fontsize=7,
                color="0.4",
                xytext=(3, -8),
                textcoords="offset points",
            )
        for index, (method, label) in enumerate(METHODS.items()):
            own = [row for row in mine if row["method"] == method and "nothing" not in row]
            if not own:
                continue
            ours = method == "tune"
            ax.errorbar(
                [row["accuracy"][0] for row in own],
                [row["distance"][0] for row in own],
                yerr=[1.96 * row["distance"][1] for row in own],
                fmt="*" if ours else "osD^vP"[index],
                ms=10 if ours else 5,
                color="black" if ours else PALETTE[index],
                lw=0.8,
                alpha=0.8,
                label=label,
            )
        ax.set_title(subject, fontsize=10)
        ax.set_xlabel("accuracy on fresh samples")
        ax.set_yscale("symlog", linthresh=0.02, subs=[2, 5])
        ax.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
    axes[0, 0].set_ylabel("energy distance to the real classes")
    fig.legend(
        *axes[0, 0].get_legend_handles_labels(),
        fontsize=8,
        ncols=2 * len(subjects),
        loc="outside lower center",
        frameon=False,
    )
    save(fig, path)


def texts(rows: list[dict[str, Any]]) -> dict[str, str]:
    """``table``: the mean over repeats of each method; ``curse``: certified less promised; ``better``,
    ``small_better``: how many certificates of the digits, and of the small searches, call the schedule better;
    ``wanted``, ``reach`` and ``warm_starts``: the tables of these modules;
    ``glyphs_tune``, ``digits_constant_2`` and the like: mean distances."""
    head = ["network", "method", "repeats", "energy distance", "worst repeat", "accuracy", "calls", "promised"]
    body = []
    small, at, first = ([row for row in rows if row["part"] == part] for part in ("curse", "reach", "warm starts"))
    rows = [row for row in rows if row["part"] == "methods"]
    for subject in dict.fromkeys(row["subject"] for row in rows):
        mine = [row for row in rows if row["subject"] == subject]
        for row in mine:
            if row["method"] == "constant":
                body.append(
                    [
                        subject,
                        f"constant {row['scale']:g}",
                        "",
                        number(row["distance"][0], 3),
                        "",
                        number(row["accuracy"][0], 3),
                        f"{row['calls']:g}",
                        "",
                    ]
                )
        for method, label in METHODS.items():
            every = [row for row in mine if row["method"] == method]
            own = [row for row in every if "nothing" not in row]
            repeats = str(len(every)) + (f", {len(every) - len(own)} held no bound" if len(every) > len(own) else "")
            if not own:
                body += [[subject, label, repeats, *[""] * 5]] if every else []
                continue
            distance = [row["distance"][0] for row in own]
            promised = [row["promised"] for row in own if "promised" in row]
            body.append(
                [
                    subject,
                    label,
                    repeats,
                    number(float(np.mean(distance)), 3),
                    number(max(distance), 3),
                    number(float(np.mean([row["accuracy"][0] for row in own])), 3),
                    f"{np.mean([row['calls'] for row in own]):.0f}",
                    number(float(np.mean(promised)), 3) if promised else "",
                ]
            )
    better = [row["better"] for row in rows if "better" in row and row["subject"] == "digits"]
    return {
        "table": markdown(head, body),
        "curse": _curse(small),
        "better": f"{sum(better)} of {len(better)}",
        "small_better": f"{sum(row['better'] for row in small)} of {len(small)}",
        "wanted": at_accuracy.of_methods(rows, METHODS),
        **_distances(rows),
        "reach": at_accuracy.table(at),
        "warm_starts": first_looks.table(first),
    }


def _distances(rows: list[dict[str, Any]]) -> dict[str, str]:
    """The mean distance of each method and constant, by the network's and its name."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if "distance" in row:
            name = f"constant_{row['scale']:g}".replace(".", "_") if row["method"] == "constant" else row["method"]
            found.setdefault(f"{row['subject']}_{name}", []).append(row["distance"][0])
    return {name: number(float(np.mean(distances)), 3) for name, distances in found.items()}


def _curse(rows: list[dict[str, Any]]) -> str:
    """Promised less certified, in a sentence."""
    if not rows:
        return "not measured"
    words = []
    for name, what in (("promised", "measured"), ("believed", "believed")):
        gap = [row["certified"][0] - row[name] for row in rows]
        words.append(f"certified less {what} {np.mean(gap):+.4f} ± {np.std(gap) / max(len(gap) - 1, 1) ** 0.5:.4f}")
    return f"{len(rows)} searches: {', '.join(words)} (standard errors)"
