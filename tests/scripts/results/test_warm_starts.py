"""Which first looks help: what each kind takes away or adds, and the table of differences."""

from functools import partial
from types import SimpleNamespace

import pytest

import kdist
from kdist.tuning.space import Space
from scripts.results import warm_starts
from scripts.results.searches import network

SETTINGS = {"steps": 6, "samples": 100, "accuracy": 0.9, "calls_per_sample": 9}


@pytest.fixture
def seen(monkeypatch):
    """What a search is begun with; the search itself is not run."""
    found = {}

    def tune(generate, **given):
        starts = Space([float(s) for s in generate.sigmas if s > 0]).warm_starts(given["warm_starts"])
        found.update(given, families=[start["family"] for start in starts], starts=starts)
        return SimpleNamespace(schedule=kdist.Constant(1.5))

    monkeypatch.setattr(kdist, "tune", tune)
    return found


@pytest.mark.parametrize(
    ("arm", "holds", "lacks"),
    [
        ("all", {"constant", "interval", "ramp", "early-negative", "late-negative"}, set()),
        ("without constants", {"interval", "ramp"}, {"constant"}),
        ("without intervals", {"constant", "ramp"}, {"interval"}),
        ("without negative ones and the ramp", {"constant", "interval"}, {"ramp", "early-negative", "late-negative"}),
        ("constants only", {"constant"}, {"interval", "ramp", "early-negative", "late-negative"}),
    ],
)
def test_kinds_are_taken_away(seen, arm, holds, lacks):
    warm_starts.search(partial(network, "digits", 6), arm, 3, **SETTINGS)
    assert holds <= set(seen["families"])
    assert not lacks & set(seen["families"])
    assert seen["calls"] == 2 * 6 * 10 * 100
    assert seen["seed"] == 2003


def test_a_search_begins_somewhere(seen):
    warm_starts.search(partial(network, "digits", 6), "no guidance only", 0, **SETTINGS)
    assert seen["starts"] == [warm_starts.ONE]


def test_what_a_response_costs_is_taken_from_the_search(seen, monkeypatch):
    monkeypatch.setattr(warm_starts, "PROBES", 4)
    found = warm_starts.search(partial(network, "digits", 6), "all, and Response", 0, **SETTINGS)
    rows = 10 * warm_starts.PER_CLASS * 6
    # the run at scale 1 looks at the other prediction too, and every probe at both
    assert found["spent before"] <= rows * 2 * (warm_starts.PROBES + 1)
    assert seen["calls"] == 2 * 6 * 10 * 100 - found["spent before"] < 12_000
    assert len(found["added"]) == warm_starts.TAKEN
    sigmas = network("digits", 6).generate.sigmas
    assert all(kdist.parse(text).nfe(sigmas) <= 9 for text in found["added"])
    assert seen["families"][-warm_starts.TAKEN :] == ["piecewise"] * warm_starts.TAKEN


def test_differences_are_taken_seed_by_seed():
    def row(arm, seed, distance, accuracy):
        return {"arm": arm, "seed": seed, "bound": 0.9, "distance": [distance, 0.1], "accuracy": [accuracy, 0.01]}

    rows = [row("all", 0, 0.01, 0.95), row("all", 1, 0.03, 0.95)]
    rows += [row("constants only", 0, 0.02, 0.89), row("constants only", 1, 0.06, 0.95)]
    lines = warm_starts.table(rows).splitlines()
    assert lines[2] == "| all | 2 | 0.020 | 0.030 |  | 0.950 | 0 |"
    # 0.01 and 0.03 more: their mean, and half of their difference
    assert lines[3] == "| constants only | 2 | 0.040 | 0.060 | +0.020 ± 0.010 | 0.920 | 1 |"
    # one search has no error
    lines = warm_starts.table([rows[0], rows[2]]).splitlines()
    assert lines[3] == "| constants only | 1 | 0.020 | 0.020 | +0.010 | 0.890 | 1 |"
