"""Schedules: values, edges, types, composition, serialisation, counting, pictures, bad input."""

import dataclasses
import json
import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import kdist
from kdist import digits

EXAMPLES = [
    kdist.Constant(4.0),
    kdist.Interval(4.0, 0.3, 5.0),
    kdist.Interval(4.0, 0.3, 5.0, outside=0.5),
    kdist.NegativeWindow(4.0, 0.3, 1.0),
    kdist.NegativeWindow(4.0, 0.3, 1.0, inside=-0.5, after=1.0, ramp=0.4),
    kdist.LateNegative(3.0, 1.0),
    kdist.EarlyNegative(3.0, 1.0, early=0.5, sigma_end=0.1),
    kdist.LinearInVariance(w0=-0.5, omega=0.1, max_scale=6.0),
    kdist.Piecewise((80.0, 5.0, 0.5), (1.0, 4.0, 0.0)),
    kdist.Piecewise((80.0, 5.0, 0.5), (1.0, 4.0, 0.0), "linear"),
    kdist.Piecewise((5.0,), (4.0,)),
]
COMPOSED = [
    kdist.Constant(2.0) + kdist.LateNegative(1.0, 1.0),
    2 * kdist.Interval(2.0, 0.3, 5.0) + 0.5,
    kdist.LinearInVariance(-0.5, 0.1).clip(0.2, 5.0),
    kdist.Constant(4.0).then(kdist.Piecewise((1.0, 0.5), (0.0, 1.0)), at=1.0),
]
ids = [str(schedule)[:60] for schedule in EXAMPLES]
all_ids = ids + [type(schedule).__name__ for schedule in COMPOSED]
sigmas = st.floats(1e-3, 1e3)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # at, just above and well away from each edge: an upper edge belongs to its window, a lower one does not
        (kdist.Interval(4.0, 0.3, 1.0), {2.0: 1, 1.0: 4, 0.5: 4, 0.3: 1, 0.0: 1}),
        (kdist.NegativeWindow(4.0, 0.3, 1.0), {2.0: 4, 1.0: 0, 0.5: 0, 0.3: 4, 0.0: 4}),
        (kdist.NegativeWindow(4.0, 0.3, 1.0, inside=-1.0, after=1.0), {2.0: 4, 1.0: -1, 0.3: 1}),
        (kdist.LateNegative(3.0, 1.0, late=0.5), {2.0: 3, 1.0: 0.5, 0.0: 0.5}),
        (kdist.EarlyNegative(4.0, 1.0), {2.0: 0, 1.0: 4, 0.01: 4}),
        (kdist.EarlyNegative(4.0, 1.0, early=-0.5, sigma_end=0.3), {2.0: -0.5, 1.0: 4, 0.5: 4, 0.3: 1, 0.0: 1}),
        (kdist.LinearInVariance(-0.5, 0.25), {2.0: 1.5, 0.0: 0.5}),
        (kdist.LinearInVariance(-2.0, 0.25, max_scale=1.2), {4.0: 1.2, 0.0: 0.0}),
        (kdist.Piecewise((10.0, 1.0), (4.0, 2.0)), {80.0: 4, 10.0: 4, 5.0: 4, 1.0: 2, 0.0: 2}),
        (kdist.Piecewise((10.0, 0.1), (4.0, 2.0), "linear"), {80.0: 4, 10.0: 4, 1.0: 3, 0.1: 2, 0.0: 2}),
    ],
    ids=str,
)
def test_values_at_and_around_the_edges(schedule, expected):
    for sigma, scale in expected.items():
        assert schedule(sigma) == pytest.approx(scale, abs=1e-12)  # float64 arithmetic


