"""``kdist predict`` and ``kdist design``: arrays in, table, JSON and picture out, one clear line on bad input."""

import json
import math

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from kdist import from_json, parse
from kdist.cli.design import design_command, design_early_command
from kdist.cli.predict import predict
from kdist.evals import Features
from kdist.theory import GaussianPair, distortion


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Both commands in an app of their own; gives typer's result."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    app = typer.Typer(add_completion=False)
    app.command("predict")(predict)
    app.command("design")(design_command)
    app.command("design-early")(design_early_command)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


pytestmark = pytest.mark.filterwarnings("ignore::kdist.theory.GuidanceWidensWarning")  # from the tests' own pairs


@pytest.fixture(scope="module")
def data():
    """Three classes in four directions; class 2 is wider than the whole in the last one."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 60)
    spread = np.where(y[:, None] == 2, [0.3, 0.4, 0.5, 3.0], [0.3, 0.4, 0.5, 0.6])
    return rng.normal(size=(180, 4)) * spread + np.eye(3)[y] @ rng.normal(size=(3, 4)), y


@pytest.fixture
def features(tmp_path, data):
    np.savez(tmp_path / "real.npz", x=data[0].reshape(180, 2, 2), y=data[1])
    return tmp_path / "real.npz"


def test_predict_writes_what_the_library_says(run, features, data, tmp_path):
    window = "late-negative:scale=3,sigma_switch=1"
    result = run("predict", "-f", features, "-s", 2, "-s", window, "--class", 0, "--out", "p", "--noise", 1)
    assert result.exit_code == 0, result.output
    assert "3, then 0 below sigma 1" in " ".join(result.output.split())
    content = json.loads((tmp_path / "p" / "predict.json").read_text())
    assert [record["spec"] for record in content["schedules"]] == ["2", window]
    pair = GaussianPair.from_data(*data, 0).capped()
    for record in content["schedules"]:
        expected = distortion(pair, parse(record["spec"]), sigma_max=80, noise=1)
        assert list(record["classes"]) == ["0"]
        found = record["classes"]["0"]
        assert found["trace_ratio"] == pytest.approx(expected.trace_ratio)
        assert found["overshoot"] == pytest.approx(expected.overshoot)
        assert found["variance_ratio"] == pytest.approx(list(expected.variance_ratio))
    assert (tmp_path / "p" / "predict.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
@pytest.mark.parametrize("command", ["predict", "design", "design-early"])
def test_space_of_the_sampler(run, data, command, suffix, monkeypatch):
    """A classifier's features are in no space in which noise is added; pixels are, whatever file they come in."""
    monkeypatch.setattr("kdist.cli.design._write", lambda *_: None)  # what is read is asked, not what is drawn of it
    x, y = data
    for extractor in ("digits", "inception", "pixels"):
        about = {"extractor": extractor, "classes": {"0": "a", "1": "b", "2": "c"}}
        Features(np.float32(x), y, np.arange(len(x)), about).save(f"{extractor}.{suffix}")
    for extractor in ("digits", "inception"):
        result = run(command, "-f", f"{extractor}.{suffix}")
        assert isinstance(result.exception, ValueError)
        message = f"{extractor}.{suffix} holds features of '{extractor}', and no sampler adds its noise there"
        assert message in str(result.exception)
        assert "--extractor pixels" in str(result.exception)
    options = {"predict": ["-s", 2], "design": ["--scale", 1.2], "design-early": ["--per-class", 2, "--steps", 2]}
    result = run(command, "-f", f"pixels.{suffix}", *options[command])
    assert result.exit_code == 0, f"{result.output} {result.exception}"


def test_predict_splits_off_the_solver(run, features, tmp_path):
    result = run(
        "predict", "-f", features, "-s", 2, "--solver", "euler_ancestral", "--eta", 0.5, "--steps", 8, "-o", "p"
    )
    assert result.exit_code == 0, result.output
    assert "solver's" in result.output
    (record,) = json.loads((tmp_path / "p" / "predict.json").read_text())["schedules"]
    for law in record["classes"].values():
        assert law["trace_ratio"] == pytest.approx(law["exact_trace_ratio"] + law["solver_part"])


@pytest.mark.parametrize(
    ("wider", "word"), [("cap", "leaves them alone"), ("project", "left out"), ("keep", "without bound")]
)
def test_wider_directions_are_said(run, features, wider, word):
    result = run("predict", "-f", features, "-s", 2, "--wider", wider)
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "a class is wider than the whole data set" in text
    assert word in text


