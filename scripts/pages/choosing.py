"""docs/choosing.md: the words of choosing.md.j2, the numbers of F4, F5 and F9.

python -m scripts.pages.choosing
"""

from __future__ import annotations

from pathlib import Path

import jinja2
import typer
from rich.console import Console

from kdist.files import write_atomically
from scripts import reproduce
from scripts.pages.prose import filled
from scripts.results.figures import FIGURES

__all__ = ["page"]

DOCS = Path(__file__).parents[2] / "docs"


def page() -> str:
    """The page, from the records in docs/data alone."""
    texts = {
        name: reproduce.make(name, FIGURES[name], DOCS, quick=False, measure=False, console=Console())
        for name in ("F4", "F5", "F9")
    }
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    return filled(environment.from_string((Path(__file__).parent / "choosing.md.j2").read_text()).render(**texts))


def main() -> None:
    """Make the page."""
    write_atomically(DOCS / "choosing.md", page())


if __name__ == "__main__":
    typer.run(main)
