"""Noise levels on edges: every precision gets the scale of the step, and the calls are as predicted."""

import math
from itertools import pairwise

import pytest
import torch

import kdist
from kdist.schedules import Exponential, PerClass, PerRow, Ramp, Triangle
from kdist.schedules.levels import at_or_below, on_edges
from kdist.solvers import sample

UNCOND = {"class_cond": 10}
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def karras(steps, dtype=torch.float32):
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    levels = (80 ** (1 / 7) + ramp * (0.02 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    return torch.cat([levels, levels.new_zeros(1)]).to(dtype)


def net(x, sigma, class_cond):
    return x * 0.5


def run(schedule, sigmas, dtype, rows=2, solver="euler", **options):
    """The scales that every call got, seen by the rule, and the network's count."""
    scales = []

    def rule(cond, uncond, scale, x, sigma):
        scales.append(scale.flatten().tolist())
        return kdist.rules.linear(cond, uncond, scale, x, sigma)

    x = torch.ones(rows, 3, dtype=dtype)
    args = {"extra_args": {"class_cond": torch.arange(rows)}, **options}
    sample(solver, kdist.guide(net, schedule, uncond=UNCOND, rule=rule), x, sigmas, **args)
    counted = kdist.guide(net, schedule, uncond=UNCOND)
    sample(solver, counted, x, sigmas, **args)
    return scales, counted.nfe


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("levels", [torch.float32, torch.float64])
@pytest.mark.parametrize("steps", [20, 50])
def test_each_step_gets_its_own_scale(dtype, levels, steps):
    sigmas = karras(steps, levels)
    wanted = [float(step) for step in range(2, steps + 2)]
    scales, _ = run(kdist.Piecewise.from_steps(wanted, sigmas), sigmas, dtype)
    assert scales == [[step] * 2 for step in wanted]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("levels", [torch.float32, torch.float64])
@pytest.mark.parametrize("solver", ["heun", "dpmpp_2m"])
def test_calls_are_as_predicted_with_edges_on_the_levels(dtype, levels, solver):
    """Every kind of edge at levels of the run; of the run, the steps beside the edge."""
    whole = karras(20, levels)
    for place, (upper, lower) in list(enumerate(pairwise(whole[:-1].tolist())))[::4]:
        sigmas = torch.cat([whole[max(place - 1, 0) : place + 3], whole.new_zeros(1)])
        for schedule in (
            kdist.LateNegative(7.5, upper),
            kdist.EarlyNegative(7.5, upper, sigma_end=lower),
            kdist.Interval(7.5, lower, upper),
            kdist.NegativeWindow(7.5, lower, upper),
            kdist.Constant(7.5).then(1.0, at=upper),
            kdist.LateNegative(7.5, upper).clip(0, 5) * 1.0,
            Ramp(7.5, 1.0, upper, 100.0),
            kdist.Piecewise((100.0, upper, lower), (3.0, 0.0, 1.0)),
        ):
            guided = kdist.guide(net, schedule, uncond=UNCOND)
            sample(solver, guided, torch.ones(1, 3, dtype=dtype), sigmas, extra_args={"class_cond": torch.arange(1)})
            assert guided.nfe == schedule.nfe(sigmas, solver), (schedule, upper)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("progress", [0.55, 0.7, 0.35, 1 / 3])
def test_a_switch_after_a_fraction_of_the_steps(dtype, progress):
    for steps in (20, 30, 60):
        sigmas = karras(steps)
        schedule = kdist.LateNegative(7.5, kdist.progress_to_sigma(progress, sigmas))
        _, nfe = run(schedule, sigmas, dtype)
        guided = math.ceil(round(progress * steps, 9))
        assert nfe == schedule.nfe(sigmas) == steps + guided


@pytest.mark.parametrize("edge", [0.3, 0.1, 1.7, 14.6146, 3e-3, 700.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_edge_rounded_to_any_precision_is_the_edge(edge, dtype):
    """And its neighbours in that precision are not."""
    schedule = kdist.LateNegative(4.0, edge)
    level = torch.tensor(edge, dtype=torch.float32).to(dtype)
    above = torch.nextafter(level, torch.tensor(math.inf, dtype=dtype)) if dtype.itemsize < 4 else level * (1 + 1e-5)
    below = level * 0.9
    assert schedule(torch.stack([above, level, below])).tolist() == [4, 0, 0]
    assert schedule.evaluate(torch.stack([above, level, below])).tolist() == [4, 0, 0]
    assert schedule(float(torch.tensor(edge, dtype=torch.float32))) == schedule(edge) == 0


def test_float64_levels_are_told_apart_to_their_own_rounding():
    """One unit of 2**-52 counts as the edge, 1e-13 does not; nor what only float32 would round to it."""
    levels = torch.tensor([0.3 * (1 + 1e-16), 0.3 * (1 + 1e-13), 0.3 * (1 + 1e-8)], dtype=torch.float64)
    assert at_or_below(levels, 0.3).tolist() == [True, False, False]
    assert at_or_below(levels.new_tensor([0.3]).float().double(), 0.3).item()


def test_each_row_meets_the_edges_of_its_own_schedule():
    """In bfloat16, 1.0 and 1.003 are the same level: each row takes the edge of its own class."""
    schedule = PerClass({0: kdist.LateNegative(4.0, 1.003), 1: kdist.LateNegative(4.0, 1.0)})
    bound = schedule.bind({"class_cond": torch.tensor([0, 1, 0, 1])}, 4)
    sigma = torch.tensor([1.0, 1.0, 1.0078, 1.0078], dtype=torch.bfloat16)
    assert bound.evaluate(sigma).tolist() == [0, 0, 4, 4]
    assert bound.evaluate(sigma).dtype == torch.float32
    row = PerRow(kdist.Interval(3.3, 0.5, 1.003), [3.3, 5.0]).bind({}, 2)
    assert row.evaluate(sigma[:2]).tolist() == pytest.approx([3.3, 5.0], rel=1e-7)  # float32


def test_levels_between_edges_are_left_alone():
    sigma = torch.tensor([0.5, 0.75, 1.5], dtype=torch.float16)
    assert on_edges(sigma, (0.501, 1.0)).tolist() == [0.5, 0.75, 1.5]
    assert on_edges(sigma, (0.5002, 1.0)).tolist() == pytest.approx([0.5002, 0.75, 1.5], rel=1e-7)  # float32


@pytest.mark.parametrize("default", [torch.float32, torch.bfloat16, torch.float64])
def test_numbers_do_not_depend_on_the_default_dtype(default):
    """Python numbers are float64, whatever torch makes of numbers without a dtype."""
    schedules = [
        (kdist.EarlyNegative(3.3, 1.2, 0.1), 1.0, 3.3),
        (kdist.EarlyNegative(3.3, 1.2, 0.1), 5.0, 0.1),
        (kdist.LateNegative(3.3, 1.2, 0.1), 1.0, 0.1),
        (kdist.Interval(3.3, 0.1, 1.2, 0.7), 5.0, 0.7),
        (kdist.NegativeWindow(3.3, 0.1, 1.2, 0.7), 1.0, 0.7),
        (kdist.Piecewise((2.0, 0.3), (3.3, 0.7)), 1.0, 3.3),
        (Triangle(3.3, 1.1, 0.1, 9.0), 1.1, 3.3),
        (Exponential(3.3, 0.1, 9.0), 0.1, 3.3),
        (kdist.Constant(3.3).then(0.7, at=1.1), 1.0, 0.7),
        (kdist.Constant(3.3).clip(maximum=1.7), 1.0, 1.7),
    ]
    torch.set_default_dtype(default)
    try:
        for schedule, sigma, scale in schedules:
            assert schedule(sigma) == scale, schedule
            as_function = kdist.schedules.evaluate.scale_of_rows(
                lambda s: 3.3 if s > 1 else 0.7, torch.tensor([2.0, 0.5], dtype=torch.float64)
            )
            assert as_function.tolist() == [3.3, 0.7]
        sigmas = torch.tensor([10.0, 3.3, 1.2, 0.0], dtype=torch.float32)
        assert kdist.LateNegative(3.3, 1.2).nfe(sigmas, "heun") == 8
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bool, torch.complex64])
def test_levels_that_are_no_floating_point_numbers_are_refused(dtype):
    sigma = torch.ones(2).to(dtype)
    for schedule in (kdist.Constant(3.7), kdist.LateNegative(3.7, 1.0), kdist.Constant(3.7) + 1, lambda s: 3.7):
        with pytest.raises(ValueError, match="floating-point"):
            kdist.guide(net, schedule, uncond=UNCOND)(torch.ones(2, 3), sigma, class_cond=torch.arange(2))
    with pytest.raises(ValueError, match="floating-point"):
        kdist.Constant(3.7)(sigma)


@pytest.mark.parametrize("level", [-1.0, math.nan, math.inf])
def test_tensors_of_bad_levels_are_refused(level):
    with pytest.raises(ValueError, match="sigma must be finite and not negative"):
        kdist.LateNegative(3.7, 1.0)(torch.tensor([1.0, level]))


@pytest.mark.parametrize(
    "schedule",
    [
        kdist.LinearInVariance(0, 1),
        kdist.LinearInVariance(0, 1) * 1.0,
        kdist.Constant(1e30) * kdist.Constant(1e30),
        kdist.LinearInVariance(0, 1).then(1.0, at=0.1),
    ],
    ids=str,
)
@pytest.mark.parametrize("rule", [None, kdist.rules.thresholded])
def test_an_infinite_scale_is_refused(schedule, rule):
    guided = kdist.guide(net, schedule, uncond=UNCOND, rule=rule)
    with pytest.raises(ValueError, match=r"infinite scale in rows \[1\].*clip|infinite scale in rows \[0, 1\].*clip"):
        guided(torch.ones(2, 3), torch.tensor([1.0, 1e20]), class_cond=torch.arange(2))
    with pytest.raises(ValueError, match=r"not finite in torch\.float32"):
        schedule(torch.tensor(1e20))


def test_a_scale_beyond_half_precision_is_refused_where_it_must_be_half():
    """300**2 is no float16; guidance itself keeps scales in float32."""
    schedule = kdist.LinearInVariance(0, 1)
    with pytest.raises(ValueError, match=r"not finite in torch\.float16"):
        schedule(torch.tensor([300.0], dtype=torch.float16))
    assert schedule.evaluate(torch.tensor([300.0], dtype=torch.float16)).item() == 90001
    with pytest.raises(ValueError, match=r"not finite in torch\.float64"):
        schedule(1e200)


@pytest.mark.parametrize("number", [1e39, -1e39, 10**400])
def test_fields_that_float32_cannot_hold_are_refused(number):
    for make in (kdist.Constant, lambda v: kdist.LateNegative(v, 1.0), lambda v: kdist.Piecewise((1.0,), (v,))):
        with pytest.raises(ValueError, match=r"finite, in float32 too|must be a number|sequence of numbers"):
            make(number)
