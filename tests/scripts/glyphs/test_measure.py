"""The glyph measurement on exact mixtures: same noise for every set, numbers that are known, samples kept."""

import math

import pytest
import torch
from PIL import Image

import kdist
from kdist.theory import GaussianMixtureDenoiser
from scripts.glyphs import data as glyphs
from scripts.glyphs import figures as glyph_figures
from scripts.glyphs import measure as measure_glyphs
from scripts.glyphs import theory as glyph_theory
from scripts.glyphs import tuned
from scripts.glyphs.experiment import Experiment, prepare
from scripts.glyphs.measure import Judge, Plan
from scripts.results import glyph_classes
from scripts.results.families import FAMILIES, PLAIN

SHAPE = (1, 2, 2)
CENTRES = torch.tensor([[0.6, 0, 0, 0], [0, 0.6, 0, 0], [0, 0, 0.6, 0], [0, 0, 0, 0.6]]).reshape(4, *SHAPE)
SPREAD = 0.1  # of each class, in every pixel


class TwoSets(torch.nn.Module):
    """Four exact Gaussian classes; token 4 is any of the first two, token 5 any of the four."""

    def __init__(self):
        super().__init__()
        self.parts = [GaussianMixtureDenoiser(CENTRES[:p], SPREAD**2) for p in (2, 4)]
        self.calls = 0

    def forward(self, x, sigma, class_cond):
        self.calls += 1
        small, large = self.parts
        first = class_cond == 4
        out = large(x, sigma, torch.where(class_cond >= 4, 4, class_cond))
        out[first] = small(x[first], sigma[first], torch.full_like(class_cond[first], 2))
        return out


