"""Images in memory: tensors, arrays, npz files and torch data sets."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..hashing import array_hash
from .base import BadImage, Layout, Source, ValueRange, as_pictures, check_labels
from .labels import number_classes

__all__ = ["ArraySource", "DatasetSource", "open_npz"]

_IMAGE_KEYS, _LABEL_KEYS = ("images", "x", "arr_0"), ("labels", "y", "arr_1")


class ArraySource(Source):
    """A batch of images.

    Args:
        images: (N, C, H, W), (N, H, W, C) or (N, H, W); uint8, or floats on ``value_range``.
        labels: (N,) whole numbers; None is one class.
        value_range: what black and white are; required for floats.
        layout: needed only where the shape fits both.

    Raises:
        ValueError: see :func:`as_pictures` and :func:`check_labels`; no image.
    """

    def __init__(
        self,
        images: Any,
        labels: Any = None,
        *,
        value_range: ValueRange | None = None,
        layout: Layout | None = None,
        description: str = "tensor",
    ) -> None:
        self.images = as_pictures(images, value_range=value_range, layout=layout, name="images")
        if not len(self.images):
            raise ValueError("images is empty: shape " + str(self.images.shape))
        self.labels = check_labels(labels, len(self.images))
        self.classes = {int(label): str(label) for label in np.unique(self.labels)}
        self.description = description

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
        with np.load(path, allow_pickle=False) as file:
            image_key = next((key for key in _IMAGE_KEYS if key in file.files), None)
            label_key = next((key for key in _LABEL_KEYS if key in file.files), None)
            if image_key is None:
                raise ValueError(f"it has no array called {', '.join(_IMAGE_KEYS)}, only {file.files}")
            images, labels = file[image_key], None if label_key is None else file[label_key]
    except Exception as error:  # numpy raises zipfile, OS, value and key errors for what is one thing here
        raise ValueError(f"source: cannot read images from {path}: {error}") from error
    if images.ndim == 2:
        raise ValueError(f"source: {path} holds features of shape {images.shape}, not images; measure them directly")
    return ArraySource(images, labels, value_range=value_range, layout=layout, description=str(path))


class DatasetSource(Source):
    """A map-style torch data set of ``(image, label)`` pairs, or of images.

    Images are PIL images, uint8 arrays or tensors, or floats on ``value_range``. Transforms must be deterministic:
    an image that changes from look to look is taken for a new one each time.

    Args:
        dataset: has ``__len__`` and ``__getitem__``.
        labels: (N,); None takes ``dataset.targets``, else asks each item.
        value_range: what black and white are; required for floats.
        layout: ``NCHW`` or ``NHWC``, as for a batch of one; needed only where a shape fits both.

    Raises:
        ValueError: empty, or labels that do not fit.
    """

    concurrent = False  # a data set need not be thread-safe

    def __init__(
        self,
        dataset: Any,
        labels: Any = None,
        *,
        value_range: ValueRange | None = None,
        layout: Layout | None = None,
    ) -> None:
        self.dataset, self._value_range, self._layout = dataset, value_range, layout
        if not len(dataset):
            raise ValueError("source: the data set is empty")
        if labels is None:
            labels = getattr(dataset, "targets", None)
        if labels is None:
            labels = [self._item(index)[1] for index in range(len(dataset))]
            labels = None if labels[0] is None else labels
        if isinstance(labels, list):
            labels = number_classes([_plain(label) for label in labels], name="labels")[0]
        self.labels = check_labels(labels, len(dataset))
        names = getattr(dataset, "classes", None)
        self.classes = {
            int(label): str(names[label]) if isinstance(names, Sequence) and label < len(names) else str(label)
            for label in np.unique(self.labels)
        }
        self.description = f"data set {type(dataset).__name__}"

    def digest(self, index: int) -> bytes:
        image = self._image(index)
        return b"bad" if isinstance(image, BadImage) else array_hash(image)

    def load(self, indices: Sequence[int], pool: Executor | None = None) -> list[np.ndarray | BadImage]:
        return [self._image(index) for index in indices]

    def _item(self, index: int) -> tuple[Any, Any]:
        item = self.dataset[index]
        return (item[0], item[1]) if isinstance(item, tuple | list) and len(item) > 1 else (item, None)

    def _image(self, index: int) -> np.ndarray | BadImage:
        from PIL import Image

        try:
            image = self._item(index)[0]
        except Exception as error:  # whatever the data set's decoder raises on a broken file
            return BadImage.because(error)
        if isinstance(image, Image.Image):
            image = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
        image = image if torch.is_tensor(image) else np.asarray(image)
        return as_pictures(image[None], value_range=self._value_range, layout=self._layout, name=self.name(index))[0]


def _plain(label: Any) -> Any:
    return label.item() if hasattr(label, "item") else label
