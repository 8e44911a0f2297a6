"""The gallery: the page is what the script makes of the record, and the record is of these ten schedules."""

import json

import pytest

from kdist import digits
from scripts.pages.gallery import CARDS, DOCS, RECORD, page


@pytest.fixture(scope="module")
def record():
    return json.loads(RECORD.read_text())


def test_the_page_is_what_the_script_writes(record):
    assert (DOCS / "gallery.md").read_text() == page(record)


def test_ten_schedules_each_with_a_picture(record):
    assert len(CARDS) == 10
    assert set(record) == {"unguided", *(card.name for card in CARDS)}
    for card in CARDS:
        assert type(card.schedule).__name__ == card.name
        assert (DOCS / card.picture).is_file()
        assert card.schedule(1.0) >= 1 or "Negative" in card.name  # at the middle only negative windows are below 1


def test_calls_are_those_that_the_schedules_need(record):
    """What the run counted is what the schedule foretells: a card whose code changed must be measured again."""
    for card in CARDS:
        assert record[card.name]["calls"] == card.schedule.nfe(digits.sigmas(20), "dpmpp_2m")
