"""Flow-matching networks under k-diffusion's solvers, against diffusers' own flow Euler on tiny random networks."""

from types import SimpleNamespace

import diffusers
import pytest
import torch

import kdist
from kdist.adapters.diffusers import FlowDenoiser
from kdist.solvers import called_sigmas, sample

SIGMA_MAX = 1e8  # in float64 latents, so that s = 1 is met to rounding


def sd3():
    network = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=16, caption_projection_dim=16, pooled_projection_dim=8,
    )  # fmt: skip
    return network, (2, 4, 8, 8), {"encoder_hidden_states": (2, 5, 16), "pooled_projections": (2, 8)}


def flux():
    network = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=8, axes_dims_rope=(4, 4, 8), guidance_embeds=False,
    )  # fmt: skip
    return network, (2, 16, 4), {"encoder_hidden_states": (2, 5, 16), "pooled_projections": (2, 8)}


def qwen():
    network = diffusers.QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    return network, (2, 16, 16), {"encoder_hidden_states": (2, 5, 16)}


def wan():
    network = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16,
        freq_dim=16, ffn_dim=16, num_layers=2, cross_attn_norm=True, qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    )  # fmt: skip
    return network, (2, 4, 2, 8, 8), {"encoder_hidden_states": (2, 5, 16)}


def shared(name):
    if name == "flux":
        ids = torch.stack(torch.meshgrid(torch.zeros(1), torch.arange(4.0), torch.arange(4.0), indexing="ij"), -1)
        return {"img_ids": ids.view(16, 3), "txt_ids": torch.zeros(5, 3)}
    if name == "qwen":
        return {"img_shapes": [[(1, 4, 4)]], "encoder_hidden_states_mask": torch.ones(2, 5, dtype=torch.int64)}
    return {}


@pytest.fixture(scope="module", params=["sd3", "flux", "qwen", "wan"])
def family(request):
    """The network, two sides of conditions, noise."""
    torch.manual_seed(0)
    network, shape, conditions = globals()[request.param]()
    network = network.eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2)
    sides = [{name: torch.randn(size) for name, size in conditions.items()} | shared(request.param) for _ in range(2)]
    return request.param, network, *sides, torch.randn(shape)


def scheduler_of(name):
    dynamic = name in ("flux", "qwen")
    return diffusers.FlowMatchEulerDiscreteScheduler(**({"use_dynamic_shifting": True} if dynamic else {"shift": 3.0}))


def flow_euler(family, schedule, steps=6, tokens=1024):
    """diffusers' own loop, with guidance at the schedule's scale of each level."""
    name, network, cond, uncond, z = family
    scheduler = scheduler_of(name)
    if name in ("flux", "qwen"):
        from diffusers.pipelines.flux.pipeline_flux import calculate_shift

        levels = [1 - i / steps for i in range(steps)]
        scheduler.set_timesteps(sigmas=levels, mu=calculate_shift(tokens))
    else:
        scheduler.set_timesteps(steps)
    for t, s in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        told = t.expand(len(z)) / (1000 if name in ("flux", "qwen") else 1)
        scale = schedule(float(min(s / (1 - s), torch.tensor(1e4))))
        predicted = [network(hidden_states=z, timestep=told, return_dict=False, **side)[0] for side in (uncond, cond)]
        z = scheduler.step(predicted[0] + scale * (predicted[1] - predicted[0]), t, z, return_dict=False)[0]
    return z


@torch.no_grad()
def ours(family, schedule, solver="euler", steps=6, tokens=1024, dtype=torch.float64, sigma_max=SIGMA_MAX):
    name, network, cond, uncond, z = family
    denoiser = FlowDenoiser(network, scheduler_of(name), sigma_max=sigma_max)
    sigmas = denoiser.get_sigmas(steps, image_seq_len=tokens)
    # shared conditions (image positions) are the same in both passes
    guided = kdist.guide(
        denoiser, schedule, uncond={k: v for k, v in uncond.items() if v is not cond[k]}, batched=False
    )
    return sample(solver, guided, z.to(dtype) * sigmas[0], sigmas.to(dtype), extra_args=cond), guided.nfe, sigmas


