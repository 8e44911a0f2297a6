"""From feature files or images to a report: terminal table, ``results.json``, ``classes.csv``, PNG, one HTML page.

real, *fakes = open_sets("real.npz", ["cfg2.npz", "cfg4.npz"])
comparison = compare_sets(real, fakes)
write_report(Path("out"), comparison, command="...")
"""

from __future__ import annotations

from pathlib import Path

from kdist.files import write_atomically

from .comparison import Comparison, compare_sets
from .files import SCHEMA, classes_csv, results_json
from .page import make_figures, make_page
from .paired import PairedRatio, paired_ratio
from .sets import MeasuredSet, open_sets

__all__ = [
    "SCHEMA",
    "Comparison",
    "MeasuredSet",
    "PairedRatio",
    "compare_sets",
    "open_sets",
    "paired_ratio",
    "write_report",
]


def write_report(out: Path, comparison: Comparison, *, command: str) -> list[Path]:
    """Write every output, each file whole or not at all; the numbers first, the pictures after them.

    Args:
        out: the folder.
        comparison: what was measured.
        command: the command line that repeats it.

    Returns:
        The files written.

    Raises:
        OSError: no space, no permission.
    """
    texts = {"results.json": results_json(comparison, command), "classes.csv": classes_csv(comparison)}
    for name, text in texts.items():
        write_atomically(out / name, text)
    pictures = make_figures(comparison)
    for name, png in pictures.items():
        write_atomically(out / f"{name}.png", png)
    write_atomically(out / "report.html", make_page(comparison, pictures, command))
    return [out / name for name in (*texts, *(f"{name}.png" for name in pictures), "report.html")]
