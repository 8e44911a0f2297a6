"""Numbers on pages are those of the records in docs/data: a page that is made of them, or rows that results.md has too.

docs/results.md itself follows from docs/data (tests/scripts/test_reproduce.py), the gallery from its record
(tests/scripts/test_gallery.py).
"""

from pathlib import Path

import pytest

from scripts.pages import choosing, overhead

DOCS = Path(__file__).parents[2] / "docs"


def test_choosing_is_made_of_the_records():
    assert (DOCS / "choosing.md").read_text() == choosing.page()


def test_what_choosing_says_of_fashion_in_words():
    rows = choosing.rows(measure=False)
    interval, constant, strong, early, none = (
        next(row for name, row in rows.items() if name.startswith(start))
        for start in ("interval", "constant 1.25", "constant 2", "early negative", "no guidance")
    )
    assert interval["accuracy"] > constant["accuracy"]
    assert interval["distance"][0] <= constant["distance"][0]
    assert early["accuracy"] > max(strong["accuracy"], interval["accuracy"])
    assert interval["distance"][0] < early["distance"][0] < strong["distance"][0]
    assert early["calls"] < strong["calls"]
    for cost in ("distance", "displacement"):  # "rise with the scale"
        values = [row[cost][0] if cost == "distance" else row[cost] for row in (none, constant, strong)]
        assert values == sorted(values)


@pytest.mark.parametrize(
    ("page", "heading"),
    [("predicted_vs_measured.md", "| predictor | log trace ratio: r |")],
)
def test_shared_tables_are_those_of_the_results(page, heading):
    results = (DOCS / "results.md").read_text().splitlines()
    (table,) = [block for block in (DOCS / page).read_text().split("\n\n") if block.startswith(heading)]
    rows = table.splitlines()
    assert len(rows) > 5
    assert [row for row in rows if row not in results] == []


def test_overhead_has_the_tables_of_its_records():
    page = overhead.PAGE.read_text()
    assert overhead.filled(page) == page
    assert page.count("| time / by hand |") == 2