@pytest.mark.parametrize("schedule", [kdist.Constant(4.0), kdist.NegativeWindow(4.0, 0.9, 5.0, inside=0.0, after=1.0)])
def test_equals_diffusers_flow_euler(family, schedule):
    with torch.no_grad():
        expected = flow_euler(family, schedule)
    found, nfe, sigmas = ours(family, schedule)
    # float32 networks, six steps; s is rounded once more on its way through sigma
    torch.testing.assert_close(found.float(), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert nfe == schedule.nfe(sigmas)
    with torch.no_grad():  # the prompts matter
        unguided = flow_euler(family, kdist.Constant(1.0))
    assert float((expected - unguided).abs().max()) > 0.02 * float(expected.abs().max())
    # the default: float32 latents, sigma 1e4 for s = 1, each off by about 1e-4 of the noise
    plain, _, _ = ours(family, schedule, dtype=torch.float32, sigma_max=1e4)
    torch.testing.assert_close(plain, expected, rtol=1e-2, atol=3e-3 * float(expected.abs().max()))


def test_every_level_that_a_solver_calls_is_a_timestep():
    """Heun's and DPM-2's mid-step calls: the network is told s of the level itself."""
    told = []

    def network(hidden_states, timestep, return_dict):
        told.append(float(timestep[0]))
        return (hidden_states,)

    denoiser = FlowDenoiser(network, diffusers.FlowMatchEulerDiscreteScheduler(), timestep_of_noise=1000)
    sigmas = denoiser.get_sigmas(4)
    sample("dpm_2", denoiser, torch.randn(1, 4) * sigmas[0], sigmas)
    levels = torch.tensor(called_sigmas("dpm_2", sigmas), dtype=torch.float64)
    expected = torch.where(levels >= 1e4, 1.0, levels / (1 + levels)) * 1000
    torch.testing.assert_close(torch.tensor(told, dtype=torch.float64), expected, rtol=1e-6, atol=1e-6)


def test_shift_with_the_size_of_the_image():
    """More tokens, more noise: the middle of the run is at exp(mu) / (exp(mu) + 1) of s."""
    denoiser = FlowDenoiser(
        SimpleNamespace(config={}),
        diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        timestep_of_noise=1,
    )
    for tokens, mu in ((256, 0.5), (4096, 1.15)):
        sigmas = denoiser.get_sigmas(10, image_seq_len=tokens)
        assert float(sigmas[0]) == 1e4
        assert float(sigmas[5]) == pytest.approx(2.718281828**mu, rel=1e-5)  # s / (1 - s) = exp(mu) at the half
    with pytest.raises(ValueError, match="image_seq_len"):
        denoiser.get_sigmas(10)


def test_bad_input():
    flow = diffusers.FlowMatchEulerDiscreteScheduler()
    with pytest.raises(ValueError, match="guidance-distilled"):
        FlowDenoiser(SimpleNamespace(config={"guidance_embeds": True}), flow, timestep_of_noise=1)
    assert FlowDenoiser(SimpleNamespace(config={"guidance_embeds": True}), flow, timestep_of_noise=1, distilled=True)
    with pytest.raises(ValueError, match="how does SimpleNamespace count"):
        FlowDenoiser(SimpleNamespace(config={}), flow)
    with pytest.raises(ValueError, match="no flow-matching scheduler"):
        FlowDenoiser(SimpleNamespace(config={}), diffusers.EulerDiscreteScheduler(), timestep_of_noise=1)


@pytest.mark.parametrize("rule", [None, "projected"])
def test_guider_in_the_pipeline_of_qwen_image(rule):
    """Its loop takes the norm of pred_cond after guidance: left-out passes and a rule, against a loop written out."""
    from diffusers.modular_pipelines.qwenimage.denoise import QwenImageDenoiseStep

    from kdist import rules
    from kdist.adapters.diffusers import ScheduleGuidance

    torch.manual_seed(0)
    network, shape, conditions = qwen()
    with torch.no_grad():
        for parameter in network.eval().parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2)
    cond, uncond = (torch.randn(conditions["encoder_hidden_states"]) for _ in range(2))
    mask, start = torch.ones(2, 5, dtype=torch.int64), torch.randn(shape)
    schedule = kdist.NegativeWindow(4.0, 0.9, 5.0, inside=0.0, after=1.0)
    combine = getattr(rules, rule) if rule else rules.linear

    @torch.no_grad()
    def by_hand(z, steps=6):
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
        scheduler.set_timesteps(steps)
        for t, s in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
            sigma = min(float(s / (1 - s)), 1e4)
            scale = schedule(sigma)
            positive, negative = (
                network(
                    hidden_states=z, timestep=t.expand(2) / 1000, encoder_hidden_states=side, return_dict=False,
                    encoder_hidden_states_mask=mask, img_shapes=[[(1, 4, 4)]],
                )[0]
                for side in (cond, uncond)
            )  # fmt: skip
            level = torch.full((2, 1, 1), sigma)
            denoised = [z - s * velocity for velocity in (positive, negative)]
            guided = (z - combine(*denoised, torch.full((2, 1, 1), scale), z * (1 + level), level)) / s
            seen = negative if scale == 0 and rule is None else positive  # the other one where a pass is left out
            guided = guided * (seen.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True))
            z = scheduler.step(guided, t, z, return_dict=False)[0]
        return z

    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(6)
    pipe = QwenImageDenoiseStep().init_pipeline()
    guider = ScheduleGuidance(schedule, scheduler=scheduler, rule=combine if rule else None)
    pipe.update_components(transformer=network, scheduler=scheduler, guider=guider)
    pipe.set_progress_bar_config(disable=True)
    latents = pipe(
        latents=start, timesteps=scheduler.timesteps, num_inference_steps=6, img_shapes=[[(1, 4, 4)]], output="latents",
        denoiser_input_fields={
            "img_shapes": [[(1, 4, 4)]], "prompt_embeds": cond, "negative_prompt_embeds": uncond,
            "prompt_embeds_mask": mask, "negative_prompt_embeds_mask": mask,
        },
    )  # fmt: skip
    expected = by_hand(start)
    torch.testing.assert_close(latents, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
