"""Images in folders and zip archives, in the sorted order of their paths.

Classes come from a label file, else from the first folder of each path (folders named by whole numbers keep their
numbers, others are numbered in sorted order), else all images are one class. A folder and its zip give the same.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path, PurePosixPath

import numpy as np

from .base import BadImage, Source, as_pictures, check_labels
from .labels import DATASET_JSON, labels_for, number_classes, parse_labels

__all__ = ["IMAGE_SUFFIXES", "FileSource", "decode", "open_folder", "open_zip"]

IMAGE_SUFFIXES = frozenset([".bmp", ".jpg", ".jpeg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp", ".npy"])


class FileSource(Source):
    """Image files by name, through a function that reads one's bytes."""

    def __init__(
        self,
        files: Sequence[str],
        read: Callable[[str], bytes],
        labels: np.ndarray,
        classes: dict[int, str],
        description: str,
    ) -> None:
        self.files, self._read = list(files), read
        self.labels, self.classes, self.description = check_labels(labels, len(self.files)), classes, description

    def name(self, index: int) -> str:
        return self.files[index]

    def digest(self, index: int) -> bytes:
        try:
            return hashlib.sha256(self._read(self.files[index])).digest()
        except Exception as error:  # unreadable now is content too: readable later is a change
            return hashlib.sha256(f"unreadable: {type(error).__name__}".encode()).digest()

    def load(self, indices: Sequence[int], pool: Executor | None = None) -> list[np.ndarray | BadImage]:
        return list((pool.map if pool else map)(self._load_one, indices))

    def _load_one(self, index: int) -> np.ndarray | BadImage:
        try:
            return decode(self._read(self.files[index]), self.files[index])
        except Exception as error:  # decoders raise nearly anything on broken files; none of it may end a long run
            return BadImage.because(error)


def decode(data: bytes, name: str) -> np.ndarray:
    """An image file's bytes as uint8 (H, W, C): grey stays grey, all else becomes RGB as clean-fid has it.

    Raises:
        ValueError: more than 8 bits per channel (PIL would clip them), or an array that is no picture.
        OSError: not an image, or a truncated one.
    """
    from PIL import Image

    if name.lower().endswith(".npy"):
        return as_pictures(
            np.load(io.BytesIO(data), allow_pickle=False)[None], value_range=None, layout=None, name=name
        )[0]
    with Image.open(io.BytesIO(data)) as image:
        if image.mode.startswith("I") or image.mode == "F":
            raise ValueError(f"{image.mode} pixels: more than 8 bits per channel; convert it to 8 bits")
        picture = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB"))
    return picture[..., None] if picture.ndim == 2 else picture


def open_folder(folder: Path, label_file: str | Path | None = None) -> FileSource:
    """The images below ``folder``.

    Raises:
        ValueError: no image at all, an empty class folder, images beside class folders, or labels that do not match.
    """
    found = sorted(
        path.relative_to(folder).as_posix()
        for path in (Path(root) / file for root, _, files in os.walk(folder, followlinks=True) for file in files)
    )

    def read(file: str) -> bytes:
        return (folder / file).read_bytes()

    subfolders = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and _visible(entry.name))
    return _open(found, read, str(folder), label_file, subfolders)


def open_zip(path: Path, label_file: str | Path | None = None) -> FileSource:
    """The images in a zip archive; a single folder around all class folders is looked through.

    Raises:
        ValueError: unreadable archive, or as for :func:`open_folder`.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"source: {path} is not a readable zip archive ({error}); was it copied whole?") from error
    return _open(
        sorted(name for name in archive.namelist() if name[-1] != "/"), archive.read, str(path), label_file, []
    )


def _open(
    found: list[str],
    read: Callable[[str], bytes],
    description: str,
    label_file: str | Path | None,
    subfolders: list[str],
) -> FileSource:
    visible = [file for file in found if all(_visible(part) for part in file.split("/"))]
    files = [file for file in visible if PurePosixPath(file).suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise ValueError(f"source: no image in {description} (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
    labels = None
    if label_file is not None:
        path = Path(label_file)
        if not path.is_file():
            raise FileNotFoundError(f"labels: no file at {path}")
        labels = parse_labels(path.read_text(), path.suffix.lower(), name=str(path))
    elif DATASET_JSON in visible:
        labels = parse_labels(read(DATASET_JSON).decode(), ".json", name=f"{DATASET_JSON} in {description}")
        if not labels:
            return FileSource(files, read, check_labels(None, len(files)), {0: "all"}, description)
    if labels is not None:
        return FileSource(files, read, *labels_for(files, labels, name=str(label_file or DATASET_JSON)), description)
    return FileSource(files, read, *_folder_labels(files, subfolders, description), description)


def _folder_labels(files: list[str], subfolders: list[str], description: str) -> tuple[np.ndarray, dict[int, str]]:
    paths = [file.split("/") for file in files]
    while not subfolders and min(map(len, paths)) > 2 and len({path[0] for path in paths}) == 1:
        paths = [path[1:] for path in paths]  # the folder that was zipped, around the class folders
    loose = [file for file, path in zip(files, paths, strict=True) if len(path) == 1]
    if len(loose) == len(files) and not subfolders:
        return check_labels(None, len(files)), {0: "all"}
    if loose:
        raise ValueError(
            f"source: {description} has images ({', '.join(loose[:3])}) beside class folders; sort them into the "
            "folders, or give a label file"
        )
    empty = sorted(set(subfolders) - {path[0] for path in paths})
    if empty:
        raise ValueError(
            f"source: class folder(s) without an image in {description}: {', '.join(empty[:5])}; remove or fill them"
        )
    return number_classes([path[0] for path in paths], name=description)


def _visible(part: str) -> bool:
    return not part.startswith((".", "__MACOSX"))
