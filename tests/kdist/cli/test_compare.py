"""`kdist measure` and `kdist compare`: files in, a report out, one clear line on bad input."""

import importlib.util
import io
import json
import re
import zipfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from kdist import digits
from kdist.cli.compare import compare_command, measure_command
from kdist.evals import as_source, extract
from kdist.evals.features.extraction import content_hash
from kdist.evals.features.feature_set import Features
from kdist.evals.report import html
from kdist.evals.statistics import inputs
from scripts.pages.command_line import kdist

OUTPUTS = {"report.html", "results.json", "classes.csv", "classes.png", "directions.png", "statistics.png"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The two commands in an app of their own, with a cache of their own; gives typer's result."""
    monkeypatch.setenv("KDIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    app = typer.Typer(add_completion=False)
    app.command("measure")(measure_command)
    app.command("compare")(compare_command)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures of one pixel where the numbers and the page are looked at: most of a command's time is drawing."""

    def pixel(figure, **_):
        plt.close(figure)
        Image.new("L", (1, 1)).save(buffer := io.BytesIO(), format="png")
        return buffer.getvalue()

    monkeypatch.setattr(html, "figure_png", pixel)


@pytest.fixture(scope="module")
def real_digits():
    images, labels = digits.load_data("all")
    kept = np.concatenate([np.flatnonzero(labels.numpy() == k)[:60] for k in range(4)])
    return ((images[kept].numpy() + 1) * 127.5).round().astype(np.uint8), labels[kept].numpy()


def write_features(path, *, classes=3, per_class=12, width=4, seed=0, **metadata):
    generator = np.random.default_rng(seed)
    y = np.repeat(np.arange(classes), per_class)
    x = (5 * y[:, None] + generator.normal(size=(len(y), width))).astype(np.float32)
    Features(x, y, np.arange(len(y)), metadata).save(path)
    return x, y


def write_folder(path, images, labels, names):
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        file = path / names[label] / f"{place:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(file)


# -- what a user does ----------------------------------------------------------------------------------------------


def test_images_are_resized_on_demand(undrawn, run, tmp_path, real_digits):
    images, labels = real_digits
    for name in ("real", "fake"):
        write_folder(tmp_path / name, images, labels, {0: "0", 1: "1", 2: "2", 3: "3"})
    result = run("compare", "real", "fake", "-e", "pixels", "--size", 4, "--quick", "--out", "out")
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [entry["dimension"] for entry in (results["real"], *results["sets"])] == [48, 48]  # 4 x 4 x 3


def test_measure_folder_against_npz(run, tmp_path, real_digits):
    """Real digits as class folders against every other one of themselves, shrunk towards their class mean."""
    images, labels = real_digits
    names = {0: "0", 1: "1", 2: "2", 3: "3"}
    write_folder(tmp_path / "real", images[::2], labels[::2], names)
    means = np.stack([images[labels == k].mean(0) for k in range(4)])[labels]
    shrunk = (means + 0.7 * (images - means)).round().astype(np.uint8)
    np.savez(tmp_path / "fake.npz", x=shrunk[1::2], y=labels[1::2])
    command = ["measure", "real", "fake.npz", "-e", "pixels", "--out", "out", "--resamples", 99]
    result = run(*command)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= 80
    assert {path.name for path in (tmp_path / "out").iterdir()} == OUTPUTS

    results = json.loads((tmp_path / "out" / "results.json").read_text())
    ratio = results["sets"][0]["distortion"]["pooled"]["trace_ratio"]
    assert ratio["value"] == pytest.approx(0.49, abs=0.06)  # 0.7 squared; standard error 0.02
    assert re.search(rf"variance kept +{ratio['value']:.2f} +\[{ratio['interval'][0]:.2f}, ", result.output)
    assert results["sets"][0]["metadata"]["extractor"] == "pixels"
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('class="strips pixelated"') == 4  # images of both sides were at hand
    assert page.count("<img") == 3 + 4 * 2

    shards = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.safetensors")}
    assert len(shards) == 2
    again = run(*command)
    assert again.exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.safetensors")} == shards
    assert json.loads((tmp_path / "out" / "results.json").read_text())["sets"] == results["sets"]  # the same seed


def test_some_samples_of_each_class(undrawn, run, tmp_path, monkeypatch):
    for name, seed in (("real", 0), ("fake", 1)):
        write_features(tmp_path / f"{name}.npz", per_class=30, seed=seed)
    result = run("measure", "real.npz", "fake.npz", "--per-class", 20, "--quick", "--out", "out")
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["settings"]["per_class"] == 20
    assert {entry["n_real"] for entry in results["sets"][0]["distortion"]["classes"]} == {20}
    assert "at most 20 samples of a class" in " ".join(result.output.split())
    monkeypatch.setattr(inputs, "memory", lambda: 4 * 8 * 60**2 - 1)
    refused = run("measure", "real.npz", "fake.npz", "--out", "out")
    assert re.search(r"real.npz and fake.npz: class 2 .* \(--per-class on the command line\)", str(refused.exception))


def test_sweep_of_the_shipped_model(run, tmp_path):
    """The script's samples, measured in the classifier's features: paired, recognised (too few to show shrinkage)."""
    path = Path(__file__).parents[3] / "scripts" / "examples" / "digits_sweep.py"
    spec = importlib.util.spec_from_file_location("digits_sweep", path)
    sweep = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sweep)
    app = typer.Typer()
    app.command()(sweep.main)
    options = ["--per-class", "5", "--steps", "5", "--schedule", "1", "--schedule", "4", "--out", "sweep"]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    assert {p.name for p in Path("sweep").iterdir()} == {"real.npz", "no-guidance.npz", "constant-4.npz"}
    with np.load("sweep/constant-4.npz") as file:
        assert file["x"].dtype == np.uint8
        assert file["x"].shape == (50, 1, 8, 8)
        assert np.bincount(file["y"]).tolist() == [5] * 10

    sets = ["sweep/real.npz", "sweep/no-guidance.npz", "sweep/constant-4.npz"]
    result = run("compare", *sets, "-e", "digits", "--quick", "--out", "out", "--name", "scale 1", "--name", "scale 4")
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) <= 80
    assert {path.name for path in (tmp_path / "out").iterdir()} == OUTPUTS | {"trade_off.png"}
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    one, four = results["sets"]
    assert [one["name"], four["name"]] == ["scale 1", "scale 4"]
    assert four["against_first"]["pairs"] == 50
    low, high = four["against_first"]["ratio"]["interval"]
    assert low < four["against_first"]["ratio"]["value"] < high
    assert four["distortion"]["pooled"]["accuracy"]["value"] > 0.9
    assert results["settings"]["resamples"] == 99
    assert "fewer than 20 samples" in " ".join(results["warnings"])


