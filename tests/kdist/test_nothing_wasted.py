"""Network calls: predicted exactly, never more than needed, and nothing read from the device without a reason."""

from functools import partial

import pytest
import torch
from torch.overrides import TorchFunctionMode

import kdist
from kdist import rules
from kdist.conditioning import Unjoinable, join
from kdist.schedules import Beta, Exponential, PerClass, PerRow, Piecewise, Ramp, Triangle
from kdist.solvers import SOLVERS, sample

UNCOND = {"class_cond": 10}
SIGMAS = torch.tensor([10.0, 6.0, 3.0, 1.5, 0.8, 0.4, 0.15, 0.0])
SCHEDULES = [
    kdist.Constant(4),
    kdist.Constant(1),
    kdist.Constant(0),
    kdist.Interval(4, 0.4, 3.0),
    kdist.NegativeWindow(4, 0.4, 3.0),
    kdist.NegativeWindow(4, 0.4, 3.0, inside=0.0, after=1.0, ramp=0.5),
    kdist.LateNegative(4, 1.5),
    kdist.EarlyNegative(4, 1.5, sigma_end=0.1),
    kdist.LinearInVariance(-1.0, 1.0, max_scale=4.0),
    Ramp(1, 4, 0.4, 6.0),
    Ramp(0, 4, 0.4, 6.0, "cosine"),
    Triangle(4, 1.5, 0.4, 6.0),
    Exponential(4, 0.4, 6.0, floor=0),
    Beta(4, 0.4, 6.0, floor=0),
    Piecewise((10.0, 3.0, 0.8), (4.0, 0.0, 1.0)),
    Ramp(1, 4, 0.4, 6.0).then(1, at=0.5),
    (kdist.Constant(4) * Ramp(0, 1, 0.4, 6.0)).clip(1, 3),
]


