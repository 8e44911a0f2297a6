"""``torch.compile``: the guided model in one graph (nothing skipped), or only the network (everything as usual)."""

import pytest
import torch

import kdist
from kdist import rules
from kdist.schedules import PerClass
from kdist.solvers import sample

UNCOND = {"class_cond": 10}


class Net(torch.nn.Module):
    def forward(self, x, sigma, class_cond):
        return torch.tanh(x / sigma[:, None]) + 0.1 * class_cond[:, None]


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def batch():
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.arange(4)


@pytest.mark.parametrize(
    ("schedule", "rule"),
    [
        (kdist.NegativeWindow(4.0, 0.3, 1.0, after=1.0), None),
        (PerClass({0: 1.0, 1: 4.0}, default=2.0), rules.rescaled),
    ],
)
def test_the_guided_model_compiles_into_one_graph(schedule, rule):
    """Scales are not read inside the graph, so both passes always run; the result is that of the skipping model, up to
    the rounding of uncond + 1 * (cond - uncond)."""
    x, y = batch()
    guided = kdist.guide(Net(), schedule, uncond=UNCOND, rule=rule)
    shapes = []

    def backend(graph, _):
        network = [node for node in graph.graph.nodes if "tanh" in str(node.target)]
        shapes.append([tuple(node.meta["example_value"].shape) for node in network])
        return graph.forward

    compiled = torch.compile(guided, backend=backend, fullgraph=True)
    for level in (5.0, 0.5, 0.1):
        sigma = torch.full((4,), level)
        denoised = compiled(x, sigma, class_cond=y)
        torch.testing.assert_close(denoised, guided(x, sigma, class_cond=y), rtol=1e-6, atol=1e-6)
    assert shapes == [[(8, 3)]]  # one graph for every noise level, in it one network call with the rows of both passes


def test_compiled_calls_are_not_counted():
    x, y = batch()
    guided = kdist.guide(Net(), 3.0, uncond=UNCOND)
    torch.compile(guided, backend="eager")(x, torch.ones(4), class_cond=y)
    assert guided.nfe == 0


def test_a_compiled_network_keeps_skipping_and_counting():
    """The way to have both: compile the model, then guide it."""
    schedule = kdist.NegativeWindow(4.0, 0.3, 1.0)
    x, y = batch()
    sigmas = torch.tensor([5.0, 2.0, 0.8, 0.4, 0.1, 0.0])
    results = []
    for model in (Net(), torch.compile(Net(), backend="eager")):
        guided = kdist.guide(model, schedule, uncond=UNCOND)
        results.append(sample("heun", guided, x * 5, sigmas, extra_args={"class_cond": y}))
        assert guided.nfe == schedule.nfe(sigmas, "heun")
    torch.testing.assert_close(*results)


def test_a_sampler_runs_a_compiled_guided_model():
    x, y = batch()
    sigmas = torch.tensor([5.0, 2.0, 0.8, 0.4, 0.1, 0.0])
    guided = kdist.guide(Net(), kdist.LateNegative(4.0, 1.0), uncond=UNCOND)
    compiled = torch.compile(guided, backend="aot_eager")
    args = {"extra_args": {"class_cond": y}}
    expected = sample("dpmpp_2m", guided, x * 5, sigmas, **args)
    torch.testing.assert_close(sample("dpmpp_2m", compiled, x * 5, sigmas, **args), expected, rtol=1e-5, atol=1e-5)
