"""The classic web UI's own samplers and denoiser, on a tiny random network, told the scale of every call.

Run with the folder of a checkout of AUTOMATIC1111/stable-diffusion-webui (and lark):

    KDIST_A1111=path/to/stable-diffusion-webui python -m pytest tests/adapters/test_a1111_checkout.py

Its samplers, its ``CFGDenoiser`` and its prompts' composition are its own code; what they ask of the running web UI
(options, callbacks, pictures, the model's loader) stands here as plain names.
"""

import importlib
import os
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

import kdist
from kdist.adapters import forge
from kdist.compat import import_k_diffusion
from kdist.schedules import InTerms

CHECKOUT = os.environ.get("KDIST_A1111", "")
if not CHECKOUT:
    pytest.skip("KDIST_A1111 does not name a checkout of the classic web UI", allow_module_level=True)
K = import_k_diffusion()

SCHEDULES = (
    kdist.Interval(4.0, 0.3, 3.0),
    kdist.NegativeWindow(4.0, 0.5, 4.0, inside=0.0, after=1.0),
    kdist.EarlyNegative(3.0, 2.0, sigma_end=0.3),
)
STEPS = 6


class Network:
    """What the web UI calls ``sd_model``, around a network of diffusers."""

    parameterization, cond_stage_key, is_sd3 = "eps", "txt", False
    sd_checkpoint_info = None
    model = SimpleNamespace(conditioning_key="crossattn")

    def __init__(self, unet):
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        self.alphas_cumprod = (1 - betas).cumprod(0).float()
        self.unet, self.rows = unet, 0

    def apply_model(self, x, t, cond):
        self.rows += len(x)
        return self.unet(x, t, encoder_hidden_states=torch.cat(cond["c_crossattn"], 1)).sample


class Options(SimpleNamespace):
    """Options that are not named are off."""

    def __getattr__(self, name):
        return 0


@pytest.fixture(scope="module")
def web_ui(unet):
    """The checkout's modules, around names that stand for the rest of the web UI; taken away again afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] == "modules"]:
            patch.delitem(sys.modules, name)
        patch.syspath_prepend(CHECKOUT)
        patch.setattr(K.sampling, "torch", torch)  # the web UI puts its own random numbers there
        package = importlib.import_module("modules")
        shared = ModuleType("modules.shared")
        unipc = {"uni_pc_skip_type": "time_uniform", "uni_pc_variant": "bh1", "uni_pc_order": 3}
        shared.opts = Options(batch_cond_uncond=True, uni_pc_lower_order_final=True, **unipc)
        shared.state = SimpleNamespace(interrupted=False, skipped=False, sampling_step=0, sampling_steps=STEPS)
        shared.sd_model, shared.device = Network(unet), torch.device("cpu")
        shared.total_tqdm = SimpleNamespace(update=lambda: None)
        devices = ModuleType("modules.devices")
        devices.device = devices.cpu = shared.device
        devices.dtype, devices.test_for_nans = torch.float32, lambda *_: None
        devices.randn_local = lambda seed, shape: torch.randn(shape, generator=torch.Generator().manual_seed(int(seed)))
        callbacks = ModuleType("modules.script_callbacks")
        for name in ("CFGDenoiserParams", "CFGDenoisedParams", "AfterCFGCallbackParams", "ExtraNoiseParams"):
            setattr(callbacks, name, _params(name))
        for name in ("cfg_denoiser", "cfg_denoised", "cfg_after_cfg", "extra_noise"):
            setattr(callbacks, f"{name}_callback", lambda params: None)
        empty = [ModuleType(f"modules.{name}") for name in
                 ("images", "sd_vae_approx", "sd_samplers", "sd_vae_taesd", "sd_models", "errors")]  # fmt: skip
        for module in (shared, devices, callbacks, *empty):
            patch.setitem(sys.modules, module.__name__, module)
            setattr(package, module.__name__.partition(".")[2], module)
        import torchsde._brownian.brownian_interval as brownian

        patch.setattr(brownian, "_randn", brownian._randn)  # likewise
        kdiffusion = importlib.import_module("modules.sd_samplers_kdiffusion")
        timesteps = importlib.import_module("modules.sd_samplers_timesteps")
        parser = importlib.import_module("modules.prompt_parser")
        found = {config.name: config for config in
                 (*kdiffusion.samplers_data_k_diffusion, *timesteps.samplers_data_timesteps)}  # fmt: skip
        yield SimpleNamespace(samplers=found, parser=parser, shared=shared, network=shared.sd_model)
        for name in [name for name in sys.modules if name.partition(".")[0] == "modules"]:
            del sys.modules[name]


def _params(name):
    """The web UI's records of its callbacks: their fields, in its order."""
    fields = {
        "CFGDenoiserParams": "x image_cond sigma sampling_step total_sampling_steps text_cond text_uncond denoiser",
        "CFGDenoisedParams": "x sampling_step total_sampling_steps inner_model",
        "AfterCFGCallbackParams": "x sampling_step total_sampling_steps",
        "ExtraNoiseParams": "noise x xi",
    }[name].split()
    return lambda *values: SimpleNamespace(**dict(zip(fields, values, strict=True)))


