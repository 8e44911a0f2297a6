"""Mean field of guided mixtures: reference values, limits, the frozen bulk, and the potential behind the drift."""

import itertools
import math
import time

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import kdist
from kdist.compat import import_k_diffusion
from kdist.solvers import sample
from kdist.theory.gaussian.pair import GaussianPair, moments
from kdist.theory.many_classes.phases import (
    critical_alpha,
    guided_critical_alpha,
    mean_field,
    phase_diagram,
    switch_variance,
)
from kdist.theory.many_classes.rivals import bulk_state, own_log_density
from kdist.theory.mixture import GaussianMixtureDenoiser

C = 0.1
TOP = math.sqrt(2000)
WINDOW = kdist.NegativeWindow(4.0, 0.3, 1.0)


# Reference values and limits


@pytest.mark.parametrize(
    ("alpha", "weight", "overlap", "ratio", "switch"),
    [
        (0.2, 3, 1.217, 0.807, 13.32),
        (0.3, 1, 1.135, 0.784, 3.53),
        (0.4, 1, 1.155, 0.710, 2.35),
        (0.4, 3, 1.312, 0.597, 5.22),
    ],
)
def test_reference_values(alpha, weight, overlap, ratio, switch):
    path = mean_field(alpha, 1 + weight, within_var=C, sigma_max=TOP)
    # 1e-3 relative, as the values were checked to, plus half of their last digit
    assert path.overlap[-1] == pytest.approx(overlap, rel=1e-3, abs=5e-4)
    assert path.variance[-1] / C == pytest.approx(ratio, rel=1e-3, abs=1.3e-3)
    # the values' own steps recorded the switch up to a step of 0.3 % late
    assert path.switch_sigma**2 == pytest.approx(switch, rel=3e-3)


# the second runs through the takeover at a slope, so that part of a step has weights of its own
@pytest.mark.parametrize("schedule", [WINDOW, kdist.Ramp(1.0, 5.0, 0.5, 5.0)], ids=["window", "ramp"])
def test_converged_in_the_step(schedule, monkeypatch):
    from kdist.theory.many_classes import path as mixture_path

    def run():
        return mean_field(0.3, schedule, within_var=C, sigma_max=TOP, noise=0.5)

    coarse = run()
    monkeypatch.setattr(mixture_path, "_STEP", mixture_path._STEP / 4)
    fine = run()
    # fourth order at a step of 0.025
    assert coarse.overlap[-1] == pytest.approx(fine.overlap[-1], abs=1e-6)
    assert coarse.variance_ratio[-1] == pytest.approx(fine.variance_ratio[-1], abs=1e-6)
    assert coarse.switch_sigma == pytest.approx(fine.switch_sigma, rel=1e-6)


@pytest.mark.parametrize("alpha", [0.1, 0.4, 0.9])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_unguided_is_undistorted_and_switches_where_the_closed_form_says(alpha, noise):
    path = mean_field(alpha, 1.0, within_var=C, sigma_max=TOP, noise=noise)
    np.testing.assert_allclose(path.overlap, 1, atol=1e-9)
    np.testing.assert_allclose(path.variance_ratio, 1, atol=1e-9)
    assert path.switch_sigma**2 + C == pytest.approx(switch_variance(alpha), rel=1e-7)


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("family", [float, WINDOW.with_scale])
def test_few_classes_are_not_distorted(family, noise):
    """alpha -> 0, P below every exponential of d: both distortions fall to nothing."""
    alphas = [0.3, 0.03, 0.003, 0.0003]
    run = phase_diagram(alphas, [4.0], within_var=C, sigma_max=3000.0, noise=noise, family=family)
    overshoot, shrinkage = run.overlap[:, 0] - 1, 1 - run.variance_ratio[:, 0]
    for values in (overshoot, shrinkage):
        assert all(a > b > -1e-9 for a, b in itertools.pairwise(values))
    # the ODE's overshoot is left to contract by sqrt(c / Delta_s) = sqrt(2 alpha c) = 0.008, times w = 3
    assert overshoot[-1] < 0.025
    assert shrinkage[-1] < 0.005


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("schedule", [2.0, 0.5, WINDOW, lambda s: 3.0 if s > 0.5 else 0.2])
def test_infinitely_many_classes_are_the_gaussian_pair(schedule, noise):
    path = mean_field(math.inf, schedule, within_var=C, sigma_max=80.0, noise=noise, start_overlap=0.0)
    pair = GaussianPair(1.0, C, 0.0, 1 + C)
    law = moments(pair, schedule, sigma_max=80.0, noise=noise)
    # both integrate to better than 1e-7; the callable's jump is found to about 1e-6 in log sigma
    assert path.overlap[-1] == pytest.approx(law.mean[0], abs=2e-6)
    assert path.variance[-1] == pytest.approx(law.var[0], abs=2e-6)
    assert path.switch_sigma is None


