"""The further rules against diffusers' guiders and closed forms, their limits, and degenerate predictions."""

import math
from functools import partial

import pytest
import torch

from kdist import more_rules, rules
from kdist.more_rules import angular, energy_preserving, frequency_decoupled, magnitude_aware, power_law, tangential

EVERY = [angular, energy_preserving, frequency_decoupled, magnitude_aware, power_law, tangential]
# float64 arithmetic in another order
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


def inputs(scale=4.0, seed=0, shape=(5, 2, 8, 8), sigma=2.0):
    generator = torch.Generator().manual_seed(seed)
    cond, uncond, x = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3))
    rows = (shape[0], *(1,) * (len(shape) - 1))
    return cond, uncond, torch.full(rows, float(scale), dtype=torch.float64), x, torch.full(rows, sigma)


def norms(x):
    return x.flatten(1).norm(dim=1)


def guided_by(guider, cond, uncond):
    guider.set_state(step=1, num_inference_steps=10, timestep=torch.tensor(500))
    return guider.forward(cond, uncond).pred


@pytest.fixture(scope="module")
def guiders():
    return pytest.importorskip("diffusers.guiders", reason="diffusers is an extra")


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 4.0])
class TestAgainstDiffusers:
    def test_magnitude_aware(self, guiders, scale):
        cond, uncond, *rest = inputs(scale, shape=(5, 12, 8))  # theirs takes no norm over more than two dimensions
        expected = guided_by(guiders.MagnitudeAwareGuidance(guidance_scale=scale, alpha=2.0), cond, uncond)
        torch.testing.assert_close(magnitude_aware(cond, uncond, *rest, alpha=2.0), expected, **CLOSE)

    def test_tangential(self, guiders, scale):
        cond, uncond, *rest = inputs(scale)
        expected = guided_by(guiders.TangentialClassifierFreeGuidance(guidance_scale=scale), cond, uncond)
        # theirs takes the singular vectors in float32
        torch.testing.assert_close(tangential(cond, uncond, *rest), expected, rtol=1e-4, atol=1e-4)

    def test_frequency_decoupled(self, guiders, scale):
        cond, uncond, *rest = inputs(scale)
        scales = [scale, 1 + 0.25 * (scale - 1)]  # from high frequencies to low ones
        expected = guided_by(guiders.FrequencyDecoupledGuidance(guidance_scales=scales), cond, uncond)
        # theirs builds its filter in float32
        torch.testing.assert_close(frequency_decoupled(cond, uncond, *rest, low=0.25), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rule", EVERY)
class TestEveryRule:
    def test_scale_1_is_the_conditional_prediction(self, rule):
        cond, uncond, *rest = inputs(1.0)
        torch.testing.assert_close(rule(cond, uncond, *rest), cond, **CLOSE)
        assert rules.reductions(rule) == (True, False)

    def test_rows_are_independent(self, rule):
        cond, uncond, scale, x, sigma = inputs()
        scale[2], sigma[2] = 0.3, 7.0
        whole = rule(cond, uncond, scale, x, sigma)
        for row in range(len(x)):
            own = [part[row : row + 1] for part in (cond, uncond, scale, x, sigma)]
            torch.testing.assert_close(rule(*own), whole[row : row + 1], **CLOSE)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_is_the_float32_result_rounded(self, rule, dtype):
        parts = [part.to(dtype) for part in inputs(3.0)]
        wide = rule(*(part.float() for part in parts))
        eps = torch.finfo(dtype).eps
        # one rounding of the prediction, one of the guided one; values reach 10 at scale 3
        torch.testing.assert_close(rule(*parts).float(), wide, rtol=8 * eps, atol=16 * eps)

    @pytest.mark.parametrize("kind", ["equal", "zero", "no uncond"])
    def test_degenerate_predictions_give_numbers_and_gradients(self, rule, kind):
        cond, uncond, *rest = inputs()
        cond, uncond = {
            "equal": (cond, cond.clone()),
            "zero": (cond * 0, cond * 0),
            "no uncond": (cond, cond * 0),
        }[kind]
        cond.requires_grad_()
        guided = rule(cond, uncond, *rest)
        assert guided.isfinite().all()
        if kind == "equal":
            torch.testing.assert_close(guided, cond, **CLOSE)
        if rule is not tangential:  # two equal eigenvalues have no unique direction, hence no derivative
            assert torch.autograd.grad(guided.sum(), cond)[0].isfinite().all()


def test_linear_limits():
    cond, uncond, *rest = inputs()
    for rule in (
        partial(power_law, alpha=0.0),
        partial(magnitude_aware, alpha=0.0),
        partial(frequency_decoupled, low=1.0),
    ):
        torch.testing.assert_close(rule(cond, uncond, *rest), rules.linear(cond, uncond, *rest), **CLOSE)


def test_power_law_in_closed_form():
    """A difference of 6 everywhere at sigma 2 has the root mean square 3."""
    cond, _, scale, x, sigma = inputs(scale=2.0)
    guided = power_law(cond, cond - 6, scale, x, sigma, alpha=2.0)
    torch.testing.assert_close(guided, cond + 9 * 6, **CLOSE)


def test_power_law_is_the_same_at_every_noise_level_of_equal_noise_predictions():
    cond, uncond, scale, x, sigma = inputs()
    first = (power_law(cond, uncond, scale, x, sigma) - cond) / sigma
    wider = (power_law(cond * 5, uncond * 5, scale, x, sigma * 5) - cond * 5) / (sigma * 5)
    torch.testing.assert_close(first, wider, **CLOSE)


def test_energy_preserving_keeps_the_length_and_the_direction():
    cond, uncond, *rest = inputs()
    guided, plain = energy_preserving(cond, uncond, *rest), rules.linear(cond, uncond, *rest)
    torch.testing.assert_close(norms(guided), norms(cond), **CLOSE)
    torch.testing.assert_close(
        guided / norms(guided).view(-1, 1, 1, 1), plain / norms(plain).view(-1, 1, 1, 1), **CLOSE
    )


class TestAngular:
    def test_in_the_plane(self):
        """cond at 20 degrees, uncond at 0: scale 3 turns by 40 more, to 60; scale 0.5 back to 10, roughly."""
        degree = math.pi / 180
        cond = torch.tensor([[math.cos(20 * degree), math.sin(20 * degree)]], dtype=torch.float64) * 2
        uncond = torch.tensor([[5.0, 0.0]], dtype=torch.float64)
        one = torch.ones(1, 1, dtype=torch.float64)
        guided = angular(cond, uncond, 3 * one, cond, one)
        # cos(40) cond + sin(40) |cond| (0, 1): e points along the second axis
        expected = math.cos(40 * degree) * cond + math.sin(40 * degree) * torch.tensor(
            [[0.0, 2.0]], dtype=torch.float64
        )
        torch.testing.assert_close(guided, expected, **CLOSE)

    def test_the_turn_is_limited_both_ways_and_the_length_bounded(self):
        cond, uncond, scale, x, sigma = inputs(scale=1e6)
        guided = angular(cond, uncond, scale, x, sigma)
        torch.testing.assert_close(guided, angular(cond, uncond, scale * 10, x, sigma), **CLOSE)
        back = angular(cond, uncond, -scale, x, sigma)
        torch.testing.assert_close(back, angular(cond, uncond, -10 * scale, x, sigma), **CLOSE)
        assert (norms(guided) <= math.sqrt(2) * norms(cond)).all()  # the paper's bound
        # both turns are pi / 3: they share the part along cond
        torch.testing.assert_close((guided + back) / 2, cond / 2, **CLOSE)

    def test_nearly_equal_predictions_turn_linearly(self):
        cond, _, scale, x, sigma = inputs()
        uncond = cond + 1e-7 * torch.randn(cond.shape, generator=torch.Generator().manual_seed(1), dtype=cond.dtype)
        across = cond - uncond * ((cond * uncond).flatten(1).sum(1) / norms(uncond) ** 2).view(-1, 1, 1, 1)
        # theta is 1e-7, so the next order is 1e-14 of the prediction
        expected = cond + (scale - 1) * across
        torch.testing.assert_close(angular(cond, uncond, scale, x, sigma), expected, rtol=0, atol=1e-12)


def test_tangential_drops_what_both_do_not_share():
    """Two orthogonal predictions share nothing: the longer one is the common direction, the other loses all."""
    cond = torch.tensor([[3.0, 0.0]], dtype=torch.float64)
    uncond = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    scale = torch.full((1, 1), 2.0, dtype=torch.float64)
    torch.testing.assert_close(tangential(cond, uncond, scale, cond, scale), 2 * cond, **CLOSE)
    torch.testing.assert_close(tangential(cond, 4 * uncond, scale, cond, scale), 2 * cond - 4 * uncond, **CLOSE)


def test_frequency_decoupled_leaves_flat_differences_to_the_coarse_part():
    cond, _, scale, x, sigma = inputs(scale=3.0)
    guided = frequency_decoupled(cond, cond - 1, scale, x, sigma, low=0.25)
    torch.testing.assert_close(guided, cond + 2 * 0.25, **CLOSE)


@pytest.mark.parametrize(
    ("rule", "options", "message"),
    [
        (power_law, {"alpha": -1}, "alpha must be finite and above -1"),
        (magnitude_aware, {"alpha": -0.1}, "alpha must be at least 0"),
        (power_law, {"alpha": math.inf}, "alpha must be finite and above -1"),
        (magnitude_aware, {"alpha": math.nan}, "alpha must be at least 0 and finite"),
        (magnitude_aware, {"alpha": math.inf}, "alpha must be at least 0 and finite"),
        (frequency_decoupled, {"low": math.nan}, "low must be finite"),
        (angular, {"max_angle": math.nan}, r"max_angle must be in \(0, pi\]"),
        (angular, {"max_angle": 0}, r"max_angle must be in \(0, pi\]"),
        (angular, {"max_angle": 4}, r"max_angle must be in \(0, pi\]"),
    ],
)
def test_bad_options(rule, options, message):
    with pytest.raises(ValueError, match=message):
        rule(*inputs(), **options)


@pytest.mark.parametrize("shape", [(5, 4), (5, 1, 7, 8), (5, 1, 2, 8)])
def test_frequency_decoupled_wants_images(shape):
    with pytest.raises(ValueError, match=r"needs images \(N, C, H, W\)"):
        frequency_decoupled(*inputs(shape=shape))


def test_all_is_complete():
    assert set(more_rules.__all__) == {rule.__name__ for rule in EVERY}
