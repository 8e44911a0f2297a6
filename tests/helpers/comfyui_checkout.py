"""A tiny random network of ComfyUI's own classes in a checkout, and a guider written out to compare with.

Test modules that import this are skipped where ``KDIST_COMFYUI`` names no checkout of ComfyUI (and its packages).
"""

import os
import sys

import pytest
import torch

import kdist
from kdist.adapters.comfyui.hooks import covers, sigma_of
from kdist.compat import repair_torchvision

CHECKOUT = os.environ.get("KDIST_COMFYUI", "")
if not CHECKOUT:
    pytest.skip("KDIST_COMFYUI does not name a checkout of ComfyUI", allow_module_level=True)

repair_torchvision()
sys.path.insert(0, CHECKOUT)
import comfy.cli_args  # noqa: E402

comfy.cli_args.args.cpu = True
import comfy.model_base  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.supported_models  # noqa: E402

STEPS = 5
SAMPLERS = comfy.samplers.KSampler.SAMPLERS
SCHEDULES = (
    kdist.Interval(4.0, 0.3, 3.0),
    kdist.NegativeWindow(4.0, 0.5, 4.0, inside=0.0, after=1.0),
    kdist.LateNegative(3.0, 2.0),
    kdist.EarlyNegative(3.0, 2.0, early=0.0, sigma_end=0.3),
    kdist.LinearInVariance(0.0, 0.02, max_scale=5.0),
)


def patcher(flow=False, seed=0):
    config = {
        "image_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 32,
        "num_res_blocks": [1, 1],
        "channel_mult": [1, 1],
        "transformer_depth": [1, 0],
        "transformer_depth_output": [1, 1, 0, 0],
        "transformer_depth_middle": 0,
        "context_dim": 16,
        "num_heads": 4,
        "num_head_channels": -1,
        "use_spatial_transformer": True,
        "legacy": False,
        "dtype": torch.float32,
    }
    model_config = comfy.supported_models.SD15({**config, "disable_unet_model_creation": False})
    model_config.unet_config.pop("disable_unet_model_creation")
    kind = comfy.model_base.ModelType.FLOW if flow else comfy.model_base.ModelType.EPS
    torch.manual_seed(seed)
    network = comfy.model_base.BaseModel(model_config, kind, device="cpu").eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():  # ComfyUI leaves them for the checkpoint to fill
        size = 0.3 if "attn2" in name else 0.05 if ".out." in name else 0.1
        parameter.data = torch.randn(parameter.shape, generator=generator) * size
        if parameter.ndim == 1 and name.endswith("weight"):  # of a normalisation
            parameter.data += 1
        parameter.requires_grad_(False)
    return comfy.model_patcher.ModelPatcher(network, torch.device("cpu"), torch.device("cpu"))


def prompt(seed, tokens=77, **options):
    vectors = torch.randn(1, tokens, 16, generator=torch.Generator().manual_seed(seed)) * 3
    return [[vectors, options]]


POSITIVE, NEGATIVE = prompt(1), prompt(2)
RANGE = {"start_percent": 0.4, "end_percent": 0.8}


class Reference(comfy.samplers.CFGGuider):
    """Both passes in every call, the schedule's scale of its noise level, no shortcut; a missing prediction is the
    other one."""

    def __init__(self, model, schedule):
        super().__init__(model)
        self.schedule, self.levels, self.calls = schedule, [], 0

    def predict_noise(self, x, timestep, model_options=None, seed=None):
        sigma = sigma_of(self.inner_model, timestep)[:1]
        self.levels.append(sigma)
        scale = float(self.schedule(sigma))
        conds = [self.conds["positive"], self.conds["negative"]]
        found = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options)
        there = [covers(entries, float(timestep[0])) for entries in conds]
        found = [found[i] if there[i] else found[1 - i] for i in range(2)]
        return comfy.samplers.cfg_function(self.inner_model, *found, scale, x, timestep, model_options=model_options)


def levels_of(model, steps=STEPS, scheduler="karras"):
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)


def counted(model):
    """The model, and a list that receives one number per network row: 0 conditional, 1 unconditional."""
    model, rows = model.clone(), []

    def run(apply, args):
        rows.extend(args["cond_or_uncond"])
        return apply(args["input"], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(run)
    return model, rows


def run(guider, sampler="euler", sigmas=None, latent=None, mask=None):
    sigmas = levels_of(guider.model_patcher) if sigmas is None else sigmas
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    latent = torch.zeros_like(noise) if latent is None else latent
    method = sampler if isinstance(sampler, comfy.samplers.Sampler) else comfy.samplers.sampler_object(sampler)
    with torch.no_grad():
        return guider.sample(noise, latent, method, sigmas, denoise_mask=mask, disable_pbar=True, seed=7)


def guider_of(model, positive=POSITIVE, negative=NEGATIVE, cfg=8.0, kind=comfy.samplers.CFGGuider, schedule=None):
    guider = kind(model) if schedule is None else kind(model, schedule)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider


def close(ours, expected):
    """float32; relative to the latents, which a random network and high scales make large."""
    assert ours.isfinite().all()
    torch.testing.assert_close(ours, expected, rtol=2e-3, atol=2e-4 * float(expected.abs().max()))
