"""F8: distortion against the number of competing classes, on one network (train_glyphs.py, measure_glyphs.py)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.glyphs import figures as glyph_figures
from scripts.glyphs import measure as measure_glyphs

__all__ = ["compute", "draw", "texts"]


def compute(
    store: Any,
    *,
    weights: str = "docs/data/glyphs.safetensors",
    folder: str = "runs/glyphs/measure",
    per_class: int = 32,
    theory_per_class: int = 16,
    seed: int = 0,
    saved: str | None = None,
) -> dict[str, Any]:
    """All numbers and a few samples, see :func:`measure_glyphs.measured`.

    Args:
        store: where measurements are kept, :mod:`results.store`.
        weights, folder, per_class, theory_per_class, seed: the same as there.
        saved: the data of another run, to be drawn again instead of measuring.
    """
    if saved is not None:
        return store.get({"saved": saved}, lambda: json.loads(Path(saved).read_text())["records"][0]["value"])
    digest = hashlib.sha256(Path(weights).read_bytes()).hexdigest()[:16]
    options = {"per_class": per_class, "theory_per_class": theory_per_class, "seed": seed}

    schedules = {name: str(schedule) for name, schedule in measure_glyphs.SCHEDULES.items()}
    return store.get(
        {"weights": digest, **options, "schedules": schedules},
        lambda: measure_glyphs.measured(Path(weights), Path(folder), **options),
    )


def draw(rows: Mapping[str, Any], path: Path) -> None:
    """The figure, and beside it a sheet of samples."""
    glyph_figures.distortion_figure(rows, path)
    glyph_figures.sample_figure(rows["shown"], path.with_name(f"{path.stem}_samples.png"))


def texts(rows: Mapping[str, Any]) -> dict[str, str]:
    """The tables of :func:`glyph_figures.tables`, and the characters."""
    return {**glyph_figures.tables(rows), "characters": " ".join(rows["characters"])}