def tokens(seed, length=7, width=8):
    return torch.randn(length, width, generator=torch.Generator().manual_seed(seed)) * 3


class Job(SimpleNamespace):
    """The web UI's ``p``: of its own fields, those that are not named are None."""

    def __getattr__(self, name):
        if name.startswith("kdist_"):
            raise AttributeError(name)


def job(web_ui, sampler="Euler", schedule=None, cfg=7.0, negative=7, weights=(1.0,), options=None, **more):
    """A job's latents from the web UI's own sampler; ``schedule`` a function of the denoiser that replaces its call."""
    generator = torch.Generator().manual_seed(0)

    def noise():
        return torch.randn(2, 4, 8, 8, generator=generator)

    parser, network, config = web_ui.parser, web_ui.network, web_ui.samplers[sampler]
    made = config.constructor(network)
    made.config = config
    prompts = [parser.ScheduledPromptConditioning(STEPS, tokens(i)) for i in range(len(weights))]
    composed = [parser.ComposableScheduledPromptConditioning([p], w) for p, w in zip(prompts, weights, strict=True)]
    cond = parser.MulticondLearnedConditioning(shape=(2,), batch=[composed] * 2)
    uncond = [[parser.ScheduledPromptConditioning(STEPS, tokens(9, negative))]] * 2
    p = Job(steps=STEPS, cfg_scale=cfg, extra_generation_params={}, sampler=made, sd_model=network, is_hr_pass=False,
            rng=SimpleNamespace(next=noise), s_churn=0.0, s_tmin=0.0, s_tmax=0.0, s_noise=1.0, eta=1.0,
            s_min_uncond=0.0, enable_hr=False, all_seeds=[1, 2], iteration=0, batch_size=2, **more)  # fmt: skip
    if schedule is not None:
        schedule(p)
    network.rows = 0
    with torch.no_grad():
        image = torch.zeros(2, 5, 1, 1)
        if "denoising_strength" in more:
            return made.sample_img2img(p, noise() * 0.2, noise(), cond, uncond, image_conditioning=image)
        return made.sample(p, noise(), cond, uncond, image_conditioning=image)


def ours(schedule, **options):
    return lambda p: forge.schedule_denoiser(p.sampler.model_wrap_cfg, schedule, **options)


def written_out(web_ui, schedule, negative=7, weights=(1.0,), counts=None):
    """The denoiser's call by hand: one prediction per prompt, the schedule's scale of the level, guidance.

    ``counts`` receives one item per call.
    """

    def replace(p):
        denoiser = p.sampler.model_wrap_cfg
        network, in_timesteps = web_ui.network, "Timesteps" in type(denoiser).__name__
        inner = (lambda x, t, cond: network.apply_model(x, t, cond)) if in_timesteps else denoiser.inner_model
        alphas = network.alphas_cumprod.double()
        log_sigmas = ((1 - alphas) / alphas).log().numpy() / 2

        def forward(x, sigma, **_):
            def predict(vectors):
                return inner(x, sigma, cond={"c_crossattn": [vectors.expand(2, -1, -1)], "c_concat": []})

            level = float(sigma[0])
            if in_timesteps:
                import numpy as np

                level = float(np.exp(np.interp(level, range(1000), log_sigmas)))
            if counts is not None:
                counts.append(level)
            uncond = denoiser.last_noise_uncond = predict(tokens(9, negative))
            guidance = sum(w * (predict(tokens(i)) - uncond) for i, w in enumerate(weights))
            # 1, but 1 / 12.5 in the sampler DDIM CFG++
            denoised = uncond + float(schedule(level)) * denoiser.cond_scale_miltiplier * guidance
            denoiser.step += 1
            mask = denoiser.mask
            return denoised if mask is None else denoised * denoiser.nmask + denoiser.init_latent * mask

        denoiser.forward = forward

    return replace


