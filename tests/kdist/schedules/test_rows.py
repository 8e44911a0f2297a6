"""Schedules by class and by row: values, skipping row by row, counting, serialisation, errors."""

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_nets import Affine

import kdist
from kdist.schedules import Clip, NegativeWindow, PerClass, PerRow, Ramp, Sum, from_json, parse
from kdist.schedules.evaluate import host_values
from kdist.solvers import sample

UNCOND = {"class_cond": 10}


@pytest.fixture
def net():
    return Affine()


def batch(n, classes=10):
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(n) % classes


def guided_by_hand(net, x, y, scales):
    cond, uncond = net(x, None, y), net(x, None, torch.full_like(y, 10))
    return uncond + torch.tensor(scales)[:, None] * (cond - uncond)


def test_each_class_gets_its_schedule(net):
    x, y = batch(4)
    schedule = PerClass({0: 4.0, 1: NegativeWindow(3.0, 0.3, 1.0), 2: Ramp(1, 5, 0.1, 10)}, default=2.0)
    for sigma, scales in ((5.0, (4.0, 3.0, schedule.schedules[2][1](5.0), 2.0)), (0.5, (4.0, 0.0, None, 2.0))):
        scales = [schedule.schedules[2][1](sigma) if s is None else s for s in scales]
        denoised = kdist.guide(net, schedule, uncond=UNCOND)(x, torch.full((4,), sigma), class_cond=y)
        # float32 rounding of values up to 60
        torch.testing.assert_close(denoised, guided_by_hand(net, x, y, scales), rtol=1e-5, atol=1e-5)


def test_a_tensor_of_peaks(net):
    x, y = batch(4)
    schedule = PerRow(NegativeWindow(1.5, 0.3, 1.0), torch.tensor([4.0, 2.0, 4.0, 3.0]))
    guided = kdist.guide(net, schedule, uncond=UNCOND)
    above, inside = (guided(x, torch.full((4,), sigma), class_cond=y) for sigma in (5.0, 0.5))
    torch.testing.assert_close(above, guided_by_hand(net, x, y, [4.0, 2.0, 4.0, 3.0]), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(inside, guided_by_hand(net, x, y, [0.0] * 4), rtol=1e-5, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([5.0, 0.5, 0.05])), min_size=1, max_size=9),
    st.booleans(),
)
def test_only_the_rows_that_need_a_pass_get_it(rows, batched):
    """Classes 0..3: always 1, always 0, a window, always guided; mixed sigmas; any batch."""
    window = NegativeWindow(4.0, 0.1, 1.0, after=1.0)
    schedule = PerClass({0: 1.0, 1: 0.0, 2: window, 3: 3.0})
    net = Affine()
    y = torch.tensor([class_ for class_, _ in rows])
    sigma = torch.tensor([level for _, level in rows])
    x = torch.randn(len(rows), 3, generator=torch.Generator().manual_seed(1))
    guided = kdist.guide(net, schedule, uncond=UNCOND, batched=batched)
    denoised = guided(x, sigma, class_cond=y)
    scales = [{0: 1.0, 1: 0.0, 2: window(level), 3: 3.0}[class_] for class_, level in rows]
    needed = sum(1 if scale in (0, 1) else 2 for scale in scales)
    assert net.rows == needed
    assert guided.nfe == pytest.approx(needed / len(rows))
    torch.testing.assert_close(denoised, guided_by_hand(net, x, y, scales), rtol=1e-5, atol=1e-5)


def test_the_schedule_of_a_batch_counts_its_calls(net):
    x, y = batch(5, classes=3)
    sigmas = torch.linspace(5, 0, 11)
    schedule = PerClass({0: 1.0, 1: NegativeWindow(4.0, 0.8, 2.0), 2: 4.0})
    guided = kdist.guide(net, schedule, uncond=UNCOND)
    for solver in ("euler", "heun"):
        guided.reset_nfe()
        sample(solver, guided, x * 5, sigmas, extra_args={"class_cond": y})
        assert guided.nfe == pytest.approx(schedule.bind({"class_cond": y}, 5).nfe(sigmas, solver))
    assert schedule.bind({"class_cond": torch.tensor([0, 2])}, 2).nfe(sigmas) == (10 + 20) / 2


def test_compositions_follow_the_batch(net):
    x, y = batch(3)
    by_class = PerClass({0: 4.0, 1: 1.0, 2: 0.0})
    for schedule, scales in (
        (by_class + 1, [5.0, 2.0, 1.0]),
        (0.5 * by_class, [2.0, 0.5, 0.0]),
        (by_class.clip(0.5, 3), [3.0, 1.0, 0.5]),
        (kdist.Constant(7).then(by_class, at=1.0), [4.0, 1.0, 0.0]),
        (by_class * PerRow(1.0, [2, 3, 4]), [8.0, 3.0, 0.0]),
    ):
        denoised = kdist.guide(net, schedule, uncond=UNCOND)(x, torch.ones(3), class_cond=y)
        torch.testing.assert_close(denoised, guided_by_hand(net, x, y, scales), rtol=1e-5, atol=1e-5)


