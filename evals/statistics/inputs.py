"""Checks on features and labels before any number is computed from them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..features.feature_set import Features, make_comparable
from ..labels import as_labels, check_names
from .memory import memory
from .separability import class_probabilities

__all__ = [
    "Array",
    "Checked",
    "Judged",
    "as_features",
    "as_labels",
    "check_inputs",
    "check_memory",
    "check_options",
    "split_by_class",
]

Array = np.ndarray | torch.Tensor | Sequence[Any]
Judged = tuple[np.ndarray, np.ndarray | None]  # right or wrong, and the probability of the right class, per sample

_ROWS_AT_ONCE = 4096  # for the finiteness check: bounds its memory


def as_features(name: str, features: Any) -> np.ndarray:
    """Features as a (N, d) float32 or float64 array (no copy where it is one already).

    Raises:
        ValueError: not two-dimensional, empty, not real numbers, beyond float32's range, or non-finite (the
            message names the rows).
    """
    if isinstance(features, torch.Tensor):
        tensor = features.detach().cpu()
        kept = tensor.is_complex() or tensor.dtype in (torch.float32, torch.float64)
        features = (tensor if kept else tensor.double()).numpy()
    array = np.asarray(features)
    if array.dtype.kind == "c":
        raise ValueError(f"{name} must be real numbers; got {array.dtype}: pass real and imaginary parts side by side")
    if array.ndim != 2:
        raise ValueError(
            f"{name} must be features of shape (N, d); got shape {array.shape}"
            + ("; for images in pixel space pass images.reshape(len(images), -1)" if array.ndim > 2 else "")
        )
    if not len(array) or not array.shape[1]:
        raise ValueError(f"{name} is empty: shape {array.shape}")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be numeric, of real numbers; got dtype {array.dtype}")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    bad = [
        start + row
        for start in range(0, len(array), _ROWS_AT_ONCE)
        for row in np.flatnonzero(~np.isfinite(array[start : start + _ROWS_AT_ONCE]).all(axis=1))
    ]
    if bad:
        raise ValueError(
            f"{name} has NaN or infinite features in {len(bad)} of {len(array)} rows: {_first(bad)}; "
            "find what made them, or drop those rows together with their labels"
        )
    if array.dtype == np.float64 and max(abs(float(array.min())), float(array.max())) > np.finfo(np.float32).max:
        raise ValueError(f"{name} has features beyond the range of float32, whose squares overflow; rescale them")
    return array


@dataclasses.dataclass(frozen=True)
class Checked:
    """What :func:`~kdist.evals.measure` works on once everything fits together.

    Attributes:
        real, fake: (N, d) and (M, d) features.
        classes: ``(label, name, rows of real, rows of fake)`` of each class, in the order of the labels.
        global_mean: (d,) float64, where one was given.
        judged_real, judged_fake: what a classifier said, where it was asked.
        training: (T, d) float64 training features, and training_rows: each class's rows of them.
    """

    real: np.ndarray
    fake: np.ndarray
    classes: list[tuple[Any, str, np.ndarray, np.ndarray]]
    global_mean: np.ndarray | None
    judged_real: Judged | None
    judged_fake: Judged | None
    training: np.ndarray | None
    training_rows: list[np.ndarray]

    @property
    def real_rows(self) -> list[np.ndarray]:
        """Rows of ``real`` of each class."""
        return [entry[2] for entry in self.classes]

    @property
    def fake_rows(self) -> list[np.ndarray]:
        """Rows of ``fake`` of each class."""
        return [entry[3] for entry in self.classes]

    def limited(self, per_class: int | None, seed: int) -> Checked:
        """The same with at most so many samples of a class on each side, drawn at random."""
        if per_class is None:
            return self
        chosen = []
        for k, (label, name, *sides) in enumerate(self.classes):
            kept = [np.random.default_rng([seed, k]).permutation(rows)[:per_class] for rows in sides]
            chosen.append((label, name, kept[0], kept[1]))
        return dataclasses.replace(self, classes=chosen)


def check_options(
    confidence: float, resamples: int, splits: int, shape_resamples: int, neighbours: int, subspace: int,
    per_class: int | None,
) -> None:  # fmt: skip
    """Refuse options out of range, by name."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1); got {confidence}")
    for name, value in (("resamples", resamples), ("shape_resamples", shape_resamples), ("subspace", subspace)):
        if value < 0:
            raise ValueError(f"{name} must be >= 0; got {value}")
    if splits < 0 or splits in (1, 2):
        raise ValueError(f"splits must be 0 (skip) or at least 3, for a spread over them; got {splits}")
    if neighbours < 1:
        raise ValueError(f"neighbours must be at least 1; got {neighbours}")
    if per_class is not None and per_class < 2:
        raise ValueError(f"per_class must be at least 2, for a variance, or None for all; got {per_class}")


