"""Designs on an exact mixture: its law is the data's, the choice is the best candidate, and what it promises holds."""

import json
import math

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

import kdist
from kdist.cli.design import design_early_command
from kdist.solvers import sample
from kdist.theory import DesignMismatch, GaussianMixtureDenoiser, InfeasibleDesign, design_on_mixture
from kdist.theory.designs.separated import _Law

CENTRES = 2.0 * torch.eye(4, dtype=torch.float64)  # 2.8 apart
SPREAD = 0.3
LEVELS = torch.cat([torch.logspace(math.log10(20), math.log10(0.02), 14), torch.zeros(1)]).double()
FEW = {"scales": (2.0, 4.0), "switches": (1.0, 2.0), "early": (0.0, 0.5), "per_class": 100}


@pytest.fixture(scope="module")
def mixture():
    return GaussianMixtureDenoiser(CENTRES, SPREAD**2)


@pytest.fixture(scope="module")
def chosen(mixture):
    return design_on_mixture(mixture, LEVELS, **FEW)


def run(mixture, schedule, per_class=100):
    """The outcome of a schedule, from other noise."""
    classes = torch.arange(4).repeat_interleave(per_class)
    noise = torch.randn(len(classes), 4, generator=torch.Generator().manual_seed(7), dtype=torch.float64) * LEVELS[0]
    guided = kdist.guide(mixture, schedule, uncond={"class_cond": 4})
    with torch.no_grad():
        return _Law(mixture).measure(
            sample("dpmpp_2m", guided, noise, LEVELS, extra_args={"class_cond": classes}), classes
        )


def test_the_law_is_that_of_the_data():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [30, 40, 50])
    x = rng.normal(size=(120, 5)) * (1 + y[:, None]) + 3 * np.eye(5)[y]
    for model in (GaussianMixtureDenoiser.fit(x, y), GaussianMixtureDenoiser.empirical(x, y, 0.1)):
        law = _Law(model)
        means = np.stack([x[y == c].mean(0) for c in range(3)])
        np.testing.assert_allclose(law.means, means, atol=1e-12)
        np.testing.assert_allclose(law.centre, x.mean(0), atol=1e-12)
        # fit estimates with n - 1; a mixture of the samples has their own second moment and its width
        kept = [x[y == c].var(0, ddof=int(model.axes is not None)).sum() for c in range(3)]
        extra = 0 if model.axes is not None else 5 * 0.1**2
        np.testing.assert_allclose(law.traces, np.array(kept) + extra, rtol=1e-10)
    gaps = [min(np.linalg.norm(means[a] - means[b]) for b in range(3) if b != a) for a in range(3)]
    assert law.gap == pytest.approx(np.median(gaps))


def test_samples_of_the_mixture_are_judged_undistorted(mixture):
    classes = torch.arange(4).repeat_interleave(2000)
    x = mixture.sample(classes, generator=torch.Generator().manual_seed(0))
    ratio, overshoot, accuracy = _Law(mixture).measure(x, classes)
    # 8000 samples in 4 directions: 4 standard errors of a trace are 4 sqrt(2 / 32000), of a mean 4 * 0.3 / 1.7 / 89
    assert abs(ratio - 1) < 4 * math.sqrt(2 / 32_000)
    assert abs(overshoot) < 4 * SPREAD / math.sqrt(3) / math.sqrt(8000)
    assert accuracy > 0.999


def test_the_choice_is_the_least_distorted_candidate_and_holds_for_other_noise(mixture, chosen):
    options = {"per_class": 100, "accuracy_loss": 1.0}
    each = [
        design_on_mixture(mixture, LEVELS, scales=(scale,), switches=(switch,), early=(early,), **options)
        for scale in FEW["scales"]
        for switch in FEW["switches"]
        for early in FEW["early"]
    ]
    best = min(
        (one for one in each if one.accuracy >= chosen.accuracy_unguided - 0.005), key=lambda one: one.distortion
    )
    assert chosen == best
    ratio, overshoot, _ = run(mixture, chosen.schedule)
    plain = run(mixture, kdist.Constant(1.0))
    # 400 samples in 4 directions on both sides: standard error 0.035 of the ratio, 0.011 of the overshoot
    assert ratio / plain[0] == pytest.approx(chosen.trace_ratio, abs=4 * 0.05)
    assert overshoot - plain[1] == pytest.approx(chosen.overshoot, abs=4 * 0.016)


def test_a_design_distorts_less_than_a_constant_scale(mixture, chosen):
    """The statement the module stands on, in a world with a known law; standard errors are 0.04 together."""
    constant, early = (run(mixture, schedule) for schedule in (kdist.Constant(4.0), chosen.schedule))
    amount = [abs(math.log(ratio)) + abs(overshoot) for ratio, overshoot, _ in (constant, early)]
    assert amount[1] < amount[0] - 0.1
    assert early[2] > 0.99


def test_the_unguided_network_is_taken_into_account(mixture, chosen):
    narrow = design_on_mixture(mixture, LEVELS, unguided=(0.8, 0.1), **FEW)
    same = design_on_mixture(mixture, LEVELS, unguided=(0.8, 0.1), **{**FEW, "scales": (chosen.schedule.scale,),
        "switches": (chosen.schedule.sigma_switch,), "early": (chosen.schedule.early,)})  # fmt: skip
    assert same.trace_ratio == pytest.approx(0.8 * chosen.trace_ratio)
    assert same.overshoot == pytest.approx(0.1 + chosen.overshoot)
    assert narrow.distortion <= same.distortion


