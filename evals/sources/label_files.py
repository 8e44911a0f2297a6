"""Label files: CSV, TSV or JSON that name a class for each image.

CSV/TSV rows are ``file,label`` (a header line with these words is skipped); JSON is ``{"file": label, ...}`` or the
``dataset.json`` of StyleGAN's and EDM's tools, ``{"labels": [["file", label], ...]}``. Labels are whole numbers, or
names, which are then numbered in sorted order.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..labels import number_classes

__all__ = ["DATASET_JSON", "labels_for", "parse_labels", "read_labels"]

DATASET_JSON = "dataset.json"
_HEADERS = {"file", "filename", "file_name", "path", "image", "name"}


def read_labels(path: Path) -> dict[str, Any]:
    """:func:`parse_labels` of a file.

    Raises:
        FileNotFoundError: no file there.
        ValueError: what :func:`parse_labels` refuses.
    """
    if not path.is_file():
        raise FileNotFoundError(f"labels: no file at {path}")
    return parse_labels(path.read_bytes(), path.suffix.lower(), name=str(path))


def parse_labels(data: bytes, suffix: str, *, name: str) -> dict[str, Any]:
    """File name to label, as the file ``name`` with ending ``suffix`` says; {} for a ``dataset.json`` without labels.

    Raises:
        ValueError: no UTF-8, another ending, another form, or a file that is named twice.
    """
    try:
        text = data.decode("utf-8-sig")  # spreadsheets write a byte-order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"label file {name} is not UTF-8 ({error}); save it as UTF-8") from error
    if suffix == ".json":
        rows = _json_rows(text, name)
    elif suffix in (".csv", ".tsv"):
        rows = _table_rows(text, "," if suffix == ".csv" else "\t", name)
    else:
        raise ValueError(f"label file {name} must end in .csv, .tsv or .json")
    labels: dict[str, Any] = {}
    for row in rows:
        if not isinstance(row, list | tuple) or len(row) != 2:
            raise ValueError(f"label file {name}: each entry must be a file and its label; got {_shown(row)}")
        file = str(PurePosixPath(str(row[0]).strip().replace("\\", "/")))
        if file in labels:
            raise ValueError(f"label file {name} names {_shown(file)} twice")
        labels[file] = row[1].strip() if isinstance(row[1], str) else row[1]
    return labels


def _json_rows(text: str, name: str) -> list[Any]:
    def pairs(found: list[tuple[str, Any]]) -> Any:
        """A mapping with labels under "labels", else pairs: a mapping would keep the last of equal names only."""
        keys = [key for key, _ in found]
        return dict(found) if keys.count("labels") == 1 and isinstance(dict(found)["labels"], list | None) else found

    try:
        content = json.loads(text, object_pairs_hook=pairs)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"label file {name} is not JSON: {error}") from error
    if isinstance(content, dict):
        content = content["labels"] or []
    if not isinstance(content, list):
        raise ValueError(f"label file {name} must hold a mapping or a list of pairs; got {type(content).__name__}")
    return content


def _table_rows(text: str, delimiter: str, name: str) -> list[list[str]]:
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    except csv.Error as error:  # a field beyond csv's limit, a zero byte
        raise ValueError(f"label file {name} is no table of files and labels: {error}") from error
    return rows[1:] if rows and rows[0][0].strip().lower() in _HEADERS else rows


def _shown(content: Any, most: int = 80) -> str:
    text = repr(content)
    return text if len(text) <= most else text[:most] + " ..."


def labels_for(files: Sequence[str], labels: dict[str, Any], *, name: str) -> tuple[np.ndarray, dict[int, str]]:
    """The labels of ``files`` in their order, and the classes' names.

    Raises:
        ValueError: an image without a label, a label without an image, or a label that is no class.
    """
    unlabelled = sorted(set(files) - set(labels))
    missing = sorted(set(labels) - set(files))
    if unlabelled or missing:
        parts = [
            f"{len(found)} {what}: {', '.join(found[:3])}{', ...' if len(found) > 3 else ''}"
            for found, what in ((unlabelled, "images have no label"), (missing, "labels have no image"))
            if found
        ]
        raise ValueError(f"label file {name} does not match the images; {'; '.join(parts)}")
    return number_classes([labels[file] for file in files], name=name)