def check_memory(classes: Sequence[tuple[Any, str, np.ndarray, np.ndarray]]) -> float:
    """Bytes that the largest class takes: four matrices of all its pairs.

    Raises:
        ValueError: there is less.
    """
    size, name, *sides = max((len(real) + len(fake), name, len(real), len(fake)) for _, name, real, fake in classes)
    needed, there = 4 * 8.0 * size**2, memory()
    if needed > there:
        raise ValueError(
            f"class {name} has {sides[0]} real and {sides[1]} generated samples: comparing all pairs takes "
            f"{needed / 2**30:.1f} GiB, and there are {there / 2**30:.1f} here; per_class={_round(there)} compares "
            "so many of each class on each side, drawn at random"
        )
    return needed


def _round(there: float) -> int:
    """Samples on each side that need a quarter of the memory: 5000, say, rather than 5181."""
    fitting = math.isqrt(int(there / 4 / 32)) // 2
    return fitting - fitting % 10 ** (len(str(fitting)) - 1)


def check_inputs(
    real: Any, fake: Any, real_labels: Any, fake_labels: Any, class_names: Any, global_mean: Any,
    real_predictions: Any, fake_predictions: Any, training: Any, training_labels: Any,
) -> Checked:  # fmt: skip
    """Everything that :func:`~kdist.evals.measure` was given, checked; its errors are listed there."""
    if isinstance(real, Features) or isinstance(fake, Features):
        if isinstance(training, Features):
            training = make_comparable(real, training)
            training, training_labels = training.x, training.y
        real, fake, real_labels, fake_labels, class_names = _from_sets(
            real, fake, real_labels, fake_labels, class_names
        )
    real, fake = as_features("real", real), as_features("fake", fake)
    if real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"real and fake must have the same feature width; got {real.shape[1]} and {fake.shape[1]}: "
            "were they extracted by the same network?"
        )
    if (real_labels is None) != (fake_labels is None):
        raise ValueError("real_labels and fake_labels go together: pass both, or neither for a single class")
    labels_real = as_labels("real_labels", real_labels, len(real))
    labels_fake = as_labels("fake_labels", fake_labels, len(fake))
    classes = split_by_class(labels_real, labels_fake, class_names)
    order = [label for label, *_ in classes]
    training, rows = _check_training(training, training_labels, real_labels is None, real.shape[1], classes)
    return Checked(
        real=real,
        fake=fake,
        classes=classes,
        global_mean=None if global_mean is None else _check_point("global_mean", global_mean, real.shape[1]),
        judged_real=_judge("real_predictions", real_predictions, labels_real, order),
        judged_fake=_judge("fake_predictions", fake_predictions, labels_fake, order),
        training=training,
        training_rows=rows,
    )


def _from_sets(real: Any, fake: Any, *given: Any) -> tuple[Any, ...]:
    """Arrays, labels and names of two sets whose classes are matched by name."""
    if not (isinstance(real, Features) and isinstance(fake, Features)) or any(entry is not None for entry in given):
        raise ValueError("Features carry their labels and names: pass real and fake as such, and neither beside them")
    fake = make_comparable(real, fake)
    names = fake.classes | real.classes
    present = np.unique(np.concatenate([real.y, fake.y])).tolist()
    return real.x, fake.x, real.y, fake.y, {label: names.get(label, str(label)) for label in present}