@pytest.mark.parametrize("schedule", EXAMPLES + COMPOSED, ids=all_ids)
@given(sigma=sigmas)
def test_float_and_tensor_agree(schedule, sigma):
    tensor = torch.tensor([sigma, sigma], dtype=torch.float64)
    assert schedule(tensor).tolist() == [schedule(sigma)] * 2
    # an edge is compared in the input's own precision, so the float32 neighbour of an edge is told apart below
    assume(all(abs(sigma / point - 1) > 1e-6 for point in schedule.breakpoints))
    assert float(schedule(tensor.float())[0]) == pytest.approx(schedule(float(tensor.float()[0])), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("schedule", EXAMPLES, ids=ids)
def test_an_edge_is_the_same_in_every_precision(schedule):
    """float32(0.3) is above 0.3; a solver at that level must still get what belongs to the edge."""
    for point in schedule.breakpoints:
        assert float(schedule(torch.tensor(point))) == pytest.approx(schedule(point), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("schedule", EXAMPLES + COMPOSED, ids=all_ids)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_shape_dtype_device_are_kept(schedule, dtype):
    sigma = torch.tensor([[4.0, 0.5, 0.25], [80.0, 1.0, 0.0]], dtype=dtype)
    scale = schedule(sigma)
    assert (scale.shape, scale.dtype, scale.device) == (sigma.shape, sigma.dtype, sigma.device)
    meta = schedule(sigma.to("meta"))  # no data there: a schedule must not read values to follow its input
    assert meta.device.type == "meta"


@pytest.mark.parametrize("schedule", EXAMPLES + COMPOSED, ids=all_ids)
def test_breakpoints_list_every_jump(schedule):
    """Away from the listed points, a relative step of 1e-6 in sigma moves the scale by no more than a smooth curve."""
    grid = torch.logspace(-3, 3, 20_001, dtype=torch.float64)
    left, right = schedule(grid * (1 - 5e-7)), schedule(grid * (1 + 5e-7))
    jumps = grid[(left - right).abs() > 0.1]  # smooth parts move by less than 1e-6 times slope times scale
    points = torch.tensor([*schedule.breakpoints, -1.0], dtype=torch.float64)
    for sigma in jumps:
        assert (points / sigma - 1).abs().min() < 2e-6
    assert list(schedule.breakpoints) == sorted(set(schedule.breakpoints))


@pytest.mark.parametrize("schedule", EXAMPLES + COMPOSED, ids=all_ids)
def test_text_round_trip(schedule):
    assert kdist.parse(str(schedule)) == schedule
    assert kdist.parse(schedule.to_json()) == schedule


@pytest.mark.parametrize("schedule", EXAMPLES + COMPOSED, ids=all_ids)
def test_json_round_trip(schedule, tmp_path):
    assert kdist.from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule
    schedule.to_json(tmp_path / "schedule.json")
    assert kdist.from_json(tmp_path / "schedule.json") == schedule
    assert kdist.from_json(schedule.to_json()) == schedule
    assert kdist.parse(str(tmp_path / "schedule.json")) == schedule
    assert [path.name for path in tmp_path.iterdir()] == ["schedule.json"]


def test_frozen_and_hashable():
    schedule = kdist.LateNegative(3, 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.scale = 4.0
    assert hash(schedule) == hash(kdist.LateNegative(3.0, 1.0))


def test_arithmetic():
    late = kdist.LateNegative(3.0, 1.0)
    for sigma in (2.0, 0.5):
        assert (late + 1)(sigma) == (1 + late)(sigma) == late(sigma) + 1
        assert (2 * late)(sigma) == (late * 2)(sigma) == 2 * late(sigma)
        assert (late * late)(sigma) == late(sigma) ** 2
        assert late.clip(1.0, 2.0)(sigma) == min(max(late(sigma), 1.0), 2.0)
    early, low = kdist.Constant(5.0), kdist.Constant(0.0)
    assert [early.then(low, at=1.0)(sigma) for sigma in (2.0, 1.0, 0.5)] == [5, 0, 0]


def test_with_scale():
    assert kdist.NegativeWindow(4.0, 0.3, 1.0).with_scale(7.0) == kdist.NegativeWindow(7.0, 0.3, 1.0)
    assert kdist.LinearInVariance(-0.5, 0.1).with_scale(7.0)(1e3) == 7
    assert kdist.Piecewise((10.0, 1.0), (3.0, 0.5)).with_scale(5.0).scales == (5.0, 0.0)  # weights doubled
    then = kdist.Constant(4.0).then(kdist.Interval(4.0, 0.1, 0.5), at=1.0).with_scale(2.0)
    assert [then(sigma) for sigma in (2.0, 0.3)] == [2, 2]
    with pytest.raises(ValueError, match="sum has no single peak"):
        (kdist.Constant(1.0) + 1).with_scale(3.0)
    with pytest.raises(ValueError, match="nothing to stretch"):
        kdist.Piecewise((10.0,), (1.0,)).with_scale(3.0)


def test_soft_edges_are_centred_and_exact_outside():
    soft = kdist.NegativeWindow(4.0, 0.25, 2.0, inside=0.0, ramp=0.5)
    assert soft(2.0) == pytest.approx(2.0)  # half way at the edge itself
    assert soft(0.25) == pytest.approx(2.0)
    assert soft(2.0 * math.exp(0.26)) == 4.0
    assert soft(0.7) == 0.0
    grid = torch.logspace(-2, 2, 5000, dtype=torch.float64)
    # the steepest slope of a half cosine of height 4 over 0.5 in log sigma, times the grid's step
    assert soft(grid).diff().abs().max() <= 4 * math.pi / 2 / 0.5 * math.log(10**4) / 4999


def test_from_steps_holds_each_scale_for_its_whole_step():
    levels = digits.sigmas(4)
    schedule = kdist.Piecewise.from_steps([4.0, 3.0, 2.0, 1.0], levels)
    assert schedule(levels[:-1]).tolist() == [4, 3, 2, 1]
    assert schedule(float(levels[1]) * 1.001) == 4
    assert schedule(0.0) == 1
    with pytest.raises(ValueError, match="5 sigmas make 4 steps"):
        kdist.Piecewise.from_steps([4.0, 3.0], levels)


@given(st.floats(0, 1))
def test_progress_and_sigma_are_inverse(progress):
    levels = digits.sigmas(20)
    sigma = kdist.progress_to_sigma(progress, levels)
    # float32 grid, relative precision 6e-8, times the steepest slope of progress against log sigma
    assert kdist.sigma_to_progress(sigma, levels) == pytest.approx(progress, abs=1e-6)


def test_progress_at_the_nodes():
    levels = digits.sigmas(20)
    assert [kdist.progress_to_sigma(i / 20, levels) for i in (0, 5, 20)] == [float(levels[i]) for i in (0, 5, 20)]
    assert kdist.sigma_to_progress(1e3, levels) == 0
    assert kdist.sigma_to_progress(0.0, levels) == 1


def test_weights_and_scales():
    assert kdist.scale_to_weight(1.0) == 0
    assert kdist.weight_to_scale(kdist.scale_to_weight(7.5)) == 7.5


def test_nfe():
    levels = [10.0, 5.0, 2.0, 1.0, 0.5, 0.0]  # five steps
    assert kdist.Constant(4.0).nfe(levels) == 10
    assert kdist.Constant(1.0).nfe(levels) == 5
    assert kdist.NegativeWindow(4.0, 0.5, 2.0).nfe(levels) == 8  # sigma 2 and 1 need one pass
    assert kdist.NegativeWindow(4.0, 0.5, 2.0).nfe(levels, "heun") == 14  # 5 first calls, 4 corrections; 4 are inside
    with pytest.raises(ValueError, match="unknown solver"):
        kdist.Constant(4.0).nfe(levels, "hoin")


def test_plot_draws_jumps_upright():
    ax = kdist.LateNegative(3.0, 1.0).plot(sigma_min=0.1, sigma_max=10.0, label="late")
    sigma, scale = ax.lines[0].get_data()
    jump = abs(scale[1:] - scale[:-1]).argmax()
    assert sigma[jump] / sigma[jump + 1] < 1 + 1e-8
    assert ax.get_xlim() == (10.0, 0.1)
    with pytest.raises(ValueError, match="0 < sigma_min < sigma_max"):
        kdist.Constant(1.0).plot(sigma_min=0)


def test_either_part_of_a_sequence_may_skip():
    levels = [10.0, 0.5, 0.1]  # two calls
    assert kdist.Constant(4.0).then(1.0, at=1.0).nfe(levels) == 2 + 1 + 1
    assert kdist.Constant(0.0).then(4.0, at=1.0).nfe(levels) == 1 + 2 + 2
    assert not kdist.Constant(3.0).then(4.0, at=1.0).can_skip


def test_soft_edges_end_where_the_breakpoints_say():
    soft = kdist.NegativeWindow(4.0, 0.25, 2.0, ramp=0.5)
    factor = math.exp(0.25)
    assert soft.breakpoints == pytest.approx((0.25 / factor, 0.25 * factor, 2.0 / factor, 2.0 * factor))
    for point in soft.breakpoints:
        values = [soft(point * shift) for shift in (0.99, 1.01)]
        assert sum(value in (0.0, 4.0) for value in values) == 1  # flat on one side, curved on the other


# Bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kdist.Constant(math.nan), "constant: scale must be finite"),
        (lambda: kdist.Constant(math.inf), "constant: scale must be finite"),
        (lambda: kdist.Constant("four"), "scale must be a number; got 'four'"),
        (lambda: kdist.Interval(4.0, 1.0, 0.3), "sigma_lo must be below sigma_hi.*swap"),
        (lambda: kdist.Interval(4.0, -1.0, 0.3), "sigma_lo is a noise level and cannot be negative"),
        (lambda: kdist.NegativeWindow(4.0, 1.0, 1.0), "sigma_lo must be below sigma_hi"),
        (lambda: kdist.NegativeWindow(4.0, 0.5, 1.0, ramp=-1.0), "ramp is a width"),
        (lambda: kdist.NegativeWindow(4.0, 0.5, 1.0, ramp=1.0), "ramp=1.0 is wider than the window"),
        (lambda: kdist.NegativeWindow(4.0, 0.5, 1.0, inside=math.nan), "inside must be finite"),
        (lambda: kdist.LateNegative(4.0, -1.0), "sigma_switch is a noise level"),
        (lambda: kdist.EarlyNegative(4.0, 0.1, sigma_end=1.0), "sigma_end must be below sigma_switch"),
        (lambda: kdist.LinearInVariance(0.0, 1.0, 2.0, 1.0), "max_scale=1.0 is below min_scale=2.0"),
        (lambda: kdist.Piecewise((1.0, 2.0), (1.0, 1.0)), "sigmas must decrease strictly"),
        (lambda: kdist.Piecewise((2.0, -1.0), (1.0, 1.0)), "not be negative"),
        (lambda: kdist.Piecewise((), ()), "at least one"),
        (lambda: kdist.Piecewise((2.0, 1.0), (1.0,)), "2 sigmas and 1 scales"),
        (lambda: kdist.Piecewise((2.0,), (math.nan,)), "scales must be finite"),
        (lambda: kdist.Piecewise((2.0,), (1.0,), "cubic"), "'previous' or 'linear'; got 'cubic'"),
        (lambda: kdist.Constant(1.0).clip(2.0, 1.0), "minimum=2.0 is above maximum=1.0"),
        (lambda: kdist.Constant(1.0).then(2.0, at=-1.0), "at is a noise level"),
        (lambda: kdist.progress_to_sigma(1.5, [1.0, 0.0]), "fraction of the run"),
        (lambda: kdist.progress_to_sigma(0.5, [0.0, 1.0]), "strictly decreasing"),
        (lambda: kdist.sigma_to_progress(-1.0, [1.0, 0.0]), "finite and not negative"),
        (lambda: kdist.parse("negativ-window:scale=4"), "unknown schedule 'negativ-window'; known: .*negative-window"),
        (lambda: kdist.parse("constant:size=4"), "constant has no 'size'; it takes scale"),
        (lambda: kdist.parse("interval:scale=4"), "interval needs sigma_lo, sigma_hi"),
        (lambda: kdist.parse("constant:scale=4,scale=5"), "scale is given twice"),
        (lambda: kdist.parse("constant:4"), "expected name=value, got '4'"),
        (lambda: kdist.parse("nan"), "scale must be finite"),
        (lambda: kdist.from_dict({"scale": 1}), "no 'type' in it"),
        (lambda: kdist.from_dict({"type": "constant", "scale": 1, "x": 1}), "constant has no 'x'"),
        (lambda: kdist.from_dict({"kdist_schedule": 2, "type": "constant", "scale": 1}), "format 2.*upgrade"),
        (lambda: kdist.from_json("{not json"), "not JSON"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("sigma", [-1.0, math.nan, math.inf])
def test_bad_sigma(sigma):
    with pytest.raises(ValueError, match="sigma must be finite and not negative"):
        kdist.Constant(1.0)(sigma)


def test_sigma_of_another_type():
    with pytest.raises(TypeError, match="number or a torch tensor; got list"):
        kdist.Constant(1.0)([1.0, 2.0])


@pytest.mark.parametrize(
    ("schedule", "may"),
    [
        (kdist.Constant(3.0), False),
        (kdist.Constant(0.0), True),
        (kdist.Constant(1.0), True),
        (kdist.Interval(3.0, 0.3, 2.0), True),
        (kdist.Interval(3.0, 0.3, 2.0, outside=0.0), True),
        (kdist.Interval(0.0, 0.3, 2.0, outside=2.0), True),
        (kdist.Interval(1.0, 0.3, 2.0, outside=2.0), True),
        (kdist.Interval(3.0, 0.3, 2.0, outside=2.0), False),
        (kdist.LateNegative(3.0, 1.0), True),
        (kdist.LateNegative(3.0, 1.0, late=1.0), True),
        (kdist.LateNegative(3.0, 1.0, late=-0.5), False),
        (kdist.EarlyNegative(3.0, 1.0, early=-0.5, sigma_end=0.2), True),
        (kdist.EarlyNegative(3.0, 1.0, early=-0.5), False),
        (kdist.NegativeWindow(3.0, 0.3, 1.0, inside=-0.5), False),
        (kdist.NegativeWindow(3.0, 0.3, 1.0, inside=-0.5, after=1.0), True),
        (kdist.NegativeWindow(3.0, 0.3, 1.0, inside=-0.5, ramp=0.5), True),
        (kdist.Piecewise((2.0, 1.0), (3.0, 1.0)), True),
        (kdist.Piecewise((2.0, 1.0), (3.0, 2.0)), False),
    ],
    ids=str,
)
def test_passes_are_looked_at_only_where_one_may_be_left_out(schedule, may):
    """Yes where the scale is 0 or 1 anywhere; no spares a look at the scales in every call."""
    assert schedule.can_skip == may
    levels = torch.logspace(-2, 1, 200, dtype=torch.float64)
    assert may or not ((schedule(levels) == 0) | (schedule(levels) == 1)).any()
