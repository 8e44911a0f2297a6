"""Guidance by the weak model: the script end to end, and what it is for, on the shipped networks."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

import kdist
from kdist import digits

SCRIPT = Path(__file__).parents[2] / "scripts" / "digits_autoguidance.py"


def test_script_end_to_end(tmp_path, monkeypatch, capsys):
    options = ["--scale", "2", "--weak-scale", "2", "--seed", "1", "--seed", "2", "--per-class", "3", "--steps", "3"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--out", str(tmp_path / "out.json"), *options])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert ended.value.code in (0, None)
    runs = json.loads((tmp_path / "out.json").read_text())["runs"]
    assert [len(values) for values in runs.values()] == [2, 2, 2]
    assert "by the weak model, scale 2" in capsys.readouterr().out.replace("\n", " ")


def test_weak_model_shares_the_classes_and_errs_more():
    """Both know the same classes; on held-out digits the weak one denoises worse, at every noise level that matters."""
    x, y = digits.load_data("held_out")
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    model, weak = digits.load_model(), digits.load_model(digits.WEAK_MODEL_PATH)
    guided = kdist.guide(model, 2.0, weak_model=weak)
    for level in (0.5, 1.0, 2.0):
        sigma = torch.full((len(x),), level)
        noisy = x + level * noise
        strong_error = (model(noisy, sigma, class_cond=y) - x).square().mean()
        weak_error = (weak(noisy, sigma, class_cond=y) - x).square().mean()
        # 360 images of 64 pixels: the errors are known to about one per cent
        assert weak_error > 1.02 * strong_error
        assert guided(noisy, sigma, class_cond=y).shape == x.shape
    assert guided.nfe == 2 * 3
