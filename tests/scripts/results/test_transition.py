"""The simulation against cases with known answers, and its plan and resuming."""

import json
from dataclasses import replace

import pytest

from scripts.results import transition as script
from scripts.results.store import Store


@pytest.fixture(scope="module")
def point():
    return script.Point("exp", 0.3, 1.0, 12, "ode", rows=64, codebooks=6, steps=40, seed=0)


@pytest.mark.parametrize("solver", ["ode", "sde"])
def test_unguided_simulation_is_undistorted(point, solver):
    measured = script.simulate(replace(point, solver=solver))
    # 4 standard errors, plus the solver's own: starting from noise the mean is 2 sqrt(c) / sigma_max = 0.014 short
    assert abs(measured["overlap"] - 1) < 4 * measured["overlap_error"] + 0.014
    # 40 steps of the stochastic solver leave about 3 % of the variance
    assert abs(measured["ratio"] - 1) < 4 * measured["ratio_error"] + 0.03


def test_guided_simulation_overshoots_shrinks_and_is_reproducible(point):
    guided = replace(point, scale=3.0, d=16)
    first, again = script.simulate(guided), script.simulate(guided)
    assert first == again
    assert first["overlap"] - 1 > 4 * first["overlap_error"]
    predicted = script.predicted(guided)
    assert first["overlap"] == pytest.approx(predicted["overlap"], abs=0.06)  # d = 16 is within 5 % of the mean field
    assert script.simulate(replace(guided, seed=1)) != first


def test_counts_of_classes(point):
    assert point.count == round(2.718281828459045 ** (0.3 * 12))
    assert replace(point, classes="d").count == 12
    assert replace(point, classes="d2").count == 144


FAMILIES = [("exp", 0.3, 2.0, (12, 8)), ("d2", 0.0, 4.0, (8,))]
SIZES = {"rows": 16, "codebooks": 3, "steps": 16, "seed": 0}


def test_plan_is_every_point_once_and_the_cheap_ones_first():
    points = script.plan(FAMILIES, **SIZES)
    assert len(points) == len(set(points)) == 6
    assert [p.count for p in points] == sorted(p.count for p in points) == [11, 11, 37, 37, 64, 64]


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    calls = []
    fake = {"overlap": 1.1, "overlap_error": 0.01, "ratio": 0.8, "ratio_error": 0.02}
    monkeypatch.setattr(script, "simulate", lambda point: calls.append(point) or fake)
    monkeypatch.setattr(script, "predicted", lambda *_: {"overlap": 1.0, "ratio": 1.0})
    file = tmp_path / "F2.json"
    points = script.plan(FAMILIES, **SIZES)
    script.compute(Store(file), families=FAMILIES, **SIZES)
    assert calls == points
    records = json.loads(file.read_text())["records"]
    file.write_text(json.dumps({"records": records[:4]}))  # the first point and its predictions, and the second point
    calls.clear()
    rows = script.compute(Store(file), families=FAMILIES, **SIZES)
    assert calls == points[2:]
    assert [row["measured"] for row in rows] == [fake] * 6
    assert len(json.loads(file.read_text())["records"]) == len(records)


def test_numbers_with_errors():
    assert script.with_error(1.1328, 0.0031) == "1.133(3)"
    assert script.with_error(0.777, 0.0129) == "0.777(13)"
    assert script.with_error(1.04281, 0.00052) == "1.0428(5)"
