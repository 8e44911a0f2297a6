"""Label files: CSV, TSV or JSON that name a class for each image.

CSV/TSV rows are ``file,label`` (a header line with these words is skipped); JSON is ``{"file": label, ...}`` or the
``dataset.json`` of StyleGAN's and EDM's tools, ``{"labels": [["file", label], ...]}``. Labels are whole numbers, or
names, which are then numbered in sorted order.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

__all__ = ["DATASET_JSON", "labels_for", "number_classes", "parse_labels"]

DATASET_JSON = "dataset.json"
_NO_NAME = re.compile(r"|-\d+|-?\d*\.\d*")  # nothing, negative numbers, fractions
_HEADERS = {"file", "filename", "file_name", "path", "image", "name"}


def parse_labels(text: str, suffix: str, *, name: str) -> dict[str, Any]:
    """File name to label, as the file ``name`` with ending ``suffix`` says; {} for a ``dataset.json`` without labels.

    Raises:
        ValueError: another ending, another form, or a file that is named twice.
    """
    rows: Iterable[Sequence[Any]]
    if suffix == ".json":
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"label file {name} is not JSON: {error}") from error
        if isinstance(content, dict) and "labels" in content and isinstance(content["labels"], list | None):
            content = content["labels"] or []
        rows = list(content.items()) if isinstance(content, dict) else content
    elif suffix in (".csv", ".tsv"):
        rows = [row for row in csv.reader(io.StringIO(text), delimiter="," if suffix == ".csv" else "\t") if row]
        rows = rows[1:] if rows and rows[0][0].strip().lower() in _HEADERS else rows
    else:
        raise ValueError(f"label file {name} must end in .csv, .tsv or .json")
    labels: dict[str, Any] = {}
    for row in rows if isinstance(rows, list) else []:
        if not isinstance(row, list | tuple) or len(row) != 2:
            raise ValueError(f"label file {name}: each entry must be a file and its label; got {row!r}")
        file = str(PurePosixPath(str(row[0]).strip().replace("\\", "/")))
        if file in labels:
            raise ValueError(f"label file {name} names {file!r} twice")
        labels[file] = row[1]
    if not isinstance(rows, list):
        raise ValueError(f"label file {name} must hold a mapping or a list of pairs; got {type(rows).__name__}")
    return labels


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


def number_classes(labels: Sequence[Any], *, name: str) -> tuple[np.ndarray, dict[int, str]]:
    """Whole numbers stay, names are numbered in sorted order: (N,) int64 and the name of each number.

    Raises:
        ValueError: a label that is neither, or a negative one.
    """
    wrong = [label for label in labels if isinstance(label, bool | float) or not isinstance(label, int | str)]
    if wrong:
        raise ValueError(f"{name}: labels must be whole numbers or names; got {wrong[0]!r}")
    texts = [str(label).strip() for label in labels]
    if all(text.isdecimal() for text in texts):
        numbers = [int(text) for text in texts]
        return np.array(numbers, dtype=np.int64), {number: str(number) for number in sorted(set(numbers))}
    if any(isinstance(label, int) or _NO_NAME.fullmatch(text) for label, text in zip(labels, texts, strict=True)):
        raise ValueError(f"{name}: labels must be all whole numbers from 0, or all names; got {sorted(set(texts))[:5]}")
    names = sorted(set(texts))
    number_of = {text: number for number, text in enumerate(names)}
    return np.array([number_of[text] for text in texts], dtype=np.int64), dict(enumerate(names))
