"""Numbers on pages are those of the records in docs/data: a page that is made of them, or rows that results.md has too.

docs/results.md itself follows from docs/data (tests/scripts/test_reproduce.py), the gallery from its record
(tests/scripts/test_gallery.py).
"""

from pathlib import Path

import pytest

from scripts.pages import choosing, overhead
from scripts.results import networks
from scripts.results.figures import FIGURES
from scripts.results.store import Store

DOCS = Path(__file__).parents[2] / "docs"


def test_choosing_is_made_of_the_records():
    assert (DOCS / "choosing.md").read_text() == choosing.page()


def test_what_the_pages_say_in_words_of_f9():
    """The sentences around the numbers of results.md and choosing.md: orders, overlaps and what was not reached."""
    figure = FIGURES["F9"]
    rows = networks.compute(Store(DOCS / "data" / "F9.json", frozen=True), **figure.full)
    real = [row for row in rows if row["kind"] == "reported" and row["target"] == "real"]
    fashion, digits = (
        {row["family"]: row for row in real if row["network"] == network} for network in ("fashion", "digits")
    )

    def by_distance(own):
        reached = [row for row in own.values() if row["setting"]]
        return [row["family"] for row in sorted(reached, key=lambda row: row["energy_distance"][0])]

    assert by_distance(fashion)[:3] == ["interval", "dynamic CFG", "CADS"]
    for own in (fashion, digits):
        assert set(by_distance(own)[-2:]) == {"late negative", "linear in variance"}
    assert fashion["opposite, then guided"]["setting"] is None
    assert fashion["weak model"]["energy_distance"][0] > fashion["constant"]["energy_distance"][0]
    assert fashion["early negative"]["energy_distance"][0] < fashion["constant"]["energy_distance"][0]
    assert "sigma_switch=10" in fashion["early negative"]["setting"]
    assert digits["weak model"]["setting"] is None
    nearest = by_distance(digits)[:-2]
    assert len(nearest) == 7
    assert max(digits[name]["energy_distance"][1] for name in nearest) < min(
        digits[name]["energy_distance"][2] for name in nearest
    )


@pytest.mark.parametrize(
    ("page", "heading"),
    [
        ("predicted_vs_measured.md", "| predictor | log trace ratio: r |"),
        ("tuning.md", "| network | method | repeats |"),
        ("tuning.md", "| network | method | distance: part"),
        ("tuning.md", "| network | seed |"),
    ],
)
def test_shared_tables_are_those_of_the_results(page, heading):
    results = (DOCS / "results.md").read_text().splitlines()
    (table,) = [block for block in (DOCS / page).read_text().split("\n\n") if block.startswith(heading)]
    rows = table.splitlines()
    assert len(rows) > 2
    assert [row for row in rows if row not in results] == []


def test_overhead_has_the_tables_of_its_records():
    page = overhead.PAGE.read_text()
    assert overhead.filled(page) == page
    assert page.count("| time / by hand |") == 2
