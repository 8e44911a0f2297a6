"""Real and generated images of a class side by side, as small pictures for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from ..sources import BadImage
from ..statistics.results import ClassDistortion
from . import html
from .comparison import Comparison
from .sets import MeasuredSet

__all__ = ["ClassStrips", "gallery", "side_by_side"]

LARGEST = 72  # pixels of a thumbnail's side
SMALL = 33  # below this, images are shown in enlarged pixels


@dataclass(frozen=True)
class ClassStrips:
    """One class's images.

    Attributes:
        entry: its numbers, in the set that keeps the least variance.
        strips: (name of the set, variance kept there or None for real, picture as a ``data:`` URI).
        pixelated: the images are so small that their pixels are shown.
    """

    entry: ClassDistortion
    strips: tuple[tuple[str, float | None, str], ...]
    pixelated: bool


def gallery(comparison: Comparison, classes: Sequence[ClassDistortion], *, shown: int = 10) -> list[ClassStrips]:
    """The first images of each of these classes in every set whose images are at hand; [] if that is none.

    Generated sets show the same places of their sources; all pictures of a class have one size.
    """
    sets = [entry for entry in (comparison.real, *comparison.fakes) if entry.images is not None]
    fakes = [entry for entry in sets if entry is not comparison.real]
    if not fakes:
        return []
    result = []
    for entry in classes:
        paired = reduce(np.intersect1d, [_places(fake, entry.label) for fake in fakes])
        loaded: list[tuple[MeasuredSet, list[np.ndarray]]] = []
        for each in sets:
            places = _places(each, entry.label) if each is comparison.real or len(paired) < 2 else paired
            if pictures := _load(each, places[:shown]):
                loaded.append((each, pictures))
        if not loaded:
            continue
        uris, pixelated = side_by_side([pictures for _, pictures in loaded])
        strips = [(each.name, _kept(comparison, each, entry), uri) for (each, _), uri in zip(loaded, uris, strict=True)]
        result.append(ClassStrips(entry, tuple(strips), pixelated))
    return result


def side_by_side(rows: Sequence[list[np.ndarray]]) -> tuple[list[str], bool]:
    """Rows of pictures, all of one size, as ``data:`` URIs; and whether they are so small that their pixels show."""
    size, columns = _thumbnail(rows[0][0]), max(map(len, rows))
    return [html.image_uri(_strip(pictures, size, columns)) for pictures in rows], max(size) < SMALL


def _kept(comparison: Comparison, each: MeasuredSet, entry: ClassDistortion) -> float | None:
    return None if each is comparison.real else float(comparison.reports[each.name][entry.label].trace_ratio)


def _places(entry: MeasuredSet, label: int) -> np.ndarray:
    return entry.features.index[entry.features.y == label]


def _load(entry: MeasuredSet, places: np.ndarray) -> list[np.ndarray]:
    assert entry.images is not None
    return [picture for picture in entry.images.load(places.tolist()) if not isinstance(picture, BadImage)]


def _thumbnail(picture: np.ndarray) -> tuple[int, int]:
    """Width and height at which a class's pictures are shown."""
    height, width = picture.shape[:2]
    scale = min(1.0, LARGEST / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _strip(pictures: Sequence[np.ndarray], size: tuple[int, int], columns: int) -> np.ndarray:
    """uint8 (H, W, C) pictures in a row of so many columns, all cropped and scaled to (width, height)."""
    from PIL import Image, ImageOps

    mode = "L" if all(picture.shape[2] == 1 for picture in pictures) else "RGB"
    images = [Image.fromarray(p[..., 0] if p.shape[2] == 1 else p).convert(mode) for p in pictures]
    same = [image if image.size == size else ImageOps.fit(image, size) for image in images]
    stacked = np.stack([np.asarray(image).reshape(size[1], size[0], -1) for image in same])
    return html.grid(stacked.transpose(0, 3, 1, 2) / 127.5 - 1, columns)
