"""From feature files or images to a report: terminal table, ``results.json``, ``classes.csv``, PNG, one HTML page.

real, *fakes = open_sets("real.npz", ["cfg2.npz", "cfg4.npz"])
comparison = compare_sets(real, fakes)
write_report(Path("out"), comparison, command="...")
"""

from __future__ import annotations

from pathlib import Path

from kdist.files import write_with_pictures

from .comparison import Comparison, compare_sets
from .files import SCHEMA, classes_csv, results_json
from .page import OUTPUTS, make_figures, make_page
from .paired import PairedRatio, paired_distance, paired_ratio
from .reference import ReferenceComparison, compare_to_reference
from .reference_output import REFERENCE_SCHEMA, write_reference_report
from .sets import MeasuredSet, open_sets

__all__ = [
    "REFERENCE_SCHEMA",
    "SCHEMA",
    "Comparison",
    "MeasuredSet",
    "PairedRatio",
    "ReferenceComparison",
    "compare_sets",
    "compare_to_reference",
    "open_sets",
    "paired_distance",
    "paired_ratio",
    "write_reference_report",
    "write_report",
]


def write_report(out: Path, comparison: Comparison, *, command: str) -> list[Path]:
    """Write every output, all of them together: files of a former run in the folder stay, or all are gone.

    Should a picture or the page fail, the numbers are written without them.

    Args:
        out: the folder.
        comparison: what was measured.
        command: the command line that repeats it.

    Returns:
        The files written.

    Raises:
        OSError: no space, no permission.
    """
    numbers = {"results.json": results_json(comparison, command), "classes.csv": classes_csv(comparison)}
    return write_with_pictures(
        out,
        numbers,
        former=OUTPUTS,
        draw=lambda: make_figures(comparison),
        page=lambda pictures: make_page(comparison, pictures, command),
    )