def test_feature_files_find_their_images(undrawn, run, tmp_path, real_digits):
    images, labels = real_digits
    np.savez(tmp_path / "images.npz", x=images, y=labels)
    x = images.reshape(len(images), -1) / 127.5 - 1
    content = content_hash(as_source(tmp_path / "images.npz"))
    about = {"source": "images.npz", "images": len(images), "content": content}
    for name in ("a.npz", "b.safetensors"):
        Features(x.astype(np.float32), labels.astype(np.int64), np.arange(len(x)), about).save(tmp_path / name)
    assert run("measure", "a.npz", "b.safetensors", "--quick").exit_code == 0
    assert 'class="strips' in (tmp_path / "kdist-measure" / "report.html").read_text()
    np.savez(tmp_path / "images.npz", x=images[:-1], y=labels[:-1])  # not these images any more
    assert run("measure", "a.npz", "b.safetensors", "--quick").exit_code == 0
    assert 'class="strips' not in (tmp_path / "kdist-measure" / "report.html").read_text()


def test_old_numbers_are_not_shown_beside_new_pictures(undrawn, run, tmp_path, real_digits):
    """Sampled again into the same folder: as many images of the same names, and the former features on file."""
    images, labels = real_digits
    write_folder(tmp_path / "samples", images, labels, "abcd")
    extract(tmp_path / "samples", "pixels").save("first.npz")
    write_folder(tmp_path / "samples", images[::-1], labels[::-1], "abcd")
    extract(tmp_path / "samples", "pixels").save("second.npz")
    assert run("compare", "second.npz", "first.npz", "--quick", "--out", "out").exit_code == 0
    assert 'class="strips' not in (tmp_path / "out" / "report.html").read_text()  # no generated set has its images
    assert run("compare", "first.npz", "second.npz", "--quick", "--out", "out").exit_code == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert 'class="strips' in page
    assert page.count("<img") == 3 + 4  # of the second set alone


