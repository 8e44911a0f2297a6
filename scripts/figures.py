"""The figures and tables of docs/results.md, with their parameters: what ``scripts/reproduce.py`` makes.

``full`` is what the documentation shows; ``quick`` exercises the same code in seconds and proves nothing. Both are
keyword arguments of the module's ``compute``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["FIGURES", "Figure"]


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        title: what it shows.
        module: of ``scripts/results`` that computes, draws and describes it.
        minutes: what the full run takes on one CPU core, roughly.
        full, quick: parameters.
    """

    title: str
    module: str
    minutes: float
    full: dict[str, Any] = field(default_factory=dict)
    quick: dict[str, Any] = field(default_factory=dict)


FIGURES: dict[str, Figure] = {}
