"""Reading npz files of any maker: nothing is unpickled, and no header is believed about its size."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection
from pathlib import Path

import numpy as np

__all__ = ["read_npz"]


def read_npz(path: Path, *, only: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an npz file by name; ``only`` these, where they are there.

    Raises:
        ValueError: no npz file, a truncated one, pickled objects, an array twice, or one whose header promises another
            size than it has (numpy would ask for the memory first).
        OSError: the file cannot be opened.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                _check_member(archive, entry)
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files if only is None or name in only}
    except OSError:
        raise
    except Exception as error:  # numpy raises zip, value, key, memory and recursion errors for what is one thing here
        raise ValueError(str(error) or type(error).__name__) from error


def _check_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    if archive.getinfo(entry.filename) is not entry:
        raise ValueError(f"array {entry.filename.removesuffix('.npy')} is there twice")
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        if version[0] > 2:
            return
        read = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        promised, there = math.prod(shape) * dtype.itemsize, entry.file_size - file.tell()
    if promised != there and not dtype.hasobject:
        name = entry.filename.removesuffix(".npy")
        raise ValueError(f"array {name} says shape {shape} of {dtype}, {promised} bytes, and has {there}")
