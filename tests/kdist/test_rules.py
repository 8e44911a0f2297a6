"""Guidance rules against diffusers' guiders, their limits, and what they do with degenerate predictions."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_nets import Curved

import kdist
from kdist import rules

SHAPES = [(5, 4), (5, 1, 8, 8), (5, 2, 3, 4, 4), (5,)]
ALL = [
    rules.linear,
    rules.rescaled,
    rules.projected,
    rules.zero_star,
    rules.thresholded,
    partial(rules.on_noise, rule=rules.zero_star),
    partial(rules.rescaled, rule=rules.projected),
    partial(rules.thresholded, rule=partial(rules.rescaled, phi=1.0)),
]


def name(rule):
    return getattr(rule, "__name__", None) or f"{name(rule.func)} of {sorted(rule.keywords)}"


def inputs(shape=(5, 1, 8, 8), scale=4.0, seed=0, dtype=torch.float64):
    """Random predictions, the scale and sigma per row, and x."""
    generator = torch.Generator().manual_seed(seed)
    cond, uncond, x = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3))
    trailing = (-1, *(1,) * (len(shape) - 1))
    rows = torch.full((shape[0],), float(scale), dtype=torch.float64) if not isinstance(scale, torch.Tensor) else scale
    return cond, uncond, rows.view(trailing), x, torch.full((shape[0],), 2.0).view(trailing)


@pytest.fixture(scope="module")
def guiders():
    return pytest.importorskip("diffusers.guiders", reason="diffusers is an extra")


def guided_by(guider, cond, uncond):
    guider.set_state(step=1, num_inference_steps=10, timestep=torch.tensor(500))
    return guider.forward(cond, uncond).pred


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 1.0, 4.0, 9.0])
@pytest.mark.parametrize("shape", SHAPES[:3])
class TestAgainstDiffusers:
    def test_linear(self, guiders, scale, shape):
        cond, uncond, *rest = inputs(shape, scale)
        expected = guided_by(guiders.ClassifierFreeGuidance(guidance_scale=scale), cond, uncond)
        torch.testing.assert_close(rules.linear(cond, uncond, *rest), expected)

    @pytest.mark.parametrize("phi", [0.3, 0.7, 1.0])
    def test_rescaled(self, guiders, scale, shape, phi):
        cond, uncond, *rest = inputs(shape, scale)
        expected = guided_by(guiders.ClassifierFreeGuidance(guidance_scale=scale, guidance_rescale=phi), cond, uncond)
        torch.testing.assert_close(rules.rescaled(cond, uncond, *rest, phi=phi), expected)

    @pytest.mark.parametrize(("eta", "threshold"), [(0.0, None), (0.5, None), (0.0, 2.5), (1.0, 2.5)])
    def test_projected(self, guiders, scale, shape, eta, threshold):
        """Their "original formulation" is the paper's: cond + w * update with w = scale - 1."""
        cond, uncond, *rest = inputs(shape, scale)
        guider = guiders.AdaptiveProjectedGuidance(
            guidance_scale=scale - 1,
            adaptive_projected_guidance_rescale=threshold or 0.0,
            eta=eta,
            use_original_formulation=True,
        )
        expected = guided_by(guider, cond, uncond)
        torch.testing.assert_close(rules.projected(cond, uncond, *rest, eta=eta, norm_threshold=threshold), expected)

    def test_zero_star(self, guiders, scale, shape):
        cond, uncond, *rest = inputs(shape, scale)
        guider = guiders.ClassifierFreeZeroStarGuidance(guidance_scale=scale, zero_init_steps=0)
        # they compute alpha in float32 and add 1e-8 to |uncond|**2 (about 4 at least): 1e-7 relative, times the scale
        expected = guided_by(guider, cond, uncond)
        torch.testing.assert_close(rules.zero_star(cond, uncond, *rest), expected, rtol=1e-5, atol=1e-5)

    def test_rescaled_after_projected(self, guiders, scale, shape):
        cond, uncond, *rest = inputs(shape, scale)
        guider = guiders.AdaptiveProjectedGuidance(
            guidance_scale=scale - 1,
            adaptive_projected_guidance_rescale=0.0,
            eta=0.0,
            guidance_rescale=0.6,
            use_original_formulation=True,
        )
        rule = partial(rules.rescaled, phi=0.6, rule=rules.projected)
        torch.testing.assert_close(rule(cond, uncond, *rest), guided_by(guider, cond, uncond))


