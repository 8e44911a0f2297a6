"""Prompts as a pipeline encodes them, and its whole run, against diffusers' own pipelines."""

import functools

import diffusers
import pytest
import torch

import kdist
from kdist.adapters.diffusers import DiffusersDenoiser, encode_prompts, scheduler_sigmas
from kdist.solvers import sample


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


class Pipe:
    """The part of a pipeline that ``encode_prompts`` uses, with the outputs of SD or SDXL."""

    _execution_device = torch.device("cpu")
    default_sample_size, vae_scale_factor = 8, 8

    def __init__(self, xl):
        self.xl = xl

    def encode_prompt(self, prompt, device, num_images_per_prompt, do_classifier_free_guidance, negative_prompt):
        assert do_classifier_free_guidance
        assert negative_prompt is None or len(negative_prompt) == len(prompt)
        width = 16 if self.xl else 8
        tokens = torch.ones(len(prompt), 5, width), torch.zeros(len(prompt), 5, width)
        return (*tokens, torch.ones(len(prompt), 8), torch.zeros(len(prompt), 8)) if self.xl else tokens


def test_sdxl_conditions(sdxl_unet):
    """Added conditions differ between the passes, and a missing one is named."""
    denoiser = DiffusersDenoiser(sdxl_unet, diffusers.EulerDiscreteScheduler())
    cond, uncond = encode_prompts(Pipe(xl=True), ["a", "b"], height=32)
    assert cond["added_cond_kwargs"]["time_ids"].tolist() == [[32, 64, 0, 0, 32, 64]] * 2
    x, sigma = noise(2, 4, 8, 8), torch.tensor([1.0, 2.0])
    with torch.no_grad():
        separate = denoiser(x, sigma, **uncond)
        separate = separate + 3 * (denoiser(x, sigma, **cond) - separate)
        # one call of 4 rows: other kernels, float32
        torch.testing.assert_close(
            kdist.guide(denoiser, 3.0, uncond=uncond)(x, sigma, **cond), separate, rtol=1e-4, atol=1e-4
        )
    with pytest.raises(ValueError, match="text_embeds, time_ids missing"):
        denoiser(x, sigma, encoder_hidden_states=cond["encoder_hidden_states"])


@pytest.mark.parametrize("negative", ["blurred", "", None])
@pytest.mark.parametrize("xl", [False, True])
def test_same_latents_as_the_whole_pipeline(tiny_models, xl, negative):
    """Text to latents: diffusers' pipeline with its own guidance, and the same by k-diffusion's Euler."""
    scheduler = diffusers.EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1)
    if xl:
        pipe = diffusers.StableDiffusionXLPipeline(**tiny_models.sdxl_components(scheduler))
    else:
        pipe = tiny_models.stable_diffusion(scheduler)
    pipe.set_progress_bar_config(disable=True)
    prompts = ["a red dog", "a cat"]
    sigmas = scheduler_sigmas(scheduler, 6)
    x = noise(2, 4, 8, 8) * sigmas[0]
    scheduler.set_timesteps(6)
    theirs = pipe(
        prompts,
        negative_prompt=None if negative is None else [negative] * 2,
        num_inference_steps=6,
        guidance_scale=5.0,
        latents=x / scheduler.init_noise_sigma,
        output_type="latent",
    ).images
    cond, uncond = encode_prompts(pipe, prompts, negative_prompt=negative)
    guided = kdist.guide(DiffusersDenoiser(pipe.unet, scheduler), 5.0, uncond=uncond)
    with torch.no_grad():
        ours = sample("euler", guided, x, sigmas, extra_args=cond)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)  # float32, latents start at 25


@pytest.mark.parametrize("xl", [False, True])
@pytest.mark.parametrize("negative", [None, "", "blurred"])
@pytest.mark.parametrize("force", [True, False])
def test_same_conditions_as_the_pipeline_for_every_negative_prompt(tiny_models, xl, negative, force):
    """SDXL without a negative prompt takes zeros, with an empty one the empty text; its config may say otherwise."""
    scheduler = diffusers.EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1)
    if xl:
        parts = tiny_models.sdxl_components(scheduler)
        pipe = diffusers.StableDiffusionXLPipeline(**parts, force_zeros_for_empty_prompt=force)
    else:
        pipe = tiny_models.stable_diffusion(scheduler)
    pipe.set_progress_bar_config(disable=True)
    sigmas = scheduler_sigmas(scheduler, 3)
    x = noise(2, 4, 8, 8) * sigmas[0]
    scheduler.set_timesteps(3)
    theirs = pipe(
        ["a red dog", "a cat"],
        **({} if negative is None else {"negative_prompt": [negative] * 2}),
        num_inference_steps=3,
        guidance_scale=5.0,
        latents=x / scheduler.init_noise_sigma,
        output_type="latent",
    ).images
    cond, uncond = encode_prompts(pipe, ["a red dog", "a cat"], negative_prompt=negative)
    guided = kdist.guide(DiffusersDenoiser(pipe.unet, scheduler), 5.0, uncond=uncond)
    with torch.no_grad():
        ours = sample("euler", guided, x, sigmas, extra_args=cond)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)  # float32, latents start at 25


def test_zeros_can_be_asked_for_and_refused():
    for xl in (False, True):
        pipe = Pipe(xl)
        made = (torch.ones(1, 5, 8),) * (4 if xl else 2)
        pipe.encode_prompt = functools.partial(lambda made, **_: made, made)
        pipe.config = {"force_zeros_for_empty_prompt": True}
        for zeros, negative, value in ((None, None, 0), (None, "", 1), (True, "", 0), (False, None, 1)):
            cond, uncond = encode_prompts(pipe, ["a"], zeros=zeros, negative_prompt=negative)
            assert uncond["encoder_hidden_states"].unique().tolist() == [value]
            assert cond["encoder_hidden_states"].unique().tolist() == [1]
            if xl:
                assert uncond["added_cond_kwargs"]["text_embeds"].unique().tolist() == [value]
    with pytest.raises(ValueError, match="takes the place of the negative prompt"):
        encode_prompts(Pipe(xl=True), ["a"], zeros=True, negative_prompt="blurred")
    with pytest.raises(ValueError, match="one text or 2"):
        encode_prompts(Pipe(xl=True), ["a", "b"], negative_prompt=["x"])


def test_one_text_is_one_prompt():
    cond, uncond = encode_prompts(Pipe(xl=False), "abc", negative_prompt=["blurred"])
    assert len(cond["encoder_hidden_states"]) == len(uncond["encoder_hidden_states"]) == 1


def test_sd_conditions():
    cond, uncond = encode_prompts(Pipe(xl=False), ["a", "b", "c"])
    assert cond["encoder_hidden_states"].shape == uncond["encoder_hidden_states"].shape == (3, 5, 8)
