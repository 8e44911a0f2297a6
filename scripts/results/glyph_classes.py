"""F8: distortion against the number of competing classes, on one network (scripts/glyphs)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from scripts.glyphs import experiment, tuned
from scripts.glyphs import figures as glyph_figures
from scripts.glyphs import measure as measure_glyphs
from scripts.style import number

__all__ = ["compute", "draw", "texts"]


def compute(
    store: Any,
    *,
    weights: str = "docs/data/glyphs.safetensors",
    folder: str = "runs/glyphs/measure",
    per_class: int,
    theory_per_class: int,
    seed: int,
    tune_seed: int,
    tune_per_class: int,
    steps: int,
    largest: int | None = None,
    families: Sequence[str] | None = None,
    most: int | None = None,
) -> dict[str, Any]:
    """All numbers and a few samples, see :mod:`scripts.glyphs.experiment`; ``tuned``: :mod:`scripts.glyphs.tuned`.

    Args:
        store: where measurements are kept, :mod:`results.store`.
        weights, folder, per_class, theory_per_class, seed, steps: the same as there.
        tune_seed, tune_per_class: the samples that settings are chosen by.
        largest: leave out sets of more classes.
        families: of :data:`tuned.SCHEDULED`, what is tuned (None: all).
        most: images of a class at most (None: as many as the network was trained on).
    """
    digest = hashlib.sha256(Path(weights).read_bytes()).hexdigest()[:16]
    options = {"seed": seed, "per_class": per_class, "steps": steps}
    fewer = {name: value for name, value in (("largest", largest), ("most", most)) if value}
    about = {"weights": digest, **options, **fewer}
    prepared = cache(lambda: experiment.prepare(Path(weights), **fewer))
    schedules = {name: str(schedule) for name, schedule in measure_glyphs.SCHEDULES.items()}
    found: dict[str, Any] = store.get(
        {**about, "schedules": schedules}, lambda: experiment.observed(prepared(), Path(folder), **options)
    )
    sampled = options | {"per_class": theory_per_class}
    theory = store.get(
        {**about, **sampled, "theory": schedules}, lambda: experiment.predicted(prepared(), Path(folder), **sampled)
    )
    chosen = [family for family in tuned.SCHEDULED if families is None or family.name in families]
    settings = {family.name: [str(setting) for setting in family.settings] for family in chosen}
    tuning = {"tune_seed": tune_seed, "tune_per_class": tune_per_class}
    rows = store.get(
        {**about, **tuning, "families": settings},
        lambda: tuned.compare(prepared(), Path(folder), **options, **tuning, families=chosen),
    )
    return found | {"theory": theory, "tuned": rows}


def draw(rows: Mapping[str, Any], path: Path) -> None:
    """The figure, and beside it a sheet of samples."""
    glyph_figures.distortion_figure(rows, path)
    glyph_figures.sample_figure(rows["shown"], path.with_name(f"{path.stem}_samples.png"))


def texts(rows: Mapping[str, Any]) -> dict[str, str]:
    """The tables of :func:`glyph_figures.tables` and :func:`tuned.tables`, ``SCHEDULE_distance`` against the largest
    set, and the characters."""
    most = (row for row in rows["network"] if (row["solver"], row["set"]) == ("dpmpp_2m", rows["sets"][-1]))
    far = {f"{row['schedule'].replace('.', '_')}_distance": number(row["energy_distance"][0], 3) for row in most}
    far = {(name if name[0].isalpha() else f"constant_{name}"): value for name, value in far.items()}
    tables = {**glyph_figures.tables(rows), **tuned.tables(rows["tuned"])}
    return {**tables, **far, "characters": " ".join(rows["characters"])}
