"""Several conditions at once: the formula, what it costs, skipping, and negative prompts as overrides."""

import pytest
import torch
from toy_nets import Curved

import kdist
from kdist.composed import ComposedDenoiser
from kdist.rules import projected
from kdist.solvers import sample

UNCOND = {"class_cond": 10}


def batch():
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x, torch.ones(3, dtype=torch.float64), torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6])


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.7, 0.3), (1.5, -0.5), (1.0, 0.0)])
@pytest.mark.parametrize("batched", [True, False])
def test_weighted_sum_of_conditions(weights, batched):
    net = Curved()
    x, sigma, first, second = batch()
    guided = ComposedDenoiser(net, 4.0, weights=weights, uncond=UNCOND, batched=batched)
    denoised = guided(x, sigma, class_cond=(first, second))
    assert guided.nfe == net.rows / 3 == 3
    null = net(x, sigma, torch.full_like(first, 10))
    each = [net(x, sigma, labels) - null for labels in (first, second)]
    torch.testing.assert_close(denoised, null + 4.0 * (weights[0] * each[0] + weights[1] * each[1]))


def test_the_same_condition_twice_is_that_condition():
    x, sigma, first, _ = batch()
    composed = ComposedDenoiser(Curved(), 3.0, weights=(0.4, 0.6), uncond=UNCOND, rule=projected)
    single = kdist.guide(Curved(), 3.0, uncond=UNCOND, rule=projected)
    torch.testing.assert_close(composed(x, sigma, class_cond=[first, first]), single(x, sigma, class_cond=first))


def test_skipping_row_by_row():
    """Scales 4, 0 and 1: three passes, one, and two."""
    net = Curved()
    x, _, first, second = batch()
    schedule = kdist.NegativeWindow(4.0, 0.2, 1.0, after=1.0)
    guided = ComposedDenoiser(net, schedule, weights=(0.5, 0.5), uncond=UNCOND)
    sigma = torch.tensor([5.0, 0.5, 0.1], dtype=torch.float64)
    denoised = guided(x, sigma, class_cond=(first, second))
    assert net.rows == 3 + 1 + 2
    assert guided.nfe == 2
    alone = [guided(x[i : i + 1], sigma[i : i + 1], class_cond=(first[i : i + 1], second[i : i + 1])) for i in range(3)]
    torch.testing.assert_close(denoised, torch.cat(alone))


def test_under_a_solver_and_a_trace():
    x, _, first, second = batch()
    guided = ComposedDenoiser(Curved(), kdist.LateNegative(3.0, 1.0), weights=(0.5, 0.5), uncond=UNCOND)
    sigmas = torch.tensor([5.0, 2.0, 0.5, 0.0])
    with guided.trace() as trace:
        sample("heun", guided, x * 5, sigmas, extra_args={"class_cond": (first, second)})
    assert trace.scale[:, 0].tolist() == [3, 3, 3, 0, 0]
    assert (trace.norm[3] > 0).all()


def test_a_negative_prompt_is_an_override():
    net = Curved()
    x, sigma, wanted, unwanted = batch()
    denoised = kdist.guide(net, 4.0, uncond={"class_cond": unwanted})(x, sigma, class_cond=wanted)
    away_from = net(x, sigma, unwanted)
    torch.testing.assert_close(denoised, away_from + 4.0 * (net(x, sigma, wanted) - away_from))


@pytest.mark.parametrize("weights", [(0.5, 0.6), (), (float("nan"), 1.0)])
def test_weights_must_sum_to_one(weights):
    with pytest.raises(ValueError, match="weights must sum to 1"):
        ComposedDenoiser(Curved(), 4.0, weights=weights, uncond=UNCOND)


def test_one_condition_per_weight():
    x, sigma, first, second = batch()
    guided = ComposedDenoiser(Curved(), 4.0, weights=(0.5, 0.5), uncond=UNCOND)
    with pytest.raises(ValueError, match="sequence of 2 conditions; got Tensor"):
        guided(x, sigma, class_cond=first)
    with pytest.raises(ValueError, match="sequence of 2 conditions; got 3"):
        guided(x, sigma, class_cond=(first, second, first))
    with pytest.raises(ValueError, match="got NoneType"):
        guided(x, sigma)


@pytest.mark.parametrize("count", [2, 3])
def test_conditions_share_network_calls_where_they_can(count):
    """Two calls: the unconditional pass, and one for all conditions; in turn where batches are not wanted."""
    sizes = []

    def net(x, sigma, class_cond):
        sizes.append(len(x))
        return x

    x, sigma, first, _ = batch()
    options = {"weights": (1 / count,) * count, "uncond": UNCOND}
    ComposedDenoiser(net, 4.0, **options)(x, sigma, class_cond=(first,) * count)
    assert sorted(sizes) == [3, 3 * count]
    sizes.clear()
    ComposedDenoiser(net, 4.0, batched=False, **options)(x, sigma, class_cond=(first,) * count)
    assert sizes == [3] * (count + 1)