def test_constant_weight_closed_form_above_the_guided_critical_alpha():
    """V = c (c/u)^w (G2) in every dimension."""
    for weight in (1, 3):
        path = mean_field(2.0, 1 + weight, within_var=C, sigma_max=1e4)
        assert path.switch_sigma is None
        assert path.variance_ratio[-1] == pytest.approx((C / (1 + C)) ** weight, rel=1e-6)


def test_critical_alpha_is_where_the_unguided_switch_reaches_the_data():
    assert switch_variance(critical_alpha(C)) == pytest.approx(C)
    at = critical_alpha(C)
    assert mean_field(at + 1e-3, 1.0, within_var=C, sigma_max=TOP).switch_sigma is None
    assert mean_field(at - 1e-3, 1.0, within_var=C, sigma_max=TOP).switch_sigma < 0.05
    assert guided_critical_alpha(1.0, within_var=C, sigma_max=TOP) == pytest.approx(at, abs=2e-5)


@pytest.mark.parametrize("schedule", [2.0, 0.7])
def test_guided_critical_alpha_separates_runs_that_switch_from_runs_that_do_not(schedule):
    at = guided_critical_alpha(schedule, within_var=C, sigma_max=80.0)
    assert (at > critical_alpha(C)) == (schedule > 1)
    assert mean_field(at - 1e-3, schedule, within_var=C, sigma_max=80.0).switch_sigma is not None
    assert mean_field(at + 1e-3, schedule, within_var=C, sigma_max=80.0).switch_sigma is None


# After the switch


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0])
def test_after_the_switch(noise):
    """M7: the overshoot contracts by (Delta/Delta_s)^((1+noise)/2), the variance defect by (Delta/Delta_s)^noise."""
    path = mean_field(0.3, 3.0, within_var=C, sigma_max=TOP, noise=noise)
    after = path.sigma < path.switch_sigma
    delta, m, g = C + path.sigma[after] ** 2, path.overlap[after], path.variance_ratio[after]
    fall = delta / delta[0]
    np.testing.assert_allclose((m - 1) / (m[0] - 1), fall ** ((1 + noise) / 2), rtol=1e-9)
    np.testing.assert_allclose((g - 1) / (g[0] - 1), fall**noise, rtol=1e-9)


@pytest.mark.parametrize("schedule", [0.5, 2.0, 8.0, WINDOW, kdist.LateNegative(4.0, 2.0), kdist.Interval(4, 0.3, 3)])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_the_own_class_keeps_the_rule(schedule, noise):
    """One switch is enough: once ahead, the own class stays ahead on the way down."""
    for alpha in (0.1, 0.6):
        path = mean_field(alpha, schedule, within_var=C, sigma_max=TOP, noise=noise)
        if path.switch_sigma is not None:
            assert (path.margin[path.sigma < path.switch_sigma] > 0).all()
            assert (path.margin[path.sigma > path.switch_sigma] <= 0).all()


def test_noise_heals():
    """alpha 0.3, w 2: overlap 1.03 and ratio 0.996 with the SDE, 1.2 and 0.7 (one digit known) with the ODE."""
    ode, sde = (mean_field(0.3, 3.0, within_var=C, sigma_max=TOP, noise=noise) for noise in (0.0, 1.0))
    assert sde.overlap[-1] == pytest.approx(1.03, abs=5e-3)
    assert sde.variance_ratio[-1] == pytest.approx(0.996, abs=5e-4)
    assert ode.overlap[-1] == pytest.approx(1.2, abs=0.05)
    assert ode.variance_ratio[-1] == pytest.approx(0.7, abs=0.05)


# Integration


