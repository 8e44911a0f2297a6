"""`kdist compare --reference`: generated sets against another one, by prompt and seed, from folders to a report."""

import csv
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from kdist.cli.app import app
from kdist.evals import SamplerSource, extract, load_features
from kdist.evals.features import Features, paired_rows
from kdist.evals.report import MeasuredSet, compare_to_reference
from kdist.evals.sources import as_source, sample_seeds
from kdist.files import write_atomically

PROMPTS = ("a_red_dog", "two_cats")


def pictures(folder, *, scale=1.0, seeds=range(8), prompts=PROMPTS, form="{}.png", seed=0):
    """prompt/seed.png: noise of each prompt and seed about the prompt's grey, times ``scale``."""
    for place, prompt in enumerate(prompts):
        (folder / prompt).mkdir(parents=True)
        for each in seeds:
            noise = np.random.default_rng([seed, place, each]).normal(size=(6, 6, 3))
            picture = 90 + 60 * place + 12 * scale * noise
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / prompt / form.format(each))
    return folder


def features(x, y, seeds=None, names=PROMPTS):
    about = {"classes": {str(k): name for k, name in enumerate(names)}}
    seeds = None if seeds is None else np.asarray(seeds, np.uint64)
    return Features(np.asarray(x, np.float32), np.asarray(y, np.int64), np.arange(len(x)), about, seeds)


def run(*arguments):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def words(result):
    return " ".join((result.output + str(result.exception or "")).split())


# -- seeds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "known"), [("{}.png", True), ("seed-{:05d}.png", True), ("cat {} b.png", False)])
def test_files_called_by_numbers_say_their_seeds(tmp_path, form, known):
    source = as_source(pictures(tmp_path / "set", seeds=(3, 11, 2), form=form))
    if not known:
        assert source.seeds is None
        return
    assert sorted(zip(source.labels.tolist(), source.seeds, strict=True)) == [
        (k, s) for k in (0, 1) for s in (2, 3, 11)
    ]
    found = extract(source, "pixels")
    found.save(tmp_path / "set.npz")
    assert load_features(tmp_path / "set.npz").seeds.tolist() == list(source.seeds)
    found.save(tmp_path / "set.safetensors")
    assert load_features(tmp_path / "set.safetensors").seeds.tolist() == list(source.seeds)


def test_a_number_twice_in_a_class_is_no_seed(tmp_path):
    pictures(tmp_path / "set", seeds=(1, 2))
    (tmp_path / "set" / "two_cats" / "01.png").write_bytes((tmp_path / "set" / "two_cats" / "1.png").read_bytes())
    assert as_source(tmp_path / "set").seeds is None


def test_samplers_know_their_seeds():
    def sample(model, x, sigmas, extra_args=None, **options):
        return x.clamp(-1, 1)

    import torch

    model = torch.nn.Identity()
    source = SamplerSource(model, sample, torch.tensor([1.0, 0.0]), [0, 1, 0], shape=(3, 4, 4), seed=5)
    assert extract(source, "pixels").seeds.tolist() == sample_seeds(5, 3)


def test_seeds_pair_what_places_do_not():
    x = np.arange(12.0).reshape(6, 2)
    first = features(x, [0, 0, 0, 1, 1, 1], [5, 6, 7, 5, 6, 7])
    other = first.rows(np.array([4, 2, 0, 1]))
    rows, other_rows, by_seed = paired_rows(first, other)
    assert by_seed
    np.testing.assert_array_equal(first.x[rows], other.x[other_rows])
    assert len(rows) == 4
    by_place = paired_rows(first, features(x, [0, 0, 0, 1, 1, 1]))
    assert (by_place.first.tolist(), by_place.by_seed) == ([0, 1, 2, 3, 4, 5], False)


