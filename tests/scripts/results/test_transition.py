"""The simulation against cases with known answers, and its plan and resuming."""

import json
import math
from dataclasses import asdict, replace

import pytest
import torch

from kdist.theory import mean_field, solver_noise
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


def test_the_two_runs_are_the_ode_and_the_reverse_sde():
    assert [lam for _, lam in script.SOLVERS.values()] == [0, 1]
    assert [solver_noise(name) for name, _ in script.SOLVERS.values()] == [0, 1]


def test_known_samples_are_measured_rightly(point, monkeypatch):
    """Twice the centre along it, variance 0.8 c about it: overlap, ratio and their errors are read off."""
    made = []

    def known(solver, guided, x, levels, extra_args, **options):
        own = guided.inner_model.means[extra_args["class_cond"]]
        overlap = 1.9 + 0.1 * len(made)
        made.append(overlap)
        return overlap * own + (0.8 * script.WITHIN_VAR) ** 0.5 * torch.randn(own.shape, generator=noise)

    noise = torch.Generator().manual_seed(0)
    monkeypatch.setattr(script, "sample", known)
    found = script.simulate(replace(point, rows=4000, codebooks=3))
    # noise along the centre: sqrt(0.08 / 12 / 4000)
    assert found["overlap"] == pytest.approx(2.0, abs=0.01)
    assert found["overlap_error"] == pytest.approx(0.1 / 3**0.5, abs=0.01)
    # about the common overlap of 2: 0.8, and two of the codebooks are 0.1 off, each |own|**2 / d = 1 on average
    own = [0.8 + (overlap - 2) ** 2 * 1.0 / script.WITHIN_VAR for overlap in made]
    assert found["ratio"] == pytest.approx(sum(own) / 3, rel=0.1)


def test_predicted_is_a_run_from_noise_at_the_points_own_alpha_scale_and_noise(point):
    strong = replace(point, scale=3.0, solver="sde")
    path = mean_field(
        math.log(strong.count) / 12, 3.0, within_var=0.1, sigma_max=2000**0.5, noise=1.0, start_overlap=0.0
    )
    assert script.predicted(strong) == {"overlap": float(path.overlap[-1]), "ratio": float(path.variance_ratio[-1])}
    early = mean_field(math.log(point.count) / 12, 1.0, within_var=0.1, sigma_max=2000**0.5, start_overlap=0.0)
    assert script.predicted(point)["overlap"] == float(early.overlap[-1]) < 0.999  # short of the class by 1 / sigma_max


def test_points_that_differ_in_scale_have_predictions_of_their_own(tmp_path, monkeypatch):
    known = {"overlap": 1.0, "overlap_error": 0.1, "ratio": 1.0, "ratio_error": 0.1}
    monkeypatch.setattr(script, "simulate", lambda point: known)
    # in the place of a prediction, what was asked to be predicted
    monkeypatch.setattr(script, "predicted", lambda point, dimension=None: {**asdict(point), "dimension": dimension})
    families = [("exp", 0.3, scale, (8,)) for scale in (1.5, 4.0)]
    rows = script.compute(Store(tmp_path / "F2.json"), families=families, rows=4, codebooks=2, steps=4, seed=0)
    assert len(rows) == 4
    for row in rows:
        assert row["mean_field"] == {**asdict(row["point"]), "dimension": None}
        assert row["at_d"] == {**asdict(row["point"]), "dimension": 8}
