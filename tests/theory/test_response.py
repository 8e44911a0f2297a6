"""Measured responses against exact ones: one isotropic Gaussian per class, guided by one wide Gaussian."""

import itertools
import json
import warnings

import numpy as np
import pytest
import torch

import kdist
from kdist.compat import import_k_diffusion
from kdist.theory import (
    BeyondProbesWarning,
    EarlyNegativeWarning,
    GaussianMixtureDenoiser,
    GaussianPair,
    GuidanceWidensWarning,
    Response,
    compare,
    distortion,
    solver_moments,
)
from kdist.theory.response import probe_schedules
from kdist.theory.response_regression import CurvedRegression

MEANS, VARS, WHOLE = np.array([[1.0, 0.0], [0.0, -2.0]]), np.array([0.3, 0.1]), 1.5
SIGMA_MAX = 30.0
HELD_OUT = (
    "1.5",
    "1.8",
    "interval:scale=2,sigma_lo=0.3,sigma_hi=2",
    "late-negative:scale=2,sigma_switch=1",
    "ramp:start=2,end=0,sigma_min=0.1,sigma_max=5",
)
CONTENT = {
    "classes": (3, 7),
    "sigmas": [1.0, 0.5],
    "importance": [1.0, 1.0],
    "weights": np.zeros((4, 2)),
    "log_trace": np.zeros((2, 4, 2)),
    "overshoot": np.zeros((2, 4, 2)),
    "calls": 1,
}


@pytest.fixture(scope="module")
def models():
    classes = GaussianMixtureDenoiser(MEANS, VARS)
    whole = GaussianMixtureDenoiser(np.zeros((1, 2)), WHOLE)
    return classes, lambda x, sigma, class_cond: whole(x, sigma, 0)


@pytest.fixture(scope="module")
def sigmas():
    return import_k_diffusion().sampling.get_sigmas_karras(40, 0.01, SIGMA_MAX).double()


@pytest.fixture(scope="module")
def start():
    """Noise of mean exactly 0 in each half of each class, so that class means carry no sampling error."""
    z = torch.randn(6, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * SIGMA_MAX
    return torch.cat([z, -z, z, -z]), torch.arange(2).repeat_interleave(12)


@pytest.fixture(scope="module")
def response(models, sigmas, start):
    options = {"class_means": MEANS, "centre": [0.0, 0.0], "probes": 32, "bands": 6, "scales": (0.0, 2.0)}
    return Response.measure(models[0], *start, sigmas, weak_model=models[1], **options)


def pair(k):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GuidanceWidensWarning)
        return GaussianPair(MEANS[k], np.full(2, VARS[k]), np.zeros(2), np.full(2, WHOLE))


@pytest.mark.parametrize("text", HELD_OUT)
def test_held_out_schedules_are_those_of_the_theory(response, sigmas, text):
    """The log ratio is -int w k dt, the shift a smooth function: 32 probes of six bands recover both."""
    schedule, guess = kdist.parse(text), response.predict(kdist.parse(text))
    for k in range(2):
        exact = distortion(pair(k), schedule, sigma_max=SIGMA_MAX)
        at_steps, at_one = (compare(pair(k), solver_moments(pair(k), s, "dpmpp_2m", sigmas)) for s in (schedule, 1.0))
        log_ratio = np.log(at_steps.trace_ratio / at_one.trace_ratio)
        # ratios from -2 to 0.9; where the schedule changes inside a band only the band's average is known
        blur = 0.02 if isinstance(schedule, kdist.schedules.Constant) else 0.2
        assert abs(guess.log_trace_ratio[k] - log_ratio) < blur
        assert abs(guess.overshoot[k] - (at_steps.overshoot - at_one.overshoot)) < 0.05
        # 40 steps are not infinitely many: what the solver adds is known, and no part of the prediction's error
        solver = abs(log_ratio - np.log(exact.trace_ratio))
        assert abs(guess.log_trace_ratio[k] - np.log(exact.trace_ratio)) < blur + solver
        assert solver < 0.3


def test_probes_say_how_good_the_prediction_is(response):
    for quality in response.quality.values():
        # all but the blur inside bands
        assert quality["pooled"] > 0.99
        assert quality["classes"] > 0.99
        # isotropic classes and noise of mean 0: both halves respond the same, up to rounding
        assert quality["reliability"] == pytest.approx(1, abs=1e-6)


def test_scale_1_is_the_reference(response):
    guess = response.predict(1.0)
    np.testing.assert_allclose(guess.log_trace_ratio, 0, atol=1e-12)
    np.testing.assert_allclose(guess.trace_ratio, 1, atol=1e-12)
    np.testing.assert_allclose(guess.overshoot, 0, atol=1e-12)


