"""The overhead benchmark: what it compares is the same computation, its arithmetic is right, and it runs."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from kdist.solvers import sample

SCRIPT = Path(__file__).parents[3] / "scripts" / "benchmarks" / "overhead.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_overhead", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    monkeypatch.undo()


def test_both_sides_compute_the_same_with_the_same_calls(bench):
    rows = []

    def model(x, sigma, class_cond):
        rows.append(len(x))
        return torch.tanh(x + class_cond.view(-1, 1, 1, 1))

    sigmas = torch.tensor([10.0, 3.5, 2.0, 0.8, 0.2, 0.0])
    results = {}
    for variant in bench.variants(model, sigmas, "heun")[1:]:
        rows.clear()
        x = torch.ones(3, 1, 2, 2) * 10
        results[variant.schedule, variant.code] = sample(
            "heun", variant.denoiser, x, sigmas, extra_args={"class_cond": torch.arange(3)}
        )
        assert sum(rows) == 3 * variant.calls, variant
    for schedule in bench.SCHEDULES:
        torch.testing.assert_close(results[schedule, "kdist"], results[schedule, "by hand"])


def test_ratios_are_taken_within_rounds(bench):
    """A machine that is ten times slower in one round changes nothing."""
    assert bench.ratio([1.0, 10.2, 1.01], [1.0, 10.0, 1.0]) == pytest.approx((1.01, 1.005, 1.015))
    assert bench.ratio([2.0], [1.0]) == (2.0, 2.0, 2.0)


def test_summary(bench):
    made = bench.variants(lambda x, sigma, class_cond: x, torch.tensor([10.0, 2.0, 0.1, 0.0]), "euler")
    per_call = 0.5
    seconds = [[per_call * v.calls * slow * (1.1 if v.code == "kdist" else 1) for slow in (1, 7, 2)] for v in made]
    for row in bench.summarise(made, seconds):
        if row["code"] == "kdist":
            assert row["over_by_hand"] == pytest.approx((1.1, 1.1, 1.1))
            assert row["over_calls"] == pytest.approx((1, 1, 1))
    calls = {row["schedule"]: row["calls"] for row in bench.summarise(made, seconds)}
    assert calls == {"none": 3, "constant": 6, "interval": 4, "negative window": 5, "negative at the end": 5}


@pytest.mark.parametrize("bare", [[], ["--bare"]])
def test_it_runs(bench, tmp_path, bare):
    app = typer.Typer()
    app.command()(bench.main)
    path = tmp_path / "overhead.json"
    options = ["--batch", "2", "--steps", "2", "--rounds", "2", "--json", str(path), *bare]
    result = CliRunner().invoke(app, options, catch_exceptions=False)
    assert result.exit_code == 0
    assert "time / by hand" in result.output
    written = json.loads(path.read_text())
    assert written["settings"]["rounds"] == 2
    assert [row["code"] for row in written["rows"]] == ["model alone", *["by hand", "kdist"] * 4]
    assert all(row["seconds"] > 0 for row in written["rows"])
    assert not list(tmp_path.glob("*.partial"))


def test_bad_options(bench):
    app = typer.Typer()
    app.command()(bench.main)
    for options in (["--batch", "0"], ["--model", "nowhere.safetensors"]):
        assert CliRunner().invoke(app, options).exit_code == 2
