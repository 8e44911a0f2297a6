"""Schedules as text: one line for command lines and configuration files, JSON for files, words for tables."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import read_text
from .base import FORMAT_VERSION, Constant, Schedule, registry

__all__ = ["describe", "from_dict", "from_json", "parse"]

_DEEPEST = 64  # schedules inside schedules; every guided call goes through all of them


def parse(text: str) -> Schedule:
    """Read a schedule: ``4``, ``negative-window:scale=4,sigma_lo=0.3,sigma_hi=1``, JSON, or a ``.json`` file's path.

    Names are the classes' in kebab case; several values of one field are separated by commas
    (``piecewise:sigmas=80,1,scales=4,0``), a schedule inside another stands in parentheses
    (``clip:schedule=(late-negative:scale=4,sigma_switch=1),maximum=3``), a list inside a list in brackets.
    ``str(schedule)`` gives this form back.

    Raises:
        ValueError: unknown schedule or field, a missing field, a value that is not a number, or schedules nested more
            than 64 deep.
        OSError: a file that cannot be read.

    Examples:
        >>> import kdist
        >>> kdist.parse("interval:scale=4,sigma_lo=0.3,sigma_hi=2")
        Interval(scale=4.0, sigma_lo=0.3, sigma_hi=2.0, outside=1.0)
        >>> kdist.parse("4")
        Constant(scale=4.0)
    """
    text = text.strip()
    if text.startswith("{") or text.endswith(".json"):
        return from_json(text)
    return _read(text, 0)


def from_dict(values: Mapping[str, Any]) -> Schedule:
    """The schedule that :meth:`Schedule.to_dict` described.

    Raises:
        ValueError: an unknown type or field, a missing field, a newer format version, or schedules nested more than 64
            deep.

    Examples:
        >>> import kdist
        >>> kdist.from_dict(kdist.Constant(4).to_dict())
        Constant(scale=4.0)
    """
    return _revive(values, 0)


def from_json(source: str | os.PathLike[str]) -> Schedule:
    """Read a schedule from JSON text (starting with ``{``) or from a file.

    Raises:
        ValueError: no JSON, or as for :func:`from_dict`.
        OSError: a file that cannot be read.

    Examples:
        >>> import kdist
        >>> kdist.from_json(kdist.Interval(4, 0.3, 2).to_json())
        Interval(scale=4.0, sigma_lo=0.3, sigma_hi=2.0, outside=1.0)
    """
    text = str(source)
    if not text.lstrip().startswith("{"):
        text = read_text(Path(source))
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    except RecursionError:
        raise ValueError(_too_deep()) from None
    return from_dict(values)


def describe(schedule: Schedule) -> str:
    """How tables and legends call a schedule: in words where they are short, else ``str(schedule)``.

    Examples:
        >>> import kdist
        >>> from kdist.schedules import describe
        >>> describe(kdist.Interval(4, 0.3, 2))
        '4 for sigma 0.3 to 2, else 1'
    """
    return schedule.in_words()


def _too_deep() -> str:
    return f"schedules may be nested at most {_DEEPEST} deep"


def _build(kind: str, values: Mapping[str, Any]) -> Schedule:
    """The schedule of that name with those fields; unknown names and fields fail with what is known."""
    known = registry()
    if kind not in known:
        raise ValueError(f"unknown schedule {kind!r}; known: {', '.join(known)}, a number, or a .json file")
    fields = {field.name: field for field in dataclasses.fields(known[kind])}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ValueError(f"{kind} has no {', '.join(map(repr, unknown))}; it takes {', '.join(fields)}")
    missing = [
        name
        for name, field in fields.items()
        if name not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{kind} needs {', '.join(missing)}; it takes {', '.join(fields)}")
    return known[kind](**values)


def _revive(values: Any, depth: int) -> Schedule:
    if depth > _DEEPEST:
        raise ValueError(_too_deep())
    if not isinstance(values, Mapping):
        raise ValueError(f"not a schedule: expected a mapping with a 'type', got {values!r}")
    fields = dict(values)
    version = fields.pop("kdist_schedule", FORMAT_VERSION)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ValueError(
            f"this schedule is in format {version}, this kdist reads up to {FORMAT_VERSION}: upgrade kdist"
        )
    kind = fields.pop("type", None)
    if not isinstance(kind, str):
        raise ValueError("not a schedule: no 'type' in it")
    return _build(kind, {name: _revive_value(value, depth + 1) for name, value in fields.items()})


def _revive_value(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping):
        return _revive(value, depth)
    if isinstance(value, list):
        if depth > _DEEPEST:
            raise ValueError(_too_deep())
        return tuple(_revive_value(item, depth + 1) for item in value)
    return value


def _read(text: str, depth: int) -> Schedule:
    if depth > _DEEPEST:
        raise ValueError(_too_deep())
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        return Constant(number)
    kind, _, fields = text.partition(":")
    values: dict[str, list[str]] = {}
    for part in _split(fields):
        named = re.match(r"([a-zA-Z_]\w*)=", part)
        if named and named[1] in values:
            raise ValueError(f"{kind}: {named[1]} is given twice in {text!r}")
        if named:
            values[named[1]] = [part[named.end() :]]
        elif values:
            values[list(values)[-1]].append(part)
        else:
            raise ValueError(f"{kind}: expected name=value, got {part!r} in {text!r}")
    read = {name: tuple(_value(item, depth + 1) for item in items) for name, items in values.items()}
    return _build(kind, {name: items if len(items) > 1 else items[0] for name, items in read.items()})


def _split(text: str) -> list[str]:
    """The parts between commas that stand in no brackets and no quotes."""
    parts, depth, start = [], 0, 0
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|[()\[\],]', text):
        if token[0] in ("(", "["):
            depth += 1
        elif token[0] in (")", "]"):
            depth -= 1
        elif token[0] == "," and depth == 0:
            parts.append(text[start : token.start()])
            start = token.end()
    if depth:
        raise ValueError(f"brackets do not match in {text!r}")
    return [*parts, text[start:]] if text else []


def _value(text: str, depth: int) -> Any:
    if text[:1] == "(" and text[-1:] == ")":
        return _read(text[1:-1], depth)
    if text[:1] == "[" and text[-1:] == "]":
        if depth > _DEEPEST:
            raise ValueError(_too_deep())
        return tuple(_value(item, depth + 1) for item in _split(text[1:-1]))
    if text[:1] == '"' and text[-1:] == '"' and len(text) > 1:
        return json.loads(text)
    if text.lower() == "none":
        return None
    try:
        return float(text)
    except ValueError:
        return text  # a word such as interpolation=linear; the schedule checks it