def test_stochastic_solvers_repeat_their_noise(models, start):
    """A second measurement is the same to the last digit, and the caller's random numbers are left alone."""
    levels = import_k_diffusion().sampling.get_sigmas_karras(6, 0.1, SIGMA_MAX).double()
    options = {"weak_model": models[1], "solver": "euler_ancestral", "probes": 4, "bands": 2}
    state = torch.get_rng_state()
    first, second = (Response.measure(models[0], *start, levels, **options) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(first.log_trace, second.log_trace)
    np.testing.assert_array_equal(first.overshoot, second.overshoot)


def test_uncond_classes_batches_and_counting():
    """The unconditional class of a mixture, labels that are not 0..K-1, batches that mix classes: same numbers."""
    model = GaussianMixtureDenoiser(np.array([[0.0, 0.0], [2.0, 0.0], [-2.0, 0.0]]), 0.1)
    noise = torch.randn(16, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 10
    labels = torch.tensor([1, 2] * 8)
    levels = torch.tensor([10.0, 3.0, 1.0, 0.3, 0.0], dtype=torch.float64)
    options = {"uncond": {"class_cond": 3}, "solver": "heun", "probes": 4, "bands": 2, "scales": (1.5, 3.0)}
    runs: list[tuple[int, int]] = []
    whole = Response.measure(model, noise, labels, levels, on_run=lambda *n: runs.append(n), **options)
    parts = Response.measure(model, noise, labels, levels, batch=6, **options)
    assert whole.classes == (1, 2)
    assert runs == [(k, 4) for k in range(1, 5)]
    # Heun calls twice in each of 3 steps and once in the last, both passes each time, in 4 probes and the reference
    assert whole.calls == parts.calls == 5 * 16 * 2 * 7
    np.testing.assert_allclose(whole.log_trace, parts.log_trace, atol=1e-9)
    np.testing.assert_allclose(whole.sigmas, [10, 3, 1, 0.3])


def test_regression_recovers_a_smooth_kernel():
    """Responses int w k dL with a smooth k: 30 runs are enough for held-out schedules."""
    generator = np.random.default_rng(0)
    log_sigmas = np.linspace(3, -4, 20)
    kernel = np.stack([np.exp(-((log_sigmas - c) ** 2)) for c in (-0.5, 0.5)], axis=1)
    runs, held_out = generator.uniform(-1, 3, (30, 20)), generator.uniform(-1, 3, (200, 20))
    fit = CurvedRegression.fit(log_sigmas, np.ones(20), runs, runs @ kernel)
    error = fit.predict(held_out) - held_out @ kernel
    # 30 numbers for a kernel of some 7 correlation lengths: 1 % of the spread is left at most
    assert np.sqrt(np.mean(error**2)) < 0.01 * np.std(held_out @ kernel)
    assert fit.explained > 0.999


def test_regression_bends_where_the_response_saturates():
    """tanh of a sum: far better by the bend than by the best line, and never worse at no guidance."""
    generator = np.random.default_rng(0)
    runs, held_out = generator.uniform(-1, 3, (40, 3)), generator.uniform(-1, 3, (200, 3))
    target = lambda w: np.tanh(w.sum(1, keepdims=True) / 3)  # noqa: E731
    fit = CurvedRegression.fit(np.array([1.0, 0.0, -1.0]), np.ones(3), runs, target(runs))
    straight = np.linalg.lstsq(runs, target(runs), rcond=None)[0]
    bent, line = (np.sqrt(np.mean((p - target(held_out)) ** 2)) for p in (fit.predict(held_out), held_out @ straight))
    assert bent < line / 5
    np.testing.assert_allclose(fit.predict(np.zeros((1, 3))), 0, atol=1e-12)


def test_leave_one_out_is_what_refitting_gives():
    """The closed form against 12 refits with the chosen length, bend and noise."""
    generator = np.random.default_rng(1)
    runs = generator.uniform(-1, 3, (12, 3))
    values = np.tanh(runs @ np.array([[0.5], [1.0], [0.2]])) + 0.05 * generator.standard_normal((12, 1))
    log_sigmas, importance = np.array([1.0, 0.0, -1.0]), np.ones(3)
    fit = CurvedRegression.fit(log_sigmas, importance, runs, values)
    from kdist.theory.response_regression import _covariance

    full = _covariance(runs, runs, log_sigmas, importance, fit.length, fit.bend)
    noise = fit.error_variance * np.trace(full) / 12 * np.eye(12)  # fixed by all runs together
    left = []
    for k in range(12):
        rest = np.arange(12) != k
        solved = np.linalg.solve((full + noise)[np.ix_(rest, rest)], values[rest])
        left.append(values[k] - full[k, rest] @ solved)
    assert 1 - np.mean(np.square(left)) / np.mean(values**2) == pytest.approx(fit.explained, abs=1e-6)


def test_probes_fill_their_bands():
    sigmas, importance = np.geomspace(10, 0.1, 21), np.ones(21)
    schedules = probe_schedules(sigmas, importance, probes=16, bands=5, scales=(0.5, 3.0), seed=1)
    scales = np.array([s.scales for s in schedules])
    assert scales.shape == (16, 5)
    assert 0.5 <= scales.min() < scales.max() <= 3.0
    # 16 Sobol points: one in each sixteenth of every band's range
    for column in scales.T:
        assert sorted(((column - 0.5) / 2.5 * 16).astype(int)) == list(range(16))
    edges = (*schedules[0].sigmas, 0)
    held = [int(np.sum((sigmas <= a) & (sigmas > b))) for a, b in itertools.pairwise(edges)]
    assert sum(held) == 21
    assert max(held) - min(held) <= 1  # equal importance: equal shares


def test_json_round_trip(response):
    again = Response.from_dict(json.loads(json.dumps(response.to_dict(digits=15))))
    schedule = kdist.parse(HELD_OUT[-1])
    for name in ("log_trace_ratio", "overshoot"):
        # rounded at 1e-15, amplified a million times by a fit that found hardly any noise
        np.testing.assert_allclose(
            getattr(again.predict(schedule), name), getattr(response.predict(schedule), name), atol=1e-8
        )


def test_extrapolation_is_said(response):
    with pytest.warns(BeyondProbesWarning, match=r"from 5 to 5, the probes had 0\.\d+ to (1\.9|2)\d*"):
        response.predict(5.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        response.predict(2.0)


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("early-negative:scale=2,sigma_switch=1", True),
        ("ramp:start=2,end=0,sigma_min=0.1,sigma_max=5", False),
        ("ramp:start=0,end=2,sigma_min=0.1,sigma_max=5", True),
        ("late-negative:scale=2,sigma_switch=1", False),
        ("negative-window:scale=2,sigma_lo=0.5,sigma_hi=1.5", False),
        ("early-negative:scale=2,sigma_switch=25", False),  # of no importance
        ("0.5", False),  # never above 1
    ],
)
def test_early_negative_is_said_to_be_less_certain(response, text, warned):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        response.predict(kdist.parse(text))
    assert any(issubclass(w.category, EarlyNegativeWarning) for w in caught) == warned


@pytest.mark.parametrize(("importance", "warned"), [([0.01, 0.01], True), ([1.0, 100.0], False)])
def test_an_early_part_counts_by_its_share_of_the_importance(importance, warned):
    response = Response(**{**CONTENT, "importance": importance})
    assert response._starts_negative(np.array([-1.0, 1.0])) == warned


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"class_cond": torch.zeros(3, dtype=torch.int64)}, r"class_cond must be \(24,\) whole numbers"),
        ({"class_cond": torch.zeros(24)}, r"class_cond must be .* torch\.float32"),
        ({"class_cond": torch.tensor([0] * 21 + [1] * 3)}, "at least 4 samples.*class 1 has 3"),
        ({"weak_model": None}, "guidance needs an unconditional prediction"),
        ({"probes": 3}, "probes must be at least 4"),
        ({"bands": 0}, "bands and batch must be at least 1"),
        ({"batch": 0}, "bands and batch must be at least 1"),
        ({"scales": (2.0, 1.0)}, "scales must be"),
        ({"solver": "nonsense"}, "unknown solver"),
        ({"eta": 1.0}, "has no option eta"),
        ({"class_means": np.zeros((3, 2))}, "class_means must be finite and hold 2 x 2 numbers"),
        ({"centre": [0.0, np.nan]}, "centre must be finite"),
        ({"class_means": np.zeros((2, 2)), "centre": [0.0, 0.0]}, "its mean is the centre"),
    ],
)
def test_refusals(models, start, change, error):
    noise, class_cond = start
    levels = torch.tensor([SIGMA_MAX, 1.0, 0.0], dtype=torch.float64)
    given = {"class_cond": class_cond, "weak_model": models[1], "probes": 4, "bands": 1, **change}
    with pytest.raises(ValueError, match=error):
        Response.measure(models[0], noise, given.pop("class_cond"), levels, **given)


