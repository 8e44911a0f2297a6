"""The judging of samples against known laws, and the page that the script writes."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from kdist import digits
from kdist.theory import GaussianMixtureDenoiser

PATH = Path(__file__).parents[2] / "scripts" / "predicted_vs_measured.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("predicted_vs_measured", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def data():
    return digits.load_data("train")


def test_exact_samples_of_the_class_laws_are_undistorted(script, data):
    x, y = data
    classes = torch.arange(10).repeat_interleave(200)
    for model, reference in (
        (GaussianMixtureDenoiser.fit(x, y), script.real_reference(x, y)),
        (GaussianMixtureDenoiser.empirical(x, y, 0.3), script.real_reference(x, y, 0.09)),
    ):
        drawn = model.sample(classes, generator=torch.Generator().manual_seed(0))
        got = script.distortion_of(drawn, classes, reference)
        # 4 standard errors, which are below 0.02 for 2000 samples
        assert abs(got["trace_ratio"] - 1) < 4 * got["trace_ratio_error"] < 0.08
        assert abs(got["overshoot"]) < 4 * got["overshoot_error"] < 0.08


def test_known_distortion_is_read_off(script, data):
    """Shrinking about the class mean by 0.8 and moving it by 0.3 of its distance gives exactly 0.64 and 0.3."""
    x, y = data
    reference = script.real_reference(x, y)
    flat = x.flatten(1).double()
    mean = reference.means[y]
    moved = mean + 0.8 * (flat - mean) + 0.3 * (mean - reference.centre)
    got = script.distortion_of(moved, y, reference)
    assert got["trace_ratio"] == pytest.approx(0.64, abs=1e-12)
    assert got["overshoot"] == pytest.approx(0.3, abs=1e-12)


def test_page_has_every_rung_and_guidances_part(script):
    row = {"trace_ratio": 0.8, "trace_ratio_error": 0.01, "overshoot": 0.2, "overshoot_error": 0.004}
    base = {**row, "trace_ratio": 1.6, "overshoot": 0.05}
    results = [
        {"schedule": name, "rung": rung, **values}
        for name, values in (("1", base), ("2", row))
        for rung in script.RUNGS
    ]
    text = script.page(results, {"solver": "dpmpp_2m", "steps": 20, "per_class": 8, "seed": 3})
    assert "--per-class 8 --seed 3" in text
    assert text.count("0.80(1) / +0.20") == len(script.RUNGS)
    assert text.count("0.50 / +0.15") == len(script.RUNGS)  # 0.8 / 1.6, 0.2 - 0.05


@pytest.mark.parametrize(
    "arguments", [["--schedule", "interval:scale=2"], ["--schedule", "nonsense"], ["--seed", "-1"]]
)
def test_refusals(script, arguments):
    app = typer.Typer()
    app.command()(script.main)
    assert CliRunner().invoke(app, arguments).exit_code == 2
