"""Checkpoints in all of k-diffusion's forms load as the same denoiser; everything else is refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import kdist
from kdist import digits
from kdist.checkpoints import make_denoiser

CONFIG = {
    "model": {
        "type": "image_transformer_v1", "input_channels": 1, "input_size": [8, 8], "patch_size": [4, 4], "width": 64,
        "depth": 1, "d_ff": 64, "sigma_data": 0.75, "sigma_min": 0.02, "sigma_max": 80.0,
    },
    "dataset": {"type": "none", "num_classes": 10},
}  # fmt: skip


@pytest.fixture(scope="module")
def weights():
    torch.manual_seed(0)
    # the untrained network's last layer is zero, its output would be the same for all weights
    return {name: torch.randn_like(t) * 0.2 for name, t in make_denoiser(CONFIG).inner_model.state_dict().items()}


@pytest.fixture(scope="module")
def expected(weights):
    model = make_denoiser(CONFIG).eval()
    model.inner_model.load_state_dict(weights)
    return denoised(model)


@torch.no_grad()
def denoised(model):
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return model(x, torch.tensor([0.1, 1.0, 10.0]), class_cond=torch.tensor([0, 5, 10]))


def test_every_form_is_the_same_denoiser(weights, expected, tmp_path):
    save_file(weights, tmp_path / "with.safetensors", metadata={"config": json.dumps(CONFIG)})
    save_file(weights, tmp_path / "without.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    other = {name: torch.zeros_like(t) for name, t in weights.items()}
    training = {"config": CONFIG, "model": other, "model_ema": weights, "step": 7, "opt": {"state": {}}}
    torch.save(training, tmp_path / "training.pth")  # the averaged weights are the ones to sample with
    for arguments in (
        ("with.safetensors",),
        ("without.safetensors", tmp_path / "config.json"),
        ("without.safetensors", CONFIG),
        ("training.pth",),
        ("training.pth", str(tmp_path / "config.json")),
    ):
        model = kdist.load_checkpoint(tmp_path / arguments[0], *arguments[1:])
        assert torch.equal(denoised(model), expected)
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert model.config["model"]["sigma_max"] == 80.0
        assert model.config["dataset"]["cond_dropout_rate"] == 0.1  # k-diffusion's own default, filled in


def test_half_precision_weights_become_float32(weights, tmp_path):
    save_file({name: t.half() for name, t in weights.items()}, tmp_path / "half.safetensors")
    model = kdist.load_checkpoint(tmp_path / "half.safetensors", CONFIG)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_what_is_no_such_checkpoint_is_refused(weights, tmp_path):
    save_file(weights, tmp_path / "bare.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    (tmp_path / "broken.pth").write_bytes(b"no tensors")
    torch.save({"state_dict": weights}, tmp_path / "other.pth")
    torch.save({"model_ema": weights}, tmp_path / "bare.pth")
    for name, config, error, words in (
        ("none.safetensors", None, FileNotFoundError, "no checkpoint at"),
        ("bare.safetensors", None, ValueError, "carries no config; give the JSON"),
        ("bare.safetensors", tmp_path / "none.json", FileNotFoundError, "none.json"),
        ("broken.safetensors", CONFIG, ValueError, "no safetensors file, or a damaged one"),
        ("broken.pth", CONFIG, ValueError, "cannot be read as a checkpoint"),
        ("other.pth", CONFIG, ValueError, "holds no model_ema"),
        ("bare.pth", None, ValueError, "carries no config"),
    ):
        with pytest.raises(error, match=words):
            kdist.load_checkpoint(tmp_path / name, config)
    wider = {**CONFIG, "model": {**CONFIG["model"], "width": 128}}
    with pytest.raises(ValueError, match="another network than the config describes: size mismatch"):
        kdist.load_checkpoint(tmp_path / "bare.safetensors", wider)


def test_a_given_config_takes_the_place_of_the_carried_one(weights, tmp_path):
    carried = {**CONFIG, "model": {**CONFIG["model"], "sigma_max": 7.0}}
    save_file(weights, tmp_path / "with.safetensors", metadata={"config": json.dumps(carried)})
    assert kdist.load_checkpoint(tmp_path / "with.safetensors").config["model"]["sigma_max"] == 7.0
    assert kdist.load_checkpoint(tmp_path / "with.safetensors", CONFIG).config["model"]["sigma_max"] == 80.0


class Harm:
    """Unpickling it runs code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_code_inside_a_checkpoint_is_not_run(weights, tmp_path):
    torch.save({"model_ema": weights, "config": CONFIG, "extra": Harm(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint of weights and plain values") as caught:
        kdist.load_checkpoint(tmp_path / "evil.pth")
    assert "Weights only load failed" in str(caught.value)  # the first of torch's many lines
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_the_shipped_digits_are_such_a_file():
    x = torch.zeros(1, 1, 8, 8)
    arguments = (x, torch.ones(1))
    shipped, loaded = digits.load_model(), kdist.load_checkpoint(digits.MODEL_PATH)
    with torch.no_grad():
        pair = [model(*arguments, class_cond=torch.tensor([3])) for model in (shipped, loaded)]
    assert torch.equal(*pair)
    assert set(load_file(digits.MODEL_PATH)) == set(loaded.inner_model.state_dict())