@pytest.mark.parametrize("schedule", [WINDOW, kdist.Interval(3.0, 0.5, 4.0), kdist.LinearInVariance(-1.0, 0.5, 0, 4.0)])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_jumps_against_scipy(schedule, noise):
    """An independent integration in t, stopped at every jump; alpha = 1.1, so that the bulk rules past the jumps."""
    path = mean_field(1.1, schedule, within_var=C, sigma_max=20.0, noise=noise)

    def rhs(t, state, bulk):
        m, q = state
        delta = C + t
        weight = schedule(math.sqrt(t)) - 1 if bulk else 0.0
        y = float(bulk_state(m, q, delta, 1.1).ratio) if bulk else 0.0
        a, b = (1 + weight - weight * y) / delta, (1 + weight) / delta
        return [(1 + noise) / 2 * (a * m - b), (1 + noise) * a * q - noise]

    def margin(t, state, bulk):
        return float(own_log_density(*state, C + t) - bulk_state(*state, C + t, 1.1).log_density)

    margin.terminal = True
    margin.direction = 1
    state, bulk = [1.0, 400.0 + C], True
    edges = [20.0, *sorted((b for b in schedule.breakpoints if b < 20), reverse=True), 1e-4]
    for high, low in itertools.pairwise(edges):
        start, stop = high**2 * (1 - 1e-9), low**2 * (1 + 1e-9)
        options = {"args": (bulk,), "rtol": 1e-9, "atol": 1e-10}
        run = solve_ivp(rhs, (start, stop), state, events=margin if bulk else None, **options)
        state = run.y[:, -1]
        if bulk and run.status == 1:
            assert path.switch_sigma**2 == pytest.approx(run.t[-1], rel=1e-5)
            bulk = False
            state = solve_ivp(rhs, (run.t[-1], stop), state, **{**options, "args": (False,)}).y[:, -1]
    # scipy's tolerance, and 1e-9 of a range lost at each jump
    assert path.overlap[-1] == pytest.approx(state[0], abs=1e-6)
    assert path.variance[-1] == pytest.approx(state[1], abs=1e-6)


def test_every_form_of_a_schedule_is_the_same_schedule():
    runs = [
        mean_field(0.3, schedule, within_var=C, sigma_max=20.0).overlap[-1]
        for schedule in (3.0, 3, kdist.Constant(3.0), lambda sigma: 3.0)
    ]
    assert max(runs) - min(runs) < 1e-9
    jump = mean_field(0.9, lambda s: 4.0 if s > 1.5 else 0.5, within_var=C, sigma_max=20.0).overlap[-1]
    listed = mean_field(0.9, kdist.LateNegative(4.0, 1.5, 0.5), within_var=C, sigma_max=20.0).overlap[-1]
    assert jump == pytest.approx(listed, abs=1e-6)  # the callable's jump is found, not told


def test_start_in_noise_or_in_the_noised_class_agree_for_a_long_run():
    ends = {
        top: [mean_field(0.3, 2.0, within_var=C, sigma_max=top, start_overlap=m).overlap[-1] for m in (0.0, 1.0)]
        for top in (50.0, 500.0)
    }
    near, far = (abs(a - b) for a, b in ends.values())
    assert far < near / 8  # falls as 1 / sigma_max


def test_phase_diagram_is_the_mean_field_of_each_cell():
    alphas, scales = [0.1, 0.5, 1.4], [0.5, 1.0, 3.0]
    for noise in (0.0, 1.0):
        diagram = phase_diagram(alphas, scales, within_var=C, sigma_max=20.0, noise=noise, family=WINDOW.with_scale)
        assert diagram.overlap.shape == (3, 3)
        for i, alpha in enumerate(alphas):
            for j, scale in enumerate(scales):
                cell = mean_field(alpha, WINDOW.with_scale(scale), within_var=C, sigma_max=20.0, noise=noise)
                # only the steps differ: the diagram's are those of its strongest schedule
                assert diagram.overlap[i, j] == pytest.approx(cell.overlap[-1], rel=2e-6)
                assert diagram.variance_ratio[i, j] == pytest.approx(cell.variance_ratio[-1], rel=2e-6)
                expected = math.nan if cell.switch_sigma is None else cell.switch_sigma
                assert diagram.switch_sigma[i, j] == pytest.approx(expected, rel=2e-6, nan_ok=True)


def test_phase_diagram_of_2500_cells_takes_seconds():
    start = time.perf_counter()
    diagram = phase_diagram(np.linspace(0.02, 2, 50), np.linspace(1, 8, 50), within_var=C, sigma_max=80.0)
    assert time.perf_counter() - start < 30
    assert np.isfinite(diagram.overlap).all()
    # along alpha the class is resolved first and not at last; more classes never switch at a higher sigma
    known = np.nan_to_num(diagram.switch_sigma, nan=0.0)
    assert (np.diff(known, axis=0) <= 1e-9).all()


# Finite dimension


def test_finite_dimension_tends_to_the_mean_field_as_one_over_d():
    limit = mean_field(0.3, 2.0, within_var=C, sigma_max=TOP)
    gaps = []
    for d in (50, 100, 200):
        path = mean_field(0.3, 2.0, within_var=C, sigma_max=TOP, dimension=d)
        gaps.append([path.overlap[-1] - limit.overlap[-1], path.variance_ratio[-1] - limit.variance_ratio[-1]])
    ratios = np.divide(gaps[:-1], gaps[1:])
    assert (np.abs(gaps[-1]) < 0.002).all()
    np.testing.assert_allclose(ratios, 2, atol=0.5)  # 1 / d, with higher orders at these d


