"""How figures and tables look: colours that any colour vision tells apart, Markdown, numbers with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdist.files import png
from kdist.plotting import PALETTE

__all__ = ["COLOURS", "MARKERS", "bars", "interval", "markdown", "number", "save"]

COLOURS = PALETTE
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float, digits: int = 2, *, sign: bool = False) -> str:
    """So many decimals, and no minus before a zero."""
    return format(round(value, digits) + 0.0, f"{'+' if sign else ''}.{digits}f")


def interval(value: Sequence[float], digits: int = 2, *, sign: bool = False) -> str:
    """``[value, low, high]`` as ``0.94 [0.90, 0.98]``."""
    middle, low, high = (number(v, digits, sign=sign) for v in value)
    return f"{middle} [{low}, {high}]"


def bars(rows: Sequence[Mapping[str, Any]], quantity: str) -> list[list[float]]:
    """Lengths below and above of the error bars of ``[value, low, high]``, as matplotlib takes them."""
    values = [row[quantity] for row in rows]
    return [[v[0] - v[1] for v in values], [v[2] - v[0] for v in values]]


def save(figure: Any, path: Path, *, dpi: int = 110) -> None:
    """The picture as a PNG file; the figure is closed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(figure, dpi=dpi))
