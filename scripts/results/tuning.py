"""What ``kdist tune`` finds on a network, against other ways to look at equal numbers of network calls.

Every method may spend the same calls; what it names best is then sampled from fresh seeds, more of them than any
method saw: the truth of this figure. ``promised`` is what a method measured of its own choice; less the truth, it
is the winner's curse.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

import kdist
from kdist import digits
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
    "hand": "by hand: interval 3, sigma 0.3 to 2.5",
    "early": "design-early",
}
CONSTANTS = (1.0, 1.5, 2.0)
FIXED = 20  # samples of a class, by which the methods without a race measure each schedule


def compute(
    store: Store,
    *,
    subjects: Mapping[str, Mapping[str, Any]],
    calls_per_sample: float,
    curse: Mapping[str, Any],
    steps: int = 20,
) -> list[dict[str, Any]]:
    """One row for each network, method and repeat: the schedule, what was promised, what is true.

    Args:
        subjects: for each network ``accuracy``, ``samples`` of each class that the budget is worth at full guidance,
            ``truth``, fresh samples of each class, and ``repeats`` of each method.
        calls_per_sample: the bound for all methods.
        curse: ``repeats``, ``steps``, ``samples`` and ``accuracy`` of small searches on the digits, whose promise is
            held against their certificate.
    """
    rows = []
    for name, given in subjects.items():
        subject = partial(_subject, name, steps)
        truth = {"subject": name, "steps": steps, "truth": given["truth"]}
        settings = {key: given[key] for key in ("accuracy", "samples")} | {"calls_per_sample": calls_per_sample}

        def add(row: dict[str, Any], name: str = name, subject: Any = subject, truth: Any = truth) -> None:
            key = {**truth, "schedule": row["schedule"]}
            found = store.get(key, partial(true, subject, row["schedule"], truth["truth"]))
            rows.append({"subject": name, **row, **found})

        for repeat in range(max(given["repeats"].values())):
            for method in METHODS:
                if repeat < given["repeats"].get(method, 0):
                    search = partial(find, subject, method, repeat, steps=steps, **settings)
                    key = {"subject": name, "steps": steps, **settings, "method": method, "repeat": repeat}
                    add({"method": method, **store.get(key, search)})
        for scale in CONSTANTS:
            add({"method": "constant", "scale": scale, "schedule": str(kdist.Constant(scale))})
    small = {name: curse[name] for name in ("steps", "samples", "accuracy")}
    for repeat in range(curse["repeats"]):
        subject = partial(_subject, "digits", curse["steps"])
        search = partial(find, subject, "tune", 100 + repeat, calls_per_sample=2 * curse["steps"], **small)
        rows.append({"subject": "curse", "method": "tune", **store.get({"curse": small, "repeat": repeat}, search)})
    return rows


@cache
def _subject(name: str, steps: int) -> Subject:
    """A network with its real images and its judge."""
    if name != "glyphs":
        return shipped(name, steps=steps, solver="dpmpp_2m", device="cpu")
    from scripts.glyphs import data as glyphs
    from scripts.glyphs.measure import Judge
    from scripts.glyphs.train import load_model, null_token

    model: Any = load_model(Path("docs/data/glyphs.safetensors"))
    classes = model.sets[0]
    train, held_out = (glyphs.load(split, classes=max(model.sets)).first(classes) for split in ("train", "held_out"))
    judge = Judge(train)
    generate = kdist.generator(
        model, digits.sigmas(steps), (1, 16, 16), uncond={"class_cond": null_token(classes, model.sets)}
    )
    return Subject(generate, (glyphs.to_model(held_out.images), held_out.labels.long()), judge.log_likelihoods)


def find(
    subject: Callable[[], Subject], method: str, repeat: int, *, steps: int, accuracy: float, samples: int,
    calls_per_sample: float,
) -> dict[str, Any]:  # fmt: skip
    """The schedule that a method names best, and what it measured of it."""
    given = subject()
    if method == "hand":
        return {"schedule": str(kdist.Interval(3.0, 0.3, 2.5))}
    if method == "early":
        return {"schedule": _early(given)}
    import optuna

    options: dict[str, Any] = {
        "calls": 2 * steps * len(given.real[1].unique()) * samples,
        "accuracy": accuracy,
        "calls_per_sample": calls_per_sample,
        "seed": 1000 + repeat,
    }
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
    start = time.process_time()
    tuned = kdist.tune(given.generate, real=given.real, judge=given.judge, **options)
    seconds = round(time.process_time() - start, 1)
    if method == "tune":
        promised, certified = tuned.certified.promised, tuned.certified.to_dict()
        return {
            "schedule": str(tuned.schedule),
            "promised": promised["measured distance"],
            "believed": promised["distance"],
            "certified": certified["tuned"]["distance"],
            "certified accuracy": certified["tuned"]["accuracy"],
            "better": certified["better"],
            "rival": str(tuned.certified.constant.schedule),
            "constant": certified["constant"]["distance"],
            "cpu seconds": seconds,
        }
    fit = [c for c in tuned.front if c.calls_per_sample <= calls_per_sample]
    best = min(fit, key=lambda c: (max(accuracy - c.values["accuracy"].value, 0), c.values["distance"].value))
    return {"schedule": str(best.schedule), "promised": best.values["distance"].value, "cpu seconds": seconds}


def _early(given: Subject) -> str:
    """What ``kdist design-early`` finds on the real images' class Gaussians."""
    from kdist.theory import GaussianMixtureDenoiser, design_on_mixture

    mixture = GaussianMixtureDenoiser.fit(*given.real)
    return str(design_on_mixture(mixture, given.generate.sigmas, unguided=(1.0, 0.0)).schedule)  # type: ignore[attr-defined]


def true(subject: Callable[[], Subject], schedule: str, truth: int) -> dict[str, Any]:
    """Distance, accuracy, variance and calls of a schedule, on seeds of this figure's own."""
    given = subject()
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

    rows = [row for row in rows if row["subject"] != "curse"]
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
    fig.savefig(path, dpi=110)
    plt.close(fig)


def texts(rows: list[dict[str, Any]]) -> dict[str, str]:
    """``table``: the mean over repeats of each method; ``curse``: certified less promised; ``better``,
    ``small_better``: how many certificates of the digits, and of the small searches, call the schedule better."""
    head = ["network", "method", "repeats", "energy distance", "worst repeat", "accuracy", "calls", "promised"]
    body = []
    small = [row for row in rows if row["subject"] == "curse"]
    rows = [row for row in rows if row["subject"] != "curse"]
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
    better = [row["better"] for row in rows if "better" in row and row["subject"] == "digits"]
    return {
        "table": markdown(head, body),
        "curse": _curse(small),
        "better": f"{sum(better)} of {len(better)}",
        "small_better": f"{sum(row['better'] for row in small)} of {len(small)}",
    }


def _curse(rows: list[dict[str, Any]]) -> str:
    """Promised less certified, in a sentence."""
    if not rows:
        return "not measured"
    words = []
    for name, what in (("promised", "measured"), ("believed", "believed")):
        gap = [row["certified"][0] - row[name] for row in rows]
        words.append(f"certified less {what} {np.mean(gap):+.4f} ± {np.std(gap) / max(len(gap) - 1, 1) ** 0.5:.4f}")
    return f"{len(rows)} searches: {', '.join(words)} (standard errors)"
