"""What ``kdist tune`` finds on a network, against other ways to look at equal numbers of network calls.

Every method may spend the same calls; what it names best is then sampled from fresh seeds, more of them than any
method saw: the truth of this figure. ``promised`` is what a method measured of its own choice; less the truth, it
is the winner's curse.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import kdist
from kdist.plotting import PALETTE
from kdist.tuning.problem import Problem
from kdist.tuning.scores import values
from kdist.tuning.subjects import Subject, shipped
from scripts.results.store import Store
from scripts.style import markdown, number

__all__ = ["METHODS", "compute", "draw", "texts"]

METHODS = {
    "tune": "kdist tune",
    "random": "random search",
    "grid": "grid of intervals",
    "tpe": "Optuna's default (TPE)",
    "early": "design-early",
    "hand": "by hand: interval 3, sigma 0.3 to 2.5",
}
CONSTANTS = (1.0, 1.1, 1.25, 1.5, 2.0, 3.0)
FIXED = 20  # samples of a class, by which the methods without a race measure each schedule


def compute(
    store: Store,
    *,
    subjects: Sequence[str],
    methods: Sequence[str],
    repeats: Sequence[int],
    accuracy: float,
    samples: int,
    truth: int,
    steps: int = 20,
) -> list[dict[str, Any]]:
    """One row for each network, method and repeat: the schedule, what was promised, what is true."""
    rows = []
    for name in subjects:
        loaded: list[Subject] = []

        def subject(name: str = name, loaded: list[Subject] = loaded) -> Subject:
            if not loaded:
                loaded.append(shipped(name, steps=steps, solver="dpmpp_2m", device="cpu"))
            return loaded[0]

        asked: list[tuple[str, int]] = [(method, repeat) for method in methods for repeat in repeats]
        asked = [(m, r) for m, r in asked if m in ("tune", "random", "grid", "tpe") or r == repeats[0]]
        settings = {"subject": name, "steps": steps, "accuracy": accuracy, "samples": samples}

        def with_truth(found: dict[str, Any], name: str = name, subject: Any = subject) -> dict[str, Any]:
            key = {"subject": name, "steps": steps, "truth": truth, "schedule": found["schedule"]}
            return {"subject": name, **found, **store.get(key, partial(true, subject, found["schedule"], truth))}

        for method, repeat in asked:
            search = partial(find, subject, method, repeat, steps=steps, accuracy=accuracy, samples=samples)
            rows.append(
                with_truth({"method": method, **store.get({**settings, "method": method, "repeat": repeat}, search)})
            )
        for scale in CONSTANTS:
            rows.append(with_truth({"method": "constant", "scale": scale, "schedule": str(kdist.Constant(scale))}))
    return rows


def find(subject: Any, method: str, repeat: int, *, steps: int, accuracy: float, samples: int) -> dict[str, Any]:
    """The schedule that a method names best, and what it measured of it."""
    given: Subject = subject()
    if method == "hand":
        return {"schedule": str(kdist.Interval(3.0, 0.3, 2.5))}
    if method == "early":
        return {"schedule": _early(given)}
    import optuna

    classes = len(given.real[1].unique())
    options: dict[str, Any] = {"calls": 2 * steps * classes * samples, "accuracy": accuracy, "seed": 1000 + repeat}
    if method != "tune":
        grid = {
            "family": ["interval"], "scale": [1.5, 2.0, 3.0],
            "start": [steps // 5, 2 * steps // 5], "stop": [3 * steps // 5, 4 * steps // 5],
        }  # fmt: skip
        options["per_class"], options["certify"] = min(FIXED, max(2, samples // 15)), 0.05  # all calls for looking
        options["sampler"] = {
            "random": optuna.samplers.RandomSampler(seed=repeat),
            "tpe": optuna.samplers.TPESampler(seed=repeat),
            "grid": optuna.samplers.GridSampler(grid, seed=repeat),
        }[method]
    tuned = kdist.tune(given.generate, real=given.real, judge=given.judge, **options)
    if method == "tune":
        promised = dict(tuned.certified.promised)
        certified = tuned.certified.to_dict()
        return {
            "schedule": str(tuned.schedule),
            "promised": promised["measured distance"],
            "certified": certified["tuned"]["distance"],
            "better": certified["better"],
            "constant": certified["constant"]["distance"],
        }
    best = min(tuned.front, key=lambda c: (c.values["accuracy"].value < accuracy, c.values["distance"].value))
    return {"schedule": str(best.schedule), "promised": best.values["distance"].value}


def _early(given: Subject) -> str:
    """What ``kdist design-early`` finds on the real images' class Gaussians."""
    from kdist.theory import GaussianMixtureDenoiser, design_on_mixture

    mixture = GaussianMixtureDenoiser.fit(*given.real)
    return str(design_on_mixture(mixture, given.generate.sigmas, unguided=(1.0, 0.0)).schedule)  # type: ignore[attr-defined]


def true(subject: Any, schedule: str, truth: int) -> dict[str, Any]:
    """Distance, accuracy, variance and calls of a schedule, on seeds of this figure's own."""
    given: Subject = subject()
    problem = _problem(given)
    columns, calls, _ = problem.measure(kdist.parse(schedule), {}, "certify", 0, truth)
    found = values(columns)
    return {
        **{
            name: [found[name].value, found[name].error]
            for name in ("distance", "accuracy", "variance", "displacement")
        },
        "calls": calls / (truth * len(problem.classes)),
    }


def _problem(given: Subject) -> Problem:
    from kdist.tuning.problem import make_problem

    return make_problem(
        given.generate, labels=None, real=given.real, judge=given.judge, align=None, features=None, sigmas=None,
        seed=77_777, reference_per_class=2,
    )  # fmt: skip


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Accuracy against energy distance: constants as a line, what each method found as points."""
    import matplotlib.pyplot as plt

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
            own = [row for row in mine if row["method"] == method]
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
        ax.set_yscale("symlog", linthresh=0.01)
        ax.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
    axes[0, 0].set_ylabel("energy distance to the real classes")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), fontsize=8, ncols=4, loc="outside lower center", frameon=False)
    fig.savefig(path, dpi=110)
    plt.close(fig)


def texts(rows: list[dict[str, Any]]) -> dict[str, str]:
    """``table``: the mean over repeats of each method; ``curse``: promised less true, of each method."""
    head = ["network", "method", "repeats", "energy distance", "worst repeat", "accuracy", "calls", "promised"]
    body = []
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
            own = [row for row in mine if row["method"] == method]
            if not own:
                continue
            distance = [row["distance"][0] for row in own]
            promised = [row["promised"] for row in own if "promised" in row]
            body.append(
                [
                    subject,
                    label,
                    str(len(own)),
                    number(float(np.mean(distance)), 3),
                    number(max(distance), 3),
                    number(float(np.mean([row["accuracy"][0] for row in own])), 3),
                    f"{np.mean([row['calls'] for row in own]):.0f}",
                    number(float(np.mean(promised)), 3) if promised else "",
                ]
            )
    return {"table": markdown(head, body)}