def test_the_classic_class_finds_its_condition(net):
    model = kdist.CFGDenoiser(lambda x, sigma, cond: net(x, sigma, cond), PerClass({0: 4.0, 1: 1.0}, key="cond"))
    x, y = batch(2)
    denoised = model(x, torch.ones(2), torch.full((2,), 10), y)
    torch.testing.assert_close(denoised, guided_by_hand(net, x, y, [4.0, 1.0]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "schedule",
    [
        PerClass({3: 4.0, 1: NegativeWindow(3.0, 0.3, 1.0)}, key="label", default=Ramp(1, 4, 0.1, 10)),
        PerRow(NegativeWindow(3.0, 0.3, 1.0), [1.5, 2.5]),
        Sum(PerClass({1: 2.0}), Clip(PerRow(2.0, (1.0,)), 0.0)),
    ],
)
def test_json_round_trip_and_equality(schedule):
    back = from_json(schedule.to_json())
    assert back == schedule
    assert hash(back) == hash(schedule)
    assert back.breakpoints == schedule.breakpoints


def test_order_and_numbers_do_not_matter():
    assert PerClass({1: 2.0, 0: 3.0}) == PerClass({0: kdist.Constant(3), 1: 2})
    assert PerClass({0: 4.0, 1: 3.0}).can_skip is False
    assert PerClass({0: 4.0, 1: 1.0}).can_skip is True
    assert PerClass({0: NegativeWindow(4, 0.3, 1), 1: Ramp(1, 2, 0.5, 9)}).breakpoints == (0.3, 0.5, 1, 9)


@pytest.mark.parametrize("default", [None, 1.5])
def test_class_numbers_are_names_not_places(default):
    """Nine before one in the classes, one before nine in the list, and neither its place there."""
    schedule = PerClass({9: 4.0, 1: 3.0, 5: 2.0}, default=default)
    classes = torch.tensor([9, 5, 1, 9] + ([0, 2, 7] if default else []))
    scales = schedule.bind({"class_cond": classes}, len(classes))(torch.ones(len(classes)))
    assert scales.tolist() == [4.0, 2.0, 3.0, 4.0] + ([1.5] * 3 if default else [])


def test_plot_labels_every_class():
    ax = PerClass({0: 4.0, 3: NegativeWindow(3.0, 0.3, 1.0)}, default=2.0).plot()
    labels = [line.get_label() for line in ax.lines if not line.get_label().startswith("_")]
    assert labels == ["class 0", "class 3", "other classes"]


def test_bound_schedules_work_without_values():
    """Inside torch.func the classes cannot be looked at; nothing tries to."""
    schedule = PerClass({0: 4.0, 1: 2.0})
    net = Affine()
    guided = kdist.guide(net, schedule, uncond=UNCOND)
    x, y = batch(2)
    _, tangent = torch.func.jvp(lambda x: guided(x, torch.ones(2), class_cond=y), (x,), (torch.ones_like(x),))
    torch.testing.assert_close(tangent, torch.full_like(x, 0.5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g, x: g(PerClass({0: 4.0, 1: 2.0}))(x, torch.ones(3), class_cond=torch.arange(3)), "for class 2"),
        (lambda g, x: g(PerClass({0: 4.0}, key="label"))(x, torch.ones(3), class_cond=torch.arange(3)), "'label'"),
        (lambda g, x: g(PerClass({0: 4.0}))(x, torch.ones(3), class_cond=torch.zeros(3)), "3 class numbers"),
        (lambda g, x: g(PerRow(4.0, [1, 2]))(x, torch.ones(3), class_cond=torch.arange(3)), "2 rows, the batch has 3"),
        (lambda g, x: PerClass({0: 4.0})(1.0), "bind it to a batch"),
        (lambda g, x: PerRow(4.0, [1.0])(1.0), "bind it to a batch"),
        (lambda g, x: PerClass({0: 1.0}).nfe([1.0, 0.5]), "bind it to a batch"),
        (lambda g, x: PerClass({}), "schedules is empty"),
        (lambda g, x: PerClass({"cat": 4.0}), "class numbers"),
        (lambda g, x: PerClass(4.0), "class numbers"),
        (lambda g, x: PerRow(4.0, 2.0), "one number per row"),
        (lambda g, x: PerRow(PerClass({0: 4.0}), [2.0]), "no single peak"),
        (lambda g, x: PerClass({0: 4.0}).with_scale(3), "no single peak"),
        (lambda g, x: parse("per-class:schedules=4"), "class numbers"),
        (lambda g, x: from_json(PerClass({0: 4.0}).to_json().replace("_schedule\": 1", "_schedule\": 2")), "upgrade"),
        (lambda g, x: from_json(PerClass({0: 4.0}).to_json().replace("scale", "strength")), "no 'strength'"),
    ],
)  # fmt: skip
def test_bad_input(net, call, message):
    x, _ = batch(3)
    with pytest.raises(ValueError, match=message):
        call(lambda schedule: kdist.guide(net, schedule, uncond=UNCOND), x)


def test_a_missing_class_is_found_where_scales_are_read_anyway():
    """What happens on an accelerator, where binding does not look at the classes."""
    with pytest.raises(ValueError, match=r"rows \[1\]"):
        host_values(PerClass({0: 1.0}), torch.tensor([1.0, torch.nan]))


def test_plots_of_classes_show_the_levels_that_other_plots_show():
    defaults = [inspect.signature(kind.plot).parameters for kind in (kdist.PerClass, kdist.Schedule)]
    for name in ("sigma_min", "sigma_max"):
        assert defaults[0][name].default == defaults[1][name].default
