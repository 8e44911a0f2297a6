"""Checks on features and labels before any number is computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..labels import as_labels

__all__ = ["as_features", "as_labels", "split_by_class"]

_ROWS_AT_ONCE = 4096  # for the finiteness check: bounds its memory


def as_features(name: str, features: Any) -> np.ndarray:
    """Features as a (N, d) float32 or float64 array (no copy where it is one already).

    Raises:
        ValueError: not two-dimensional, empty, not real numbers, or non-finite values (the message names the rows).
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
    if array.dtype not in (np.float32, np.float64):
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} must be numeric; got dtype {array.dtype}") from error
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
    return array


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