def test_bad_seeds_in_a_file(tmp_path):
    np.savez(tmp_path / "twice.npz", x=np.zeros((3, 2)), y=[0, 0, 1], seeds=[4, 4, 4])
    with pytest.raises(ValueError, match="names a seed of a class twice"):
        load_features(tmp_path / "twice.npz")
    np.savez(tmp_path / "floats.npz", x=np.zeros((3, 2)), y=[0, 0, 1], seeds=[0.5, 1, 2])
    with pytest.raises(ValueError, match="seeds must be"):
        load_features(tmp_path / "floats.npz")


# -- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("images")
    pictures(base / "plain")
    pictures(base / "half", scale=0.5)
    pictures(base / "wide", scale=1.3, seeds=range(1, 9))
    return base


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A random CLIP in transformers' format."""
    from kdist.compat import repair_torchvision

    repair_torchvision()
    from scripts.examples.tiny_models import save_clip

    return save_clip(tmp_path_factory.mktemp("clip"))


def test_whole_command(folders, clip, tmp_path):
    result = run(
        "--reference", folders / "plain", folders / "half", folders / "wide", "-e", "pixels", "--clip", clip,
        "--cache", tmp_path / "cache", "--quick", "--out", tmp_path / "out",
    )  # fmt: skip
    assert result.exit_code == 0, words(result)
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["schema"] == "kdist.reference/1"
    half, wide = found["sets"]
    assert [entry["by_seed"] for entry in found["sets"]] == [True, True]
    assert [entry["name"] for entry in half["prompts"]] == list(PROMPTS)
    # seeds 1 to 7 are in every set, and half the noise is a quarter of the variance; rounding to grey levels adds some
    assert half["pooled"]["pairs"] == 14
    assert half["pooled"]["variance"]["value"] == pytest.approx(0.25, abs=0.01)
    assert half["pooled"]["pairwise_distance"]["value"] == pytest.approx(0.5, abs=0.01)
    assert wide["pooled"]["variance"]["value"] == pytest.approx(1.69, abs=0.05)
    assert (half["less_varied"], wide["more_varied"]) == (2, 2)
    for name in ("alignment", "alignment_reference", "alignment_gain"):
        assert -1 <= half["pooled"][name]["value"] <= 1
    assert half["pooled"]["alignment_gain"]["value"] == pytest.approx(
        half["pooled"]["alignment"]["value"] - half["pooled"]["alignment_reference"]["value"]
    )
    assert found["settings"]["prompts"] == ["a red dog", "two cats"]
    assert sum("have no partner in every set" in warning for warning in found["warnings"]) == 3
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "prompts.csv").read_text())))
    assert [(row["set"], row["name"]) for row in rows] == [(s, p) for s in ("half", "wide") for p in PROMPTS]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "the same seed, as the files say" in page
    assert page.count('class="strips') == 2
    for text in (page, result.output, " ".join(found["summary"])):
        assert not re.search("real (against|class|set|data|image)|of the real", text)
    assert all("reference" in sentence for sentence in found["summary"])
    assert max(map(len, result.stdout.split("\n\n")[0].splitlines())) <= 80


def test_the_reference_against_itself(folders, tmp_path):
    result = run("--reference", folders / "plain", folders / "plain", "-e", "pixels", "--out", tmp_path, "--quick",
                 "--cache", tmp_path / "cache")  # fmt: skip
    assert result.exit_code == 0, words(result)
    (own,) = json.loads((tmp_path / "results.json").read_text())["sets"]
    for name in ("variance", "pairwise_distance", "vendi_ratio"):
        assert own["pooled"][name]["value"] == pytest.approx(1, abs=1e-12)
    assert own["pooled"]["distance"] == {**own["pooled"]["distance"], "value": 0, "p_value": 1}
    assert "not to be told from the reference set" in words(result)
    assert "16 of 16 samples equal their partner" in words(result)  # two prompts of eight


