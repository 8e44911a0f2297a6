"""``kdist features``: files in, one file out, one clear line on bad input."""

import sys

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from kdist.cli.features import features
from kdist.evals.features.extraction import world_size
from kdist.evals.features.feature_set import load_features


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The command in an app of its own, with a cache of its own; gives typer's result."""
    monkeypatch.setenv("KDIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    app = typer.Typer(add_completion=False)
    app.command()(features)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for i in range(6):
        path = tmp_path / "images" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    return tmp_path / "images"


@pytest.mark.parametrize("out", ["real.npz", "real.safetensors"])
def test_folder_to_file(run, folder, tmp_path, out):
    (folder / "b" / "broken.png").write_bytes(b"")
    result = run(folder, "--extractor", "digits", "--out", out, "--quiet")
    assert result.exit_code == 0, result.output
    assert f"{out}: 6 images in 2 classes, 64 features (digits); 1 set aside" in result.output
    assert "set aside: b/broken.png: UnidentifiedImageError" in result.output
    loaded = load_features(tmp_path / out)
    assert loaded.classes == {0: "a", 1: "b"}
    assert loaded.x.shape == (6, 64)
    assert list((tmp_path / "cache" / "features").rglob("*.safetensors"))


def test_npz_and_torch_resize(run, tmp_path):
    images = np.random.default_rng(0).uniform(-1, 1, (4, 3, 8, 9)).astype(np.float32)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(4))
    result = run("images.npz", "-e", "pixels", "-o", "f.npz", "--value-range=-1,1", "--size", 6, "--resize", "torch")
    assert result.exit_code == 0, result.output
    assert "torch's resizing against PIL's on 4 images: at most" in result.output
    assert load_features(tmp_path / "f.npz").x.shape == (4, 108)


def test_python_objects_by_name(run, tmp_path):
    sys.modules.pop("mine", None)  # of another test's folder
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from kdist.evals.sources import GeneratorSource\n"
        "def sampler():\n"
        "    flat = lambda labels, seeds: (labels[:, None, None, None].float() / 4 - 0.5) * torch.ones(1, 1, 4, 4)\n"
        "    return GeneratorSource(flat, [0, 1, 2])\n"
        "net = torch.nn.Flatten()\n"
    )
    result = run("mine:sampler", "-e", "mine:net", "-o", "f.npz")
    assert result.exit_code == 0, result.output
    loaded = load_features(tmp_path / "f.npz")
    np.testing.assert_array_equal(loaded.x[:, 0], [64, 96, 128])  # round(127.5 (1 / 2 + k / 4))
    assert loaded.metadata["source"] == "sampler, seed 0"


@pytest.mark.parametrize(
    ("source", "extractor", "message"),
    [
        ("mine:sampler", "pixels", "mine:sampler raised KeyError: 'inside'"),
        ("images", "mine:net", "mine:net raised ZeroDivisionError: "),
        ("broken:anything", "pixels", "broken:anything raised RuntimeError: at import"),
        ("images", "mine:absent", "cannot import 'mine:absent'"),
        ("images", "mine:wrong", "mine:wrong raised AttributeError: 'Tensor' object has no attribute 'none'"),
        ("images", "mine:shapes", "extractor 'shapes' fails on a batch of 6 images (a/0.png, a/2.png, a/4.png, ...)"),
        ("script:anything", "pixels", "script:anything raised SystemExit: 0"),
    ],
)
def test_errors_of_the_users_code_name_it(run, folder, tmp_path, source, extractor, message):
    (tmp_path / "mine.py").write_text(
        "def sampler(): raise KeyError('inside')\ndef net(x): return x / (1 // 0)\n"
        "def wrong(x): return x.none\ndef shapes(x): return x @ x[:, :, :3]\n"
    )
    (tmp_path / "broken.py").write_text("raise RuntimeError('at import')\n")
    (tmp_path / "script.py").write_text("raise SystemExit(0)\n")  # one without a main guard
    for module in ("mine", "broken", "script"):
        sys.modules.pop(module, None)  # of another test's folder
    result = run(source, "-e", extractor, "-o", "f.npz", "--quiet")
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent", "-o", "f.npz", "-e", "pixels"], "nothing at absent"),
        (["images", "-o", "f.txt", "-e", "pixels"], "must end in .npz or .safetensors"),
        (["images", "-o", "f.npz", "-e", "nothing"], "extractor must be one of"),
        (["images", "-o", "f.npz", "-e", "pixels", "--value-range", "1"], "must be two numbers"),
        (["images", "-o", "f.npz", "-e", "pixels", "--labels", "l.csv"], "labels: no file at l.csv"),
        (["no.such:thing", "-o", "f.npz", "-e", "pixels"], "cannot import 'no.such:thing'"),
        (["images", "-o", "f.npz", "-e", "inception", "--weights", "w.pt"], "weights: no file at w.pt"),
    ],
)
def test_bad_input(run, folder, arguments, message):
    result = run(*arguments)
    assert isinstance(result.exception, ValueError | OSError)  # what the kdist command turns into one line and code 2
    assert message in str(result.exception)


def test_wrong_usage_is_exit_code_2(run, folder):
    assert run(folder, "-o", "f.npz", "-e", "pixels", "--max-bad", "-1").exit_code == 2
    assert run(folder, "-o", "f.npz", "-e", "pixels", "--size", "1000000").exit_code == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_cuda_absent(run, folder):
    result = run(folder, "-o", "f.npz", "-e", "pixels", "--device", "cuda")
    assert "sees no CUDA GPU" in str(result.exception)


def test_other_processes_write_nothing(run, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("kdist.evals.features.extraction._processes", lambda device: None)  # no second one to wait for
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(folder, "-o", "f.npz", "-e", "pixels").exit_code == 0
    assert not (tmp_path / "f.npz").exists()
    monkeypatch.delenv("WORLD_SIZE")  # a RANK left over in the environment: there is one process, and it writes
    for value in (None, ""):
        if value is not None:
            monkeypatch.setenv("WORLD_SIZE", value)
        (tmp_path / "f.npz").unlink(missing_ok=True)
        assert run(folder, "-o", "f.npz", "-e", "pixels").exit_code == 0
        assert (tmp_path / "f.npz").exists()


def test_a_number_of_processes_that_is_none(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(ValueError, match="WORLD_SIZE must be a number of processes; got 'two'"):
        world_size()


def test_output_is_tried_before_the_work(run, folder, tmp_path):
    (tmp_path / "blocked").write_text("in the way")
    result = run(folder, "-o", "blocked/f.npz", "-e", "pixels")
    assert "cannot write to --out blocked" in str(result.exception)
    (tmp_path / "folder.npz").mkdir()
    result = run(folder, "-o", "folder.npz", "-e", "pixels")
    assert "there is a folder of that name" in str(result.exception)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
