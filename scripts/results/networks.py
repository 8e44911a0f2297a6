"""F9: twenty families of guidance on several trained networks, compared at equal accuracy.

Every family has six settings, the same on every network (:mod:`scripts.results.families`). On the tuning seed all of
them are sampled from the same noise. At each target accuracy a family is represented by the setting of least energy
distance that reaches it there; that setting is then sampled from the report seeds, which nothing was chosen by. The
targets of a network are the classifier's accuracy on real images that neither it nor the network has seen, above which
classes are separated more than real ones, and what a constant scale of 2 reaches.

Distance is measured between the samples of a class and its real images: digits in their 64 pixels against all 1797,
Fashion-MNIST in 40 principal components against 200 held-out images of each class.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from scipy.stats import binomtest

from kdist.evals import measure
from kdist.evals.sources.sampler import sample_from_seeds
from kdist.solvers import get_solver
from kdist.tuning.problem import block_seeds
from kdist.tuning.scores import pixels
from scripts.results.class_moments import some_of_each
from scripts.results.families import FAMILIES, PLAIN, Network, Setting
from scripts.results.network_tables import GROUPS, LAW, TARGETS, texts
from scripts.style import COLOURS, MARKERS, bars, save

__all__ = ["TARGETS", "Subject", "at_least", "compute", "draw", "texts"]

WEIGHTS = Path(__file__).parents[2] / "docs" / "data"  # of the further trainings: digits-1.safetensors, ...
BATCH = 250
SOLVER = "dpmpp_2m"


@dataclass(frozen=True)
class Subject:
    """A trained network: ``digits`` and ``fashion`` are those that ship, ``digits-1`` is a further training."""

    name: str
    steps: int
    real_per_class: int | None = None  # images that samples are measured against; None: all

    @cached_property
    def example(self) -> Any:
        return import_module(f"kdist.{self.name.partition('-')[0]}")

    @property
    def path(self) -> Path:
        """The weights."""
        shipped: Path = self.example.MODEL_PATH
        return WEIGHTS / f"{self.name}.safetensors" if "-" in self.name else shipped

    @cached_property
    def network(self) -> Network:
        """Guided networks share the weak model of the training that ships."""
        model, weak = self.example.load_model(self.path), self.example.load_model(self.example.WEAK_MODEL_PATH)
        inner = model.inner_model
        embedding = inner.class_emb if hasattr(inner, "class_emb") else inner.mapping_cond
        return Network(model, weak, embedding, self.example.UNCOND, self.example.sigmas(self.steps))

    @cached_property
    def real(self) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = self.example.load_data("all" if self.example is import_module("kdist.digits") else "sample")
        rows = some_of_each(labels, self.real_per_class)
        return images[rows], labels[rows]

    @cached_property
    def classifier(self) -> Callable[[torch.Tensor], torch.Tensor]:
        found: Callable[[torch.Tensor], torch.Tensor] = self.example.load_classifier()
        return found

    @cached_property
    def recognised(self) -> torch.Tensor:
        """What the classifier takes the real images for."""
        with torch.no_grad():
            return self.classifier(self.real[0]).argmax(1)

    @cached_property
    def features(self) -> Callable[[torch.Tensor], Any]:
        return pixels(self.real[0])

    @cached_property
    def weights(self) -> str:
        """Which network it is, for the record."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:12]


