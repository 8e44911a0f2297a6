"""Run the code blocks of a Markdown page as its reader would, and put the output that they give beneath them.

    python -m scripts.pages.tutorial                      # shows where output differs from docs/tutorial.md
    python -m scripts.pages.tutorial --write              # writes the real output and pictures into docs

``python`` blocks share one namespace, ``bash`` blocks run in a shell with this Python's ``bin`` first on PATH (those of
``kdist`` commands alone inside this process), all in one empty folder, in order. A ``text`` block is the output of the
block before it; a line ``...`` in it leaves lines out (write such a block by hand again after ``--write``).
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from scripts.pages.blocks import commands
from scripts.pages.command_line import kdist

__all__ = ["Block", "differences", "links", "parse", "run"]

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
# One in the last of two digits. Kernels for other processors round differently, and hardly any of it shows: with SSE
# instead of AVX-512 (ATEN_CPU_CAPABILITY=default, ONEDNN_MAX_CPU_ISA=SSE41) every digit of the tutorial is the same.
TOLERANCE = 0.011
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# a number with a decimal point may round differently; whole numbers are counts, and exact
_TOKEN = re.compile(r"[-+]?\d+\.\d+|\w+|[^\w\s─━]")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and text, the output shown for it (None: none shown) and where that stands."""

    language: str
    text: str
    shown: str | None = None
    span: tuple[int, int] = (0, 0)


def parse(page: str) -> list[Block]:
    """The blocks that run, in order.

    Raises:
        ValueError: a block in another language than python, bash or text, or output without a block.
    """
    blocks: list[Block] = []
    for match in _FENCE.finditer(page):
        language, text = match.groups()
        if language in ("python", "bash"):
            blocks.append(Block(language, text))
        elif language == "text" and blocks and blocks[-1].shown is None:
            blocks[-1] = Block(blocks[-1].language, blocks[-1].text, text, match.span(2))
        else:
            raise ValueError(f"only python, bash, and text after one of them, can be run; got {match.group(0)!r}")
    return blocks


def run(blocks: list[Block], folder: Path) -> list[str]:
    """What each block prints, run in ``folder``. The first error ends it."""
    here = Path.cwd()
    namespace: dict[str, Any] = {"__name__": "__main__"}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # width as where no terminal is; features of the reader's images go to the reader's cache, these to the folder
    environment = {**os.environ, "PATH": path, "COLUMNS": "80", "KDIST_CACHE": str(folder / ".cache")}
    outputs = []
    os.chdir(folder)
    try:
        for block in blocks:
            if block.language == "bash":
                outputs.append("".join(_shell(block.text, environment)))
                continue
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(block.text, "<tutorial>", "exec"), namespace)
            outputs.append(printed.getvalue())
    finally:
        os.chdir(here)
    return outputs


def _shell(text: str, environment: dict[str, str]) -> Iterator[str]:
    """What these commands print, up to the first that fails."""
    words = commands(text)
    inside = {each[0] for each in words} == {"kdist"}
    for each in words if inside else [["bash", "-euc", text]]:
        if inside:
            done = kdist(*each[1:], **environment)
        else:
            done = subprocess.run(each, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"exit code {done.returncode} of\n{text}\n{done.stderr}")
        yield done.stdout


def links(page: str) -> list[str]:
    """The page's links to other files, relative to its folder."""
    return [link for link in re.findall(r"\]\(([^)]+)\)", page) if "://" not in link]


def differences(shown: str, output: str) -> list[str]:
    """Where the output shown is not what was printed: every word and whole number must be the same, numbers with a
    decimal point within :data:`TOLERANCE`. Spaces, line breaks and rules of tables do not matter."""
    printed, at, found = _TOKEN.findall(output), 0, []
    parts = re.split(r"^\.\.\.$", shown, flags=re.MULTILINE)
    for number, part in enumerate(parts):
        tokens = _TOKEN.findall(part)
        # the first part is at the beginning and the last at the end, wherever no line "..." stands
        earliest, latest = at, len(printed) - len(tokens)
        if number == 0:
            latest = min(latest, 0)
        if number == len(parts) - 1 and (tokens or number == 0):
            earliest = max(earliest, len(printed) - len(tokens))
        places = range(earliest, latest + 1)
        place = next((i for i in places if all(map(_same, tokens, printed[i:]))), None)
        if place is None:
            found.append(part.strip() or "nothing")
        else:
            at = place + len(tokens)
    return found


def _same(shown: str, printed: str) -> bool:
    """Equal, or both numbers with a decimal point (a lone point is punctuation) and close."""
    if shown == printed or "." in (shown, printed) or not ("." in shown and "." in printed):
        return shown == printed
    return abs(float(shown) - float(printed)) <= TOLERANCE


def main(
    page: Annotated[Path, typer.Argument(help="the Markdown page")] = TUTORIAL,
    write: Annotated[bool, typer.Option("--write", help="put output and pictures into the page's folder")] = False,
) -> None:
    """Run the page; exit code 1 if it shows other output than the blocks give."""
    import matplotlib

    matplotlib.use("Agg")
    text = page.read_text()
    blocks = parse(text)
    with tempfile.TemporaryDirectory() as folder:
        outputs = run(blocks, Path(folder))
        if write:
            for link in links(text):
                if link.endswith(".png") and (made := Path(folder) / Path(link).name).is_file():
                    shutil.copy(made, page.parent / link)
    wrong = 0
    for block, output in reversed(list(zip(blocks, outputs, strict=True))):
        if block.shown is None or not (found := differences(block.shown, output)):
            continue
        clean = "".join(line.rstrip() + "\n" for line in output.strip("\n").splitlines())
        typer.echo("\n".join([f"--- shown for\n{block.text}", *found, "--- printed", clean]))
        wrong += 1
        if write:
            text = text[: block.span[0]] + clean + text[block.span[1] :]
    if write:
        page.write_text(text)
    raise typer.Exit(1 if wrong and not write else 0)


if __name__ == "__main__":
    typer.run(main)
