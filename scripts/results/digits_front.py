"""F5: what many schedules and rules do to the classes of the trained digits network, tuned and reported on other seeds.

A contender is a way to guide (a schedule's shape, a rule, a second network, a solver) with the settings that are tried.
On the tuning seed all settings are sampled; the one that is kept has the least distortion, ``|log trace ratio| +
|overshoot|``, among those that reach the wanted accuracy, or the highest accuracy if none does. It is then sampled from
the report seeds, which nothing was chosen by, and all of its samples are measured together.

All contenders start from the same noise. The judge of accuracy is the classifier shipped with ``kdist.evals``;
distortion is measured on pixels in [-1, 1], against all 1797 images.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

import kdist
from kdist import digits
from kdist.digits.classifier import load_digits_classifier
from kdist.evals import measure
from kdist.schedules import describe
from kdist.solvers import sample
from kdist.theory.designs.separated import total_distortion
from scripts.results.class_moments import some_of_each
from scripts.results.contenders import FAMILIES, Setting, contenders
from scripts.style import COLOURS, MARKERS, bars, interval, markdown, number, save

__all__ = ["best", "compute", "draw", "outcome", "texts"]

QUANTITIES = (
    "trace_ratio", "trace_ratio_correct", "overshoot", "mean_shift", "accuracy", "separability", "vendi", "recall",
    "coverage", "frechet_mean", "frechet_covariance",
)  # fmt: skip
# how far the samples are from the real law, and in what
LAW = ("energy_distance", "displacement", "variance_main", "variance_rest")
NOISY = ("dpmpp_2m_sde", "euler_ancestral")  # solvers that draw noise on the way
PLACES = {"trace_ratio": 2, "trace_ratio_correct": 2, "overshoot": 2, "accuracy": 3}  # of single numbers
README_ROWS = ("no guidance", "constant 1.25", "constant 2", "constant 3", "interval", "early negative")
SHORT = (  # the rows of the first table; the distance of the others is measured from fewer samples
    "no guidance",
    "constant 1.25",
    "constant 1.5",
    "constant 2",
    "constant 3",
    "interval",
    "projected (APG)",
    "late negative",
    "window, then conditional",
    "early negative",
    "early negative, 0.25",
    "designed on the class mixture",
    "weak model",
)


def outcome(
    setting: Setting,
    *,
    seeds: Sequence[int],
    per_class: int,
    steps: int,
    resamples: int = 0,
    quantities: Sequence[str] = QUANTITIES,
    real_per_class: int | None = None,
) -> dict[str, Any]:
    """Samples of every seed, measured together: ``[value, low, high]`` (95 %) of each quantity, calls per sample.

    With ``resamples`` also the ``real`` values: of real digits against real digits, so many split halves.
    """
    x, labels, calls = _samples(setting, tuple(seeds), per_class, steps)
    real, real_labels, recognised = _real(real_per_class)
    with torch.no_grad():
        judged = {"real_predictions": recognised, "fake_predictions": _networks()[2](x).argmax(1)}
    subspace = 10 if "variance_main" in quantities else 0
    options: dict[str, Any] = {"resamples": resamples, "subspace": subspace, "fid": False, **judged}
    report = measure(real.flatten(1), x.flatten(1), real_labels, labels, **options)
    pooled = report.pooled
    values = {name: getattr(pooled, name) for name in quantities}
    found: dict[str, Any] = {name: [float(value), *value.interval] for name, value in values.items()}
    for name in ("trace_ratio", "overshoot"):
        found[f"{name}_by_class"] = [float(getattr(entry, name)) for entry in report.classes]
    found["calls"] = calls
    if resamples and quantities is not QUANTITIES:
        found["floor"] = {name: list(v.floor.interval) for name, v in values.items() if v.floor is not None}
    elif resamples:
        found["real"] = {name: float(value.floor) for name, value in values.items() if value.floor is not None}
        found["real"] |= {"accuracy": float(pooled.accuracy_real), "separability": float(pooled.separability_real)}
    return found


@cache
def _networks() -> tuple[torch.nn.Module, torch.nn.Module, torch.nn.Module]:
    return digits.load_model(), digits.load_model(digits.WEAK_MODEL_PATH), load_digits_classifier()


@cache
def _real(per_class: int | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Real digits (None: all), their classes, and what the classifier takes them for."""
    images, labels = digits.load_data("all")
    rows = some_of_each(labels, per_class)
    images, labels = images[rows], labels[rows]
    with torch.no_grad():
        return images, labels, _networks()[2](images).argmax(1)