def test_the_own_class_takes_over_once_at_finite_dimension_too():
    path = mean_field(0.3, 2.0, within_var=C, sigma_max=TOP, dimension=30)
    assert 0 < path.switch_sigma < TOP
    np.testing.assert_array_equal(path.margin > 0, path.sigma < path.switch_sigma)


def test_one_class_is_never_guided():
    """With no other class the own posterior is 1 all along (at sigma = 2 within exp(-48), d = 200)."""
    path = mean_field(1e-9, 4.0, within_var=C, sigma_max=2.0, dimension=200)
    assert path.overlap[-1] == pytest.approx(1, abs=1e-6)
    assert path.variance_ratio[-1] == pytest.approx(1, abs=1e-6)


def test_finite_dimension_agrees_with_direct_simulation():
    """d = 16, P = d^2 at scale 4: the mean field misses the overlap by 0.01, the correction does not."""
    d, count, n = 16, 256, 64
    path = mean_field(math.log(count) / d, 4.0, within_var=C, sigma_max=TOP, start_overlap=0.0, dimension=d)
    g = torch.Generator().manual_seed(3)
    sigmas = import_k_diffusion().sampling.get_sigmas_karras(60, 0.02, TOP)
    overlaps = []
    for _ in range(6):
        centres = torch.randn(count, d, generator=g)
        guided = kdist.guide(
            GaussianMixtureDenoiser(centres, C, dtype=torch.float32), 4.0, uncond={"class_cond": count}
        )
        out = sample(
            "dpmpp_2m", guided, TOP * torch.randn(n, d, generator=g), sigmas, extra_args={"class_cond": torch.arange(n)}
        )
        own = centres[:n]
        overlaps.append(float(((out * own).sum(1) / own.square().sum(1)).mean()))
    error = np.std(overlaps, ddof=1) / math.sqrt(len(overlaps))
    # 4 standard errors over independent codebooks, and what 60 steps leave
    assert abs(np.mean(overlaps) - path.overlap[-1]) < 4 * error + 0.003


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 0.0}, "alpha must be positive"),
        ({"alpha": -0.1}, "alpha must be positive"),
        ({"alpha": math.nan}, "alpha must be positive"),
        ({"within_var": 0.0}, "within_var must be positive"),
        ({"within_var": math.inf}, "within_var must be positive and finite"),
        ({"sigma_max": 0.0}, "sigma_max must be positive"),
        ({"sigma_max": math.inf}, "sigma_max must be positive and finite"),
        ({"sigma_min": 30.0}, "sigma_min must be in"),
        ({"sigma_min": -1.0}, "sigma_min must be in"),
        ({"noise": -0.5}, "noise is 0 for the ODE"),
        ({"start_overlap": math.nan}, "start_overlap"),
        ({"dimension": 0}, "dimension must be positive"),
        ({"schedule": math.nan}, "schedule is not finite"),
        ({"schedule": lambda s: math.nan if s < 1 else 2.0}, "schedule is not finite at sigma="),
        ({"schedule": lambda s: math.log(s - 1)}, "schedule is undefined at sigma="),
        ({"schedule": kdist.LinearInVariance(0.0, 1e6)}, "clip"),
    ],
)
def test_bad_input(change, message):
    arguments = {"alpha": 0.3, "schedule": 2.0, "within_var": C, "sigma_max": 20.0, **change}
    with pytest.raises(ValueError, match=message):
        mean_field(arguments.pop("alpha"), arguments.pop("schedule"), **arguments)


def test_bad_schedule_type():
    with pytest.raises(TypeError, match="schedule must be"):
        mean_field(0.3, "4", within_var=C, sigma_max=20.0)


@pytest.mark.parametrize(
    ("alphas", "scales", "message"),
    [([], [1.0], "not empty"), ([[0.1]], [1.0], "lists"), ([0.1, 0.0], [1.0], "alphas must be positive")],
)
def test_bad_phase_diagrams(alphas, scales, message):
    with pytest.raises(ValueError, match=message):
        phase_diagram(alphas, scales, within_var=C, sigma_max=20.0)


@pytest.mark.parametrize("function", [switch_variance, critical_alpha])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_bad_closed_form_arguments(function, value):
    with pytest.raises(ValueError, match="must be positive"):
        function(value)
