"""Properties that every schedule keeps, and the closed forms of the shaped ones."""

import itertools
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from kdist import schedules
from kdist.schedules import (
    Beta,
    Clip,
    Constant,
    EarlyNegative,
    Exponential,
    Interval,
    LateNegative,
    LinearInVariance,
    NegativeWindow,
    Piecewise,
    Product,
    Ramp,
    Schedule,
    Sum,
    Then,
    Triangle,
)

RANGE = {"sigma_min": 0.1, "sigma_max": 10.0}
levels = st.floats(-3, 8).map(lambda v: round(v, 3))


@st.composite
def sigma_list(draw, size):
    """Increasing noise levels, at least a factor of 1.05 apart."""
    steps = draw(st.lists(st.floats(0.05, 2), min_size=size - 1, max_size=size - 1))
    return [math.exp(value) for value in np.cumsum([draw(st.floats(-3.5, 2)), *steps])]


@st.composite
def simple_schedule(draw):
    """Any schedule that is not made of others, with random fields."""
    kind = draw(st.sampled_from(SIMPLE))
    low, mid, high = draw(sigma_list(3))
    level = [draw(levels) for _ in range(3)]
    return {
        Constant: lambda: Constant(level[0]),
        Interval: lambda: Interval(level[0], low, high, level[1]),
        NegativeWindow: lambda: NegativeWindow(
            level[0], low, high, level[1], level[2], ramp=draw(st.sampled_from([0, 0.05]))
        ),
        LateNegative: lambda: LateNegative(level[0], mid, level[1]),
        EarlyNegative: lambda: EarlyNegative(level[0], high, level[1], low),
        LinearInVariance: lambda: LinearInVariance(level[0], level[1], -3.0, 8.0),
        Ramp: lambda: Ramp(level[0], level[1], low, high, draw(st.sampled_from(["linear", "cosine", "power"]))),
        Triangle: lambda: Triangle(level[0], mid, low, high, level[1]),
        Exponential: lambda: Exponential(level[0], low, high, draw(st.floats(0, 5)), level[1]),
        Beta: lambda: Beta(level[0], low, high, draw(st.floats(1.5, 6)), draw(st.floats(1.5, 6)), level[1]),
        Piecewise: lambda: Piecewise((high, mid, low), tuple(level), draw(st.sampled_from(["previous", "linear"]))),
    }[kind]()


SIMPLE = [
    Constant, Interval, NegativeWindow, LateNegative, EarlyNegative, LinearInVariance, Ramp, Triangle, Exponential,
    Beta, Piecewise,
]  # fmt: skip


@st.composite
def any_schedule(draw):
    first, second = draw(simple_schedule()), draw(simple_schedule())
    made = [
        first,
        first + second,
        first * 0.5,
        first.clip(-1, 5),
        first.then(second, at=draw(st.floats(0.05, 20))),
    ]
    return draw(st.sampled_from(made))


def grid(schedule, dtype=torch.float64):
    """Noise levels from 0 to 1000, the breakpoints among them."""
    points = torch.logspace(-4, 3, 150, dtype=torch.float64)
    return torch.cat([torch.zeros(1), torch.tensor(schedule.breakpoints), points]).to(dtype)


@settings(max_examples=60, deadline=None)
@given(any_schedule())
def test_float_and_tensor_agree_and_shape_dtype_are_kept(schedule):
    sigma = grid(schedule)
    scale = schedule(sigma)
    assert scale.dtype == torch.float64
    # one number at a time takes other vector instructions: a few ulp of the logarithm, times the slope
    np.testing.assert_allclose([schedule(float(s)) for s in sigma[::7]], scale[::7], rtol=1e-9, atol=1e-9)
    assert schedule(sigma.view(1, -1, 1)).shape == (1, len(sigma), 1)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        low = schedule(sigma.clamp_max(6e4).to(dtype))
        assert (low.dtype, low.shape) == (dtype, sigma.shape)
        assert low.isfinite().all()
    assert schedule(sigma.to("meta")).device.type == "meta"


@settings(max_examples=60, deadline=None)
@given(any_schedule())
def test_json_round_trip(schedule):
    assert schedules.from_json(schedule.to_json()) == schedule
    assert schedules.from_dict(schedule.to_dict()) == schedule