@lru_cache(maxsize=1)  # of the samples that are reported the law is asked next
def _samples(
    setting: Setting, seeds: tuple[int, ...], per_class: int, steps: int
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Images of every seed, their classes, and network calls per image."""
    model, weak_model, _ = _networks()
    guided = setting.guided(model, weak_model)
    labels = torch.arange(digits.NUM_CLASSES).repeat_interleave(per_class)
    made = [_sample(setting, guided, labels, seed, steps) for seed in seeds]
    return torch.cat([part[0] for part in made]), labels.repeat(len(seeds)), sum(part[1] for part in made) / len(seeds)


@torch.no_grad()
def _sample(
    setting: Setting, guided: torch.nn.Module, labels: torch.Tensor, seed: int, steps: int, batch: int = 100
) -> tuple[torch.Tensor, float]:
    """Images, and network calls per image: the same noise for the same seed, whatever the batch."""
    generator = torch.Generator().manual_seed(seed)
    levels = digits.sigmas(steps)
    noise = torch.randn(len(labels), 1, 8, 8, generator=generator) * levels[0]
    options: dict[str, Any] = {}
    if setting.solver in NOISY:
        options["noise_sampler"] = lambda *_: torch.randn(part.shape, generator=generator)
    before, images = getattr(guided, "nfe", 0.0), []
    for part, own in zip(noise.split(batch), labels.split(batch), strict=True):
        images.append(sample(setting.solver, guided, part, levels, extra_args={"class_cond": own}, **options))
    return torch.cat(images), (guided.nfe - before) / len(images)


def best(found: Sequence[Mapping[str, Any]], accuracy: float) -> int:
    """Place of the least distorted outcome that reaches ``accuracy``; of the most accurate one if none does."""

    places = range(len(found))
    reach = [place for place in places if found[place]["accuracy"][0] >= accuracy]
    if reach:
        return min(reach, key=lambda at: total_distortion(found[at]["trace_ratio"][0], found[at]["overshoot"][0]))
    return max(places, key=lambda place: found[place]["accuracy"][0])


def compute(
    store: Any,
    *,
    tune_seeds: Sequence[int],
    tune_per_class: int,
    report_seeds: Sequence[int],
    per_class: int,
    steps: int,
    accuracy: float,
    resamples: int,
    law_per_class: int,
    finalists: Mapping[str, int] | None = None,
    names: Sequence[str] | None = None,
    real_per_class: int | None = None,
) -> list[dict[str, Any]]:
    """Tune every contender, then report it: a row each, in the order of :func:`contenders`.

    Args:
        store: where measurements are kept, :mod:`results.store`.
        tune_seeds, tune_per_class: the noise that settings are chosen by.
        report_seeds, per_class: the noise that is reported.
        steps: the solver's steps.
        accuracy: wanted, see :func:`best`.
        resamples: the number behind the floors.
        law_per_class: the distance of rows that are not in :data:`SHORT` is from so many samples of each seed.
        finalists: contenders that are reported from more samples, and how many of each class and seed.
        names: only these contenders.
        real_per_class: real digits of each class (None: all).
    """
    weights = [hashlib.sha256(p.read_bytes()).hexdigest()[:12] for p in (digits.MODEL_PATH, digits.WEAK_MODEL_PATH)]

    def get(
        setting: Setting, seeds: Sequence[int], number: int, resamples: int = 0, quantities: Sequence[str] = QUANTITIES
    ) -> dict[str, Any]:
        options: dict[str, Any] = {"seeds": list(seeds), "per_class": number, "steps": steps, "resamples": resamples}
        if quantities is not QUANTITIES:
            options["quantities"] = list(quantities)
        if real_per_class is not None:
            options["real_per_class"] = real_per_class
        key = {**asdict(setting), **options, "weights": weights}
        return store.get(key, lambda: outcome(setting, **options))

    chosen = [c for c in contenders() if names is None or c.name in names]
    picked: list[Setting] = []
    promises: list[Mapping[str, float] | None] = []
    for contender in track(chosen, description="F5, tuning", disable=store.frozen):
        tried, promised = contender.settings, None
        if contender.design is not None:
            plain = get(Setting("1"), tune_seeds, tune_per_class)
            known = (plain["trace_ratio"][0], plain["overshoot"][0])
            key = {"designed": contender.name, "unguided": known, "steps": steps}
            found = store.get(key, partial(contender.design, known, steps))
            tried, promised = [Setting(found["schedule"])], found.get("promised")
        place = 0
        if len(tried) > 1:
            place = best([get(setting, tune_seeds, tune_per_class) for setting in tried], accuracy)
        picked.append(tried[place])
        promises.append(promised)
    rows = []
    todo = list(zip(chosen, picked, promises, strict=True))
    for contender, setting, promised in track(todo, description="F5, sampling", disable=store.frozen):
        number = (finalists or {}).get(contender.name, per_class)
        found = get(setting, report_seeds, number, resamples)
        about: dict[str, Any] = {"name": contender.name, "family": contender.family, "tried": len(contender.settings)}
        about |= {"per_class": number * len(report_seeds), "promised": promised}
        rows.append({**about, **asdict(setting), **found})
        law_samples = per_class if contender.name in SHORT else law_per_class
        law = get(setting, report_seeds, law_samples, resamples, LAW)
        rows[-1] |= {name: law[name] for name in LAW} | {"law_floor": law.get("floor", {})}
    return rows


LABELS = {  # what the figure names: text, offset in points and alignment; in the panel of distance, then of variance
    "no guidance": ("no guidance", (0, 10), "center", (0, 8), "center"),
    "constant 1.25": ("1.25", (-3, 6), "right", (-7, -10), "right"),
    "constant 1.5": ("1.5", (6, -3), "left", (6, -2), "left"),
    "constant 2": ("2", (6, -3), "left", (6, -2), "left"),
    "constant 3": ("constant 3", (-14, -3), "right", (-4, -13), "center"),
    "interval": ("interval", (14, -13), "left", (5, 6), "left"),
    "late negative": ("late negative", (-17, -3), "right", (-8, -12), "right"),
    "early negative": ("early negative", (-4, 5), "right", (6, 18), "center"),
    "early negative, 0.25": ("early negative, 0.25", (-4, 5), "right", (-4, -11), "right"),
    "weak model": ("weak model", (-12, 9), "right", (-4, 11), "right"),
}
LEAST_ACCURACY = 0.95


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Distance from the real law, and variance kept, against accuracy."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(12, 5.2), layout="constrained")
    panels = (
        ("energy_distance", 0.0, "distance from the real digits (energy distance)"),
        ("trace_ratio", 1.0, "variance kept (trace ratio)"),
    )
    for panel, (ax, (quantity, right, label)) in enumerate(zip(axes, panels, strict=True)):
        for family, colour, marker in zip(FAMILIES, COLOURS, MARKERS, strict=False):
            own = [row for row in rows if row["family"] == family]
            if not own:
                continue
            x, y = ([row[name][0] for row in own] for name in ("accuracy", quantity))
            style: dict[str, Any] = {"fmt": marker, "ms": 5, "lw": 0.8, "color": colour, "label": FAMILIES[family]}
            ax.errorbar(x, y, bars(own, quantity), bars(own, "accuracy"), **style)
            for row, place in zip(own, zip(x, y, strict=True), strict=True):
                if row["name"] in LABELS:
                    text, *where = LABELS[row["name"]]
                    offset, side = where[2 * panel : 2 * panel + 2]
                    style = {"fontsize": 8, "color": colour, "ha": side, "annotation_clip": True}
                    ax.annotate(text, place, xytext=offset, textcoords="offset points", **style)
        ax.axhline(right, color="0.6", lw=0.8, zorder=0)
        ax.set_xlim(LEAST_ACCURACY, 1.006)
        ax.set_xlabel("accuracy (share recognised as its class)")
        ax.set_ylabel(label)
    axes[0].set_yscale("symlog", linthresh=0.01)
    axes[0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes[0].set_ylim(-0.008, 0.2)
    left = sum(row["accuracy"][0] < LEAST_ACCURACY for row in rows)
    axes[1].set_title(f"{left} points further left" if left else "", fontsize=8, loc="left")
    axes[1].legend(fontsize=8, frameon=False, loc="lower left")
    save(figure, path)


def texts(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """``table`` of all rows, ``short`` for README, ``spread``, ``settings``, and ``NAME_QUANTITY`` single numbers."""
    real = next((row["real"] for row in rows if "real" in row), {})
    numbers = {
        f"{_slug(row['name'])}_{quantity}": number(row[quantity][0], places, sign=quantity == "overshoot")
        for row in rows
        for quantity, places in PLACES.items()
    }
    numbers |= {
        f"{_slug(row['name'])}_promised_{quantity}": number(value, sign=quantity == "overshoot")
        for row in rows
        for quantity, value in (row["promised"] or {}).items()
    }
    numbers |= {
        f"{_slug(row['name'])}_{short}": number(row[quantity][0], places)
        for row in rows
        for quantity, short, places in (("energy_distance", "distance", 3), ("displacement", "displacement", 2))
    }
    numbers |= {f"{_slug(row['name'])}_calls": f"{row['calls']:g}" for row in rows}
    numbers |= {f"{_slug(row['name'])}_setting": f"`{row['schedule']}`" for row in rows}
    settings = [
        [str(n), row["name"], f"`{row['schedule']}`", row["rule"], row["solver"], str(row["tried"])]
        for n, row in enumerate(rows, 1)
    ]
    most = max(row["per_class"] for row in rows)
    return {
        "table": _table(rows, real),
        "law": _law(rows),
        "short": _law(rows, short=True),
        "spread": _spread(rows, real),
        "settings": markdown(["", "guidance", "schedule", "rule", "solver", "settings tried"], settings),
        "finalists": ", ".join(str(n) for n, row in enumerate(rows, 1) if row["per_class"] == most),
        **numbers,
    }


def _slug(name: str) -> str:
    """A name that a template can hold: letters, digits and underscores."""
    return re.sub(r"\W+", "_", name.lower()).strip("_")


def _table(rows: Sequence[Mapping[str, Any]], real: Mapping[str, float]) -> str:
    """The main quantities of every row, numbered as in the figure."""
    head = ["", "guidance", "distance", "displaced", "variance kept", "overshoot", "accuracy", "separability", "calls"]
    lines = [
        [
            str(n),
            row["name"],
            interval(row["energy_distance"], 3),
            number(row["displacement"][0]),
            interval(row["trace_ratio"]),
            interval(row["overshoot"], sign=True),
            interval(row["accuracy"], 3),
            f"{row['separability'][0]:.2f}",
            f"{row['calls']:g}",
        ]
        for n, row in enumerate(rows, 1)
    ]
    if real:
        judged = [f"{real['accuracy']:.3f}", f"{real['separability']:.2f}"]
        lines.insert(0, ["", "real digits", "0", "0", "1", "0", *judged, ""])
    return markdown(head, lines)


def _law(rows: Sequence[Mapping[str, Any]], *, short: bool = False) -> str:
    """How far the samples are from the real law, the nearest first; ``short`` is README's."""
    measured = sorted((row for row in rows if row["name"] in SHORT), key=lambda row: row["energy_distance"][0])
    head = ["guidance", "distance", "means displaced", "variance kept", "accuracy", "calls"]
    if not short:
        head[4:4] = ["main directions", "rest"]
    lines = []
    for row in measured:
        if short and row["name"] not in README_ROWS:
            continue
        line = [
            _in_words(row),
            interval(row["energy_distance"], 3),
            number(row["displacement"][0]),
            number(row["trace_ratio"][0]),
            f"{row['accuracy'][0]:.3f}",
            f"{row['calls']:g}",
        ]
        if not short:
            line[4:4] = [number(row[name][0]) for name in ("variance_main", "variance_rest")]
        lines.append(line)
    return markdown(head, lines)


def _in_words(row: Mapping[str, Any]) -> str:
    """The name, and the schedule where the name does not say it."""
    if row["family"] == "constant":
        return str(row["name"])
    return f"{row['name']}: {describe(kdist.parse(row['schedule']))}"


def _spread(rows: Sequence[Mapping[str, Any]], real: Mapping[str, float]) -> str:
    """Other measures of diversity, for those who doubt that the trace says it all."""
    quantities = {"vendi": 1, "recall": 2, "coverage": 2, "frechet_mean": 2, "frechet_covariance": 2}
    head = [
        "",
        "guidance",
        "least and most kept of a class",
        "among the correct",
        "Vendi",
        "recall",
        "coverage",
        "Fréchet, mean",
        "covariance",
    ]
    lines = [
        [
            str(n),
            row["name"],
            f"{min(row['trace_ratio_by_class']):.2f} to {max(row['trace_ratio_by_class']):.2f}",
            f"{row['trace_ratio_correct'][0]:.2f}",
            *(f"{row[name][0]:.{places}f}" for name, places in quantities.items()),
        ]
        for n, row in enumerate(rows, 1)
    ]
    if real:
        cells = (f"{real[name]:.{places}f}" if name in real else "" for name, places in quantities.items())
        lines.insert(0, ["", "real digits", "1", "1", *cells])
    return markdown(head, lines)
