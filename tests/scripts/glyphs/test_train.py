"""Training the glyph model: what tokens are shown with, resuming, and checkpoints that do not fit."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from kdist import digits
from scripts.glyphs import data as glyphs
from scripts.glyphs import train as train_glyphs
from scripts.training import run_folder

SETS = (2, 4)
TINY = {"width": 64, "depth": 1, "d_ff": 64, "patch": 4, "sets": SETS, "size": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("glyphs")


def tiny_run(out, folder, steps, **options):
    train_glyphs.train(
        out,
        train_glyphs.make_config(**TINY),
        steps=steps,
        batch_size=4,
        eval_every=100,
        data={"most": 4, "fewest": 2, "folder": folder},
        **options,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory, folder):
    out = tmp_path_factory.mktemp("run")
    tiny_run(out, folder, 4)
    return out


@pytest.fixture
def labelled():
    """Images that show their own class: all pixels are 10 times the label. Classes differ in number."""
    labels = torch.tensor([0, 0, 0, 1, 2, 2, 3, 3, 3, 3])
    images = (10 * labels.to(torch.uint8)).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    return glyphs.Glyphs(images, labels, tuple("abcd"))


def test_every_set_has_its_null_token_after_the_classes():
    assert [train_glyphs.null_token(p, SETS) for p in SETS] == [4, 5]
    assert len({train_glyphs.null_token(p) for p in glyphs.SETS}) == len(glyphs.SETS)
    with pytest.raises(ValueError, match="one of the nested sets 2, 4; got 3"):
        train_glyphs.null_token(3, SETS)


def test_the_vocabulary_is_as_large_as_k_diffusion_makes_it():
    # k-diffusion adds one class to num_classes
    assert train_glyphs.make_config(**TINY)["dataset"]["num_classes"] + 1 == SETS[-1] + len(SETS)


def test_tokens_are_shown_with_images_of_their_own_classes_only(labelled):
    number = 20_000
    x, tokens = train_glyphs.Sampler(labelled, SETS).draw(number, torch.Generator().manual_seed(0))
    classes = ((x[:, 0, 0, 0] + 1) * 127.5 / 10).round().long()
    own = tokens < 4
    assert torch.equal(classes[own], tokens[own])
    assert set(classes[tokens == 4].tolist()) == {0, 1}
    # classes of a null token are equally likely, though class 1 has one image and class 3 four: 5 standard errors
    for token, size in ((4, 2), (5, 4)):
        shares = torch.bincount(classes[tokens == token], minlength=size) / (tokens == token).sum()
        error = math.sqrt((1 / size) * (1 - 1 / size) / (tokens == token).sum())
        assert (shares - 1 / size).abs().max() < 5 * error
    # 0.6 are null tokens, both as often; class tokens: sets 2 to 1, so (2/3)/2 + (1/3)/4 of them for each of 0 and 1
    for chosen, share in ((tokens == 4, 0.3), (tokens == 5, 0.3), (tokens == 0, 0.4 * 5 / 12), (tokens == 3, 0.4 / 12)):
        assert abs(float(chosen.float().mean()) - share) < 5 * math.sqrt(share * (1 - share) / number)


def test_a_run_leaves_weights_that_load_and_a_loss_for_every_token(run):
    record = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    assert record["step"] == 4
    assert all(math.isfinite(record[f"{kind}_{p}"]) for kind in ("null", "class") for p in SETS)
    model = train_glyphs.load_model(run / "ema.safetensors")
    assert model.sets == SETS
    tokens = torch.arange(6)
    assert model(torch.zeros(6, 1, 8, 8), torch.ones(6), class_cond=tokens).isfinite().all()
    assert not list(run.glob("*.partial"))


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(run, tmp_path, folder):
    tiny_run(tmp_path, folder, 2)  # still warming up: the rate does not depend on the number of steps
    tiny_run(tmp_path, folder, 4)
    whole, parts = load_file(run / "ema.safetensors"), load_file(tmp_path / "ema.safetensors")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_another_network_in_the_same_folder_is_refused_and_nothing_lost(run, folder):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    config = train_glyphs.make_config(**{**TINY, "depth": 2})
    with pytest.raises(ValueError, match="other settings"):
        train_glyphs.train(run, config, steps=5, batch_size=4)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_damaged_checkpoint_is_named_and_kept(run, tmp_path, folder):
    (tmp_path / "config.json").write_bytes((run / "config.json").read_bytes())
    (tmp_path / "checkpoint.pt").write_bytes((run / "checkpoint.pt").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"checkpoint\.pt cannot be resumed"):
        tiny_run(tmp_path, folder, 5)
    assert (tmp_path / "checkpoint.pt").stat().st_size == 1000


def test_export_halves_the_size_and_keeps_the_model(run, tmp_path):
    run_folder.export(run, tmp_path / "small.safetensors")
    assert (tmp_path / "small.safetensors").stat().st_size < 0.6 * (run / "ema.safetensors").stat().st_size
    whole, half = (train_glyphs.load_model(p) for p in (run / "ema.safetensors", tmp_path / "small.safetensors"))
    args = (torch.ones(1, 1, 8, 8), torch.ones(1))
    # float16 keeps 11 bits of each weight
    torch.testing.assert_close(
        whole(*args, class_cond=torch.tensor([0])), half(*args, class_cond=torch.tensor([0])), rtol=1e-2, atol=1e-2
    )


def test_weights_of_another_vocabulary_are_refused(run, tmp_path):
    config = json.loads((run / "config.json").read_text())
    config["dataset"]["characters"] = "0" * 16
    path = tmp_path / "other.safetensors"
    save_file(load_file(run / "ema.safetensors"), path, metadata={"config": json.dumps(config)})
    with pytest.raises(ValueError, match=r"another vocabulary .*its classes mean other characters"):
        train_glyphs.load_model(path)


def test_files_that_are_no_glyph_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        train_glyphs.load_model(tmp_path / "none.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="carries no config"):
        train_glyphs.load_model(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no glyph model"):
        train_glyphs.load_model(digits.MODEL_PATH)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sets": (4, 2)}, "sets must be increasing"),
        ({"sets": (2, 99_999)}, "sets ask for 99999 classes"),
        ({"patch": 3}, "multiple of patch"),
        ({"width": 100}, "width of 64"),
    ],
)
def test_configs_that_cannot_be(change, message):
    with pytest.raises(ValueError, match=message):
        train_glyphs.make_config(**{**TINY, **change})


def test_the_command_line_says_what_is_wrong(tmp_path):
    import typer

    app = typer.Typer()
    app.command()(train_glyphs.main)
    for arguments in (["--preset", "huge"], ["--sets", "8,4"], ["--export", str(tmp_path / "x.safetensors")]):
        result = CliRunner().invoke(app, ["--out", str(tmp_path / "run"), *arguments])
        assert result.exit_code == 2
