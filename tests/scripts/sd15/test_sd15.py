"""The Stable Diffusion experiment from end to end, on a random pipeline of a few thousand weights."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from kdist.compat import repair_torchvision

repair_torchvision()

from scripts.sd15 import sample as sd15  # noqa: E402

PROMPTS = ["a red dog", "two cats"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A diffusers folder with the parts and the form of Stable Diffusion 1.5."""
    import diffusers

    from scripts.examples.tiny_models import stable_diffusion

    levels = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    folder = tmp_path_factory.mktemp("model")
    stable_diffusion(diffusers.PNDMScheduler(**levels, skip_prk_steps=True, steps_offset=1)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A random CLIP in transformers' format."""
    from scripts.examples.tiny_models import save_clip

    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def invoke(tmp_path):
    import typer

    app = typer.Typer()
    app.command()(sd15.main)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("# a comment\n" + "\n".join(PROMPTS) + "\n\n")

    def run(model, *options, out=tmp_path / "out"):
        fixed = ["--prompts", str(prompts), "--steps", "6", "--samples", "3"]
        return CliRunner().invoke(app, [str(model), "--out", str(out), *fixed, *map(str, options)])

    return run


def picture(path):
    return np.asarray(Image.open(path)).astype(int)


def test_whole_experiment(invoke, model, clip, tmp_path):
    """All schedules, images, numbers; the second run makes nothing again; a lost image comes back the same."""
    result = invoke(model, "--clip", clip, "--features", "pixels")
    assert result.exit_code == 0, result.output
    out = tmp_path / "out"
    results = json.loads((out / "results.json").read_text())
    schedules = ["unguided", "constant", "interval", "late-50", "late-60", "late-70", "window-50-70", "early-30"]
    assert list(results["schedules"]) == schedules
    assert len(list(out.rglob("*.png"))) == len(schedules) * 2 * 3
    # 6 steps: both passes until the switch, one after it. 60 % and 70 % of 6 steps lie inside the fourth and fifth
    # step, whose own level is still above the switch
    calls = {name: results["schedules"][name]["calls"] for name in schedules}
    assert calls == {**calls, "unguided": 6, "constant": 12, "late-50": 9, "late-60": 10, "late-70": 11}
    assert calls["window-50-70"] == 12 - 2
    assert calls["early-30"] == 12 - 2  # 30 % of 6 steps lie inside the second step
    assert results["schedules"]["late-50"]["saved"] == pytest.approx(0.25)
    assert "3 of 12 network calls per image saved (25%)" in " ".join(result.output.split())
    for name in schedules:
        numbers = results["schedules"][name]["pixels"]
        assert numbers["trace_ratio"] > 0
        assert 1 <= numbers["vendi"] <= 3
        assert -1 <= results["schedules"][name]["alignment"] <= 1
    unguided = results["schedules"]["unguided"]["pixels"]
    # the reference against itself, exactly
    assert (unguided["trace_ratio"], unguided["pairwise_distance"]) == (pytest.approx(1), pytest.approx(1))

    lost = out / "images" / "late-50" / "001" / "002.png"
    before = picture(lost)
    lost.unlink()
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    again = invoke(model, "--schedule", "late-50")
    assert again.exit_code == 0, again.output
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    # alone in its batch now: other kernels, at most a grey level of rounding
    assert np.abs(picture(lost) - before).max() <= 1
    assert list(json.loads((out / "results.json").read_text())["schedules"]) == ["unguided", "late-50"]

    changed = invoke(model, "--seed", 1)
    assert changed.exit_code == 2
    assert "other settings (seed)" in " ".join(changed.output.split())
    changed = invoke(model, "--scale", 3)
    assert changed.exit_code == 2
    assert "schedule constant" in " ".join(changed.output.split())


def test_images_are_paired_and_their_own(model, tmp_path):
    """Scale 1 from the same seed is the same image in any batch; other seeds, samples and prompts are others."""
    import kdist

    run = sd15.load(model, PROMPTS, tmp_path, steps=4, seed=0, device="cpu", dtype="float32")
    guided = run.guided(kdist.Constant(1.0))
    both = run.images(guided, 0, [0, 1]).astype(int)
    assert both.shape == (2, 16, 16, 3)
    assert np.abs(run.images(guided, 0, [1])[0] - both[1]).max() <= 1  # rounding of other kernels
    assert np.abs(both[0] - both[1]).max() > 1
    assert np.abs(run.images(guided, 1, [0])[0] - both[0]).max() > 1
    # a schedule that is 1 everywhere draws the same noise as the constant
    same = run.guided(kdist.Interval(3.0, 1e3, 2e3))
    assert np.array_equal(run.images(same, 0, [0, 1]), both)


def test_batches_are_of_what_is_missing(model, tmp_path):
    run = sd15.load(model, PROMPTS, tmp_path, steps=4, seed=0, device="cpu", dtype="float32")
    assert list(sd15.missing(run, "constant", 3, 2)) == [(0, [0, 1]), (0, [2]), (1, [0, 1]), (1, [2])]
    there = run.path("constant", 0, 1)
    there.parent.mkdir(parents=True)
    there.touch()
    assert list(sd15.missing(run, "constant", 3, 2)) == [(0, [0, 2]), (1, [0, 1]), (1, [2])]


def test_plan_only(invoke, model, tmp_path):
    result = invoke(model, "--plan")
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "out").exists()
    text = " ".join(result.output.split())
    for word in ("calls per image", "minutes", "of memory", "of disk"):
        assert word in text


def test_own_schedule_and_the_reference_is_always_there(model, tmp_path):
    run = sd15.load(model, PROMPTS, tmp_path, steps=4, seed=0, device="cpu", dtype="float32")
    own = sd15.protocol(5.0, run.sigmas)
    chosen = sd15.choose_schedules(["late-50", "mine=interval:scale=3,sigma_lo=1,sigma_hi=2"], own)
    assert list(chosen) == ["unguided", "late-50", "mine"]
    assert chosen["late-50"].sigma_switch == pytest.approx(float(run.sigmas[2]))  # half of 4 steps


def test_shipped_prompts():
    assert len(sd15.read_prompts(sd15.PROMPTS)) == 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dtype", "float8"], "dtype must be"),
        (["--device", "no-such"], "device must be"),
        (["--schedule", "no-such"], "unknown schedule 'no-such'"),
        (["--schedule", "late-50=4"], "name of its own"),
        (["--schedule", "mine=constant:size=3"], "no 'size'"),
        (["--features", "no-such"], "extractor must be one of"),
        (["--features", "inception=/no/such/file"], "/no/such/file"),
        (["--clip", "/no/such/clip"], "no transformers CLIP model at /no/such/clip"),
    ],
)
def test_bad_options_end_before_sampling(invoke, model, tmp_path, options, message):
    result = invoke(model, *options)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())
    assert not list(tmp_path.rglob("*.png"))


def test_missing_model_and_bad_prompts(invoke, model, tmp_path):
    result = invoke("/no/such/model")
    assert result.exit_code == 2
    assert "no diffusers model at /no/such/model" in " ".join(result.output.split())
    path = tmp_path / "p.txt"
    for text, message in (("# nothing\n", "no prompt"), ("a\nb\na\n", "prompts twice: 'a'")):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            sd15.read_prompts(path)