class Net(torch.nn.Module):
    """Affine in x, told apart by its condition; keeps the size of every batch it got."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, x, sigma, class_cond):
        self.batches.append(len(x))
        return x * 0.5 + class_cond.view(-1, *[1] * (x.ndim - 1))


def run(solver, schedule, *, rows=1, **options):
    """A run of a fresh guided model over SIGMAS; gives (model, guided)."""
    net = Net()
    guided = kdist.guide(net, schedule, uncond=UNCOND, **options)
    x = torch.ones(rows, 2) * SIGMAS[0]
    noise = {"noise_sampler": lambda *_: torch.zeros(rows, 2)} if "sde" in solver or "ancestral" in solver else {}
    sample(solver, guided, x, SIGMAS, extra_args={"class_cond": torch.arange(rows) % 10}, **noise)
    return net, guided


@pytest.mark.parametrize("solver", [solver for solver in SOLVERS if solver != "dpm_adaptive"])
def test_calls_are_as_predicted(solver):
    """Every schedule: the prediction, the counter and the rows that the network saw."""
    for schedule in SCHEDULES:
        net, guided = run(solver, schedule)
        assert guided.nfe == schedule.nfe(SIGMAS, solver) == sum(net.batches), str(schedule)


def test_adaptive_solver_is_counted_too():
    net, guided = run("dpm_adaptive", kdist.Interval(4, 0.4, 3.0))
    assert guided.nfe == sum(net.batches)


def test_one_network_call_where_both_passes_run_and_two_when_asked():
    for batched, sizes in ((True, [6]), (False, [3, 3])):
        net, guided = run("euler", kdist.Constant(4), rows=3, batched=batched)
        assert net.batches == sizes * 7
        assert guided.nfe == 14


def test_without_batching_no_call_is_larger_than_the_batch():
    schedule = PerRow(kdist.NegativeWindow(4, 0.4, 3.0, after=1.0), [4.0, 2.0, 1.0])
    net, guided = run("heun", schedule, rows=3, batched=False)
    assert max(net.batches) == 3
    assert guided.nfe == pytest.approx(sum(net.batches) / 3)


def test_a_weak_model_is_skipped_as_well():
    strong, weak = Net(), Net()
    guided = kdist.guide(strong, kdist.Interval(2, 0.4, 3.0), weak_model=weak)
    sample("euler", guided, torch.ones(2, 2), SIGMAS, extra_args={"class_cond": torch.tensor([1, 2])})
    assert strong.batches == [2] * 7
    assert weak.batches == [2] * 3  # sigma 3, 1.5 and 0.8


@pytest.mark.parametrize(
    ("cond", "uncond"),
    [
        (torch.ones(2, 7, 4), torch.zeros(2, 3, 4)),
        ({"tokens": torch.ones(2, 7, 4), "extra": torch.ones(2, 1)}, {"tokens": torch.ones(2, 7, 4)}),
        ([torch.ones(2, 3)], [torch.ones(2, 3), torch.ones(2, 3)]),
        (torch.ones(2, 3), None),
        ("a photo of a cat", ""),
        (torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 3)),
        ((torch.ones(5), torch.ones(2, 3)), (torch.zeros(5), torch.ones(2, 3))),
    ],
    ids=["lengths", "keys", "list lengths", "none", "text", "dtypes", "shared tensors"],
)
def test_conditions_that_cannot_be_batched_take_two_calls(cond, uncond):
    with pytest.raises(Unjoinable):
        join(uncond, cond, (2, 2))
    seen = []

    def model(x, sigma, prompt):
        seen.append(prompt)
        return x + (1.0 if prompt is cond else 0.0)

    guided = kdist.guide(model, 3.0, uncond=lambda args: {"prompt": uncond})
    denoised = guided(torch.zeros(2, 2), torch.ones(2), prompt=cond)
    assert torch.equal(denoised, torch.full((2, 2), 3.0))
    assert seen[0] is uncond
    assert seen[1] is cond


class Reads(TorchFunctionMode):
    """Counts what brings values of tensors to Python: on an accelerator each waits for the device."""

    NAMES = ("tolist", "item", "numpy", "cpu", "equal", "nonzero", "__bool__", "__float__", "__int__", "__index__")

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.count += getattr(function, "__name__", "") in self.NAMES
        return function(*args, **(kwargs or {}))


def on_meta(schedule, **options):
    """One guided call on tensors that have no values: whoever reads one fails."""
    x, y = torch.zeros(4, 1, 8, 8, device="meta"), torch.zeros(4, dtype=torch.int64, device="meta")
    return kdist.guide(Net(), schedule, uncond=UNCOND, **options)(x, torch.ones(4, device="meta"), class_cond=y)


@pytest.mark.parametrize(
    "schedule",
    [
        kdist.Constant(4),
        kdist.NegativeWindow(4, 0.4, 3.0, inside=0.5),
        kdist.Interval(4, 0.4, 3.0, outside=2.0),
        Ramp(1.5, 4, 0.4, 6.0),
        Exponential(4, 0.4, 6.0, floor=1.5),
        kdist.LateNegative(3, 1.0, late=-0.5).then(2.0, at=0.1),
        Piecewise((10.0, 1.0), (4.0, 2.0)),
        PerClass({0: 4.0, 1: 3.0}),
        PerRow(4.0, [2.0, 3.0, 2.0, 5.0]),
    ],
    ids=str,
)
def test_schedules_that_cannot_skip_read_nothing_from_the_device(schedule):
    assert on_meta(schedule).shape == (4, 1, 8, 8)


@pytest.mark.parametrize(
    "rule",
    [
        rules.rescaled,
        partial(rules.projected, norm_threshold=2.0),
        rules.zero_star,
        rules.thresholded,
        partial(rules.on_noise, rule=rules.zero_star),
    ],
)
def test_rules_read_nothing_from_the_device(rule):
    assert on_meta(3.0, rule=rule).shape == (4, 1, 8, 8)


def test_the_proof_works():
    """Where values are needed to skip, they are read, and a tensor without values shows it."""
    with pytest.raises((NotImplementedError, RuntimeError)):
        on_meta(kdist.Interval(4, 0.4, 3.0))


@pytest.mark.parametrize(
    ("schedule", "reads"),
    [(kdist.Constant(4), 0), (kdist.Interval(4, 0.4, 3.0), 1), (kdist.NegativeWindow(4, 0.4, 3), 1)],
)
def test_skipping_costs_one_read_per_call(schedule, reads):
    guided = kdist.guide(Net(), schedule, uncond=UNCOND)
    x, y = torch.zeros(4, 3), torch.arange(4)
    for sigma in (5.0, 1.0, 0.1):
        with Reads() as mode:
            guided(x, torch.full((4,), sigma), class_cond=y)
        assert mode.count == reads


def test_conditions_shared_by_both_passes_are_not_compared():
    """The same tensor on both sides needs no look at its values."""
    shared = torch.ones(7)

    def model(x, sigma, class_cond, table):
        return x

    with Reads() as mode:
        kdist.guide(model, 3.0, uncond=UNCOND)(
            torch.ones(4, 3), torch.ones(4), class_cond=torch.arange(4), table=shared
        )
    assert mode.count == 0
