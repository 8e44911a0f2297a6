"""What every source of images is: a list of labelled pictures, each uint8 (H, W, C) as it would be saved."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from .pictures import ValueRange

__all__ = ["BadImage", "Source"]

_MOST_AT_ONCE = 64  # images that check_scale holds in memory


@dataclass(frozen=True)
class BadImage:
    """Stands where an image could not be had; ``reason`` says why."""

    reason: str

    @classmethod
    def because(cls, error: Exception) -> BadImage:
        """What ``error`` says, without memory addresses: equal runs must leave equal files."""
        return cls(re.sub(r" at 0x[0-9a-fA-F]+", "", f"{type(error).__name__}: {error}"))


class Source(ABC):
    """Labelled images by index.

    Attributes:
        labels: (N,) int64.
        classes: the name of each label that may occur.
        description: where the images come from, in words; part of the features' metadata.
        seeds: what each image was drawn from, a whole number from 0, none twice in a class; None if that is not known.
        value_range: what black and white are in the floats behind the pictures that were loaded; None if none were.
        concurrent: whether other threads may load while the network runs.
    """

    labels: np.ndarray
    classes: dict[int, str]
    description: str
    seeds: Sequence[int] | None = None
    value_range: ValueRange | None = None
    concurrent: bool = True

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """What to call image ``index`` in messages."""
        return f"image {index}"

    @abstractmethod
    def digest(self, index: int) -> bytes:
        """A hash that changes when image ``index`` does."""

    @abstractmethod
    def load(self, indices: Sequence[int], pool: Executor | None = None) -> list[np.ndarray | BadImage]:
        """The images ``indices``, uint8 (H, W, C) with C = 1 or 3; ``pool`` may be used to load them in parallel."""

    def load_hashed(
        self, indices: Sequence[int], pool: Executor | None = None
    ) -> list[tuple[bytes, np.ndarray | BadImage]]:
        """Images and the digests of these very images, whatever became of their files since :meth:`digest`."""
        return list(zip(map(self.digest, indices), self.load(indices, pool), strict=True))

    def check_scale(self) -> None:
        """Refuse a set in which every image looks like the numbers of another convention.

        All of them at most 1 of 255: floats in [0, 1] taken for 8 bits or for (0, 255). All of them at least
        mid-grey: floats in [0, 1] taken for (-1, 1). A single image may look like that, two or more hardly. Images are
        looked at until one is neither, usually the first.

        Raises:
            ValueError: every image is of one of these kinds.
        """
        dark = bright = True
        seen, start, step = 0, 0, 2
        while start < len(self) and (dark or bright):
            for image in self.load(range(start, min(start + step, len(self)))):
                if not isinstance(image, BadImage):
                    seen += 1
                    dark, bright = dark and int(image.max()) <= 1, bright and int(image.min()) >= 128
            lo, hi = self.value_range or (0.0, 255.0)
            dark, bright = dark and hi > 1, bright and lo < 0
            start, step = start + step, min(2 * step, _MOST_AT_ONCE)
        if seen < 2 or not (dark or bright):
            return
        if self.value_range is None:
            raise ValueError(f"{self.description} holds only 0 and 1 of 255; multiply by 255, or pass floats in (0, 1)")
        where = "the first 255th" if dark else "the upper half"
        raise ValueError(
            f"{self.description}: all {seen} images lie in {where} of value_range, which does not look like "
            f"value_range {self.value_range}; is it (0, 1)?"
        )