def close(found, expected):
    """float32, batches of other sizes; relative to the latents, which a random network makes large."""
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-4 * float(expected.abs().max()))


def names(web_ui, kind):
    found = web_ui.samplers
    of_timesteps = [name for name in found if name.startswith(("DDIM", "PLMS", "UniPC"))]
    assert {"Euler", "Heun", "DPM++ 2M", "Restart", "DPM adaptive", "DDIM", "PLMS", "UniPC"} <= set(found)
    return of_timesteps if kind == "timesteps" else [name for name in found if name not in of_timesteps]


@pytest.mark.parametrize("kind", ["sigmas", "timesteps"])
def test_every_sampler_gets_the_scale_of_its_noise_level(web_ui, kind):
    for sampler in names(web_ui, kind):
        for schedule in SCHEDULES:
            counts = []
            expected = job(web_ui, sampler, written_out(web_ui, schedule, counts=counts))
            close(job(web_ui, sampler, ours(schedule)), expected)
            assert web_ui.network.rows == 4 * len(counts)  # both passes in every call
            assert len({schedule(level) for level in counts}) > 1, sampler


@pytest.mark.parametrize("kind", ["sigmas", "timesteps"])
def test_a_constant_scale_is_the_cfg_scale(web_ui, kind):
    for sampler in names(web_ui, kind):
        assert torch.equal(job(web_ui, sampler, ours(kdist.Constant(5.0))), job(web_ui, sampler, cfg=5.0))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_prompts_of_other_lengths_and_composed_ones(web_ui, schedule):
    for options in ({"negative": 14}, {"weights": (1.0, 0.5)}):
        expected = job(web_ui, "Heun", written_out(web_ui, schedule, **options), **options)
        close(job(web_ui, "Heun", ours(schedule), **options), expected)


def test_image_to_image_with_a_mask(web_ui):
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:6] = 1
    picture = {"denoising_strength": 0.8, "mask": mask, "nmask": 1 - mask}
    for schedule in SCHEDULES:
        expected = job(web_ui, "DPM++ 2M", written_out(web_ui, schedule), **picture)
        close(job(web_ui, "DPM++ 2M", ours(schedule), **picture), expected)


def test_passes_that_the_web_ui_would_leave_out(web_ui, monkeypatch):
    """ "Negative Guidance minimum sigma" would compute with scale 1; the option for early steps is refused."""
    schedule, late = SCHEDULES[1], {"s_min_uncond": 10.0}
    expected = job(web_ui, "Euler", written_out(web_ui, schedule))

    def with_minimum(p):
        p.s_min_uncond = 10.0
        ours(schedule)(p)

    assert not torch.allclose(job(web_ui, schedule=lambda p: vars(p).update(late)), job(web_ui), rtol=1e-2)
    close(job(web_ui, schedule=with_minimum), expected)
    opts = web_ui.shared.opts
    monkeypatch.setattr(opts, "skip_early_cond", 0.5, raising=False)
    with pytest.raises(ValueError, match="Ignore negative prompt during early sampling"):
        job(web_ui, schedule=ours(schedule, options=opts))


def test_percent_of_the_steps_and_the_panel(web_ui, script):
    """Half of six steps: from the fourth on at scale 0; DDIM names no levels."""
    half = InTerms("percent", kdist.LateNegative, {"scale": 3.0, "sigma_switch": 50})
    panel = script.KdistGuidance()
    fields = ("late negative", 3.0, 0.0, 50.0, 0.0, "percent of steps", "")
    made = web_ui.samplers["Euler"].constructor(web_ui.network)
    made.config = web_ui.samplers["Euler"]
    sigmas = made.get_sigmas(Job(steps=STEPS, extra_generation_params={}), STEPS)
    expected = job(web_ui, "Euler", written_out(web_ui, kdist.LateNegative(3.0, float(sigmas[3]))))
    close(job(web_ui, "Euler", lambda p: panel.process_before_every_sampling(p, True, *fields)), expected)
    with pytest.raises(ValueError, match="does not say its noise levels"):
        job(web_ui, "DDIM", ours(half, levels=lambda: None))
    with pytest.raises(ValueError, match="does not say its noise levels"):
        job(web_ui, "DDIM", lambda p: panel.process_before_every_sampling(p, True, *fields))