def test_thresholded_against_diffusers_scheduler():
    DDPMScheduler = pytest.importorskip("diffusers", reason="diffusers is an extra").DDPMScheduler
    scheduler = DDPMScheduler(thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=100.0)
    cond, uncond, *rest = inputs(dtype=torch.float32)
    expected = scheduler._threshold_sample(rules.linear(cond, uncond, *rest))
    torch.testing.assert_close(rules.thresholded(cond, uncond, *rest, quantile=0.9), expected)


@pytest.mark.parametrize("rule", ALL, ids=name)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_shape_and_dtype_are_kept(rule, shape, dtype):
    guided = rule(*inputs(shape, dtype=dtype))
    assert (guided.shape, guided.dtype) == (shape, dtype)
    assert guided.isfinite().all()


@pytest.mark.parametrize("rule", ALL, ids=name)
def test_marks_are_true(rule):
    """Where a rule says that one prediction alone will do, it returns that prediction."""
    to_cond, to_uncond = rules.reductions(rule)
    for scale, promised, which in ((1.0, to_cond, 0), (0.0, to_uncond, 1)):
        arguments = inputs(scale=scale)
        equal = torch.allclose(rule(*arguments), arguments[which], rtol=1e-12, atol=1e-12)  # float64 rounding
        assert equal == promised


@pytest.mark.parametrize("rule", ALL, ids=name)
def test_rows_do_not_see_each_other(rule):
    scales = torch.tensor([4.0, 1.0, 0.0, -2.0, 9.0])
    arguments = inputs(scale=scales)
    alone = [rule(*(argument[i : i + 1] for argument in arguments)) for i in range(5)]
    torch.testing.assert_close(rule(*arguments), torch.cat(alone))


