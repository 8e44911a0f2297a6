"""At the accuracy of constant 2: the bound, the budget, and what counts as reached."""

from types import SimpleNamespace

import pytest

import kdist
from scripts.results import reach
from scripts.results.searches import network, problem
from scripts.results.store import Store

GIVEN = {"steps": 4, "look": 3, "networks": {"digits": {"samples": 50, "truth": 2, "repeats": [0]}}}


def test_the_bound_is_the_constants_accuracy_and_paid_from_the_budget(tmp_path, monkeypatch):
    seen = {}

    def tune(generate, **given):
        seen.update(given)
        return SimpleNamespace(schedule=kdist.Interval(2.0, 0.1, 1.0), calls=777)

    monkeypatch.setattr(kdist, "tune", tune)
    (row,) = reach.compute(Store(tmp_path / "F10.json"), **GIVEN)
    looked = problem(network("digits", 4), 3000).measure(kdist.Constant(2.0), {}, "search", reach.LOOK, 3)[0]
    assert seen["accuracy"] == row["bound"] == looked["accuracy"].mean()
    assert seen["calls"] == 2 * 4 * 10 * (50 - 3)
    assert seen["calls_per_sample"] == pytest.approx(0.7 * 2 * 4)
    assert row["calls"] == 777 + 2 * 4 * 10 * 3
    assert row["constant"]["calls"] == 8
    assert row["truth"]["calls"] < 8
    assert "| digits | 3000 | 50 |" in reach.table([row])


def test_a_bound_that_nothing_holds_is_a_result_and_other_errors_are_not(tmp_path, monkeypatch):
    def tune(generate, **given):
        raise ValueError(message)

    monkeypatch.setattr(kdist, "tune", tune)
    message = "accuracy at least 1 is not reached by anything that was tried"
    (row,) = reach.compute(Store(tmp_path / "F10.json"), **GIVEN)
    assert not any(reach.reached(row).values())
    assert "nothing held the bound" in reach.table([row])
    message = "calls=3 is too few to tell anything"
    with pytest.raises(ValueError, match="too few"):
        reach.compute(Store(tmp_path / "other.json"), **GIVEN)


@pytest.mark.parametrize(
    ("distance", "calls", "accuracy", "missed"),
    [
        (0.01, 28, 0.97, []),
        (0.0101, 28, 0.97, ["distance"]),
        (0.01, 29, 0.97, ["calls"]),
        (0.01, 28, 0.957, []),  # 1.96 * hypot(0.01, 0.01) = 0.0277 below 0.984
        (0.01, 28, 0.956, ["accuracy"]),
    ],
)
def test_what_is_reached(distance, calls, accuracy, missed):
    ours = {"distance": [distance, 0.002], "calls": calls, "accuracy": [accuracy, 0.01]}
    row = {"truth": ours, "constant": {"distance": [0.05, 0.003], "calls": 40, "accuracy": [0.984, 0.01]}}
    assert [name for name, held in reach.reached(row).items() if not held] == missed


def test_methods_of_the_figure_are_held_against_the_constant_too():
    def row(method, distance, accuracy, calls):
        seen = {"distance": [distance, 0.001], "accuracy": [accuracy, 0.001], "calls": calls}
        return {"subject": "digits", "method": method, "scale": 2.0, **seen}

    rows = [row("constant", 0.05, 0.98, 40), row("tune", 0.01, 0.98, 20), row("tune", 0.02, 0.99, 20)]
    rows += [{"subject": "digits", "method": "random", "nothing": "..."}]
    lines = reach.of_methods(rows, {"tune": "ours", "random": "chance", "grid": "grid"}).splitlines()
    assert lines[2:] == ["| digits | ours | 0.30 | 0.50 | +0.005 | 1 of 2 |", "| digits | chance |  |  |  | 0 of 1 |"]