def test_a_model_that_breaks_is_named(models, start):
    broken = lambda x, sigma, class_cond: x * np.nan  # noqa: E731
    with pytest.raises(ValueError, match="samples that are not finite"):
        Response.measure(broken, *start, torch.tensor([SIGMA_MAX, 1.0, 0.0]), weak_model=models[1], probes=4)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"log_trace": np.zeros((2, 3, 2))}, r"log_trace must have shape \(2, 4, 2\)"),
        ({"importance": [1.0]}, r"importance must have shape \(2,\)"),
        ({"overshoot": np.full((2, 4, 2), np.inf)}, "overshoot must be finite"),
        ({"colour": 1}, "a response has the keys"),
    ],
)
def test_bad_contents(change, error):
    with pytest.raises(ValueError, match=error):
        Response.from_dict({**CONTENT, **change})


def test_bad_schedule(response):
    with pytest.raises(TypeError, match="schedule must be"):
        response.predict("2")


def test_a_solvers_own_noise_comes_from_the_seed(models, start):
    options = {"weak_model": models[1], "probes": 4, "bands": 1, "solver": "euler_ancestral"}
    levels, found = torch.tensor([SIGMA_MAX, 3.0, 0.5, 0.1], dtype=torch.float64), []
    for outside, seed in ((1, 0), (2, 0), (1, 5)):
        torch.manual_seed(outside)
        found.append(Response.measure(models[0], *start, levels, seed=seed, **options).log_trace)
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()
