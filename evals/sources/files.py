"""Images in folders and zip archives, in the sorted order of their paths.

Classes come from a label file, else from the first folder of each path (folders named by whole numbers keep their
numbers, others are numbered in sorted order), else all images are one class. A single folder around all others is
looked through. A folder and its zip give the same.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from kdist.files import printable

from ..labels import ALL, number_classes
from .base import BadImage, Source
from .containers import IMAGE_SUFFIXES, Container, list_folder, list_zip
from .label_files import DATASET_JSON, labels_for, parse_labels, read_labels
from .pictures import as_pictures, from_pillow
from .png import plain_png

__all__ = ["IMAGE_SUFFIXES", "FileSource", "decode", "open_folder", "open_zip"]


_SEED = re.compile(r"(?:seed)?[-_ ]?(\d{1,20})", re.ASCII | re.IGNORECASE)


class FileSource(Source):
    """Image files by name, each with a function that gives its bytes; files called by numbers have these as seeds."""

    def __init__(
        self,
        files: Mapping[str, Callable[[], bytes]],
        labels: np.ndarray,
        classes: dict[int, str],
        description: str,
    ) -> None:
        self.files, self._read = list(files), list(files.values())
        self.labels, self.classes, self.description = labels, classes, description
        self.seeds = _seeds(self.files, labels)

    def name(self, index: int) -> str:
        return printable(self.files[index])

    def digest(self, index: int) -> bytes:
        return self._hashed(index)[0]

    def load(self, indices: Sequence[int], pool: Executor | None = None) -> list[np.ndarray | BadImage]:
        return [image for _, image in self.load_hashed(indices, pool)]

    def load_hashed(
        self, indices: Sequence[int], pool: Executor | None = None
    ) -> list[tuple[bytes, np.ndarray | BadImage]]:
        return list((pool.map if pool else map)(self._load_one, indices))

    def _hashed(self, index: int) -> tuple[bytes, bytes | BadImage]:
        try:
            data = self._read[index]()
        except Exception as error:  # unreadable now is content too: readable later is a change
            return hashlib.sha256(f"unreadable: {type(error).__name__}".encode()).digest(), BadImage.because(error)
        return hashlib.sha256(data).digest(), data

    def _load_one(self, index: int) -> tuple[bytes, np.ndarray | BadImage]:
        digest, data = self._hashed(index)
        try:
            return digest, data if isinstance(data, BadImage) else decode(data, self.files[index])
        except Exception as error:  # decoders raise nearly anything on broken files; none of it may end a long run
            return digest, BadImage.because(error)


def _seeds(files: Sequence[str], labels: np.ndarray) -> list[int] | None:
    """The numbers that all files are called by (``12.png``, ``seed-12.png``), if none occurs twice in a class."""
    found = [_SEED.fullmatch(PurePosixPath(file).stem) for file in files]
    seeds = [int(match[1]) for match in found if match]
    if len(seeds) < len(files) or max(seeds) >= 2**64:
        return None
    return seeds if len(set(zip(labels.tolist(), seeds, strict=True))) == len(files) else None


def decode(data: bytes, name: str) -> np.ndarray:
    """An image file's bytes as uint8 (H, W, C); see :func:`from_pillow`. The EXIF orientation is not applied.

    Raises:
        ValueError: more than 8 bits per channel, or an array that is no picture.
        OSError: not an image, or a truncated one.
    """
    from PIL import Image

    if name.lower().endswith(".npy"):
        array = np.load(io.BytesIO(data), allow_pickle=False)
        return as_pictures(array[None], value_range=None, layout=None, name=name)[0]
    if (picture := plain_png(data)) is not None:
        return picture
    with Image.open(io.BytesIO(data)) as image:
        return from_pillow(image)


def open_folder(folder: Path, label_file: str | Path | None = None) -> FileSource:
    """The images below ``folder``.

    Raises:
        ValueError: no image at all, an empty class folder, images beside class folders, labels that do not match; see
            also :func:`list_folder`.
    """
    return _open(list_folder(folder), label_file)


def open_zip(path: Path, label_file: str | Path | None = None) -> FileSource:
    """The images in a zip archive.

    Raises:
        ValueError: what :func:`open_folder` and :func:`list_zip` refuse.
    """
    return _open(list_zip(path), label_file)


def _open(container: Container, label_file: str | Path | None) -> FileSource:
    files = {name: read for name, read in container.files.items() if PurePosixPath(name).name != DATASET_JSON}
    if not files:
        raise ValueError(
            f"source: no image in {container.description} (looked for {', '.join(sorted(IMAGE_SUFFIXES))})"
        )
    return FileSource(files, *_labels(list(files), container, label_file), container.description)


def _labels(files: list[str], container: Container, label_file: str | Path | None) -> tuple[np.ndarray, dict[int, str]]:
    around = _folders_around(files, container)
    if label_file is not None:
        path = Path(label_file)
        return _from_list(files, read_labels(path), around, str(path))
    for prefix in around:
        if prefix + DATASET_JSON in container.files:
            name = f"{prefix}{DATASET_JSON} in {container.description}"
            labels = parse_labels(container.files[prefix + DATASET_JSON](), ".json", name=name)
            if not labels:
                return np.zeros(len(files), dtype=np.int64), {0: ALL}
            return _from_list(files, labels, [prefix], name)
    return _from_folders(files, around[-1], container)


def _folders_around(files: list[str], container: Container) -> list[str]:
    """``["", "images/", ...]``: the folders, each alone in the one before, that hold everything.

    The last is the one whose subfolders are the classes: a folder that holds the images themselves is a class, unless
    it says otherwise (it has a ``dataset.json``, or a zip archive bears its name).
    """
    around = [""]
    while True:
        inner = [file[len(around[-1]) :].split("/") for file in files]
        tops = {path[0] for path in inner} | _subfolders(container, around[-1])
        if len(tops) > 1 or min(map(len, inner)) < 2:
            return around
        (top,) = tops
        prefix = f"{around[-1]}{top}/"
        wrapper = prefix + DATASET_JSON in container.files or (top == container.own_name and around == [""])
        if min(map(len, inner)) == 2 and not wrapper:
            return around
        around.append(prefix)


def _subfolders(container: Container, prefix: str) -> set[str]:
    below = (folder[len(prefix) :] for folder in container.folders if folder.startswith(prefix))
    return {folder for folder in below if folder and "/" not in folder}


def _from_list(
    files: list[str], labels: dict[str, Any], around: Sequence[str], name: str
) -> tuple[np.ndarray, dict[int, str]]:
    """Labels of a file that names the images from one of the folders around them."""
    for prefix in around:
        inner = [file.removeprefix(prefix) for file in files]
        if labels.keys() == set(inner):
            return labels_for(inner, labels, name=name)
    return labels_for([file.removeprefix(around[0]) for file in files], labels, name=name)


def _from_folders(files: list[str], prefix: str, container: Container) -> tuple[np.ndarray, dict[int, str]]:
    paths = [file[len(prefix) :].split("/") for file in files]
    subfolders = _subfolders(container, prefix)
    loose = [file for file, path in zip(files, paths, strict=True) if len(path) == 1]
    if len(loose) == len(files) and not subfolders:
        return np.zeros(len(files), dtype=np.int64), {0: ALL}
    if loose:
        raise ValueError(
            f"source: {container.description} has images ({', '.join(loose[:3])}) beside class folders; sort them into "
            "the folders, or give a label file"
        )
    empty = sorted(subfolders - {path[0] for path in paths})
    if empty:
        raise ValueError(
            f"source: class folder(s) without an image in {container.description}: {', '.join(empty[:5])}; remove or "
            "fill them"
        )
    return number_classes([path[0] for path in paths], name=container.description)
