"""Images in memory: tensors, arrays and npz files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from kdist.files import printable

from ..hashing import array_hash
from ..labels import class_labels
from ..npz import read_npz
from .base import BadImage, Source
from .pictures import Layout, ValueRange, as_pictures, holds_floats

__all__ = ["ArraySource", "open_npz"]

_IMAGE_KEYS, _LABEL_KEYS = ("images", "x", "arr_0"), ("labels", "y", "arr_1")


class ArraySource(Source):
    """A batch of images.

    Args:
        images: (N, C, H, W), (N, H, W, C) or (N, H, W); uint8, or floats on ``value_range``.
        labels: (N,) whole numbers or names; None is one class.
        value_range: what black and white are; required for floats.
        layout: needed only where the shape fits both.
        classes: names of the numbers, by number or in order; without, classes are called by their numbers.

    Raises:
        ValueError: what :func:`as_pictures`, :func:`class_labels` and :meth:`Source.check_scale` refuse; no image.
    """

    def __init__(
        self,
        images: Any,
        labels: Any = None,
        *,
        value_range: ValueRange | None = None,
        layout: Layout | None = None,
        classes: Mapping[int, str] | Sequence[str] | None = None,
        description: str = "tensor",
    ) -> None:
        self.images = as_pictures(images, value_range=value_range, layout=layout, name="images")
        if not len(self.images):
            raise ValueError("images is empty: shape " + str(self.images.shape))
        self.labels, self.classes = class_labels("labels", labels, len(self.images), classes)
        self.description = description
        self.value_range = value_range if holds_floats(images) else None
        self.check_scale()

    def digest(self, index: int) -> bytes:
        return array_hash(self.images[index])

    def load(self, indices: Sequence[int], pool: Executor | None = None) -> list[np.ndarray | BadImage]:
        return [self.images[index] for index in indices]


def open_npz(path: Path, *, value_range: ValueRange | None = None, layout: Layout | None = None) -> ArraySource:
    """Images (``images``, ``x`` or ``arr_0``) and labels (``labels``, ``y`` or ``arr_1``) of an npz file, no pickle.

    Raises:
        ValueError: unreadable file, no images in it, or a file of features.
    """
    try:
        found = read_npz(path, only=_IMAGE_KEYS + _LABEL_KEYS)
    except ValueError as error:
        raise ValueError(f"source: cannot read images from {path}: {error}") from error
    image_key = next((key for key in _IMAGE_KEYS if key in found), None)
    label_key = next((key for key in _LABEL_KEYS if key in found), None)
    if image_key is None:
        raise ValueError(f"source: {path} has no array called {', '.join(_IMAGE_KEYS)}")
    images, labels = found[image_key], None if label_key is None else found[label_key]
    if images.ndim == 2:
        raise ValueError(f"source: {path} holds features of shape {images.shape}, not images; measure them directly")
    description = printable(str(path))
    return ArraySource(images, labels, value_range=value_range, layout=layout, description=description)