@pytest.mark.parametrize("rule", ALL, ids=name)
@pytest.mark.parametrize("zero", ["cond", "uncond", "both", "equal", "flat"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_no_nan_when_predictions_vanish(rule, zero, dtype):
    cond, uncond, *rest = inputs(dtype=dtype)
    if zero in ("cond", "both"):
        cond = torch.zeros_like(cond)
    if zero in ("uncond", "both"):
        uncond = torch.zeros_like(uncond)
    if zero == "equal":
        uncond = cond.clone()
    if zero == "flat":
        cond, uncond = torch.full_like(cond, 0.5), torch.full_like(uncond, 0.25)
    assert rule(cond, uncond, *rest).isfinite().all()


@settings(max_examples=40, deadline=None)
@given(st.floats(-3, 12), st.integers(0, 1000))
def test_what_each_rule_promises(scale, seed):
    arguments = inputs((3, 36), scale, seed)
    cond, uncond = arguments[:2]
    # Lin et al.: the standard deviation of cond
    torch.testing.assert_close(rules.rescaled(*arguments, phi=1.0).std(1), cond.std(1))
    # APG: an update orthogonal to cond, no longer than the threshold
    update = rules.projected(*arguments, norm_threshold=0.1) - cond
    torch.testing.assert_close((update * cond).sum(1), torch.zeros(3).double(), atol=1e-9, rtol=0)  # rounding
    assert (update.norm(dim=1) <= 0.1 * abs(scale - 1) + 1e-9).all()
    # CFG-Zero*: what its multiple of uncond leaves of cond is orthogonal to uncond
    left = rules.zero_star(*arguments) - cond  # (scale - 1) * (cond - alpha * uncond)
    torch.testing.assert_close((left * uncond).sum(1), torch.zeros(3).double(), atol=1e-9, rtol=0)
    # Imagen: the range of the data
    assert rules.thresholded(*arguments).abs().max() <= 1 + 1e-12


def test_limits_are_the_linear_rule():
    arguments = inputs()
    linear = rules.linear(*arguments)
    torch.testing.assert_close(rules.rescaled(*arguments, phi=0.0), linear)
    torch.testing.assert_close(rules.projected(*arguments, eta=1.0), linear)
    torch.testing.assert_close(rules.thresholded(*arguments, limit=1e3), linear)
    torch.testing.assert_close(rules.on_noise(*arguments, rule=rules.linear), linear)


def test_on_noise_looks_at_the_noise():
    """CFG-Zero* on epsilon = (x - D) / sigma, written out."""
    cond, uncond, scale, x, sigma = inputs()
    eps_cond, eps_uncond = (x - cond) / sigma, (x - uncond) / sigma
    alpha = (eps_cond * eps_uncond).flatten(1).sum(1) / eps_uncond.flatten(1).square().sum(1)
    alpha = alpha.view_as(scale)
    expected = x - sigma * (alpha * eps_uncond + scale * (eps_cond - alpha * eps_uncond))
    torch.testing.assert_close(rules.on_noise(cond, uncond, scale, x, sigma, rule=rules.zero_star), expected)


@pytest.mark.parametrize("rule", ALL, ids=name)
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_passes_are_left_out_only_where_that_changes_nothing(rule, scale):
    """The guided call equals the rule applied to both predictions, whichever passes it ran."""
    net = Curved()
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y, sigma = torch.arange(4), torch.full((4,), 2.0, dtype=torch.float64)
    guided = kdist.guide(net, scale, uncond={"class_cond": 10}, rule=rule)
    denoised = guided(x, sigma, class_cond=y)
    cond, uncond = net(x, sigma, y), net(x, sigma, torch.full_like(y, 10))
    view = (4, 1, 1, 1)
    expected = rule(cond, uncond, torch.full(view, scale, dtype=torch.float64), x, sigma.view(view))
    torch.testing.assert_close(denoised, expected)
    assert guided.nfe == (1 if rules.reductions(rule)[1 if scale == 0 else 0] else 2)


@pytest.mark.parametrize("rule", ALL, ids=name)
def test_every_rule_serves_every_schedule_and_can_be_differentiated(rule):
    guided = kdist.guide(Curved(), kdist.NegativeWindow(4.0, 0.3, 1.0), uncond={"class_cond": 10}, rule=rule)
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for level in (5.0, 0.5, 0.1):
        denoised = guided(x, torch.full((2,), level), class_cond=torch.tensor([1, 2]))
        (gradient,) = torch.autograd.grad(denoised.sum(), x)
        assert gradient.isfinite().all()


def test_a_rule_that_cannot_serve_names_itself_and_the_place():
    @rules.serves(minimum=1)
    @rules.reduces_at(cond=True, uncond=False)
    def only_up(cond, uncond, scale, x, sigma, *, strength=1.0):
        return rules.linear(cond, uncond, scale, x, sigma)

    guided = kdist.guide(
        Curved(), kdist.NegativeWindow(4.0, 0.3, 1.0), uncond={"class_cond": 10}, rule=partial(only_up, strength=2.0)
    )
    x, y = torch.ones(2, 3), torch.tensor([1, 2])
    guided(x, torch.full((2,), 5.0), class_cond=y)
    with pytest.raises(ValueError, match=r"only_up serves scales from 1 to inf; the schedule gives 0 at sigma=0.5"):
        guided(x, torch.full((2,), 0.5), class_cond=y)


def test_bad_options():
    with pytest.raises(ValueError, match="norm_threshold must be above 0"):
        rules.projected(*inputs(), norm_threshold=0.0)
    with pytest.raises(TypeError, match="fi"):
        partial(rules.rescaled, fi=0.5)(*inputs())


@pytest.mark.parametrize("rule", [*ALL, partial(rules.projected, norm_threshold=2.0)], ids=name)
@pytest.mark.parametrize("degenerate", ["equal", "zero", "flat"])
def test_gradients_stay_finite_when_predictions_vanish(rule, degenerate):
    cond, uncond, *rest = inputs((3, 16), dtype=torch.float32)
    cond, uncond = {
        "equal": (cond, cond.clone()),
        "zero": (torch.zeros_like(cond), torch.zeros_like(cond)),
        "flat": (torch.full_like(cond, 0.5), torch.full_like(cond, 0.5)),
    }[degenerate]
    cond.requires_grad_()
    uncond.requires_grad_()
    rule(cond, uncond, *rest).sum().backward()
    assert cond.grad.isfinite().all()
    assert uncond.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rule", ALL, ids=name)
def test_half_precision_rounds_once_at_the_end(rule, dtype):
    """Contrast small beside the mean, and samples large beside the data, as at high noise."""
    generator = torch.Generator().manual_seed(0)
    cond = (0.5 + 0.01 * torch.randn(4, 3, 8, 8, generator=generator)).to(dtype)
    uncond = (0.5 + 0.01 * torch.randn(4, 3, 8, 8, generator=generator)).to(dtype)
    x = (80 * torch.randn(4, 3, 8, 8, generator=generator)).to(dtype)
    scale, sigma = torch.full((4, 1, 1, 1), 7.5), torch.full((4, 1, 1, 1), 80.0, dtype=dtype)
    half = rule(cond, uncond, scale, x, sigma)
    exact = rule(*(tensor.double() for tensor in (cond, uncond, scale, x, sigma)))
    # one rounding of the result, and for the plain rule one of cond - uncond (0.03 at most, times 7.5)
    torch.testing.assert_close(half.double(), exact, rtol=torch.finfo(dtype).eps, atol=0.2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("quantile", [0.0, 0.1, 0.5, 0.9, 0.995, 1.0])
def test_the_quantile_is_torchs(quantile):
    cond, uncond, *rest = inputs((4, 37))
    guided = rules.linear(cond, uncond, *rest)
    size = guided.abs().quantile(quantile, dim=1, keepdim=True).clamp_min(0.3)
    expected = guided.clamp(-size, size) * (0.3 / size)
    torch.testing.assert_close(rules.thresholded(cond, uncond, *rest, quantile=quantile, limit=0.3), expected)


@pytest.mark.parametrize("rule", ALL, ids=name)
@pytest.mark.parametrize("shape", [(0, 3, 4), (0,)])
def test_an_empty_batch(rule, shape):
    assert rule(*inputs(shape)).shape == shape


def test_more_elements_than_torchs_quantile_takes():
    rows = torch.linspace(-3, 3, 2**24 + 2)[None]
    scale = torch.ones(1, 1)
    out = rules.thresholded(rows, rows, scale, rows, scale, quantile=0.5)
    torch.testing.assert_close(out[0, [0, -1]], torch.tensor([-1.0, 1.0]))
    assert float(out[0, 2**22]) == pytest.approx(-1, abs=1e-5)  # half of the values are beyond 1.5, clipped


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (partial(rules.thresholded, limit=-1), "limit must be above 0"),
        (partial(rules.thresholded, limit=0.0), "limit must be above 0"),
        (partial(rules.thresholded, limit=float("nan")), "limit must be above 0"),
        (partial(rules.thresholded, quantile=1.5), "quantile is a share"),
        (partial(rules.thresholded, quantile=float("nan")), "quantile is a share"),
        (partial(rules.rescaled, phi=-0.1), "phi is a share"),
        (partial(rules.rescaled, phi=float("nan")), "phi is a share"),
        (partial(rules.projected, norm_threshold=float("nan")), "norm_threshold must be above 0"),
        (partial(rules.projected, norm_threshold=-1.0), "norm_threshold must be above 0"),
        (partial(rules.projected, norm_threshold=float("inf")), "norm_threshold must be above 0 and finite"),
        (partial(rules.projected, eta=float("nan")), "eta must be finite"),
    ],
)
def test_options_out_of_range(rule, message):
    with pytest.raises(ValueError, match=message):
        rule(*inputs())


def test_serves_keeps_the_marks_of_the_rule():
    @rules.serves(maximum=5)
    @rules.reduces_at(cond=True, uncond=False)
    def up_to_five(cond, uncond, scale, x, sigma):
        return rules.linear(cond, uncond, scale, x, sigma)

    assert rules.reductions(up_to_five) == (True, False)
    assert up_to_five.__name__ == "up_to_five"
    up_to_five(*inputs(scale=5.0))
    with pytest.raises(ValueError, match=r"the schedule gives 5\.5 at sigma=2"):
        up_to_five(*inputs(scale=5.5))


def test_on_noise_hands_on_the_samples():
    """A rule may look at x and sigma too; what on_noise hands it must be the samples."""
    seen = []

    def curious(cond, uncond, scale, x, sigma):
        seen.append((x, sigma))
        return rules.linear(cond, uncond, scale, x, sigma)

    arguments = inputs()
    rules.on_noise(*arguments, rule=curious)
    assert torch.equal(seen[0][0], arguments[3])
    assert torch.equal(seen[0][1], arguments[4])
