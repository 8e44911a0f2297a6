"""Schedules as one line of text, for command lines and configuration files."""

from __future__ import annotations

import re
from typing import Any

from .base import Schedule, build, from_json, registry

__all__ = ["parse"]


def parse(text: str) -> Schedule:
    """Read a schedule: ``4``, ``negative-window:scale=4,sigma_lo=0.3,sigma_hi=1``, or a ``.json`` file's path.

    Names are the classes' in kebab case; several values of one field are separated by commas
    (``piecewise:sigmas=80,1,scales=4,0``). ``str(schedule)`` gives this form back; compositions have only JSON.

    Raises:
        ValueError: unknown schedule or field, a missing field, or a value that is not a number.
    """
    text = text.strip()
    if text.endswith(".json"):
        return from_json(text)
    try:
        return build("constant", {"scale": float(text)})
    except ValueError:
        if re.fullmatch(r"[+-]?(nan|inf|infinity)", text, re.IGNORECASE):
            raise
    kind, _, fields = text.partition(":")
    values: dict[str, Any] = {}
    for part in re.split(r",(?=[a-zA-Z_]\w*=)", fields) if fields else []:
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"{kind}: expected name=value, got {part!r} in {text!r}")
        if name in values:
            raise ValueError(f"{kind}: {name} is given twice in {text!r}")
        values[name] = _value(value)
    if kind not in registry():
        raise ValueError(f"unknown schedule {kind!r}; known: {', '.join(registry())}, a number, or a .json file")
    return build(kind, values)


def _value(text: str) -> Any:
    if "," in text:
        return tuple(_value(item) for item in text.split(","))
    if text.lower() == "none":
        return None
    try:
        return float(text)
    except ValueError:
        return text  # a word such as interpolation=linear; the schedule checks it
