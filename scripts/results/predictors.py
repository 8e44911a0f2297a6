"""Predicted against measured per class: a ladder of predictors for what guidance does to the shipped digits network.

Measured: the network under schedules that no predictor has seen. Predicted, from least to most knowledge of the
network: exact models of the data (a Gaussian pair per class, ten class Gaussians, all images as narrow Gaussians),
the network's affine part, and its response to a few probe schedules (:class:`kdist.theory.Response`). What is compared
is guidance's own part: log trace ratio and overshoot relative to scale 1 with the same solver, steps and noise.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import kdist
from kdist import digits
from kdist.solvers import called_sigmas, sample
from kdist.theory import (
    EarlyNegativeWarning,
    GaussianMixtureDenoiser,
    GaussianPair,
    GuidanceWidensWarning,
    Response,
    compare,
    solver_moments,
)
from scripts.results.class_moments import Digits, responses, some_of_each
from scripts.results.linearised import linearise, unconditional
from scripts.results.store import Store
from scripts.style import COLOURS, MARKERS, markdown, save

__all__ = ["compute", "draw", "texts"]

SOLVER = "dpmpp_2m"
FAMILIES = {
    "constant": ("1.25", "1.5", "2", "3", "4"),
    "interval": ("interval:scale=3,sigma_lo=0.3,sigma_hi=2", "interval:scale=2,sigma_lo=0.7,sigma_hi=7"),
    "ramp, triangle": (
        "ramp:start=1,end=3,sigma_min=0.1,sigma_max=10",
        "ramp:start=4,end=1,sigma_min=0.1,sigma_max=10,shape=cosine",
        "triangle:scale=4,sigma_peak=1.5,sigma_min=0.2,sigma_max=10",
    ),
    "late negative": (
        "late-negative:scale=3,sigma_switch=1.5",
        "late-negative:scale=2,sigma_switch=1.5,late=0.5",
        "late-negative:scale=4,sigma_switch=0.5",
    ),
    "window": (
        "negative-window:scale=3,sigma_lo=0.7,sigma_hi=2",
        "negative-window:scale=3,sigma_lo=0.7,sigma_hi=2,after=1",
        "negative-window:scale=4,sigma_lo=0.3,sigma_hi=1",
    ),
    "linear in variance": (
        "linear-in-variance:w0=-0.5,omega=0.5,max_scale=3",
        "linear-in-variance:w0=-1,omega=1,max_scale=4",
    ),
}
# looked at once, after everything about the predictors was settled: the response against other shapes and noise
FRESH = (
    "2.5",
    "beta:scale=4,sigma_min=0.1,sigma_max=10",
    "exponential:scale=3.5,sigma_min=0.05,sigma_max=10",
    "interval:scale=4,sigma_lo=0.5,sigma_hi=5",
    "late-negative:scale=3.5,sigma_switch=1",
    "negative-window:scale=2.5,sigma_lo=0.5,sigma_hi=1.5,after=1",
    "ramp:start=0,end=2.5,sigma_min=0.1,sigma_max=10",
    "triangle:scale=3,sigma_peak=0.7,sigma_min=0.05,sigma_max=10,floor=0.5",
)
# what keeps the total variance in F5: shown beside the others, in no correlation
EARLY = (
    "early-negative:scale=3,sigma_switch=1.5,sigma_end=0.1",
    "early-negative:scale=4,sigma_switch=1.2,sigma_end=0.1",
)
TITLES = {
    "pair": "Gaussian pair per class",
    "mixture": "ten class Gaussians",
    "images 0.05": "images, width 0.05",
    "images 0.1": "images, width 0.1",
    "images 0.3": "images, width 0.3",
    "affine": "the network's affine part",
    "response, few": "response, {few} per class",
    "response": "response, {many} per class",
}
QUANTITIES = {"trace": "log trace ratio", "overshoot": "overshoot"}


def compute(
    store: Store,
    *,
    per_class: int = 80,
    rung_per_class: int = 80,
    fresh_per_class: int = 60,
    probe_per_class: Sequence[int] = (24, 96),
    probes: int = 16,
    draws: int = 2,
    steps: int = 20,
    seed: int = 1,
    each: int | None = None,
    train_per_class: int | None = None,
) -> dict[str, Any]:
    """Measure the network, and predict it.

    Args:
        store: F6's store.
        per_class: samples of each class that the network draws under each held-out schedule.
        rung_per_class: the same for the exact models and the affine network.
        fresh_per_class: the same for the fresh schedules.
        probe_per_class: samples of each class in a probe, few and many.
        probes: runs of the response predictor, their noise seeded by 0.
        draws: noisy copies of each training image for the affine fit.
        steps: the solver's steps.
        seed: decides the noise of the measured runs; the sampled rungs use ``seed + 1``, the fresh
            schedules ``seed + 2``.
        each: how many held-out schedules of each family (None: all).
        train_per_class: training images of each class that the rungs know (None: all); more than an image has pixels,
            for the affine fit.
    """
    schedules = {text: family for family, members in FAMILIES.items() for text in members[:each]}
    early = EARLY[:each]
    every = ["1", *schedules, *early]
    setting: dict[str, Any] = {"solver": SOLVER, "steps": steps}
    known = {"train_per_class": train_per_class} if train_per_class else {}

    def all_of(key: dict[str, Any], name: str, make: Callable[[str], Any]) -> dict[str, Any]:
        return {text: store.get({name: text, **key}, functools.partial(make, text)) for text in every}

    own = {**setting, "per_class": per_class, "seed": seed}
    measured = all_of(own, "measured", lambda text: _network(text, per_class, seed, steps))
    rungs: dict[str, dict[str, Any]] = {}
    sampled = {**setting, "per_class": rung_per_class, "seed": seed + 1}
    for rung, predict in _rungs(rung_per_class, seed + 1, steps, draws, train_per_class).items():
        key = setting if rung == "pair" else {**sampled, "draws": draws} if rung == "affine" else sampled
        rungs[rung] = all_of({"rung": rung, **key, **known}, "schedule", predict)
    quality = {}
    for rung, number in zip(("response, few", "response"), probe_per_class, strict=True):
        key = {"rung": "response", **setting, "probes": probes, "per_class": number, "seed": 0}
        response = Response.from_dict(store.get(key, functools.partial(_probe, probes, number, steps)))
        quality[rung] = {"calls": response.calls, **response.quality}
        rungs[rung] = {text: _predicted(response, text) for text in (*every, *FRESH)}
    key = {**setting, "per_class": fresh_per_class, "seed": seed + 2}
    fresh = {
        text: store.get({"measured": text, **key}, functools.partial(_network, text, fresh_per_class, seed + 2, steps))
        for text in ("1", *FRESH[:each])
    }
    names = dict(zip(("few", "many"), probe_per_class, strict=True))
    return {
        "schedules": schedules,
        "early": early,
        "measured": measured,
        "fresh": fresh,
        "rungs": rungs,
        "quality": quality,
        "titles": {rung: title.format(**names) for rung, title in TITLES.items()},
    }


def _predicted(response: Response, text: str) -> dict[str, list[float]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EarlyNegativeWarning)  # shown beside the others, in no correlation
        guess = response.predict(kdist.parse(text))
    return {"log_trace": guess.log_trace_ratio.tolist(), "along": guess.overshoot.tolist()}


def _probe(probes: int, per_class: int, steps: int) -> dict[str, Any]:
    noise, classes = _start(per_class, 0)
    response = Response.measure(
        _model(), noise, classes, digits.sigmas(steps), uncond={"class_cond": digits.UNCOND}, solver=SOLVER,
        probes=probes, class_means=_digits().means, centre=_digits().centre,
    )  # fmt: skip
    return response.to_dict()


def _rungs(
    per_class: int, seed: int, steps: int, draws: int, train_per_class: int | None
) -> dict[str, Callable[[str], dict[str, list[float]]]]:
    """A predictor for each rung but the responses; what a rung needs is made when it is first asked."""
    x, y = digits.load_data("train")
    rows = some_of_each(y, train_per_class)
    x, y = x[rows], y[rows]

    @functools.cache
    def pairs() -> list[GaussianPair]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GuidanceWidensWarning)
            return [GaussianPair.from_data(x.numpy(), y.numpy(), c) for c in range(digits.NUM_CLASSES)]

    def pair(text: str) -> dict[str, list[float]]:
        laws = [solver_moments(p, kdist.parse(text), SOLVER, digits.sigmas(steps)) for p in pairs()]
        found = [compare(p, law) for p, law in zip(pairs(), laws, strict=True)]
        return {"log_trace": [float(np.log(d.trace_ratio)) for d in found], "along": [d.overshoot for d in found]}

    def sampled(model: Callable[[], Any], uncond: Any) -> Callable[[str], dict[str, list[float]]]:
        def predict(text: str) -> dict[str, list[float]]:
            made, _ = _run(model(), text, per_class, seed, steps, uncond)
            found = _digits().moments(made, per_class)
            return {name: found[name] for name in ("log_trace", "along")}

        return predict

    @functools.cache
    def affine() -> torch.nn.Module:
        return linearise(_model(), x, y, called_sigmas(SOLVER, digits.sigmas(steps)), draws=draws, seed=seed)

    exact = {"mixture": functools.cache(lambda: GaussianMixtureDenoiser.fit(x, y))}
    for width in (0.05, 0.1, 0.3):
        exact[f"images {width}"] = functools.cache(functools.partial(GaussianMixtureDenoiser.empirical, x, y, width))
    none = {"class_cond": digits.UNCOND}
    return {
        "pair": pair,
        **{name: sampled(model, none) for name, model in exact.items()},
        "affine": sampled(affine, unconditional),
    }


def _start(per_class: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise (10 * per_class, 1, 8, 8) at the first noise level, and classes in order."""
    classes = torch.arange(digits.NUM_CLASSES).repeat_interleave(per_class)
    noise = torch.randn(len(classes), 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return noise * digits.SIGMA_MAX, classes


def _run(model: Any, text: str, per_class: int, seed: int, steps: int, uncond: Any) -> tuple[torch.Tensor, float]:
    """Samples, and network evaluations for each."""
    guided = kdist.guide(model, kdist.parse(text), uncond=uncond)
    noise, classes = _start(per_class, seed)
    batches = zip(noise.split(250), classes.split(250), strict=True)  # what fits a processor's cache
    with torch.no_grad():
        levels = digits.sigmas(steps)
        made = [sample(SOLVER, guided, x, levels, extra_args={"class_cond": c}) for x, c in batches]
    return torch.cat(made), kdist.parse(text).nfe(digits.sigmas(steps), SOLVER) * len(classes)


@functools.cache
def _digits() -> Digits:
    return Digits()


@functools.cache
def _model() -> torch.nn.Module:
    return digits.load_model()


def _network(text: str, per_class: int, seed: int, steps: int) -> dict[str, Any]:
    made, calls = _run(_model(), text, per_class, seed, steps, {"class_cond": digits.UNCOND})
    return {**_digits().moments(made, per_class), "calls": int(calls)}


def points(rows: dict[str, Any], rung: str, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and measured (S, K): guidance's own part for each held-out schedule and class."""
    return _points(rows["rungs"][rung], rows["measured"], list(rows["schedules"]), quantity)


def _points(predicted: Any, measured: Any, schedules: Collection[str], quantity: str) -> tuple[np.ndarray, np.ndarray]:
    first, second = (
        np.array([responses(side[text], side["1"])[quantity] for text in schedules]) for side in (predicted, measured)
    )
    return first, second


def agreement(predicted: np.ndarray, measured: np.ndarray) -> dict[str, float]:
    """Correlation, slope of measured against predicted, root mean square error."""
    x, y = predicted.ravel(), measured.ravel()
    rms = float(np.sqrt(np.mean((x - y) ** 2)))
    if len(x) < 2 or not (x.var() and y.var()):
        return {"r": np.nan, "slope": np.nan, "rms": rms}
    (own, shared), (_, other) = np.cov(x, y)
    return {"r": float(shared / np.sqrt(own * other)), "slope": float(shared / own), "rms": rms}


def ceiling(rows: dict[str, Any], quantity: str) -> float:
    """The correlation that a perfect predictor would have with the measured points, from two halves of the samples.

    Halves that correlate by r make a whole of reliability 2 r / (1 + r) (Spearman and Brown); its root is the ceiling.
    """
    measured = rows["measured"]
    halves = [
        np.array([responses(measured[text], measured["1"], half)[quantity] for text in rows["schedules"]]).ravel()
        for half in ("_even", "_odd")
    ]
    r = max(float(np.corrcoef(*halves)[0, 1]), 0.0)
    return (2 * r / (1 + r)) ** 0.5


def draw(rows: dict[str, Any], path: Path) -> None:
    """A panel per rung and quantity: predicted across, measured up."""
    import matplotlib.pyplot as plt

    families = list(dict.fromkeys(rows["schedules"].values()))
    members = [[i for i, f in enumerate(rows["schedules"].values()) if f == family] for family in families]
    figure, axes = plt.subplots(4, 4, figsize=(11, 11.6), layout="constrained")
    for index, (rung, title) in enumerate(rows["titles"].items()):
        for which, (quantity, label) in enumerate(QUANTITIES.items()):
            ax = axes[2 * (index // 4) + which, index % 4]
            x, y = points(rows, rung, quantity)
            for family, own, colour, marker in zip(families, members, COLOURS, MARKERS, strict=False):
                ax.scatter(x[own], y[own], s=7, color=colour, alpha=0.45, linewidths=0)
                ax.scatter(
                    x[own].mean(1), y[own].mean(1), s=34, color=colour, marker=marker, edgecolors="white", label=family
                )
            low, high = y.min(), y.max()
            ax.plot([low, high], [low, high], color="0.4", linewidth=0.9, zorder=0)
            fit = agreement(x, y)
            ax.set_title(f"{title}\nr {fit['r']:.2f}, slope {fit['slope']:.2f}", fontsize=9)
            ax.set_xlabel(f"predicted {label}", fontsize=8)
            if index % 4 == 0:
                ax.set_ylabel(f"measured {label}", fontsize=8)
            ax.tick_params(labelsize=7)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=9, frameon=False)
    figure.suptitle(
        "Guidance's own part, relative to scale 1: small, each digit and schedule; large, averages over digits",
        fontsize=10,
    )
    save(figure, path)


def texts(rows: dict[str, Any]) -> dict[str, str]:
    """Tables and numbers for docs/results.md."""
    found: dict[str, str] = {"points": str(len(rows["schedules"]) * digits.NUM_CLASSES)}
    tops = {quantity: ceiling(rows, quantity) for quantity in QUANTITIES}
    head = ["predictor"]
    for label in QUANTITIES.values():
        head += [f"{label}: r", "slope", "rms error", "averages: r", "slope"]
    table = []
    for rung, title in rows["titles"].items():
        cells = [title]
        for quantity in QUANTITIES:
            x, y = points(rows, rung, quantity)
            each, mean = agreement(x, y), agreement(x.mean(1), y.mean(1))
            cells += [f"{each['r']:.2f}", f"{each['slope']:.2f}", f"{each['rms']:.3f}"]
            cells += [f"{mean['r']:.2f}", f"{mean['slope']:.2f}"]
            name = f"{_name(rung)}_{quantity}"
            found |= {f"{name}_r": cells[-5], f"{name}_slope": cells[-4], f"{name}_rms": cells[-3]}
            found |= {f"{name}_mean_r": cells[-2], f"{name}_mean_slope": cells[-1]}
            found[f"{name}_corrected"] = f"{min(each['r'] / tops[quantity], 1):.2f}" if tops[quantity] else "n/a"
        table.append(cells)
    found["table"] = markdown(head, table)
    found |= {f"ceiling_{quantity}": f"{top:.3f}" for quantity, top in tops.items()}
    direct = np.mean([rows["measured"][text]["calls"] for text in rows["schedules"]])
    for rung, quality in rows["quality"].items():
        name = _name(rung)
        found[f"{name}_calls"] = f"{quality['calls'] / 1000:.0f} thousand"
        found[f"{name}_runs"] = f"{quality['calls'] / direct:.0f}"
        for quantity, key in (("trace", "log_trace"), ("overshoot", "overshoot")):
            found |= {f"{name}_{quantity}_{part}": f"{value:.3f}" for part, value in quality[key].items()}
    found["direct_calls"] = f"{direct / 1000:.0f} thousand"
    for quantity in QUANTITIES:
        x, y = _points(
            rows["rungs"]["response"], rows["fresh"], [text for text in rows["fresh"] if text != "1"], quantity
        )
        for suffix, fit in (("", agreement(x, y)), ("_mean", agreement(x.mean(1), y.mean(1)))):
            found |= {f"fresh_{quantity}{suffix}_{name}": f"{value:.2f}" for name, value in fit.items()}
    return found | {
        "averages": _averages(rows, rows["schedules"]),
        "early": _averages(rows, rows["early"]),
        "removal": _removal(rows),
    }


def _name(rung: str) -> str:
    """``rung`` as part of a template's variable."""
    return "".join(c if c.isalnum() else "_" for c in rung.replace(", ", " "))


def _averages(rows: dict[str, Any], texts: Collection[str]) -> str:
    """Trace ratio / overshoot relative to scale 1, averaged over digits (the ratio by its logarithm), for each rung."""
    pairs = {
        rung: [_points(rows["rungs"][rung], rows["measured"], texts, quantity) for quantity in QUANTITIES]
        for rung in rows["titles"]
    }
    table = []
    for i, text in enumerate(texts):
        sides = [[side[0][i] for side in pair] for pair in pairs.values()]
        sides.append([side[1][i] for side in pairs["response"]])
        table.append([f"`{text}`", *(f"{np.exp(t.mean()):.2f} / {o.mean():+.2f}" for t, o in sides)])
    return markdown(["schedule", *rows["titles"].values(), "measured"], table)


def _removal(rows: dict[str, Any]) -> str:
    """How much of the log trace ratio is left among the correctly classified, and in which part of the variance."""
    base, table = rows["measured"]["1"], []
    for text in ["1", *rows["schedules"], *rows["early"]]:
        own = rows["measured"][text]
        parts = np.array([np.subtract(own[name], base[name]) for name in ("log_trace", "log_trace_correct")])
        known = parts[:, np.isfinite(parts[1])]  # digits with two correct samples: all, but at toy sizes
        total, inside = known.mean(1) if known.size else (np.nan, np.nan)
        between, within = (float(np.log(np.mean(own[name]) / np.mean(base[name]))) for name in ("between", "within"))
        changes = (f"{value:+.3f}" for value in (total, inside, total - inside, between, within))
        table.append([f"`{text}`", f"{np.mean(own['accuracy']):.3f}", *changes])
    head = ["schedule", "accuracy", "log trace ratio", "inside the class", "outliers removed"]
    return markdown([*head, "between sub-classes", "inside sub-classes"], table)
