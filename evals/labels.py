"""Class labels as every part of the package takes them: whole numbers, or names. One check for all."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from kdist.files import printable

__all__ = ["ALL", "as_labels", "check_names", "class_labels", "number_classes"]

ALL = "all"  # what the only class of a set without labels is called
_NO_NAME = re.compile(r"|-\d+|-?\d*\.\d*")  # nothing, negative numbers, fractions


def as_labels(name: str, labels: Any, count: int) -> np.ndarray:
    """Class labels as (N,) int64, or as (N,) strings; None means that all ``count`` samples are one class, 0.

    Raises:
        ValueError: not one label per sample; labels that are neither whole numbers (floats may hold them) nor strings,
            or a mixture; numbers beyond int64; control characters in a string.
    """
    if labels is None:
        return np.zeros(count, dtype=np.int64)
    if isinstance(labels, torch.Tensor):
        labels = labels.detach().cpu()
        array = (labels.double() if labels.is_floating_point() else labels).numpy()
    else:
        try:
            array = np.asarray(labels)
        except ValueError as error:  # rows of several lengths
            raise ValueError(f"{name} must hold one label per sample: {error}") from error
    if array.shape != (count,):
        raise ValueError(f"{name} must hold one label per sample, shape ({count},); got shape {array.shape}")
    plain = array.tolist() if array.dtype == object or not isinstance(labels, list | tuple) else labels
    if array.dtype.kind in "OU" and all(isinstance(label, str) for label in plain):
        check_names(name, plain)
        return array.astype(str)
    if array.dtype == object and all(isinstance(label, int) and not isinstance(label, bool) for label in plain):
        array = np.asarray([min(label, 2**63) for label in plain], dtype=np.uint64)
    if array.dtype.kind == "f" and (array == np.round(array)).all() and (np.abs(array) <= 2**53).all():
        return array.astype(np.int64)
    if array.dtype.kind not in "iu" or (array.dtype.kind == "u" and (array > np.iinfo(np.int64).max).any()):
        shown = array.dtype if array.dtype.kind not in "OU" else "a mixture"
        raise ValueError(
            f"{name} must be whole numbers or strings, numbers within int64; got {shown}, e.g. {plain[:3]}"
        )
    return array.astype(np.int64)


def class_labels(
    name: str, labels: Any, count: int, classes: Mapping[int, str] | Sequence[str] | None = None
) -> tuple[np.ndarray, dict[int, str]]:
    """Labels as (N,) int64 from 0, and the name of each class that occurs.

    Args:
        name: what to call the argument in messages.
        labels: Labels as for :func:`as_labels`; names are numbered in sorted order.
        count: N.
        classes: names of the numbers, as a mapping or in order; None calls them by their numbers.

    Raises:
        ValueError: what :func:`as_labels` refuses; a negative number; a number without a name; names given twice over.
    """
    if labels is None:
        return np.zeros(count, dtype=np.int64), {0: ALL}
    array = as_labels(name, labels, count)
    if array.dtype.kind == "U":
        return number_classes(array.tolist(), name=name)
    if (array < 0).any():
        raise ValueError(f"{name} must be whole numbers from 0, or names; got {array[array < 0][:3].tolist()}")
    present = np.unique(array).tolist()
    if classes is None:
        return array, {label: str(label) for label in present}
    names = dict(classes.items() if isinstance(classes, Mapping) else enumerate(classes))
    unnamed = [label for label in present if label not in names]
    if unnamed:
        raise ValueError(f"{name}: {unnamed[:5]} have no name among the {len(names)} classes; name every class")
    found = {label: str(names[label]) for label in present}
    check_names(name, found.values())
    twice = _repeated(found.values())
    if twice:
        raise ValueError(f"{name}: two classes are called {twice[0]!r}; give each a name of its own")
    return array, found


def number_classes(labels: Sequence[Any], *, name: str) -> tuple[np.ndarray, dict[int, str]]:
    """Whole numbers stay, names are numbered in sorted order: (N,) int64 and the name of each number.

    Names are compared in Unicode's composed form, since archives made on a Mac hold the decomposed one.

    Raises:
        ValueError: a label that is neither, a negative one, or two that are written differently but are one (1 and 01).
    """
    wrong = [label for label in labels if isinstance(label, bool | float) or not isinstance(label, int | str)]
    if wrong:
        raise ValueError(f"{name}: labels must be whole numbers or names; got {repr(wrong[0])[:80]}")
    written = {label: str(label) for label in set(labels)}
    check_names(name, written.values())
    texts = {label: unicodedata.normalize("NFC", text.strip()) for label, text in written.items()}
    if all(text.isdecimal() for text in texts.values()):
        numbers = {label: int(text) for label, text in texts.items() if len(text) < 20}
        if len(numbers) < len(texts) or max(numbers.values(), default=0) > np.iinfo(np.int64).max:
            raise ValueError(f"{name}: a label is no number of int64: {max(texts.values(), key=len)[:40]}")
        _one_writing_each(numbers, written, name)
        return np.array([numbers[label] for label in labels], dtype=np.int64), {
            number: str(number) for number in sorted(set(numbers.values()))
        }
    if any(isinstance(label, int) or _NO_NAME.fullmatch(text) for label, text in texts.items()):
        shown = sorted(set(texts.values()))[:5]
        raise ValueError(f"{name}: labels must be all whole numbers from 0, or all names; got {shown}")
    _one_writing_each(texts, written, name)
    names = sorted(set(texts.values()))
    number_of = {text: number for number, text in enumerate(names)}
    return np.array([number_of[texts[label]] for label in labels], dtype=np.int64), dict(enumerate(names))


def check_names(name: str, names: Iterable[str]) -> None:
    """Refuse what a terminal or a page would take for something else than letters.

    Raises:
        ValueError: control characters in one of ``names``, those of a line's end too, or surrogates.
    """
    for text in dict.fromkeys(names):
        if printable(text) != text:
            raise ValueError(f"{name}: '{printable(text)[:80]}' has control characters in it; take them out")


def _one_writing_each(meaning: Mapping[Any, Any], written: Mapping[Any, str], name: str) -> None:
    """Two spellings of one class are more likely two classes, or a mistake."""
    spellings: dict[Any, set[str]] = {}
    for label, text in written.items():
        spellings.setdefault(meaning[label], set()).add(text)
    for several in spellings.values():
        if len(several) > 1:
            shown = " and ".join(ascii(text) for text in sorted(several))
            raise ValueError(f"{name}: classes {shown} would be one; rename one of them, or merge them")


def _repeated(names: Iterable[str]) -> list[str]:
    listed = list(names)
    return sorted({text for text in listed if listed.count(text) > 1}) if len(set(listed)) < len(listed) else []