@torch.no_grad()
def samples(
    subject: Subject, setting: Setting, seed: int, per_class: int, stage: str
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Images, their classes, network calls per image; each sample's noise depends on its own seed alone."""
    labels = torch.arange(subject.example.NUM_CLASSES).repeat_interleave(per_class)
    guided = setting.guided(subject.network)
    seeds = torch.tensor(block_seeds(seed, stage, 0, len(labels)))
    images = []
    for own, keys in zip(labels.split(BATCH), seeds.split(BATCH), strict=True):
        extra = {"class_cond": own} | ({"seed": keys} if setting.cads is not None else {})
        sigmas, shape = subject.network.sigmas, tuple(subject.real[0].shape[1:])
        images.append(sample_from_seeds(guided, get_solver(SOLVER), sigmas, shape, keys.tolist(), extra_args=extra))
    return torch.cat(images), labels, guided.nfe / len(images)


def outcome(subject: Subject, setting: Setting, *, seeds: Sequence[int], per_class: int, stage: str) -> dict[str, Any]:
    """``[value, low, high]`` (95 %) of each quantity over the samples of all seeds, values by class, network calls."""
    made = [samples(subject, setting, seed, per_class, stage) for seed in seeds]
    images, labels = torch.cat([part[0] for part in made]), torch.cat([part[1] for part in made])
    real, real_labels = subject.real
    with torch.no_grad():
        judged = subject.classifier(images).argmax(1)
    options: dict[str, Any] = {"resamples": 0, "subspace": 10, "fid": False, "splits": 0, "neighbour_queries": 0}
    options |= {"real_predictions": subject.recognised, "fake_predictions": judged}
    report = measure(subject.features(real), subject.features(images), real_labels, labels, **options)
    values = {name: getattr(report.pooled, name) for name in (*LAW, "accuracy")}
    found: dict[str, Any] = {name: [float(value), *value.interval] for name, value in values.items()}
    for name in ("energy_distance", "trace_ratio", "accuracy"):
        found[f"{name}_by_class"] = [round(float(getattr(entry, name)), 4) for entry in report.classes]
    return found | {"calls": sum(part[2] for part in made) / len(seeds)}


@torch.no_grad()
def accuracy_on_real(subject: Subject) -> list[float]:
    """The classifier's accuracy on real images that neither it nor the network has seen, ``[value, low, high]``."""
    # what ships of Fashion-MNIST is part of its test set
    images, labels = subject.example.load_data("held_out") if subject.name.startswith("digits") else subject.real
    right = int((subject.classifier(images).argmax(1) == labels).sum())
    return [right / len(labels), *binomtest(right, len(labels)).proportion_ci(method="wilson")]


@torch.no_grad()
def information(subject: Subject, *, per_class: int, steps: int, seed: int) -> dict[str, Any]:
    """Class information along unguided runs (docs/theory.md, equation 19): ``nats`` in all, ``[value, low, high]``, and
    the noise level ``passes`` at which the mean over the samples passes log P, more than which no class has."""
    labels = torch.arange(subject.example.NUM_CLASSES).repeat_interleave(per_class)
    guided, sigmas = Setting().guided(subject.network), subject.example.sigmas(steps)
    shape, keys = tuple(subject.real[0].shape[1:]), block_seeds(seed, "search", 0, len(labels))
    with guided.trace(information=True) as trace:
        sample_from_seeds(guided, get_solver(SOLVER), sigmas, shape, keys, extra_args={"class_cond": labels})
    total = trace.information().double()
    middle, error = float(total.mean()), 1.96 * float(total.std()) / len(total) ** 0.5
    bound = math.log(subject.example.NUM_CLASSES)
    passed = [float(level) for level in sigmas if level > 0 and float(trace.information(float(level)).mean()) >= bound]
    return {"nats": [middle, middle - error, middle + error], "passes": max(passed, default=None)}


def at_least(found: Sequence[Mapping[str, Any]], accuracy: float) -> int | None:
    """Place of the outcome of least energy distance that reaches ``accuracy``; None if none does."""
    reach = [place for place, values in enumerate(found) if values["accuracy"][0] >= accuracy]
    return min(reach, key=lambda place: found[place]["energy_distance"][0], default=None)


def compute(
    store: Any,
    *,
    networks: Mapping[str, Sequence[str] | None],
    tune_seed: int,
    tune_per_class: Mapping[str, int],
    report_seeds: Sequence[int],
    per_class: Mapping[str, int],
    steps: int,
    informed: Mapping[str, int],
    at_constant: Sequence[str],
    real_per_class: int | None = None,
) -> list[dict[str, Any]]:
    """Rows of three kinds, by ``kind``: ``tried`` (a setting on the tuning seed), ``reported``, and ``network``.

    Args:
        store: where measurements are kept, :mod:`scripts.results.store`.
        networks: names of :class:`Subject`, and the families that are tried on each (None: all of them).
        tune_seed, tune_per_class: the samples that settings are chosen by; per class, by data set.
        report_seeds, per_class: the samples that are reported, the same.
        steps: the solver's steps.
        informed: what :func:`information` takes.
        at_constant: networks on which the accuracy of a constant 2 is a target, too.
        real_per_class: real images of each class that samples are measured against (None: all).
    """
    rows: list[dict[str, Any]] = []
    for name, families in networks.items():
        data = name.partition("-")[0]
        rows += _on_network(
            store,
            Subject(name, steps, real_per_class),
            families,
            tune={"seeds": [tune_seed], "per_class": tune_per_class[data], "stage": "search"},
            report={"seeds": list(report_seeds), "per_class": per_class[data], "stage": "certify"},
            informed=informed,
            targets=list(TARGETS) if name in at_constant else ["real"],
        )
    return rows


def _on_network(
    store: Any,
    subject: Subject,
    families: Sequence[str] | None,
    *,
    tune: Mapping[str, Any],
    report: Mapping[str, Any],
    informed: Mapping[str, int],
    targets: Sequence[str],
) -> list[dict[str, Any]]:
    """The rows of one network."""
    own = {"network": subject.name} | ({"real_per_class": subject.real_per_class} if subject.real_per_class else {})

    def get(setting: Setting, options: Mapping[str, Any]) -> dict[str, Any]:
        key = {**own, "weights": subject.weights, "steps": subject.steps, **options}
        key["setting"] = {name: value for name, value in asdict(setting).items() if value}
        found: dict[str, Any] = store.get(key, partial(outcome, subject, setting, **options))
        return found

    of_real = store.get({**own, "real": True}, lambda: accuracy_on_real(subject))
    key = {**own, "weights": subject.weights, "information": dict(informed)}
    nats = store.get(key, lambda: information(subject, **informed))
    wanted = {"real": of_real[1], "constant": get(Setting("2"), tune)["accuracy"][1]}
    rows: list[dict[str, Any]] = [
        {"kind": "network", "network": subject.name, "accuracy_real": of_real, **wanted, **report, **nats}
    ]
    chosen = [family for family in (PLAIN, *FAMILIES) if families is None or family.name in families or family is PLAIN]
    for family in track(chosen, description=f"F9, {subject.name}", disable=store.frozen):
        found = [get(setting, tune) for setting in family.settings]
        about = {"network": subject.name, "family": family.name, "group": family.group}
        for setting, values in zip(family.settings, found, strict=True):
            rows.append({"kind": "tried", **about, "setting": str(setting), **values})
        places = {target: at_least(found, wanted[target]) for target in targets}
        if family is PLAIN:
            places = {"unguided": 0}
        for target, place in places.items():
            row = {"kind": "reported", **about, "target": target, "setting": None}
            if place is not None:
                row |= {"setting": str(family.settings[place]), **get(family.settings[place], report)}
            rows.append(row)
    return rows


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """The networks that ship in one picture, their further trainings in a second, ``F9_trainings.png``."""
    networks = [row for row in rows if row["kind"] == "network"]
    further = [row for row in networks if "-" in row["network"]]
    _draw(rows, [row for row in networks if row not in further], path, width=5.0)
    if further:
        _draw(rows, further, path.with_name(f"{path.stem}_trainings.png"), width=3.8)


def _draw(
    rows: Sequence[Mapping[str, Any]], networks: Sequence[Mapping[str, Any]], path: Path, *, width: float
) -> None:
    """A column for each network: energy distance, displacement and variance kept against accuracy."""
    import matplotlib.pyplot as plt

    panels = {
        "energy_distance": (0.0, (-0.015, 1.0), "energy distance"),
        "displacement": (0.0, (-0.05, 1.0), "means displaced"),
        "trace_ratio": (1.0, (0.4, 1.5), "variance kept"),
    }
    size = (0.5 + width * len(networks), 9.5)
    figure, axes = plt.subplots(3, len(networks), figsize=size, layout="constrained", squeeze=False, sharex="col")
    for column, network in enumerate(networks):
        own = [row for row in rows if row["network"] == network["network"] and "accuracy" in row]
        for ax, (quantity, (right, limits, label)) in zip(axes[:, column], panels.items(), strict=True):
            _panel(ax, own, quantity)
            ax.axhline(right, color="0.6", lw=0.8, zorder=0)
            ax.axvline(network["accuracy_real"][0], color="0.6", lw=0.8, ls="--", zorder=0)
            ax.set_ylabel(label if column == 0 else "")
            ax.set_ylim(limits)
        axes[0, column].set_yscale("symlog", linthresh=0.02)
        axes[0, column].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes[0, column].set_title(network["network"], fontsize=10)
        least = min(0.99, *(row["accuracy"][0] for row in own if row["family"] == PLAIN.name))
        axes[0, column].set_xlim(least - 0.2 * (1 - least), 1 + 0.05 * (1 - least))
        axes[2, column].set_xlabel("accuracy (dashed: of real images)")
    names = {row["network"] for row in networks}
    used = {row.get("group") for row in rows if row["network"] in names}
    handles = [
        plt.Line2D([], [], ls="", marker=marker, color=colour, label=label)
        for (group, label), colour, marker in zip(GROUPS.items(), COLOURS, MARKERS, strict=False)
        if group in used
    ]
    columns = 3 if len(networks) < 3 else 6
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=9, frameon=False)
    save(figure, path)


def _panel(ax: Any, rows: Sequence[Mapping[str, Any]], quantity: str) -> None:
    """Small points: settings on the tuning seed; large ones with bars: what was reported, larger for more calls."""
    for group, colour, marker in zip(GROUPS, COLOURS, MARKERS, strict=False):
        own = [row for row in rows if row["group"] == group]
        tried = [row for row in own if row["kind"] == "tried"]
        if not own:
            continue
        line = "-" if group == "constant" else ""
        ax.plot(*_places(tried, quantity), marker=".", ms=4, lw=0.8, ls=line, color=colour, alpha=0.4)
        shown = [row for row in own if row["kind"] == "reported"]
        x, y = _places(shown, quantity)
        style: dict[str, Any] = {"color": colour, "zorder": 2 if group == "rule" else 3}  # many, and much alike
        ax.errorbar(x, y, *(bars(shown, name) for name in (quantity, "accuracy")), fmt="none", lw=0.7, **style)
        ax.scatter(x, y, s=[1.5 * row["calls"] for row in shown], marker=marker, lw=0, **style)


def _places(rows: Sequence[Mapping[str, Any]], quantity: str) -> tuple[list[float], list[float]]:
    return [row["accuracy"][0] for row in rows], [row[quantity][0] for row in rows]
