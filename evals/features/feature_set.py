"""Features on disk: what ``kdist features`` writes and ``kdist measure`` and ``kdist predict`` read.

One npz or safetensors file with ``x`` (N, d) float32, ``y`` (N,) int64, ``index`` (N,) int64 (places in the source,
so that paired samples stay paired when some images were bad), ``seeds`` (N,) uint64 where the source knows what each
sample was drawn from, ``predictions`` (N,) int64 where the extractor recognises classes, and ``metadata`` (JSON). Equal
features make equal bytes: nothing of the time or the machine's state goes in.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kdist.files import write_atomically

from ..labels import ALL, as_labels, class_labels
from ..npz import read_npz
from .checks import check_metadata, checked_index, checked_predictions, checked_seeds

__all__ = ["Features", "load_features", "load_sampled", "make_comparable"]

_FORMAT, _VERSION = "kdist-features", 1


@dataclass(frozen=True)
class Features:
    """Features of labelled images.

    Attributes:
        x: (N, d) float32.
        y: (N,) int64.
        index: (N,) int64, each image's place in its source.
        metadata: how they were made: extractor, weights' hash, preprocessing, source, classes, bad images, ...
        seeds: (N,) uint64, what each sample was drawn from; None where the source does not say.
        predictions: (N,) int64, what the extractor takes each image for, by the names in ``metadata["recognises"]``;
            None for an extractor that names no classes.

    Examples:
        >>> import numpy as np
        >>> from kdist.evals import Features
        >>> x, y = np.zeros((3, 2), np.float32), np.array([0, 0, 1])
        >>> features = Features(x, y, np.arange(3), {"classes": {"0": "cat", "1": "dog"}})
        >>> len(features), features.classes
        (3, {0: 'cat', 1: 'dog'})
    """

    x: np.ndarray
    y: np.ndarray
    index: np.ndarray
    metadata: dict[str, Any]
    seeds: np.ndarray | None = None
    predictions: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, chosen: np.ndarray) -> Features:
        """Those rows alone; ``chosen`` is a mask or an array of rows."""
        optional = {name: array[chosen] for name, array in self._optional().items()}
        return replace(self, x=self.x[chosen], y=self.y[chosen], index=self.index[chosen], **optional)

    def _optional(self) -> dict[str, np.ndarray]:
        """The arrays that not every set has."""
        arrays = {"seeds": self.seeds, "predictions": self.predictions}
        return {name: array for name, array in arrays.items() if array is not None}

    @property
    def bad(self) -> list[dict[str, Any]]:
        """The images that could not be used: ``index``, ``name``, ``reason``."""
        return list(self.metadata.get("bad", []))

    @property
    def classes(self) -> dict[int, str]:
        """The name of each label; the number itself where the metadata name none."""
        names = self.metadata.get("classes") or {label: str(label) for label in np.unique(self.y).tolist()}
        return {int(label): name for label, name in names.items()}

    def recognised(self) -> np.ndarray | None:
        """The label that the extractor gives each sample, (N,), and -1 where it sees a class that is not in this set.

        None where there are no predictions, or where a class of this set is none that the extractor knows.
        """
        if self.predictions is None:
            return None
        known = {int(code): name for code, name in self.metadata["recognises"].items()}
        label_of = {name: label for label, name in self.classes.items()}
        if not label_of.keys() <= set(known.values()):
            return None
        labels = {code: label_of.get(name, -1) for code, name in known.items()}
        return np.array([labels[code] for code in self.predictions.tolist()], dtype=np.int64)

    def save(self, path: str | Path) -> None:
        """Write ``path`` (.npz or .safetensors), the whole file or none.

        Raises:
            ValueError: another ending.
            OSError: it cannot be written.
        """
        path = check_path(path)
        arrays = {"x": self.x, "y": self.y, "index": self.index, **self._optional()}
        metadata = {"format": _FORMAT, "version": _VERSION, **self.metadata, "classes": _for_json(self.classes)}
        about = json.dumps(metadata, sort_keys=True)
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
    """Read a feature file; files of other makers need ``x`` and ``y`` only, numbers or names.

    Raises:
        FileNotFoundError: no file there.
        ValueError: unreadable or truncated file, missing arrays, shapes that do not fit, NaN, metadata that do not
            belong to the rest.

    Examples:
        >>> import numpy as np, os, tempfile
        >>> from kdist.evals import load_features
        >>> path = os.path.join(tempfile.mkdtemp(), "real.npz")
        >>> np.savez(path, x=np.zeros((3, 2), np.float32), y=np.array(["cat", "cat", "dog"]))
        >>> load_features(path).classes
        {0: 'cat', 1: 'dog'}
    """
    path = check_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no feature file at {path}; make one with `kdist features`")
    try:
        arrays, about = _read(path)
    except Exception as error:  # safetensors and json raise their own on a broken file
        raise ValueError(f"{path} is no whole feature file with arrays x and y ({error}); make it again") from error
    x, y = arrays["x"], arrays["y"]
    if x.ndim != 2 or y.shape != (len(x),) or x.dtype.kind not in "fiu":
        raise ValueError(
            f"{path}: x must be (N, d) real numbers and y (N,) whole numbers or names; got {x.shape} {x.dtype} and "
            f"{y.shape} {y.dtype}"
        )
    with np.errstate(over="ignore"):  # float64 beyond float32's range becomes infinite, which is refused below
        x = x.astype(np.float32)
    if not np.isfinite(x).all():
        rows = np.flatnonzero(~np.isfinite(x).all(axis=1)).tolist()
        raise ValueError(f"{path} has NaN or infinite features in {len(rows)} rows: {rows[:5]}; make it again")
    labels, metadata = as_labels(f"{path}: y", y, len(x)), about or {}
    if about is not None:
        check_metadata(path, labels, metadata)
    elif labels.dtype.kind == "U":
        labels, names = class_labels(f"{path}: y", labels, len(x))
        metadata = {"classes": _for_json(names)}
    index = checked_index(path, arrays.get("index", np.arange(len(x))), len(x), metadata)
    seeds = checked_seeds(path, arrays.get("seeds"), labels)
    return Features(x, labels, index, metadata, seeds, checked_predictions(path, arrays, len(x), metadata))


def load_sampled(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """``x`` (N, ...) and ``y`` (N,) of a file in the space that is sampled, which theory and design need.

    Raises:
        FileNotFoundError: no file there.
        ValueError: what :func:`load_features` refuses, or features of a network, in which no sampler adds noise.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        arrays, about = _read(check_path(path))
        x, y = arrays["x"], arrays["y"]
    except Exception as error:  # safetensors and json raise their own on a broken file
        raise ValueError(f"{path} must be an .npz or .safetensors with x (N, ...) and y (N,): {error}") from error
    extractor = (about or {}).get("extractor", "pixels")
    if extractor != "pixels":
        raise ValueError(
            f"{path} holds features of {extractor!r}, and no sampler adds its noise there. Needed are pixels (kdist "
            "features ... --extractor pixels), or a model's latents (an .npz with x and y, without metadata)"
        )
    if x.dtype.kind not in "fiu" or not x.ndim:
        raise ValueError(f"{path}: x must be real numbers, (N, ...); got {x.dtype} of shape {x.shape}")
    return x, as_labels(f"{path}: y", y, len(x))


