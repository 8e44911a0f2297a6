"""The classic ``CFGDenoiser`` call of CompVis-style scripts and web UIs, on k-diffusion's own wrapper."""

import pytest
import torch
from torch import nn

import kdist
from kdist.compat import import_k_diffusion

K = import_k_diffusion()


class LatentDiffusion(nn.Module):
    """Stands for a CompVis model: ``apply_model(x, t, cond)``, with the conditions that its forks pass."""

    def __init__(self):
        super().__init__()
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        self.register_buffer("alphas_cumprod", (1 - betas).cumprod(0).float())
        self.calls = []

    def apply_model(self, x, t, cond):
        self.calls.append(len(x))
        if isinstance(cond, dict):
            tokens = torch.cat(cond["c_crossattn"], 1)
            x = x + sum(image.mean((1, 2, 3), keepdim=True) for image in cond.get("c_concat", []))
        elif isinstance(cond, list):
            tokens = torch.cat(cond, 1)
        else:
            tokens = cond
        return torch.tanh(x * tokens.mean((1, 2)).view(-1, 1, 1, 1) + t.view(-1, 1, 1, 1) / 1000)


class ClassicCFGDenoiser(nn.Module):
    """What such scripts contain, with two calls so that it takes any condition: the reference."""

    def __init__(self, model):
        super().__init__()
        self.inner_model = model

    def forward(self, x, sigma, uncond, cond, cond_scale):
        uncond, cond = (self.inner_model(x, sigma, cond=c) for c in (uncond, cond))
        return uncond + (cond - uncond) * cond_scale


def tokens(seed, length=5):
    return torch.randn(2, length, 4, generator=torch.Generator().manual_seed(seed))


CONDITIONS = {
    "tensor": (tokens(1), tokens(2)),
    "list": ([tokens(1)], [tokens(2)]),
    "dict": ({"c_crossattn": [tokens(1)]}, {"c_crossattn": [tokens(2)]}),
    "inpainting": (
        {"c_crossattn": [tokens(1)], "c_concat": [torch.ones(2, 5, 4, 4)]},
        {"c_crossattn": [tokens(2)], "c_concat": [torch.ones(2, 5, 4, 4)]},
    ),
    "lengths differ": (tokens(1), tokens(2, length=9)),
}


@pytest.fixture
def model():
    return LatentDiffusion()


def run(denoiser, model, cond, uncond, scale, sampler=K.sampling.sample_euler_ancestral):
    wrapped = K.external.CompVisDenoiser(model)
    sigmas = wrapped.get_sigmas(8)
    x = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0)) * sigmas[0]
    torch.manual_seed(5)  # the sampler's own noise
    extra_args = {"cond": cond, "uncond": uncond, "cond_scale": scale}
    return sampler(denoiser(wrapped), x, sigmas, extra_args=extra_args, disable=True), sigmas


@pytest.mark.parametrize("kind", CONDITIONS)
def test_drop_in(model, kind):
    """Without a schedule it is the class that it replaces, for every kind of condition."""
    cond, uncond = CONDITIONS[kind]
    theirs, _ = run(ClassicCFGDenoiser, model, cond, uncond, 7.5)
    ours, _ = run(kdist.CFGDenoiser, model, cond, uncond, 7.5)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)  # float32, latents of 15


@pytest.mark.parametrize("kind", CONDITIONS)
def test_late_negative_from_the_same_call(model, kind):
    """``cond_scale`` of the script sets the peak; the late steps make the unconditional call alone."""
    cond, uncond = CONDITIONS[kind]
    schedule = kdist.LateNegative(scale=1.0, sigma_switch=1.0)
    guided, sigmas = run(lambda m: kdist.CFGDenoiser(m, schedule), model, cond, uncond, 7.5)
    assert sum(model.calls) / 2 == schedule.with_scale(7.5).nfe(sigmas)
    by_hand = ClassicCFGDenoiser(K.external.CompVisDenoiser(model))

    def reference(x, sigma, uncond, cond, cond_scale):
        return by_hand(x, sigma, uncond, cond, cond_scale if sigma[0] > 1.0 else 0.0)

    theirs, _ = run(lambda _: reference, model, cond, uncond, 7.5)
    torch.testing.assert_close(guided, theirs, rtol=1e-4, atol=1e-3)


def test_velocity_models(model):
    """The wrapper for models that predict v (Stable Diffusion 2)."""
    wrapped = K.external.CompVisVDenoiser(model)
    x, sigma = torch.ones(2, 4, 4, 4), torch.tensor([1.0, 3.0])
    cond, uncond = CONDITIONS["tensor"]
    with torch.no_grad():
        ours = kdist.CFGDenoiser(wrapped)(x, sigma, uncond, cond, 4.0)
        theirs = ClassicCFGDenoiser(wrapped)(x, sigma, uncond, cond, 4.0)
    torch.testing.assert_close(ours, theirs)


def test_conditions_of_different_kinds_are_two_calls(model):
    """A list beside a tensor cannot be batched; it is not an error."""
    guided = kdist.CFGDenoiser(K.external.CompVisDenoiser(model))
    guided(torch.ones(2, 4, 4, 4), torch.ones(2), [tokens(1)], tokens(2), 4.0)
    assert model.calls == [2, 2]


def test_no_scale_at_all(model):
    guided = kdist.CFGDenoiser(K.external.CompVisDenoiser(model))
    with pytest.raises(ValueError, match="no guidance scale"):
        guided(torch.ones(2, 4, 4, 4), torch.ones(2), tokens(1), tokens(2))