@settings(max_examples=60, deadline=None)
@given(simple_schedule())
def test_text_round_trip(schedule):
    assert schedules.parse(str(schedule)) == schedule


@settings(max_examples=60, deadline=None)
@given(any_schedule())
def test_every_jump_is_a_breakpoint(schedule):
    """Between breakpoints the curve is continuous: on a grid 100 times finer the largest step is about 100 times
    smaller (10 times where a curve starts like a square root; 5 leaves room); a jump would stay."""
    edges = sorted({1e-3, 1e2, *[p for p in schedule.breakpoints if 1e-3 < p < 1e2]})
    for low, high in itertools.pairwise(edges):
        if high / low < 1 + 1e-6:
            continue

        def largest_step(count, low=low, high=high):
            inside = torch.logspace(0, 1, count, dtype=torch.float64) / 9 - 1 / 9  # denser at the low end
            sigma = low * (1 + 1e-9) + inside * (high * (1 - 1e-9) - low * (1 + 1e-9))
            return schedule(sigma).diff().abs().max()

        coarse, fine = largest_step(100), largest_step(10_000)
        assert fine <= coarse / 5 + 1e-9


@settings(max_examples=60, deadline=None)
@given(any_schedule())
def test_a_schedule_that_says_it_cannot_skip_never_meets_0_or_1(schedule):
    if not schedule.can_skip:
        scale = schedule(grid(schedule))
        assert not ((scale == 0) | (scale == 1)).any()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([Ramp, Triangle, Exponential, Beta]), sigma_list(3), levels, levels)
def test_shaped_schedules_stay_between_their_levels_and_meet_them(kind, sigmas, first, second):
    low, mid, high = sigmas
    schedule = {
        Ramp: lambda: Ramp(second, first, low, high, "cosine"),
        Triangle: lambda: Triangle(first, mid, low, high, second),
        Exponential: lambda: Exponential(first, low, high, 3.0, second),
        Beta: lambda: Beta(first, low, high, 2.0, 4.0, second),
    }[kind]()
    scale = schedule(grid(schedule))
    bottom, top = sorted((first, second))
    assert scale.clamp(bottom, top).sub(scale).abs().max() <= 1e-12  # rounding of the two products
    peak = {Ramp: low, Triangle: mid, Exponential: low, Beta: (low * high**3) ** 0.25}[kind]  # p = 1/4 from the top
    assert schedule(peak) == pytest.approx(first, abs=1e-9)


@pytest.mark.parametrize("shape", ["linear", "cosine", "power"])
def test_ramp_formulas(shape):
    """Wang et al. 2024, with p = log(10 / sigma) / log(100): sigma 1 is half way."""
    expected = {"linear": 0.5, "cosine": 0.5, "power": 0.25}[shape]
    ramp = Ramp(1, 5, **RANGE, shape=shape)
    assert ramp(1.0) == pytest.approx(1 + 4 * expected)
    assert (ramp(10.0), ramp(80.0), ramp(0.1), ramp(0.0)) == (1, 1, 5, 5)


def test_powered_cosine():
    p = 0.75
    sigma = 10 * 100**-p
    ramp = Ramp(0, 2, **RANGE, shape="cosine", power=3)
    assert ramp(sigma) == pytest.approx(1 - math.cos(math.pi * p**3))


def test_triangle_is_linear_in_log_sigma():
    triangle = Triangle(4, 1.0, **RANGE, floor=2)
    assert triangle(math.sqrt(10)) == pytest.approx(3)
    assert triangle(math.sqrt(0.1)) == pytest.approx(3)
    assert (triangle(10.0), triangle(0.1), triangle(0.01)) == (2, 2, 2)


def test_exponential_formula():
    """C2FG: omega_0 exp(-lambda t) with t = 1 - p."""
    curve = Exponential(5, **RANGE, decay=1.5, floor=0)
    assert curve(1.0) == pytest.approx(5 * math.exp(-0.75))
    assert curve(10.0) == pytest.approx(5 * math.exp(-1.5))
    assert curve(0.05) == 5