def draw(labels, seed):
    noise = torch.randn(len(labels), *SHAPE, generator=torch.Generator().manual_seed(seed))
    images = ((CENTRES[labels] + SPREAD * noise + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return glyphs.Glyphs(images, labels, tuple("abcd"))


@pytest.fixture
def plan(tmp_path):
    return Plan("exact", TwoSets(), tmp_path, classes=2, per_class=40, steps=12, shape=SHAPE)


@pytest.fixture(scope="module")
def real():
    return draw(torch.arange(4).repeat_interleave(60), seed=5)


def test_all_sets_start_from_the_same_noise(plan):
    # scale 1 never asks the null token, so nothing may differ, ancestral noise included
    for solver in measure_glyphs.SOLVERS:
        few, many = (plan.samples(solver, kdist.Constant(1.0), null) for null in (4, 5))
        assert torch.equal(few, many)
        guided = plan.samples(solver, kdist.Constant(2.0), 5)
        assert not torch.equal(guided, many)


def test_samples_are_kept_and_not_made_again(plan):
    first = plan.samples("dpmpp_2m", kdist.Constant(2.0), 5)
    calls = plan.model.calls
    assert torch.equal(plan.samples("dpmpp_2m", kdist.Constant(2.0), 5), first)
    assert plan.model.calls == calls
    plan.samples("dpmpp_2m", kdist.Constant(2.0), 4)  # another null token, another file
    assert plan.model.calls > calls


def test_an_interruption_leaves_no_file(tmp_path):
    def broken(x, sigma, class_cond):
        raise KeyboardInterrupt

    plan = Plan("broken", broken, tmp_path, classes=2, per_class=2, shape=SHAPE)
    with pytest.raises(KeyboardInterrupt):
        plan.samples("dpmpp_2m", kdist.Constant(1.0), 4)
    assert not list(tmp_path.iterdir())


def test_unguided_samples_of_an_exact_model_are_undistorted_and_guided_ones_are_not(plan, real):
    origin = CENTRES.flatten(1).mean(0)
    rows = measure_glyphs.measure_all(
        plan, (2, 4), (4, 5), real.first(2), origin, Judge(real), solver_names=["dpmpp_2m"], resamples=19,
        schedules={name: measure_glyphs.SCHEDULES[name] for name in ("1", "4")},
    )  # fmt: skip
    assert [(row["schedule"], row["set"]) for row in rows] == [("1", 0), ("4", 2), ("4", 4)]
    plain, few, many = rows
    # mean of 80 samples of spread 0.1 over a distance of 0.52: 0.02; trace of 2 x 40 in 4 dimensions: 8 %. 4 of each
    assert abs(plain["overshoot"][0]) < 4 * 0.03
    assert abs(math.log(plain["trace_ratio"][0])) < 4 * 0.11
    assert plain["accuracy"]["2"][0] > 0.97
    assert set(plain["accuracy"]) == {"2", "4"}
    # against two classes guidance pushes along their difference, against four away from all: the latter is this axis
    assert many["overshoot"][0] > few["overshoot"][0] > plain["overshoot"][0]
    assert few["overshoot_floor"][0] < few["overshoot_floor"][1]
    # unguided: 0 within four standard errors of the estimate itself, whose 95 % interval is 1.96 of them wide
    value, low, high = plain["energy_distance"]
    assert abs(value) < 4 * (high - low) / (2 * 1.96)
    assert many["energy_distance"][0] > plain["energy_distance"][0]
    assert many["displacement"][0] >= many["overshoot"][0] - 0.02  # the whole is no shorter than its part, estimated


def test_null_tokens_that_sample_their_own_set_are_seen_to(plan, real):
    rows = measure_glyphs.null_check(plan, (2, 4), (4, 5), real, Judge(real), number=120)
    assert rows[0]["generated"]["2"][0] > 0.97  # classes are 8 spreads apart
    # half of the large set's samples are in the small set: 4 standard errors of 120 draws
    assert abs(rows[1]["generated"]["2"][0] - 0.5) < 4 * math.sqrt(0.25 / 120)
    for row in rows:  # the exact denoiser of a law is the best there is for its images; the other is far behind
        own = row["error"].pop(str(row["set"]))
        assert own < min(row["error"].values())
    swapped = measure_glyphs.null_check(plan, (2, 4), (5, 4), real, Judge(real), number=120)
    assert swapped[0]["generated"]["2"][0] < swapped[0]["real"]["2"][0] - 0.2


def test_paired_differences_are_exact_for_a_known_change():
    labels = torch.arange(2).repeat_interleave(30)
    first = draw(labels, 1).images.double()
    origin, means = torch.zeros(4), CENTRES[:2].flatten(1)
    # every class moved by half of its distance to the origin and drawn out by 3 around its own sample mean
    centre = torch.stack([first[labels == c].mean(0) for c in (0, 1)])[labels]
    second = centre + 3 * (first - centre) + 0.5 * CENTRES[:2][labels]
    found = measure_glyphs.paired_difference(first, second, labels, means, origin, resamples=200)
    assert found["overshoot"][0] == pytest.approx(0.5, abs=1e-5)  # sums are kept in float32
    assert found["log_trace"][0] == pytest.approx(2 * math.log(3), abs=1e-5)
    assert found["overshoot"][1] < 0.5 < found["overshoot"][2]
    same = measure_glyphs.paired_difference(first, first, labels, means, origin, resamples=20)
    assert same["overshoot"] == same["log_trace"] == [0, 0, 0]


def test_the_judge_prefers_the_class_whose_images_are_near(real):
    judge = Judge(real, width=0.1)
    assert judge.log_likelihoods(CENTRES).argmax(1).tolist() == [0, 1, 2, 3]
    # one image per class and the width of the class: the nearest image wins
    nearest = Judge(real, per_class=1)
    assert nearest.images.shape == (4, 4)


def test_the_mixture_gives_classes_the_same_weight_whatever_their_number():
    data = draw(torch.tensor([0] * 30 + [1] * 3), seed=2)
    mixture = glyph_theory.empirical_mixture(data, most=20)
    assert torch.bincount(mixture.labels).tolist() == [20, 3]
    mass = torch.zeros(2).index_add_(0, mixture.labels, mixture.log_weights.exp())
    torch.testing.assert_close(mass, torch.tensor([0.5, 0.5]))  # float32


def test_the_spectrum_of_isotropic_classes_is_known():
    # isotropic centres (0.2) and spread (0.1) in 4 dimensions: d_eff 4, c = 1/4. Bound: a covariance of
    # 400 samples is off by about sqrt(2 / 400) = 7 % in each direction
    generator = torch.Generator().manual_seed(0)
    centres = 0.2 * torch.randn(400, 1, 2, 2, generator=generator)
    labels = torch.arange(400).repeat_interleave(8)
    x = centres[labels] + 0.1 * torch.randn(3200, 1, 2, 2, generator=generator)
    images = ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    spectrum = glyph_theory.Spectrum.of(glyphs.Glyphs(images, labels, tuple("x" * 400)))
    assert spectrum.d_eff == pytest.approx(4, rel=0.05)
    # the means of 8 images carry an eighth of the spread
    assert spectrum.within_var == pytest.approx(0.01 / (0.04 + 0.01 / 8), rel=0.1)
    assert spectrum.alpha(8) == pytest.approx(math.log(8) / spectrum.d_eff)


def test_mean_field_distorts_more_with_more_classes():
    spectrum = glyph_theory.Spectrum(within=30.0, between=20.0, d_eff=20.0)
    rows = glyph_theory.mean_field_rows(spectrum, {"2": kdist.Constant(2.0)}, {"dpmpp_2m": 0.0}, 16)
    overshoot, trace = [r["overshoot"] for r in rows], [r["trace_ratio"] for r in rows]
    assert overshoot == sorted(overshoot)
    assert trace == sorted(trace, reverse=True)


def test_schedules_in_other_units():
    window = glyph_theory.in_units(kdist.NegativeWindow(scale=3.0, sigma_lo=0.3, sigma_hi=1.0), 2.0)
    assert (window.scale, window.sigma_lo, window.sigma_hi) == (3.0, 0.15, 0.5)


def test_observations_and_predictions_fit_together(plan, real, tmp_path, monkeypatch):
    found = measure_glyphs.observe(plan, real, real, (2, 4), (4, 5))
    assert len(found["network"]) == 2 * (1 + 6 * 2)  # scale 1 needs no set
    assert [row["schedule"] for row in found["paired"]] == 2 * list(measure_glyphs.SCHEDULES)[1:]
    monkeypatch.setattr(glyph_theory, "WIDTH", SPREAD)
    monkeypatch.setattr(
        measure_glyphs.Plan, "samples", lambda self, *_: torch.zeros(len(self.labels), *SHAPE).normal_()
    )
    theory = measure_glyphs.predict(real, real.first(2), (2, 4), tmp_path, per_class=5, seed=0, steps=4)
    settings = {(row["schedule"], row["set"]) for row in theory["empirical"]}
    assert settings == {("1", 0)} | {(name, classes) for name in ("1.5", "2", "4") for classes in (2, 4)}


def test_the_sample_figure_shows_every_law(tmp_path, real):
    sheet = glyph_figures.sheet(glyphs.to_model(real.images), real.labels, 3)
    assert sheet["shape"] == (4 * 2, 3 * 2)  # four classes of images of 2 x 2
    sizes = []
    for names in ("a", "ab"):
        glyph_figures.sample_figure(dict.fromkeys(names, sheet), tmp_path / "s.png")
        sizes.append(Image.open(tmp_path / "s.png").width)
    assert sizes[1] == 2 * sizes[0]


def test_families_are_tuned_alike_on_other_noise_than_is_reported(tmp_path, real):
    own = Experiment(TwoSets(), "exact", {2: 4, 4: 5}, real, real)
    families = [PLAIN, *(family for family in FAMILIES if family.name in ("constant", "interval"))]
    options = {"seed": 0, "per_class": 6, "tune_seed": 1, "tune_per_class": 5, "steps": 6, "families": families}
    rows = tuned.compare(own, tmp_path, **options)
    by_kind = {kind: [row for row in rows if row["kind"] == kind] for kind in ("target", "tried", "reported")}
    assert [row["set"] for row in by_kind["target"]] == [2, 4]
    assert len(by_kind["tried"]) == 2 * (1 + 6 + 6)
    for aim in by_kind["target"]:
        assert aim["real"] == aim["accuracy_real"][1]
        for row in by_kind["reported"]:
            if row["set"] == aim["set"] and row["target"] == "real" and row["setting"]:
                # what stands for a family reached the target on the tuning seed, and none of it did so nearer
                found = [r for r in by_kind["tried"] if (r["family"], r["set"]) == (row["family"], row["set"])]
                reach = [r for r in found if r["accuracy"][0] >= aim["real"]]
                assert row["setting"] == min(reach, key=lambda r: r["energy_distance"][0])["setting"]
    first = next(row for row in by_kind["tried"] if row["setting"] == "2")
    again = next(row for row in by_kind["reported"] if row["setting"] == "1")
    assert first["calls"] == 12
    assert again["calls"] == 6
    tables = tuned.tables(rows)
    assert set(tables) == {"tuned_real", "tuned_constant"}
    assert "| 4 | no guidance | `1` |" in tables["tuned_real"]


def test_the_figure_is_drawn_from_the_numbers_alone(tmp_path, real):
    cell = {"energy_distance": [0.05, 0.02, 0.08], "displacement": [0.4, 0.3, 0.5], "overshoot": [0.2, 0.1, 0.3]}
    cell |= {"trace_ratio": [0.9, 0.8, 1.0], "trace_ratio_correct": [0.7, 0.6, 0.8]}
    floors = {"overshoot_floor": [-0.1, 0.1], "trace_ratio_floor": [0.9, 1.1], "energy_distance_floor": [-0.01, 0.01]}
    share = {"2": [0.9, 0.8, 0.95], "4": [0.8, 0.7, 0.9]}
    rows = [{"solver": "dpmpp_2m", "schedule": "2", "set": p, "accuracy": share, **cell, **floors} for p in (2, 4)]
    plain = rows[0] | {"schedule": "1", "set": 0, "accuracy_real": share}
    theory = [{"solver": "dpmpp_2m", "schedule": scale, "set": p, **cell} for p in (2, 4) for scale in ("2", "4")]
    checked = {"set": 2, "generated": share, "by_class": share, "real": share, "trace_ratio": 1.0}
    paired = [{"solver": "dpmpp_2m", "schedule": "2", "overshoot": [0.1, 0.0, 0.2], "log_trace": [-0.1, -0.2, 0.0]}]
    data = {
        "sets": [2, 4],
        "characters": ["a", "b"],
        "network": [plain, *rows],
        "null_check": [checked | {"error": {"2": 5.0, "4": 6.0}}],
        "paired": paired,
        "theory": {"empirical": theory, "mean_field": theory},
        "shown": {"held-out images": glyph_figures.sheet(glyphs.to_model(real.images), real.labels, 3)},
    }
    found = data | {"tuned": [{"kind": "target", "set": 2, "accuracy_real": [0.9, 0.8, 0.95], "real": 0.8}]}
    glyph_classes.draw(found, tmp_path / "F8.png")
    for name in ("F8.png", "F8_samples.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"
    texts = glyph_classes.texts(found)
    assert (
        "| DPM-Solver++(2M) | 2 | 4 | 0.050 [0.020, 0.080] | 0.40 [0.30, 0.50] | 0.20 [0.10, 0.30] |"
        in texts["network"]
    )
    assert "**5.00** | 6.00" in texts["null"]
    assert "| scale 4 | P = 2 | P = 4 |" in texts["mixture"]
    assert "| distance, DPM-Solver++(2M) | 0.050 [0.020, 0.080] | 0.050 [0.020, 0.080] |" in texts["mixture"]
    assert "| 0.050 [0.020, 0.080] | 0.40 [0.30, 0.50] | 0.40 [0.30, 0.50] |" in texts["paired"]
    with pytest.raises(FileNotFoundError):
        prepare(tmp_path / "none.safetensors")
