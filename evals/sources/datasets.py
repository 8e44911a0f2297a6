"""Torch data sets as sources of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
import torch

from ..hashing import array_hash
from ..labels import class_labels
from .base import BadImage, Source
from .pictures import Layout, ValueRange, as_pictures, from_pillow, holds_floats

__all__ = ["DatasetSource"]


class DatasetSource(Source):
    """A map-style torch data set of ``(image, label)`` pairs, or of images.

    Images are PIL images, uint8 arrays or tensors, or floats on ``value_range``. Transforms must be deterministic:
    an image that changes from look to look is taken for a new one each time. Labels that are names keep them; numbers
    are named by ``dataset.classes``, that of a subset by its data set's.

    Args:
        dataset: has ``__len__`` and ``__getitem__``.
        labels: (N,); None takes ``dataset.targets``, else asks each item.
        value_range: what black and white are; required for floats.
        layout: ``NCHW`` or ``NHWC``, as for a batch of one; needed only where a shape fits both.

    Raises:
        ValueError: empty, items of another form, labels that do not fit, or as for :meth:`Source.check_scale`.
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
        self.dataset, self._range, self._layout = dataset, value_range, layout
        if not len(dataset):
            raise ValueError("source: the data set is empty")
        self.description = f"data set {type(dataset).__name__}"
        if labels is None:
            labels = getattr(dataset, "targets", None)
        if labels is None:
            labels = [self._item(index)[1] for index in range(len(dataset))]
            labels = None if all(label is None for label in labels) else list(map(_plain, labels))
        self.labels, self.classes = class_labels("labels", labels, len(dataset), _class_names(dataset))
        self.check_scale()

    def digest(self, index: int) -> bytes:
        return self.load_hashed([index])[0][0]

    def load(self, indices: Sequence[int], pool: Executor | None = None) -> list[np.ndarray | BadImage]:
        return [self._image(index) for index in indices]

    def load_hashed(
        self, indices: Sequence[int], pool: Executor | None = None
    ) -> list[tuple[bytes, np.ndarray | BadImage]]:
        images = self.load(indices, pool)
        return [(b"bad" if isinstance(image, BadImage) else array_hash(image), image) for image in images]

    def _item(self, index: int) -> tuple[Any, Any]:
        item = self.dataset[index]
        if isinstance(item, Mapping | str | bytes):
            raise ValueError(
                f"source: items of {self.description} are {type(item).__name__}s; wrap it so that each is an image or "
                "(image, label)"
            )
        if isinstance(item, tuple | list):
            return (item[0], item[1] if len(item) > 1 else None) if item else (None, None)
        return item, None

    def _image(self, index: int) -> np.ndarray | BadImage:
        from PIL import Image

        try:
            image = self._item(index)[0]
            loaded = isinstance(image, Image.Image) and image.load()  # a file that is broken shows only now
        except ValueError:
            raise
        except Exception as error:  # whatever the data set's decoder raises on a broken file
            return BadImage.because(error)
        if loaded:
            return from_pillow(image)
        if holds_floats(image):
            self.value_range = self._range
        image = image if torch.is_tensor(image) else np.asarray(image)
        return as_pictures(image[None], value_range=self._range, layout=self._layout, name=self.name(index))[0]


def _class_names(dataset: Any) -> Mapping[int, str] | Sequence[str] | None:
    """``dataset.classes``, through subsets and concatenations."""
    names = getattr(dataset, "classes", None)
    if names is not None and not callable(names):
        return names if isinstance(names, Mapping) else [str(name) for name in names]
    if hasattr(dataset, "datasets"):
        inner = [_class_names(part) for part in dataset.datasets]
        if any(other != inner[0] for other in inner[1:]):
            raise ValueError(f"source: the parts of {type(dataset).__name__} number their classes differently")
        return inner[0]
    return _class_names(dataset.dataset) if hasattr(dataset, "dataset") else None


def _plain(label: Any) -> Any:
    return label.item() if hasattr(label, "item") else label