def test_an_exponential_knows_whether_it_meets_one_pass():
    """From its value at sigma_max, not from the floor, which it never reaches."""
    assert not Exponential(4, **RANGE, decay=2, floor=1).can_skip
    turned = Exponential(1.5, **RANGE, decay=-1, floor=2)  # 2 - e / 2 = 0.64 at sigma_max, 1 on the way
    assert turned.can_skip
    assert turned(10.0) == pytest.approx(2 - math.e / 2)
    assert Exponential(4, **RANGE, decay=-2000).can_skip is False  # beyond any float; its value says what is wrong
    with pytest.raises(ValueError, match="is not finite"):
        Exponential(4, **RANGE, decay=-2000)(RANGE["sigma_max"])


def test_beta_is_the_density_over_its_maximum():
    from scipy.stats import beta

    curve = Beta(3, **RANGE, a=2.5, b=4, floor=0)
    p = np.linspace(0.01, 0.99, 50)
    mode = 1.5 / 4.5
    expected = 3 * beta.pdf(p, 2.5, 4) / beta.pdf(mode, 2.5, 4)
    np.testing.assert_allclose(curve(torch.tensor(10 * 100**-p)), expected, rtol=1e-9)


def test_then_takes_each_side_as_it_is():
    both = Ramp(1, 4, 1.0, 10.0).then(Constant(0), at=1.0)
    assert (both(1.0), both(1.0000001)) == (0, pytest.approx(4, abs=1e-5))
    assert both.breakpoints == (1.0, 10.0)


@pytest.mark.parametrize(
    ("schedule", "peak"),
    [
        (Ramp(1, 4, **RANGE), Ramp(1, 7, **RANGE)),
        (Ramp(4, 1, **RANGE), Ramp(7, 1, **RANGE)),
        (Triangle(4, 1.0, **RANGE), Triangle(7, 1.0, **RANGE)),
        (Exponential(4, **RANGE), Exponential(7, **RANGE)),
        (Beta(4, **RANGE), Beta(7, **RANGE)),
    ],
)
def test_with_scale_moves_the_peak(schedule, peak):
    assert schedule.with_scale(7) == peak


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ramp(1, 4, 0.0, 10.0), "sigma_min must be above 0"),
        (lambda: Ramp(1, 4, 10.0, 0.1), "sigma_min must be below sigma_max"),
        (lambda: Ramp(1, 4, **RANGE, shape="spline"), "shape must be 'linear', 'cosine' or 'power'"),
        (lambda: Ramp(1, 4, **RANGE, power=3), "a linear ramp has no power"),
        (lambda: Ramp(1, 4, **RANGE, shape="power", power=0), "power must be above 0"),
        (lambda: Ramp(math.nan, 4, **RANGE), "start must be finite"),
        (lambda: Triangle(4, 20.0, **RANGE), "sigma_peak must be below sigma_max"),
        (lambda: Exponential(4, **RANGE, decay="fast"), "decay must be a number"),
        (lambda: Beta(4, **RANGE, a=1), "above 1"),
        (lambda: Beta(4, **RANGE, b=1), "above 1"),
        (lambda: schedules.parse("ramp:start=1,end=4"), "ramp needs sigma_min, sigma_max"),
        (lambda: schedules.parse("beta:scale=4,sigma_min=1,sigma_max=2,c=3"), "beta has no 'c'"),
        (lambda: schedules.from_json('{"kdist_schedule": 99, "type": "beta"}'), "upgrade kdist"),
    ],
)
def test_bad_fields_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_every_registered_schedule_is_covered_here():
    """A schedule added later must join the property tests."""
    composed = {Sum, Product, Clip, Then}
    by_row = {cls for cls in schedules.registry().values() if cls.__name__.startswith("Per")}
    assert {cls for cls in schedules.registry().values() if cls.__module__.startswith("kdist.")} == {
        *SIMPLE,
        *composed,
        *by_row,
    }
    assert all(issubclass(cls, Schedule) for cls in SIMPLE)


@pytest.mark.parametrize(
    "schedule", [Triangle(4, 1.0, **RANGE), Exponential(4, **RANGE, decay=60), Beta(4, **RANGE)], ids=lambda s: s.kind
)
def test_nothing_is_guided_outside_unless_asked_for(schedule):
    assert schedule(20.0) == pytest.approx(1, abs=1e-20)  # 3 exp(-60)
    assert schedule.with_scale(7.0)(20.0) == pytest.approx(1, abs=1e-20)
    assert Beta(4, **RANGE)(1.0) == pytest.approx(4)  # its peak is in the middle