def _check_training(
    training: Any, labels: Any, single: bool, width: int, classes: Sequence[tuple[Any, str, Any, Any]]
) -> tuple[np.ndarray | None, list[np.ndarray]]:
    if training is None:
        if labels is not None:
            raise ValueError("training_labels were given without training=, the features they belong to")
        return None, []
    features = as_features("training", training).astype(np.float64)
    if features.shape[1] != width:
        raise ValueError(f"training must have the width of the other features, {width}; got {features.shape[1]}")
    if (labels is None) != single:
        raise ValueError(
            "training needs training_labels where real and fake have labels, and none where they have none"
        )
    rows = _rows_by_label(as_labels("training_labels", labels, len(features)))
    missing = [name for label, name, *_ in classes if label not in rows]
    if missing:
        raise ValueError(f"no training samples of class {_first(missing)}: memorisation is measured class by class")
    return features, [rows[label] for label, *_ in classes]


def _judge(name: str, predictions: Any, labels: np.ndarray, order: Sequence[Any]) -> Judged | None:
    if predictions is None:
        return None
    if isinstance(predictions, torch.Tensor):
        predictions = predictions.detach().cpu().numpy()
    return class_probabilities(name, np.asarray(predictions), labels, order)


def _check_point(name: str, point: Any, width: int) -> np.ndarray:
    array = np.asarray(point)
    if array.shape != (width,) or array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise ValueError(
            f"{name} must be a finite vector of shape ({width},); got shape {array.shape}, dtype {array.dtype}"
        )
    return array.astype(np.float64)


def split_by_class(
    real_labels: np.ndarray, fake_labels: np.ndarray, class_names: Mapping[Any, str] | Sequence[str] | None
) -> list[tuple[Any, str, np.ndarray, np.ndarray]]:
    """``(label, name, rows of real, rows of fake)`` for each class, in the order of the labels.

    Raises:
        ValueError: a class that is named or present on one side is empty on a side, or has a single sample there.
    """
    present = {"real": set(real_labels.tolist()), "fake": set(fake_labels.tolist())}
    if class_names is None:
        names = {label: str(label) for label in present["real"] | present["fake"]}
    else:
        names = dict(class_names.items() if isinstance(class_names, Mapping) else enumerate(class_names))
        check_names("class_names", map(str, names.values()))
        unnamed = sorted((present["real"] | present["fake"]) - names.keys(), key=str)
        if unnamed:
            raise ValueError(f"class_names lacks the labels {_first(unnamed)}; name every class or pass None")
    order = sorted(names)
    for side, found in present.items():
        missing = [names[label] for label in order if label not in found]
        if missing:
            other = "fake" if side == "real" else "real"
            raise ValueError(
                f"no {side} samples of class {_first(missing)}: every class needs samples on both sides; "
                f"add them, or leave the class out of the {other} set and of class_names"
            )
    rows = {"real": _rows_by_label(real_labels), "fake": _rows_by_label(fake_labels)}
    for side in ("real", "fake"):
        single = [names[label] for label in order if len(rows[side][label]) == 1]
        if single:
            raise ValueError(
                f"one {side} sample in class {_first(single)}: a class's variance is undefined below two samples; "
                "add samples or leave the class out"
            )
    return [(label, names[label], rows["real"][label], rows["fake"][label]) for label in order]


def _rows_by_label(labels: np.ndarray) -> dict[Any, np.ndarray]:
    order = np.argsort(labels, kind="stable")
    values, starts = np.unique(labels[order], return_index=True)
    return dict(zip(values.tolist(), np.split(order, starts[1:]), strict=True))


def _first(items: Sequence[Any], most: int = 5) -> str:
    return ", ".join(str(item) for item in items[:most]) + (", ..." if len(items) > most else "")
