"""Networks to search on, the ways to search, and what is true of a schedule: the measurements behind figure F10."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import kdist
from kdist import digits
from kdist.tuning.problem import Problem, make_problem
from kdist.tuning.scores import values
from kdist.tuning.subjects import Subject, shipped

__all__ = ["FIXED", "early", "find", "first_look", "network", "problem", "true"]

FIXED = 20  # samples of a class, by which the methods without a race measure each schedule
TRUTH = 77_777  # seed of the fresh samples, no search's


@cache
def network(name: str, steps: int) -> Subject:
    """A network with its real images and its judge; ``digits, first 3``: three of its classes, for toy sizes."""
    name, _, classes = name.partition(", first ")
    if name != "glyphs":
        given = shipped(name, steps=steps, solver="dpmpp_2m", device="cpu")
        return first_classes(given, int(classes)) if classes else given
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


def first_classes(given: Subject, number: int) -> Subject:
    """The subject with classes 0 to ``number - 1`` alone."""
    (images, labels), judge = given.real, given.judge
    few = labels < number
    return replace(given, real=(images[few], labels[few]), judge=judge and (lambda images: judge(images)[:, :number]))


def find(
    get: Callable[[], Subject], method: str, repeat: int, *, steps: int, accuracy: float, samples: int,
    calls_per_sample: float,
) -> dict[str, Any]:  # fmt: skip
    """The schedule that a method names best, and what it measured of it; ``nothing``: all it saw missed the bound."""
    given = get()
    if method == "hand":
        return {"schedule": str(kdist.Interval(3.0, 0.3, 2.5))}
    if method == "early":
        return {"schedule": early(given)}
    import optuna

    options: dict[str, Any] = {
        "calls": 2 * steps * len(given.real[1].unique()) * samples,
        "accuracy": accuracy,
        "calls_per_sample": calls_per_sample,
        "seed": 1000 + repeat,
        "per_class": first_look(samples),
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
    try:
        tuned = kdist.tune(given.generate, real=given.real, judge=given.judge, **options)
    except ValueError as error:
        if "is not reached" not in str(error):
            raise
        return {"nothing": str(error)}
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


def first_look(samples: int) -> int:
    """Samples of each class for a first look at a schedule: as ``kdist tune`` takes them, fewer at toy sizes, where the
    budget, so many samples of each class, would not pay for enough looks."""
    return min(5, max(2, samples // 20))


@cache
def early(given: Subject) -> str:
    """What ``kdist design-early`` finds on the real images' class Gaussians."""
    from kdist.theory import GaussianMixtureDenoiser, design_on_mixture

    mixture = GaussianMixtureDenoiser.fit(*given.real)
    return str(design_on_mixture(mixture, given.generate.sigmas, unguided=(1.0, 0.0)).schedule)  # type: ignore[attr-defined]


def true(get: Callable[[], Subject], schedule: str, truth: int) -> dict[str, Any]:
    """Distance, accuracy, variance and calls of a schedule, on seeds of this figure's own."""
    measured = problem(get(), TRUTH)
    columns, calls, _ = measured.measure(kdist.parse(schedule), {}, "certify", 0, truth)
    found = values(columns)
    return {
        **{
            name: [found[name].value, found[name].error]
            for name in ("distance", "accuracy", "variance", "displacement")
        },
        "calls": calls / (truth * len(measured.classes)),
    }


@lru_cache(maxsize=2)  # the truth is asked of every schedule that is named
def problem(given: Subject, seed: int) -> Problem:
    """What the search of that seed measures with."""
    return make_problem(
        given.generate, labels=None, real=given.real, judge=given.judge, align=None, features=None, sigmas=None,
        seed=seed, reference_per_class=2,
    )  # fmt: skip
