"""Numbers on hand-written pages are those of the records: rows of tables that docs/results.md has too."""

from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("page", "heading"),
    [("choosing.md", "| guidance | distance |"), ("predicted_vs_measured.md", "| predictor | log trace ratio: r |")],
)
def test_shared_tables_are_those_of_the_results(page, heading):
    """docs/results.md follows from docs/data (tests/scripts/test_reproduce.py), so its rows are the records."""
    results = (DOCS / "results.md").read_text().splitlines()
    (table,) = [block for block in (DOCS / page).read_text().split("\n\n") if block.startswith(heading)]
    rows = table.splitlines()
    assert len(rows) > 5
    assert [row for row in rows if row not in results] == []