def test_digits_by_default(run):
    result = run("predict", "--schedule", 1, "--class", 3)
    assert result.exit_code == 0, result.output
    assert "mean over 1 class" in result.output


def test_class_names_are_drawn_as_they_stand(run, data, tmp_path):
    np.savez(tmp_path / "named.npz", x=data[0], y=np.array(["[/x]", "$_{$", r"$\foo$"])[data[1]])
    result = run("predict", "-f", "named.npz", "-s", 2, "--out", "p")
    assert result.exit_code == 0, f"{result.output} {result.exception}"
    assert (tmp_path / "p" / "predict.png").exists()


@pytest.mark.parametrize("shape", ["window", "free"])
def test_design_writes_a_schedule_that_keeps_its_promise(run, features, data, tmp_path, shape):
    result = run("design", "-f", features, "--scale", 3, "--keep-variance", 0.9, "--shape", shape, "--out", "s/a.json")
    assert result.exit_code == 0, result.output
    assert "Certified" in result.output
    schedule = from_json(tmp_path / "s" / "a.json")
    assert parse(str(tmp_path / "s" / "a.json")) == schedule
    for label in range(3):
        pair = GaussianPair.from_data(*data, label).capped()
        kept = distortion(pair, schedule, sigma_max=math.inf).variance_ratio
        assert kept.min() > 0.9 * (1 - 1e-3)  # certified to 1e-4 at sigma_max 80; the limit differs by c / 6400
    assert (tmp_path / "s" / "a.png").read_bytes().startswith(b"\x89PNG")


def test_design_for_a_solver(run, features, tmp_path):
    result = run("design", "-f", features, "--scale", 2, "--solver", "euler", "--steps", 6, "--class", 1)
    assert result.exit_code == 0, result.output
    assert from_json(tmp_path / "schedule.json")(80.0) == 2


def test_infeasible_designs_leave_no_file(run, features, tmp_path):
    result = run("design", "-f", features, "--min-scale", 1, "--keep-variance", 1)
    assert "narrower than the whole" in str(result.exception)
    assert not (tmp_path / "schedule.json").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["predict", "-f", "none.npz"], FileNotFoundError, "no such file"),
        (["predict", "-f", "text.npz"], ValueError, "must be an .npz"),
        (["predict", "-f", "array.npy"], ValueError, "must be an .npz"),
        (["predict", "-f", "unlabelled.npz"], ValueError, "no y in it, only x"),
        (["predict", "-f", "real.npz", "--class", "9"], ValueError, "no such class; there are 0, 1, 2"),
        (["predict", "-f", "single.npz"], ValueError, "one sample"),
        (["predict", "-f", "holes.npz"], ValueError, "must be finite"),
        (["predict", "-f", "short.npz"], ValueError, "short.npz: y must hold one label per sample"),
        (["predict", "-f", "real.npz", "-s", "windw:scale=3"], ValueError, "unknown schedule"),
        (["predict", "-f", "real.npz", "--solver", "eulre"], ValueError, "unknown solver"),
        (["predict", "-f", "real.npz", "--solver", "dpm_adaptive"], ValueError, "not affine"),
        (["predict", "-f", "real.npz", "--eta", "1"], ValueError, "belongs to a --solver"),
        (["predict", "-f", "real.npz", "--solver", "euler", "--noise", "1"], ValueError, "set it with --eta"),
        (["predict", "-f", "real.npz", "--sigma-min", "90"], ValueError, "below --sigma-max"),
        (["predict", "-f", "real.npz", "--out", "text.npz"], OSError, "cannot write"),
        (["design", "-f", "real.npz", "--out", "schedule.png"], ValueError, "must be a .json"),
        (["design", "-f", "real.npz", "--scale", "0.5"], ValueError, "at least 1"),
    ],
)
def test_bad_input(run, features, data, tmp_path, arguments, error, message):
    x, y = data
    (tmp_path / "text.npz").write_text("not an archive")
    np.save(tmp_path / "array.npy", x)
    np.savez(tmp_path / "unlabelled.npz", x=x)
    np.savez(tmp_path / "single.npz", x=x[:61], y=y[:61])
    np.savez(tmp_path / "holes.npz", x=np.where(x > 1, np.nan, x), y=y)
    np.savez(tmp_path / "short.npz", x=x, y=y[:-1])
    result = run(*arguments)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)