def test_classes_are_matched_by_name_or_refused(undrawn, run, tmp_path, real_digits):
    images, labels = real_digits
    for name, names in (("real", ("cat", "dog", "fish", "gnu")), ("fake", ("cat", "fish", "gnu", "zebra"))):
        write_folder(tmp_path / name, images, labels, names)
    result = run("measure", "real", "fake", "-e", "pixels", "--quick")
    assert "no real samples of class zebra" in str(result.exception)
    result = run("measure", "real", "fake", "-e", "pixels", "--quick", "--common-classes", "--out", "out")
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [entry["name"] for entry in results["sets"][0]["distortion"]["classes"]] == ["cat", "fish", "gnu"]
    assert "dog, zebra" in results["warnings"][0]
    np.savez(tmp_path / "numbers.npz", images=images, labels=labels)
    result = run("measure", "real", "numbers.npz", "-e", "pixels", "--quick")
    assert "no class in common: cat, dog, fish, ... against 0, 1, 2, ..." in str(result.exception)


def test_bad_images_are_named(undrawn, run, tmp_path, real_digits):
    images, labels = real_digits
    for name in ("real", "fake"):
        write_folder(tmp_path / name, images, labels, "abcd")
    (tmp_path / "fake" / "b" / "broken.png").write_bytes(b"no image")
    result = run("measure", "real", "fake", "-e", "pixels", "--quick", "--out", "out")
    assert result.exit_code == 0, result.output
    warnings = json.loads((tmp_path / "out" / "results.json").read_text())["warnings"]
    assert "fake: 1 images could not be read and were left out: b/broken.png" in warnings
    assert "b/broken.png" in result.stderr
    result = run("measure", "real", "fake", "-e", "pixels", "--quick", "--out", "out", "--max-bad", 0)
    assert "more than max_bad=0" in str(result.exception)


def test_other_processes_write_nothing(undrawn, run, tmp_path, monkeypatch):
    for name, seed in (("real.npz", 0), ("fake.npz", 1)):
        write_features(tmp_path / name, seed=seed)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run("measure", "real.npz", "fake.npz", "--quick", "--out", "out").exit_code == 0
    assert not list((tmp_path / "out").iterdir())
    monkeypatch.delenv("WORLD_SIZE")  # a RANK left over in the environment: there is one process, and it writes
    assert run("measure", "real.npz", "fake.npz", "--quick", "--out", "out").exit_code == 0
    assert (tmp_path / "out" / "report.html").exists()


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.fixture
def bad_files(tmp_path):
    write_features(tmp_path / "real.npz", extractor="inception", weights="f58c")
    write_features(tmp_path / "good.npz", seed=1, extractor="inception", weights="f58c")
    write_features(tmp_path / "clip.npz", extractor="clip", weights="40d3")
    write_features(tmp_path / "other_weights.npz", extractor="inception", weights="0000")
    write_features(tmp_path / "wide.npz", width=5)
    write_features(tmp_path / "fewer.npz", classes=2)
    x, y = write_features(tmp_path / "single.npz")
    np.savez(tmp_path / "single.npz", x=x[: 2 * 12 + 1], y=y[: 2 * 12 + 1])
    x[3, 2] = np.nan
    np.savez(tmp_path / "nan.npz", x=x, y=y)
    whole = (tmp_path / "good.npz").read_bytes()
    (tmp_path / "truncated.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "truncated.safetensors").write_bytes(b"\x10\x00")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.zip").write_bytes(b"PK no zip")
    with zipfile.ZipFile(tmp_path / "nothing.zip", "w") as archive:
        archive.writestr("readme.txt", "no image")
    (tmp_path / "class_folders" / "cat").mkdir(parents=True)
    Image.new("L", (8, 8)).save(tmp_path / "class_folders" / "cat" / "1.png")
    (tmp_path / "class_folders" / "dog").mkdir()
    np.savez(tmp_path / "images.npz", x=np.linspace(-1, 1, 384).reshape(6, 1, 8, 8), y=np.arange(6) % 3)
    (tmp_path / "blocked").write_text("in the way")
    (tmp_path / "sub").mkdir()
    write_features(tmp_path / "sub" / "good.npz")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["real.npz", "absent.npz"], "nothing at absent.npz; give a feature file"),
        (["real.npz", "notes.txt"], "notes.txt is neither a folder nor a .zip or .npz"),
        (["real.npz", "truncated.npz"], "cannot read images from truncated.npz"),
        (["real.npz", "truncated.safetensors"], "truncated.safetensors is no whole feature file"),
        (["real.npz", "nan.npz"], "nan.npz has NaN or infinite features in 1 rows: [3]"),
        (["real.npz", "empty"], "no image in empty"),
        (["real.npz", "broken.zip"], "broken.zip is not a readable zip archive"),
        (["real.npz", "nothing.zip"], "no image in nothing.zip"),
        (["class_folders", "real.npz"], "class folder(s) without an image in class_folders: dog"),
        (["real.npz", "clip.npz"], "clip.npz: real and fake features differ in extractor: 'inception' against 'clip'"),
        (["real.npz", "other_weights.npz"], "differ in weights: 'f58c' against '0000'"),
        (["real.npz", "wide.npz"], "real features have length 4, fake ones 5"),
        (["real.npz", "fewer.npz"], "real.npz and fewer.npz: no fake samples of class 2"),
        (["fewer.npz", "real.npz"], "fewer.npz and real.npz: no real samples of class 2"),
        (["real.npz", "single.npz"], "one fake sample in class 2"),
        (["real.npz", "images.npz", "-e", "digits", "--value-range=-1,1"], "extractor: 'inception' against 'digits'"),
        (["images.npz", "real.npz", "-e", "digits", "--value-range=-1,1"], "extractor: 'digits' against 'inception'"),
        (["wide.npz", "images.npz", "-e", "digits"], "holds floats: say what black and white are"),
        (["wide.npz", "images.npz", "-e", "digits", "--value-range", "1"], "must be two numbers"),
        (["wide.npz", "images.npz", "-e", "nothing", "--value-range=-1,1"], "extractor must be one of"),
        (["wide.npz", "images.npz", "--weights", "w.pt", "--value-range=-1,1"], "weights: no file at w.pt"),
        (["real.npz", "good.npz", "--out", "blocked/out"], "cannot write to --out blocked/out"),
    ],
)  # fmt: skip
def test_bad_input(run, tmp_path, bad_files, arguments, message):
    result = run("measure", *arguments)
    assert isinstance(result.exception, ValueError | OSError)  # what the kdist command turns into one line and code 2
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))  # found before any image went through a network
    assert not (tmp_path / "kdist-measure" / "results.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["real.npz", "good.npz", "clip.npz"], "'inception' against 'clip'"),
        (["real.npz", "good.npz", "good.npz"], "two generated sets are called 'good.npz'; give each a name"),
        (["real.npz", "good.npz", "--name", "a", "--name", "b"], "one --name for each of the 1 generated sets"),
        (["real.npz", "good.npz", "real.npz", "--name", "a", "--name", "a"], "two generated sets are called 'a'"),
    ],
)
def test_bad_sweep(run, bad_files, arguments, message):
    result = run("compare", *arguments)
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)


