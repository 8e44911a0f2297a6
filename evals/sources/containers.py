"""What a folder or a zip archive holds, said in one way: file names with ``/``, readers, sizes.

A folder and its zip give the same. What would be read differently by the two, or by two people, is refused by name:
entries that occur twice, paths with ``..``, links to what is there already, names that are no UTF-8, pipes.
"""

from __future__ import annotations

import os
import posixpath
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from kdist.files import printable

from .label_files import DATASET_JSON

__all__ = ["IMAGE_SUFFIXES", "LARGEST_FILE", "Container", "list_folder", "list_zip"]

IMAGE_SUFFIXES = frozenset([".bmp", ".jpg", ".jpeg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp", ".npy"])
LARGEST_FILE = 256 * 2**20  # bytes of one image file when unpacked; Pillow refuses 179 million pixels


@dataclass(frozen=True)
class Container:
    """Images and lists of labels by name, in sorted order, without hidden ones.

    Attributes:
        description: the path, in words.
        files: name to a function that gives its bytes.
        folders: every folder, empty ones included (where a zip says so).
        own_name: Name of the folder that a zip archive of this name was made from; None for a folder.
    """

    description: str
    files: dict[str, Callable[[], bytes]]
    folders: frozenset[str]
    own_name: str | None = None


def list_folder(folder: Path) -> Container:
    """The files below ``folder``, links followed; links back to a folder around them are left out.

    Raises:
        ValueError: a name that is no UTF-8, a folder that is reached twice, a file that is none (a pipe, a device), or
            one beyond :data:`LARGEST_FILE`.
    """
    files: dict[str, Callable[[], bytes]] = {}
    folders: dict[str, str] = {}  # real path to name
    for root, below, names in _walk(folder):
        place = "" if root == str(folder) else Path(root).relative_to(folder).as_posix() + "/"
        for name in below:
            real, shown = os.path.realpath(os.path.join(root, name)), _checked(place + name, str(folder))
            if real in folders:
                raise ValueError(
                    f"source: {shown} and {folders[real]} in {folder} are one folder, its images would count twice; "
                    "remove the link"
                )
            folders[real] = shown
        for name in filter(_wanted, names):
            path = Path(root) / name
            file = _checked(place + name, str(folder))
            try:
                about = path.stat()
            except OSError:  # a link to nothing: set aside when it is read
                about = None
            if about is not None:
                if not stat.S_ISREG(about.st_mode):
                    raise ValueError(f"source: {path} is no file but a pipe, a socket or a device; remove it")
                _check_size(file, about.st_size, str(folder))
            files[file] = path.read_bytes
    return Container(printable(str(folder)), dict(sorted(files.items())), frozenset(folders.values()))


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """``os.walk`` through links, but not into a folder from which the way led here, and past hidden names."""
    for root, below, names in os.walk(folder, followlinks=True, onerror=_refuse):
        here = os.path.realpath(root)
        below[:] = sorted(
            name for name in below if _visible(name) and not _around(os.path.realpath(os.path.join(root, name)), here)
        )
        yield root, below, sorted(filter(_visible, names))


def _refuse(error: OSError) -> None:
    raise error  # a folder that may not be read would be a class that is missing


def _around(folder: str, place: str) -> bool:
    return place == folder or place.startswith(folder.rstrip(os.sep) + os.sep)


def list_zip(path: Path) -> Container:
    """The files in a zip archive.

    Raises:
        ValueError: unreadable archive, a name that occurs twice or leads out, a link, an entry beyond
            :data:`LARGEST_FILE`.
    """
    description = printable(str(path))
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:  # the last: a zip version unknown
        raise ValueError(f"source: {path} is not a readable zip archive ({error}); was it copied whole?") from error
    files: dict[str, Callable[[], bytes]] = {}
    folders: set[str] = set()
    for entry in archive.infolist():
        written = entry.filename.replace("\\", "/")
        name = posixpath.normpath(written.lstrip("/"))
        if ".." in written.split("/"):
            raise ValueError(f"source: entry {written!r} of {path} leads through '..'; make the archive again")
        if name == "." or not all(map(_visible, name.split("/"))):
            continue
        parents = name.split("/") if written.endswith("/") else name.split("/")[:-1]
        folders |= {"/".join(parents[: depth + 1]) for depth in range(len(parents))}
        if written.endswith("/") or _leads_back(entry, name, archive) or not _wanted(name):
            continue
        if name in files:
            raise ValueError(f"source: {path} holds {name} twice; make the archive again with each file once")
        _check_size(name, entry.file_size, description)
        files[_checked(name, description)] = partial(archive.read, entry)
    return Container(description, dict(sorted(files.items())), frozenset(folders), path.stem)


def _leads_back(entry: zipfile.ZipInfo, name: str, archive: zipfile.ZipFile) -> bool:
    """Whether the entry is a link to a folder around it, left out of a folder's listing too; others are refused."""
    if not stat.S_ISLNK(entry.external_attr >> 16):
        return False
    target = "" if entry.file_size > 4096 else archive.read(entry).decode("utf-8", "replace")
    place = posixpath.dirname(name)
    to = posixpath.normpath(posixpath.join(place, target or "nowhere"))
    if not posixpath.isabs(to) and (to == "." or to.startswith("..") or f"{place}/".startswith(f"{to}/")):
        return True
    raise ValueError(
        f"source: entry {name} of {archive.filename} is a link, which says nothing without the disk it was made on; "
        "zip the files themselves"
    )


def _visible(part: str) -> bool:
    return not part.startswith((".", "__MACOSX"))


def _wanted(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES or path.name == DATASET_JSON


def _checked(name: str, description: str) -> str:
    try:  # in a C locale Python holds each byte of a letter that is not ASCII as a surrogate
        return name.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError as error:
        raise ValueError(
            f"source: the name {printable(name)} in {printable(description)} is no UTF-8; rename it"
        ) from error


def _check_size(name: str, size: int, description: str) -> None:
    if size > LARGEST_FILE:
        raise ValueError(
            f"source: {name} in {description} has {size / 2**20:.0f} MiB unpacked, more than the {LARGEST_FILE >> 20} "
            "that an image may have; remove it"
        )