def test_prompts_for_numbered_folders(folders, clip, tmp_path):
    for name in ("a", "b"):
        pictures(tmp_path / name, prompts=("000", "001"))
    base = ("--reference", tmp_path / "a", tmp_path / "b", "-e", "pixels", "--clip", clip, "--out", tmp_path / "out",
            "--cache", tmp_path / "cache", "--quick")  # fmt: skip
    assert "called by numbers" in words(run(*base))
    (tmp_path / "prompts.txt").write_text("a red dog\ntwo cats\n")
    result = run(*base, "--prompts", tmp_path / "prompts.txt")
    assert result.exit_code == 0, words(result)
    (tmp_path / "prompts.txt").write_text("a red dog\n")
    assert "prompts must name each of the 2 classes" in words(run(*base, "--prompts", tmp_path / "prompts.txt"))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"seeds": range(100, 108)}, "have no seed of a prompt in common"),
        ({"seeds": range(6, 12)}, "no prompt has 3 seeds that all sets have"),
        ({"seeds": [3]}, "no prompt has 3 seeds that all sets have"),
        ({"prompts": ("a blue bird",)}, "have no class in common"),
    ],
)
def test_nothing_in_common(folders, tmp_path, other, message):
    pictures(tmp_path / "other", **other)
    result = run("--reference", folders / "plain", tmp_path / "other", "-e", "pixels", "--out", tmp_path / "out",
                 "--cache", tmp_path / "cache")  # fmt: skip
    assert result.exit_code != 0
    assert message in words(result)
    assert "real" not in words(result).replace("already", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a.npz"], "compare needs a real set and a generated one"),
        (["a.npz", "b.npz", "--clip", "x"], "--clip belongs to --reference"),
        (["--reference", "a.npz", "b.npz", "--prompts", "x"], "give its folder with --clip"),
        (["--reference", "a.npz", "b.npz", "--common-classes"], "--common-classes is for real sets"),
        (["--reference", "a.npz", "b.npz", "--clip", "/no/such"], "no transformers CLIP model at /no/such"),
    ],
)
def test_bad_options(tmp_path, options, message):
    result = run(*options, "--out", tmp_path)
    assert result.exit_code != 0
    assert message in words(result)


# -- what is warned of ---------------------------------------------------------------------------------------------


def test_unknown_seeds_collapse_and_missing_prompts_are_said():
    x = np.random.default_rng(0).normal(size=(12, 3))
    y = np.repeat([0, 1], 6)
    own = x.copy()
    own[:6] = 1.0
    sets = [MeasuredSet(name, f"{name}.npz", features(v, y)) for name, v in (("reference", x), ("other", own))]
    found = compare_to_reference(sets[0], sets[1:], resamples=19)
    assert any("not known" in warning for warning in found.warnings)
    assert any("all samples of 1 prompts are the same" in warning for warning in found.warnings)
    assert not found.against["other"].by_seed
    pooled = found.against["other"].pooled
    assert found.against["other"][0].variance == 0  # nothing is left, and it ranks first
    assert found.ranked()[0].label == 0
    assert found.against["other"].less_varied == 1
    assert pooled.variance == pytest.approx(1)  # of the other prompt alone, as said
    assert pooled.pairwise_distance == pytest.approx(1)  # of the prompt where it is defined, the same samples
    fewer = MeasuredSet("other", "other.npz", features(x[:6], y[:6]))
    found = compare_to_reference(sets[0], [fewer], resamples=19)
    assert any("1 prompts without 3 common seeds" in warning for warning in found.warnings)


def test_alignment_needs_images(clip):
    from kdist.evals.features.alignment import load_clip

    x = np.random.default_rng(0).normal(size=(6, 3))
    sets = [MeasuredSet(name, f"{name}.npz", features(x, np.repeat([0, 1], 3))) for name in ("reference", "other")]
    with pytest.raises(ValueError, match=r"images, and those of reference\.npz are not at hand"):
        compare_to_reference(sets[0], sets[1:], clip=load_clip(clip))


def test_a_broken_clip_folder_says_so(tmp_path):
    from kdist.evals.features.alignment import load_clip

    write_atomically(tmp_path / "config.json", "{}")
    with pytest.raises(ValueError, match="no whole CLIP model"):
        load_clip(tmp_path)
