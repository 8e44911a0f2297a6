"""The glyph experiment as a whole: a trained network, its data, and all numbers of figure F8 from them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.glyphs import data as glyphs
from scripts.glyphs.measure import SCHEDULES, Plan, observe, predict, shown
from scripts.glyphs.train import load_model, null_token

__all__ = ["Experiment", "observed", "predicted", "prepare"]


@dataclass(frozen=True)
class Experiment:
    """A trained network and its data, up to a number of classes."""

    model: Any
    key: str  # of the weights
    nulls: Mapping[int, int]  # the token that stands for each number of classes
    train: glyphs.Glyphs
    held_out: glyphs.Glyphs

    @property
    def sets(self) -> tuple[int, ...]:
        return tuple(self.nulls)

    def plan(self, folder: Path, **options: int) -> Plan:
        """Samples of the smallest set's classes; ``per_class``, ``seed`` and ``steps`` are those of :class:`Plan`."""
        shape = tuple(self.train.images.shape[1:])
        return Plan(self.key, self.model, folder, classes=self.sets[0], shape=shape, **options)


def prepare(weights: Path, largest: int | None = None, most: int = 1024) -> Experiment:
    """Load the network that ``train.py`` exported to ``weights``, and the images of its classes.

    Args:
        weights: the file.
        largest: sets of more classes are left out (None: none is).
        most: images of a class at most, see :func:`scripts.glyphs.data.variants`.

    Raises:
        FileNotFoundError, ValueError: what :func:`scripts.glyphs.train.load_model` refuses.
    """
    model = load_model(weights)
    nulls = {p: null_token(p, model.sets) for p in model.sets if largest is None or p <= largest}
    train, held_out = (glyphs.load(split, classes=max(nulls), most=most) for split in ("train", "held_out"))
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()[:16]
    return Experiment(model, digest, nulls, train, held_out)


def observed(own: Experiment, folder: Path, *, per_class: int, seed: int, steps: int) -> dict[str, Any]:
    """What the network does, and a few samples; see :func:`scripts.glyphs.measure.observe`.

    Args:
        own: the network and its data.
        folder: the samples' folder; an interrupted run resumes.
        per_class, seed, steps: samples of each class, the seed of all noise, the solver's steps.
    """
    nulls = list(own.nulls.values())
    plan, real = own.plan(folder, per_class=per_class, seed=seed, steps=steps), own.held_out.first(own.sets[0])
    return {
        "schedules": {name: schedule.to_dict() for name, schedule in SCHEDULES.items()},
        "sets": list(own.sets),
        "characters": list(own.train.characters[: own.sets[0]]),
        **observe(plan, own.train, own.held_out, own.sets, nulls),
        "shown": shown(plan, real, nulls),
    }


def predicted(own: Experiment, folder: Path, *, per_class: int, seed: int, steps: int) -> dict[str, Any]:
    """What theory says; see :func:`scripts.glyphs.measure.predict`. Arguments as in :func:`observed`."""
    sampled = {"per_class": per_class, "seed": seed, "steps": steps}
    return predict(own.train, own.held_out.first(own.sets[0]), own.sets, folder, **sampled)
