"""Prose of a Markdown page in lines of at most 120 characters; tables, code, formulas, pictures and headings stay.

python -m scripts.pages.prose docs/tutorial.md README.md     # writes them back, wrapped
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from kdist.files import write_atomically

__all__ = ["WIDTH", "filled", "long_lines"]

WIDTH = 120
_FENCE = re.compile(r" *(```|~~~)")
_MARKER = re.compile(r" *(?:[-*+]|\d{1,2}\.|:) +|> ")  # of a list's item, a definition, a quotation
# headings, tables, HTML, directives, pictures on their own, targets of links, rules
_KEPT = re.compile(r" *(?:#|\||<|:::|!!!|\?\?\?|!\[[^\]]*\]\([^)]*\)$|\[[^\]]+\]: |(?:-{3,}|\*{3,}|>)$)")
_UNSAFE = r"(?:[-*+>|#=:]+|\d+[.)])(?: |$)"  # would be read as a marker at the beginning of a line


def filled(page: str) -> str:
    """The page with each paragraph, item of a list or definition filled anew that has a line too long."""
    lines = []
    for block, is_prose in _blocks(page.split("\n")):
        lines += _wrap(block) if is_prose and max(map(len, block)) > WIDTH else block
    return "\n".join(lines)


def long_lines(page: str) -> list[str]:
    """Lines of prose that are too long and can be broken."""
    prose = [block for block, is_prose in _blocks(page.split("\n")) if is_prose]
    return [line for block in prose for line in block if len(line) > WIDTH and len(_wrap([line])) > 1]


def _blocks(lines: list[str]) -> Iterator[tuple[list[str], bool]]:
    """The lines in groups, and whether a group is prose."""
    prose: list[str] = []
    end, in_list = (
        None,
        False,
    )  # what ends the block of code or formulas that we are in; whether indented lines are text
    for line in lines:
        fence = _FENCE.match(line)
        if end is not None:
            yield [line], False
            end = None if line.rstrip().endswith(end) else end
            continue
        opens = fence[1] if fence else "$$" if line.startswith("$$") else None
        code = not prose and line.startswith("    ") and not in_list
        if opens or code or not line.strip() or _KEPT.match(line) or line.endswith(("  ", "\\")):
            if prose:
                yield prose, True
            prose = []
            yield [line], False
            closed = opens == "$$" and line.rstrip().endswith("$$") and len(line.rstrip()) > 2
            end = None if closed else opens
            in_list = in_list if not line.strip() or line.startswith(" ") else False
            continue
        if _MARKER.match(line) and prose and not (line.startswith("> ") and prose[0].startswith("> ")):
            yield prose, True
            prose = []
        if not prose:
            in_list = bool(_MARKER.match(line)) or (in_list and line.startswith(" "))
        prose.append(line)
    if prose:
        yield prose, True


def _wrap(block: list[str]) -> list[str]:
    """One paragraph or item, filled."""
    marker = _MARKER.match(block[0])
    indent = re.match(" *", block[0])[0]  # type: ignore[index]
    first = marker[0] if marker else indent
    rest = first if first == "> " else " " * len(first)
    words = " ".join(line.removeprefix(first if first == "> " else "").strip() for line in block).split()
    words = words if not marker or first == "> " else " ".join(words)[len(first.strip()) :].split()
    text = re.sub(r"`[^`]{1,60}`", lambda code: code[0].replace(" ", "\0"), " ".join(words))  # code stays together
    text = re.sub(rf" (?={_UNSAFE})", "\0", text)
    text = textwrap.fill(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return text.replace("\0", " ").split("\n")


def main(pages: Annotated[list[Path], typer.Argument(help="Markdown files")]) -> None:
    """Wrap pages."""
    for path in pages:
        write_atomically(path, filled(path.read_text()))


if __name__ == "__main__":
    typer.run(main)
