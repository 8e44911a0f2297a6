"""Features on disk: what ``kdist features`` writes and ``kdist measure`` and ``kdist predict`` read.

One npz or safetensors file with ``x`` (N, d) float32, ``y`` (N,) int64, ``index`` (N,) int64 (places in the source,
so that paired samples stay paired when some images were bad) and ``metadata`` (JSON). Equal features make equal
bytes: nothing of the time or the machine's state goes in.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kdist.files import write_atomically

__all__ = ["Features", "load_features", "make_comparable"]

_FORMAT, _VERSION = "kdist-features", 1


@dataclass(frozen=True)
class Features:
    """Features of labelled images.

    Attributes:
        x: (N, d) float32.
        y: (N,) int64.
        index: (N,) int64, each image's place in its source.
        metadata: how they were made: extractor, weights' hash, preprocessing, source, classes, bad images, ...
    """

    x: np.ndarray
    y: np.ndarray
    index: np.ndarray
    metadata: dict[str, Any]

    def __len__(self) -> int:
        return len(self.x)

    @property
    def bad(self) -> list[dict[str, Any]]:
        """The images that could not be used: ``index``, ``name``, ``reason``."""
        return list(self.metadata.get("bad", []))

    @property
    def classes(self) -> dict[int, str]:
        """The name of each label."""
        return {int(label): name for label, name in self.metadata.get("classes", {}).items()}

    def save(self, path: str | Path) -> None:
        """Write ``path`` (.npz or .safetensors), the whole file or none.

        Raises:
            ValueError: another ending.
            OSError: it cannot be written.
        """
        path = check_path(path)
        arrays = {"x": self.x, "y": self.y, "index": self.index}
        about = json.dumps({"format": _FORMAT, "version": _VERSION, **self.metadata}, sort_keys=True)
        if path.suffix == ".npz":
            buffer = io.BytesIO()
            np.savez(buffer, metadata=np.array(about), **arrays)
            data = buffer.getvalue()
        else:
            from safetensors.numpy import save

            data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, {"metadata": about})
        write_atomically(path, data)


def check_path(path: str | Path) -> Path:
    """The path of a feature file.

    Raises:
        ValueError: it ends neither in .npz nor in .safetensors.
    """
    path = Path(path)
    if path.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"a feature file must end in .npz or .safetensors; got {path}")
    return path


def load_features(path: str | Path) -> Features:
    """Read a feature file; npz files of other makers need ``x`` and ``y`` only.

    Raises:
        FileNotFoundError: no file there.
        ValueError: unreadable or truncated file, missing arrays, shapes that do not fit, NaN.
    """
    path = check_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no feature file at {path}; make one with `kdist features`")
    try:
        arrays, about = _read(path)
        x, y = np.asarray(arrays["x"], dtype=np.float32), np.asarray(arrays["y"])
    except Exception as error:  # numpy, zipfile and safetensors each raise their own on a broken file
        raise ValueError(f"{path} is no whole feature file with arrays x and y ({error}); make it again") from error
    if x.ndim != 2 or y.shape != (len(x),) or y.dtype.kind not in "iu":
        raise ValueError(f"{path}: x must be (N, d) and y (N,) whole numbers; got {x.shape} and {y.shape} {y.dtype}")
    if not np.isfinite(x).all():
        rows = np.flatnonzero(~np.isfinite(x).all(axis=1)).tolist()
        raise ValueError(f"{path} has NaN or infinite features in {len(rows)} rows: {rows[:5]}; make it again")
    return Features(x, y.astype(np.int64), np.asarray(arrays.get("index", np.arange(len(x)))), about)


def make_comparable(real: Features, fake: Features) -> Features:
    """``fake`` with the class numbers of ``real``: classes that bear names are matched by them.

    (Class folders are numbered in sorted order, so that a set that lacks a class numbers the rest differently.) A
    class of ``fake`` that ``real`` does not have gets a number of its own.

    Raises:
        ValueError: the features come from different extractors, weights or preprocessing, or differ in length.
    """
    for part in ("extractor", "weights", "preprocessing", "dtype"):
        ours, theirs = real.metadata.get(part), fake.metadata.get(part)
        if ours is not None and theirs is not None and ours != theirs:
            raise ValueError(
                f"real and fake features differ in {part}: {ours!r} against {theirs!r}; extract both in the same way"
            )
    if real.x.shape[1] != fake.x.shape[1]:
        raise ValueError(
            f"real features have length {real.x.shape[1]}, fake ones {fake.x.shape[1]}; extract both alike"
        )
    if not real.classes or not fake.classes or real.classes == fake.classes:
        return fake
    number_of = {name: label for label, name in real.classes.items()}
    unused = max(max(real.classes), max(fake.classes)) + 1
    new = {label: number_of.get(name, unused + label) for label, name in fake.classes.items()}
    classes = {str(new[label]): name for label, name in fake.classes.items()}
    y = np.array([new[int(label)] for label in fake.y], dtype=np.int64)
    return replace(fake, y=y, metadata={**fake.metadata, "classes": classes})


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        text = str(arrays.pop("metadata")) if "metadata" in arrays else "{}"
    else:
        from safetensors import safe_open

        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
            text = (file.metadata() or {}).get("metadata", "{}")
    about = json.loads(text)
    if about.get("version", _VERSION) > _VERSION:
        raise ValueError(f"version {about['version']} of the format; this kdist reads up to {_VERSION}")
    return arrays, {name: value for name, value in about.items() if name not in ("format", "version")}