def make_comparable(real: Features, fake: Features, *, role: str = "real") -> Features:
    """``fake`` with the class numbers of ``real``: classes are matched by their names.

    (Class folders are numbered in sorted order, so that a set that lacks a class numbers the rest differently. Where
    nothing names the numbers, they are the names.) A class of ``fake`` that ``real`` does not have gets a number of
    its own. The only class of a set without labels may be whatever the only class of the other set is. ``role`` is what
    messages call ``real``.

    Raises:
        ValueError: the features come from different extractors, weights or preprocessing, differ in length, or have no
            class in common.

    Examples:
        >>> import numpy as np
        >>> from kdist.evals import Features, make_comparable
        >>> x, y = np.zeros((3, 2), np.float32), np.array([0, 0, 1])
        >>> real = Features(x, y, np.arange(3), {"classes": {"0": "cat", "1": "dog"}})
        >>> fake = Features(x, y, np.arange(3), {"classes": {"0": "dog", "1": "cat"}})
        >>> make_comparable(real, fake).y
        array([1, 1, 0])
    """
    for part in ("extractor", "weights", "preprocessing", "dtype"):
        ours, theirs = real.metadata.get(part), fake.metadata.get(part)
        if ours is not None and theirs is not None and ours != theirs:
            raise ValueError(
                f"{role} and fake features differ in {part}: {ours!r} against {theirs!r}; extract both in the same way"
            )
    if real.x.shape[1] != fake.x.shape[1]:
        raise ValueError(
            f"{role} features have length {real.x.shape[1]}, fake ones {fake.x.shape[1]}; extract both alike"
        )
    if real.classes == fake.classes:
        return fake
    number_of = {name: label for label, name in real.classes.items()}
    if not number_of.keys() & fake.classes.values():
        only = [*real.classes.values(), *fake.classes.values()]
        if len(only) > 2 or ALL not in only:
            raise ValueError(
                f"{role} and fake features have no class in common: {_few(real)} against {_few(fake)}. Equal numbers "
                "are no equal classes: name them alike (class folders, labels that are names, classes= of a sampler)"
            )
        number_of = {name: label for label in real.classes for name in fake.classes.values()}
    unused = max([*real.classes, *fake.classes]) + 1
    new = {label: number_of.get(name, unused + label) for label, name in fake.classes.items()}
    names = real.classes | {new[label]: name for label, name in fake.classes.items()}
    classes = {number: names[number] for number in new.values()}
    y = np.array([new[int(label)] for label in fake.y], dtype=np.int64)
    return replace(fake, y=y, metadata={**fake.metadata, "classes": _for_json(classes)})


def _few(features: Features, most: int = 3) -> str:
    names = list(features.classes.values())
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _for_json(classes: dict[int, str]) -> dict[str, str]:
    return {str(label): name for label, name in classes.items()}


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
    """Arrays and metadata; None where a file has none."""
    if path.suffix == ".npz":
        arrays = read_npz(path)
        text = str(arrays.pop("metadata")) if "metadata" in arrays else None
    else:
        from safetensors import safe_open

        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
            text = (file.metadata() or {}).get("metadata")
    if missing := {"x", "y"} - arrays.keys():
        raise ValueError(f"no {' and '.join(sorted(missing))} in it, only {', '.join(arrays) or 'nothing'}")
    if text is None:
        return arrays, None
    about = json.loads(text)
    if not isinstance(about, dict):
        raise ValueError("its metadata are no mapping")
    if about.get("version", _VERSION) > _VERSION:
        raise ValueError(f"version {about['version']} of the format; this kdist reads up to {_VERSION}")
    return arrays, {name: value for name, value in about.items() if name not in ("format", "version")}
