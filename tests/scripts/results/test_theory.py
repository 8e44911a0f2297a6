"""Figures F1 to F4: closed forms and the bound they show, what is stored, and that every one draws at toy size."""

import importlib
import math
from types import SimpleNamespace

import numpy as np
import pytest

from kdist import Constant, LateNegative, NegativeWindow, Piecewise
from kdist.theory import GaussianPair
from scripts.results import figures, store

FIGURES = ("F1", "F2", "F3", "F4")


@pytest.fixture(scope="module")
def scripts():
    modules = {name: importlib.import_module(f"scripts.results.{figures.FIGURES[name].module}") for name in FIGURES}
    return SimpleNamespace(figures=figures.FIGURES, store=store, **modules)


@pytest.fixture(scope="module")
def quick(scripts, toys):
    """Folder and rows of every figure at toy size."""
    out, rows = toys.make(*FIGURES), {}
    for name in FIGURES:
        frozen = scripts.store.Store(out / "data" / f"{name}.json", frozen=True)
        rows[name] = getattr(scripts, name).compute(frozen, **scripts.figures[name].quick)  # all of it was stored
    return SimpleNamespace(out=out, rows=rows)


@pytest.mark.parametrize("name", FIGURES)
def test_everything_is_drawn_and_said(scripts, quick, name):
    said = getattr(scripts, name).texts(quick.rows[name])
    assert all(isinstance(value, str) and value for value in said.values())
    assert said["gaussian" if name == "F4" else "table"] in (quick.out / "results.md").read_text()
    assert (quick.out / "figures" / f"{name}.png").stat().st_size > 10_000


def test_another_setting_is_measured_again(scripts, quick):
    frozen = scripts.store.Store(quick.out / "data" / "F1.json", frozen=True)
    with pytest.raises(scripts.store.NotMade):
        scripts.F1.compute(frozen, **(scripts.figures["F1"].quick | {"steps": [11]}))


def test_f1_exact_rows_are_the_power_law(scripts, quick):
    c, u = scripts.F1.PAIR["c"], scripts.F1.PAIR["u"]
    rows = {row["solver"]: row for row in quick.rows["F1"] if row["steps"] is None}
    for scale, variance in zip(rows["dpmpp_2m"]["scales"], rows["dpmpp_2m"]["variance"], strict=True):
        assert variance == pytest.approx((c / u) ** (scale - 1), rel=1e-8)  # (7) of docs/theory.md
    # with noise 1 the overshoot is c / (u - c) (1 - (c / u)**w): the header of no_schedule.py
    for scale, mean in zip(rows["euler_ancestral"]["scales"], rows["euler_ancestral"]["mean"], strict=True):
        assert mean - 1 == pytest.approx(c / (u - c) * (1 - (c / u) ** (scale - 1)), abs=1e-8)


def test_f1_finite_steps_approach_the_exact_answer(scripts):
    exact, few, many = (scripts.F1.ratios("dpmpp_2m", steps, [3.0]) for steps in (None, 10, 100))
    for name in ("mean", "variance"):
        gaps = [abs(made[name][0] - exact[name][0]) for made in (few, many)]
        assert gaps[1] < gaps[0] / 10  # second order would be 100; starting at sigma 80 leaves a little


def test_f3_lines_and_maps_agree(quick):
    for row in quick.rows["F3"]:
        ratio, switch = np.array(row["ratio"]), np.array(row["switch"])
        if row["schedule"] == "constant":
            np.testing.assert_allclose(ratio[:, 0], 1, atol=1e-4)  # scale 1; stored with four digits
            assert (ratio[:, 1:] < 1 + 1e-4).all()
        # beyond the line of no resolution nothing switches, well before it something does
        assert (switch[-1] == 0).all()
        assert (switch[0] > 0).all()
        assert max(row["border"]) < row["alphas"][-1]


@pytest.mark.parametrize("lam", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("low", "high"), [(1.0, 4.0), (0.0, 4.0), (-1.0, 6.0), (1.5, 3.0)])
@pytest.mark.parametrize("pair", [GaussianPair(0.5, 0.3, 0.0, 1.0), GaussianPair(1.0, 0.02, -1.0, 2.0)], ids="ab")
def test_f4_no_schedule_beats_late_negative_of_the_same_budget(scripts, pair, low, high, lam):
    schedules = scripts.F4.random_schedules(12, low, high, 1)
    best = [scripts.F4.same_budget(pair, schedule, low, high) for schedule in schedules]
    overshoot, ratio = scripts.F4.outcome(pair, lam, schedules)
    most_overshoot, most_ratio = scripts.F4.outcome(pair, lam, best)
    # quadrature is good to 1e-9 relative; the switch of equal budget carries that on
    assert (overshoot <= most_overshoot + 1e-7 * (1 + abs(overshoot))).all()
    assert (ratio <= most_ratio * (1 + 1e-7)).all()
    if lam == 0:  # the budget is the ODE's variance, so all of the gain is overshoot
        np.testing.assert_allclose(ratio, most_ratio, rtol=1e-7)
        assert (most_overshoot - overshoot).max() > 0.01
    if lam == 1:  # there the overshoot is a function of the budget, and all of the gain is variance
        np.testing.assert_allclose(overshoot, most_overshoot, rtol=1e-7)
        assert (most_ratio / ratio).max() > 1.1


