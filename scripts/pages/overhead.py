"""The tables of docs/guidance_overhead.md, from the records that scripts/benchmarks/overhead.py wrote to docs/data.

python -m scripts.benchmarks.overhead --rounds 15 --json docs/data/overhead.json
python -m scripts.benchmarks.overhead --batch 1 --rounds 101 --json docs/data/overhead_one.json
python -m scripts.pages.overhead
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from kdist.files import write_atomically
from scripts.style import markdown

__all__ = ["PAGE", "filled", "table"]

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "guidance_overhead.md"
_MARKED = re.compile(r"(<!-- (overhead\w*)\.json -->\n).*?(<!-- /\2\.json -->)", re.DOTALL)


def table(record: dict[str, Any]) -> str:
    """The command and its settings in a sentence, and a row for each way to sample."""
    settings = record["settings"]
    words = (
        f"`python -m scripts.benchmarks.overhead --batch {settings['batch']} --rounds {settings['rounds']}`:\n"
        f"{settings['solver']}, {settings['steps']} steps, torch {settings['torch']}, {settings['threads']} thread, "
        f"{settings['clock']} time; median (quartiles)."
    )
    rows = [
        [
            row["schedule"],
            row["code"],
            f"{row['calls']:g}",
            f"{1e3 * row['seconds']:.0f}",
            _ratio(row.get("over_by_hand")),
            _ratio(row.get("over_calls") if row["schedule"] != "constant" else None),  # 1 by definition
        ]
        for row in record["rows"]
    ]
    head = ["schedule", "code", "calls per sample", "ms per run", "time / by hand", "time / calls' share of constant"]
    return f"{words}\n\n{markdown(head, rows)}"


def _ratio(values: list[float] | None) -> str:
    """Median and quartiles."""
    return "" if values is None else "{:.3f} ({:.3f} to {:.3f})".format(*values)


def filled(page: str) -> str:
    """The page with the table of each record between the marks that name it."""

    def fill(match: re.Match[str]) -> str:
        record = json.loads((DOCS / "data" / f"{match[2]}.json").read_text())
        return f"{match[1]}\n{table(record)}\n\n{match[3]}"

    return _MARKED.sub(fill, page)


if __name__ == "__main__":
    write_atomically(PAGE, filled(PAGE.read_text()))
