"""Whether the parts of a feature file belong together; each raises a ValueError that names the file and the part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..labels import check_names

__all__ = ["check_metadata", "checked_index", "checked_predictions", "checked_seeds"]


def check_metadata(path: Path, y: np.ndarray, metadata: dict[str, Any]) -> None:
    """Each label has a name of its own, each bad image a name."""
    bad = metadata.get("bad", [])
    if not isinstance(bad, list) or not all(isinstance(entry, dict) and "name" in entry for entry in bad):
        raise ValueError(f"{path}: bad in its metadata must list the images that were left out; got {repr(bad)[:80]}")
    classes = metadata.get("classes")
    named = classes if isinstance(classes, dict) else {}
    right = all(label.isdecimal() and isinstance(name, str) for label, name in named.items())
    if not named or not right or y.dtype.kind != "i" or len(set(named.values())) < len(named):
        raise ValueError(
            f'{path}: classes in its metadata must name each label once, {{"0": "cat", ...}}; got '
            f"{repr(classes)[:80]}; make the file again with `kdist features`, or leave the metadata out"
        )
    check_names(f"{path}: classes in its metadata", named.values())
    unnamed = sorted(set(y.tolist()) - set(map(int, named)))
    if unnamed:
        raise ValueError(f"{path}: labels {unnamed[:5]} are not among the classes of its metadata; make it again")


def checked_index(path: Path, index: np.ndarray, count: int, metadata: dict[str, Any]) -> np.ndarray:
    """Each row's place in the source, none twice."""
    images = metadata.get("images", np.iinfo(np.int64).max)
    fits = isinstance(images, int) and index.shape == (count,) and index.dtype.kind in "iu"
    if not fits or (count and not 0 <= int(index.min()) <= int(index.max()) < images):
        raise ValueError(
            f"{path}: index must be (N,) places in the source, from 0 to below {images}; got shape {index.shape} "
            f"{index.dtype}" + (f", {index.min()} to {index.max()}" if index.size and index.dtype.kind in "iuf" else "")
        )
    if len(np.unique(index)) < count:
        raise ValueError(f"{path}: index names a place of the source twice, and pairs cannot be told; make it again")
    return index.astype(np.int64)


def checked_seeds(path: Path, seeds: np.ndarray | None, y: np.ndarray) -> np.ndarray | None:
    """Each row's seed, none twice in a class."""
    if seeds is None:
        return None
    if seeds.shape != y.shape or seeds.dtype.kind not in "iu" or (len(seeds) and int(seeds.min()) < 0):
        raise ValueError(f"{path}: seeds must be (N,) whole numbers from 0; got shape {seeds.shape} {seeds.dtype}")
    if len(set(zip(y.tolist(), seeds.tolist(), strict=True))) < len(seeds):
        raise ValueError(f"{path}: seeds names a seed of a class twice, and pairs cannot be told; make it again")
    return seeds.astype(np.uint64)


def checked_predictions(
    path: Path, arrays: dict[str, np.ndarray], count: int, metadata: dict[str, Any]
) -> np.ndarray | None:
    """What each row was taken for, a code that the metadata name; None in files that say nothing of it."""
    predictions, names = arrays.get("predictions"), metadata.get("recognises")
    if predictions is None or names is None:
        return None
    named = names if isinstance(names, dict) else {}
    right = all(code.isdecimal() and isinstance(name, str) for code, name in named.items())
    if not named or not right or len(set(named.values())) < len(named):
        raise ValueError(f"{path}: recognises in its metadata must name each code once; got {repr(names)[:80]}")
    if predictions.shape != (count,) or predictions.dtype.kind not in "iu":
        raise ValueError(
            f"{path}: predictions must be (N,) whole numbers; got shape {predictions.shape} {predictions.dtype}"
        )
    if unnamed := sorted(set(predictions.tolist()) - set(map(int, named))):
        raise ValueError(f"{path}: predictions {unnamed[:5]} are not among what its metadata recognise; make it again")
    return predictions.astype(np.int64)
