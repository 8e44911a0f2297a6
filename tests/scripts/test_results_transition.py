"""The simulation against cases with known answers, and the script's resuming, figures and refusals."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

PATH = Path(__file__).parents[2] / "scripts" / "phase_transition.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("phase_transition", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def point(script):
    return script.Point("exp", 0.3, 1.0, 12, "ode", rows=64, codebooks=6, steps=40, seed=0)


@pytest.mark.parametrize("solver", ["ode", "sde"])
def test_unguided_simulation_is_undistorted(script, point, solver):
    measured = script.simulate(replace(point, solver=solver))
    # 4 standard errors, plus the solver's own: starting from noise the mean is 2 sqrt(c) / sigma_max = 0.014 short
    assert abs(measured["overlap"] - 1) < 4 * measured["overlap_error"] + 0.014
    # 40 steps of the stochastic solver leave about 3 % of the variance
    assert abs(measured["ratio"] - 1) < 4 * measured["ratio_error"] + 0.03


def test_guided_simulation_overshoots_shrinks_and_is_reproducible(script, point):
    guided = replace(point, scale=3.0, d=16)
    first, again = script.simulate(guided), script.simulate(guided)
    assert first == again
    assert first["overlap"] - 1 > 4 * first["overlap_error"]
    predicted = script.predicted(guided)
    assert first["overlap"] == pytest.approx(predicted["overlap"], abs=0.06)  # d = 16 is within 5 % of the mean field
    assert script.simulate(replace(guided, seed=1)) != first


def test_counts_of_classes(script, point):
    assert point.count == round(2.718281828459045 ** (0.3 * 12))
    assert replace(point, classes="d").count == 12
    assert replace(point, classes="d2").count == 144


def test_plan_leaves_out_what_is_too_large(script):
    points = script.plan(False, 10**9, 0)
    assert len(points) == len({p.key for p in points})
    assert {p.count <= 300 for p in script.plan(False, 300, 0)} == {True}
    assert [p.count for p in points] == sorted(p.count for p in points)


def test_run_resumes_and_draws(script, tmp_path, monkeypatch):
    app = typer.Typer()
    app.command()(script.main)
    small = [p for p in script.plan(True, 30, 0) if p.classes == "exp"]
    monkeypatch.setattr(script, "plan", lambda *_: small)
    calls = []
    fake = {"overlap": 1.1, "overlap_error": 0.01, "ratio": 0.8, "ratio_error": 0.02}
    monkeypatch.setattr(script, "simulate", lambda p, device: calls.append(p) or fake)
    monkeypatch.setattr(script, "draw_diagram", lambda file, cells: file.touch())  # seconds; drawn in full by a user
    arguments = ["--quick", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert calls == small
    file = tmp_path / "data" / "phase_transition.json"
    stored = json.loads(file.read_text())
    assert len(stored["points"]) == len(small)
    assert stored["points"][0]["point"]["seed"] == 0
    assert {"torch", "k-diffusion"} <= set(stored["versions"])
    assert (tmp_path / "figures" / "phase_transition.png").stat().st_size > 10_000
    assert (tmp_path / "figures" / "phase_transition_potential.png").stat().st_size > 10_000
    # interrupted after one point: only the rest runs again
    file.write_text(json.dumps({**stored, "points": stored["points"][:1]}))
    calls.clear()
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert calls == small[1:]


def test_refusals(script, tmp_path):
    app = typer.Typer()
    app.command()(script.main)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "phase_transition.json").write_text("[]")
    broken = CliRunner().invoke(app, ["--quick", "--out", str(tmp_path)])
    assert broken.exit_code == 2
    assert "not a result of this script" in " ".join(broken.output.replace("│", " ").split())
    none = CliRunner().invoke(app, ["--out", str(tmp_path / "x"), "--max-classes", "2"])
    assert none.exit_code == 2
    assert CliRunner().invoke(app, ["--seed", "-1"]).exit_code == 2