def test_equal_file_names_are_told_apart_by_their_folders(undrawn, run, tmp_path, bad_files):
    result = run("compare", "wide.npz", "wide.npz", "wide.npz", "--quick", "--name", "a", "--name", "b")
    assert result.exit_code == 0, result.output
    result = run("compare", "real.npz", "good.npz", "sub/good.npz", "--quick")
    assert result.exit_code == 0, result.output
    sets = json.loads((tmp_path / "kdist-compare" / "results.json").read_text())["sets"]
    assert [entry["name"] for entry in sets] == ["good.npz", "sub/good.npz"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["real.npz"],
        ["--nonsense"],
        ["real.npz", "good.npz", "--resamples", "-1"],
        ["real.npz", "good.npz", "--seed", "-1"],
    ],
)
def test_wrong_usage_is_exit_code_2(run, bad_files, arguments):
    assert run("measure", *arguments).exit_code == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_cuda_absent(run, bad_files):
    result = run("measure", "wide.npz", "images.npz", "-e", "digits", "--value-range=-1,1", "--device", "cuda")
    assert "sees no CUDA GPU" in str(result.exception)


def test_command_exits_with_2_and_one_line(tmp_path, bad_files, monkeypatch):
    """Through the installed entry point: no traceback, and the output folder is checked before anything is read."""
    monkeypatch.chdir(tmp_path)
    done = kdist("compare", "absent.npz", "good.npz", "--out", "blocked")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "cannot write to --out blocked" in done.stderr


def test_names_that_look_like_markup_or_formulas(run, tmp_path):
    """Set and class names with rich's brackets and matplotlib's dollars are printed and drawn as they stand."""
    for seed, file in enumerate(("real.npz", "a.npz", "b.npz", "c.npz")):
        x, y = write_features(tmp_path / file, seed=seed)
        classes = {"0": "[/x]", "1": "$_{$", "2": r"$\foo$"}
        Features(x, y, np.arange(len(y)), {"classes": classes}).save(tmp_path / file)
    names = ["--name", "s[/x]", "--name", "s$_{$", "--name", r"s$\foo$"]
    result = run("compare", "real.npz", "a.npz", "b.npz", "c.npz", *names, "--quick", "--out", "o[/x]$_{$")
    assert result.exit_code == 0, f"{result.output} {result.exception}"
    assert all(name in result.output for name in names[1::2])
    assert (tmp_path / "o[/x]$_{$" / "report.html").exists()