def test_repeatable_and_counted(mixture, chosen):
    steps = []
    assert design_on_mixture(mixture, LEVELS, **FEW, on_run=lambda *step: steps.append(step)) == chosen
    assert steps == [(n, 8) for n in range(1, 9)]


def test_bad_input(mixture):
    with pytest.raises(InfeasibleDesign, match=r"no candidate keeps the accuracy .* higher sigma_switch"):
        design_on_mixture(mixture, LEVELS, scales=(2.0,), switches=(0.3,), early=(0.0,))
    with pytest.raises(ValueError, match="at least 2 samples"):
        design_on_mixture(mixture, LEVELS, per_class=1)
    with pytest.raises(ValueError, match="draws noise of its own"):
        design_on_mixture(mixture, LEVELS, solver="euler_ancestral")
    with pytest.raises(ValueError, match="unknown solver"):
        design_on_mixture(mixture, LEVELS, solver="eulre")
    with pytest.raises(ValueError, match="the first above 0"):
        design_on_mixture(mixture, LEVELS, unguided=(0.0, 0.0))


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app = typer.Typer(add_completion=False)
    app.command()(design_early_command)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_writes_the_design(invoke, tmp_path, mixture, monkeypatch):
    classes = torch.arange(4).repeat_interleave(50)
    x = mixture.sample(classes, generator=torch.Generator().manual_seed(1)).numpy()
    y = np.array(["ant", "bee", "cow", "dog"])[classes.numpy()]  # any labels
    np.savez(tmp_path / "real.npz", x=x, y=y)
    arguments = ("-f", "real.npz", "--unguided", 0.9, 0.02, "--steps", 4, "--per-class", 8, "--sigma-max", 20)
    result = invoke(*arguments, "--out", "s/early.json")
    assert result.exit_code == 0, result.output
    fitted = GaussianMixtureDenoiser.fit(x, classes)
    ramp = torch.linspace(0, 1, 4, dtype=torch.float64)
    levels = torch.cat([(20 ** (1 / 7) + ramp * (0.02 ** (1 / 7) - 20 ** (1 / 7))) ** 7, torch.zeros(1).double()])
    expected = design_on_mixture(fitted, levels, unguided=(0.9, 0.02), per_class=8)
    assert kdist.from_json(tmp_path / "s" / "early.json") == expected.schedule
    assert f"variance {expected.trace_ratio:.2f} of real" in result.output
    assert json.loads((tmp_path / "s" / "early.json").read_text())["type"] == "early-negative"
    assert (tmp_path / "s" / "early.png").read_bytes().startswith(b"\x89PNG")
    wrong = invoke(*arguments, "--out", "early.txt")
    assert "must be a .json file" in str(wrong.exception)
    monkeypatch.setattr("kdist.theory.design_on_mixture", lambda *_, **__: expected)  # the same, not found once more
    # a network that does what was promised, and one that does not: same samples, pulled towards their class means
    means = np.stack([x[y == name].mean(0) for name in np.unique(y)])[classes.numpy()]
    for share, said in ((expected.trace_ratio, None), (0.4, "measured 0.40")):
        moved = means + np.sqrt(share) * (x - means) + expected.overshoot * (means - x.mean(0))
        np.savez(tmp_path / "run.npz", x=moved, y=y)
        result = invoke(*arguments, "--out", f"s/{share:.2f}.json", "--verify", "run.npz")
        if said is None:
            assert "verified on 200 samples of the network" in result.output
        else:
            assert isinstance(result.exception, DesignMismatch)
            assert said in str(result.exception)
            assert not (tmp_path / "s" / f"{share:.2f}.json").exists()
    missing = invoke(*arguments, "--out", "early.json", "--verify", "none.npz")
    assert "--verify: " in str(missing.exception)


def test_no_guidance_is_predicted_as_it_was_measured(mixture):
    """A candidate of scale 1 throughout: the solver's own part on the mixture cancels, exactly."""
    found = design_on_mixture(mixture, LEVELS[::3], unguided=(0.8, 0.1), scales=(1.0,), early=(1.0,), per_class=10)
    assert (found.trace_ratio, found.overshoot) == (pytest.approx(0.8, rel=1e-12), pytest.approx(0.1, abs=1e-12))


def test_the_seed_is_that_of_the_noise(mixture):
    options = {"scales": (3.0,), "switches": (1.5,), "early": (0.0,), "per_class": 10, "accuracy_loss": 1.0}
    first, other = (design_on_mixture(mixture, LEVELS, seed=seed, **options) for seed in (0, 1))
    assert first.trace_ratio != other.trace_ratio


def test_measures_are_the_unbiased_ones():
    """Five samples of each of five classes, of unlike distances to each other: numpy's variance with n - 1."""
    centres = np.array([[0.0, 0], [1, 0], [0, 4], [9, 9], [-9, 5]])
    law = _Law(GaussianMixtureDenoiser(centres, 0.04))
    apart = np.linalg.norm(centres[:, None] - centres, axis=2) + np.diag([np.inf] * 5)
    assert law.gap == pytest.approx(torch.tensor(apart.min(1)).median())
    assert law.gap > apart.min()
    x = centres.repeat(5, 0) + np.random.default_rng(0).normal(size=(25, 2))
    ratio, moved, _ = law.measure(torch.from_numpy(x), torch.arange(5).repeat_interleave(5))
    groups, middle = x.reshape(5, 5, 2), centres.mean(0)
    assert ratio == pytest.approx(np.mean([own.var(0, ddof=1).sum() / 0.08 for own in groups]))
    ways = [
        (own.mean(0) - m) @ (m - middle) / np.sum((m - middle) ** 2) for own, m in zip(groups, centres, strict=True)
    ]
    assert moved == pytest.approx(np.mean(ways))