def test_f4_the_best_schedule_of_a_budget_is_its_own_best(scripts):
    pair = scripts.F4.GAUSSIAN
    for sigma in (0.1, 1.0, 5.0):
        assert scripts.F4.same_budget(pair, LateNegative(4.0, sigma), 0.0, 4.0).sigma_switch == pytest.approx(sigma)


def test_f4_share_of_the_budget_against_its_integral(scripts):
    pair = GaussianPair(0.0, 0.2, 0.0, 1.5)
    assert scripts.F4.switch_sigma(pair, 0.0) == 0
    assert scripts.F4.switch_sigma(pair, 1.0) == math.inf
    t = scripts.F4.switch_sigma(pair, 0.7) ** 2
    inner = math.log((0.2 + t) / 0.2) - math.log((1.5 + t) / 1.5)  # int_0^t k
    assert inner == pytest.approx(0.7 * math.log(1.5 / 0.2))


@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_f4_frontier_is_a_bound_that_is_reached(scripts, lam):
    pair = scripts.F4.GAUSSIAN
    curve = scripts.F4.frontier(pair, lam, 1.0, 4.0, 200)
    assert (np.diff(curve[0]) > 0).all()
    assert (np.diff(curve[1]) < 0).all()
    assert curve[1].max() == pytest.approx(1)  # (14): never above 1 from scale 1 up
    on_it = scripts.F4.outcome(pair, lam, [LateNegative(4.0, 2.0, late=1.0)])
    # between the points of the curve its interpolation is off by about 1 / 200**2
    assert on_it[1][0] == pytest.approx(scripts.F4.reachable(curve, on_it[0])[0], rel=1e-4)
    assert math.isnan(scripts.F4.reachable(curve, 10.0))


def test_f4_mean_field_keeps_the_bound_and_constant_guidance_is_on_it(scripts):
    pair = scripts.F4.WORLDS["many classes"]
    curve = scripts.F4.frontier(pair, 0.0, 1.0, 4.0, 400, scripts.F4.SIGMA_MAX)
    schedules = [Constant(4.0), *scripts.F4.random_schedules(6, 1.0, 4.0, 2)]
    overshoot, ratio = scripts.F4.run("many classes", 0.0, schedules)
    bound = scripts.F4.reachable(curve, overshoot)
    assert (ratio <= bound * (1 + 1e-4)).all()
    # the class's own takeover stops a constant scale at one moment, as the best schedule does
    assert ratio[0] == pytest.approx(bound[0], rel=1e-4)
    low = NegativeWindow(4.0, 0.1, 0.5)  # below the takeover a window acts on nothing
    windowed = scripts.F4.run("many classes", 0.0, [low])
    for value, constant in zip(windowed, (overshoot, ratio), strict=True):
        assert value[0] == pytest.approx(constant[0], rel=1e-9)


def test_f4_points_of_the_figure_keep_their_bounds(scripts, quick):
    for row in quick.rows["F4"]:
        for point in row["points"]:
            low = 1.0 if point["kind"] == "standard" else 0.0
            bound = scripts.F4.reachable(row["bounds"][low, point["peak"]], max(point["overshoot"], -1.0))
            # the quick curve has 12 points only
            assert math.isnan(bound) or point["ratio"] <= bound * 1.1
            if point["kind"] == "standard":
                assert point["ratio"] <= 1 + 1e-6


def test_f4_verdicts(scripts):
    row = {"bounds": {(1.0, 4.0): ([0.0, 0.5, 0.6], [1.0, 0.9, 0.5])}}

    def verdict(overshoot, ratio):
        return scripts.F4.verdict(row, {"peak": 4.0, "overshoot": overshoot, "ratio": ratio})

    assert verdict(0.25, 0.999) == "helps"
    assert verdict(0.25, 0.91) == "no help"
    assert verdict(0.7, 0.1) == "helps"  # no schedule from scale 1 goes so far
    assert verdict(-0.1, 2.0) == "mean short"


def test_f4_random_schedules_are_within_limits_and_repeatable(scripts):
    schedules = scripts.F4.random_schedules(20, -1.0, 3.0, 5)
    assert schedules == scripts.F4.random_schedules(20, -1.0, 3.0, 5)
    assert all(isinstance(s, Piecewise) and -1 <= min(s.scales) <= max(s.scales) <= 3 for s in schedules)
    assert set(schedules[0].scales) <= {-1.0, 3.0}
