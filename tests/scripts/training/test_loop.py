"""The one training loop: rates, batches, resuming, what is refused, what a run leaves."""

import json
import math
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file

from kdist.checkpoints import load_checkpoint
from scripts.training import loop, run_folder

CONFIG = {
    "model": {
        "type": "image_v1",
        "input_channels": 1,
        "input_size": [4, 4],
        "mapping_out": 8,
        "mapping_cond_dim": 2,
        "augment_wrapper": False,
        "depths": [1],
        "channels": [8],
        "self_attn_depths": [False],
        "sigma_data": 0.5,
        "sigma_sample_density": {"type": "lognormal", "mean": 0.0, "std": 1.0},
    },
    "dataset": {"type": "none", "num_classes": 2},
    "optimizer": {"type": "adamw", "lr": 1e-2, "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 0.0},
}
LABELS = torch.tensor([0, 1, 1, 0])
IMAGES = (2.0 * LABELS - 1).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)  # an image shows its own class


def run(out, steps, **options):
    batch = loop.labelled(
        IMAGES, LABELS, size=8, uncond=2, dropout=0.25, condition=lambda y: {"mapping_cond": torch.eye(3, 2)[y]}
    )
    options = {"rate": lambda step: 1.0, "eval_every": 2, "keep_every": 2, **options}
    loop.train(out, CONFIG, batch, lambda model: {"loss": error(model)}, steps=steps, **options)


@torch.no_grad()
def error(model):
    noise = torch.randn(IMAGES.shape, generator=torch.Generator().manual_seed(0))
    return float(model.loss(IMAGES, noise, torch.ones(4), mapping_cond=torch.eye(2)[LABELS]).mean())


@pytest.fixture(scope="module")
def four_steps(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    run(out, 4)
    return out


def test_classes_stay_with_their_images_and_some_are_hidden():
    number = 20_000
    batch = loop.labelled(IMAGES, LABELS, size=number, uncond=2, dropout=0.25, condition=lambda y: {"class_cond": y})
    images, arguments = batch(torch.Generator().manual_seed(0))
    classes, shown = arguments["class_cond"], ((images[:, 0, 0, 0] + 1) / 2).long()
    assert torch.equal(classes[classes < 2], shown[classes < 2])
    # five standard errors of a share of 1/4, and of 1/2
    assert abs(float((classes == 2).float().mean()) - 0.25) < 5 * math.sqrt(0.25 * 0.75 / number)
    assert abs(float(shown.float().mean()) - 0.5) < 5 * math.sqrt(0.25 / number)
    assert LABELS.tolist() == [0, 1, 1, 0]  # hiding left the data alone


def test_it_learns(tmp_path):
    run(tmp_path, 60, eval_every=30, ema_decay=0.9)
    first, last = (json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines())
    assert [first["step"], last["step"]] == [30, 60]
    # before training the network gives 0, and the loss is the variance of its target, which is of order 1
    assert last["loss"] < 0.5 < 1.0
    assert last["loss"] < first["loss"]


def test_what_a_run_leaves(four_steps):
    names = sorted(path.name for path in four_steps.iterdir())
    kept = ["ema-000002.safetensors", "ema-000004.safetensors"]
    assert names == ["checkpoint.pt", "config.json", *kept, "ema.safetensors", "log.jsonl"]
    last, four = load_file(four_steps / "ema.safetensors"), load_file(four_steps / kept[1])
    assert all(torch.equal(last[name], four[name]) for name in last)
    x = torch.zeros(1, 1, 4, 4)
    assert load_checkpoint(four_steps / kept[0])(x, torch.ones(1), mapping_cond=torch.eye(2)[:1]).isfinite().all()


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(four_steps, tmp_path):
    run(tmp_path, 2)
    run(tmp_path, 4)
    whole, parts = (load_file(out / "ema.safetensors") for out in (four_steps, tmp_path))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    run(tmp_path / "other", 4, seed=1)
    other = load_file(tmp_path / "other" / "ema.safetensors")
    assert not all(torch.equal(whole[name], other[name]) for name in whole)


def test_bfloat16_is_for_the_forward_pass_alone(tmp_path):
    run(tmp_path, 2, bfloat16=True)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert {tensor.dtype for tensor in state["model"].values()} == {torch.float32}


def test_other_settings_in_the_same_folder_are_refused_and_nothing_lost(four_steps):
    before = {path.name: path.read_bytes() for path in four_steps.iterdir()}
    with pytest.raises(ValueError, match="holds a run with other settings"):
        loop.train(four_steps, {**CONFIG, "dataset": {}}, None, None, steps=5, rate=lambda step: 1.0)
    assert {path.name: path.read_bytes() for path in four_steps.iterdir()} == before


def test_export_halves_the_size_and_carries_the_config(four_steps, tmp_path):
    said = run_folder.export(four_steps, tmp_path / "small.safetensors", 2)
    assert said.endswith("MB")
    half, whole = load_file(tmp_path / "small.safetensors"), load_file(four_steps / "ema-000002.safetensors")
    assert all(torch.equal(half[name], whole[name].half()) for name in whole)
    assert load_checkpoint(tmp_path / "small.safetensors").config["model"]["channels"] == [8]
    with pytest.raises(ValueError, match=r"no trained weights ema-000003.safetensors; steps kept there: 000002, 0000"):
        run_folder.export(four_steps, tmp_path / "none.safetensors", 3)


def test_the_trapezoid_rises_stays_and_falls():
    rates = [loop.trapezoid(step, warmup=10, steps=100, cooldown=0.2) for step in range(100)]
    assert rates[0] == 0.1
    assert rates[10] == rates[79] == 1
    assert rates[90] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.05)


def test_the_cosine_rises_and_falls_to_its_floor():
    rates = [loop.cosine(step, warmup=10, steps=100, floor=0.02) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[50] == pytest.approx(0.51)
    assert rates[100] == pytest.approx(0.02)
    assert all(a > b for a, b in pairwise(rates[10:]))
