"""The guider, inside diffusers' own SDXL denoising loop on a tiny random network."""

import contextlib
import copy
from functools import partial
from types import SimpleNamespace

import diffusers
import pytest
import torch
from diffusers.modular_pipelines.modular_pipeline import BlockState
from diffusers.modular_pipelines.stable_diffusion_xl.denoise import StableDiffusionXLDenoiseStep

import kdist
from kdist import rules
from kdist.adapters.diffusers import DiffusersDenoiser, ScheduleGuidance, scheduler_sigmas, sigma_of_timestep
from kdist.adapters.diffusers.predictions import Prediction
from kdist.compat import import_k_diffusion
from kdist.schedules import PerClass

K = import_k_diffusion()
STEPS = 6


@pytest.fixture(scope="module")
def conditions():
    generator = torch.Generator().manual_seed(1)

    def side():
        return [torch.randn(2, *shape, generator=generator) for shape in ((5, 16), (8,), (6,))]

    return side(), side()


def run_pipeline(unet, scheduler, guider, conditions, steps=STEPS):
    """diffusers' loop: final latents and the timesteps at which the network was called."""
    pipe = StableDiffusionXLDenoiseStep().init_pipeline()
    pipe.update_components(unet=unet, scheduler=scheduler, guider=guider)
    pipe.set_progress_bar_config(disable=True)
    scheduler.set_timesteps(steps)
    names = ("prompt_embeds", "pooled_prompt_embeds", "add_time_ids")
    fields = dict(zip(names, conditions[0], strict=True))
    fields.update({f"negative_{name}": value for name, value in zip(names, conditions[1], strict=True)})
    called = []
    hook = unet.register_forward_pre_hook(lambda _, args: called.append(float(args[1])))
    try:
        latents = pipe(
            latents=start(scheduler_sigmas(scheduler, steps)),
            timesteps=scheduler.timesteps,
            num_inference_steps=steps,
            denoiser_input_fields=fields,
            output="latents",
        )
    finally:
        hook.remove()
    return latents, called


def start(sigmas):
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2)) * sigmas[0]


def run_k_diffusion(unet, scheduler, sampler, schedule, conditions, **options):
    def args(side):
        tokens, pooled, time_ids = side
        return {
            "encoder_hidden_states": tokens,
            "added_cond_kwargs": {"text_embeds": pooled, "time_ids": time_ids},
        }

    cond, uncond = map(args, conditions)
    sigmas = scheduler_sigmas(scheduler, STEPS)
    guided = kdist.guide(
        DiffusersDenoiser(unet, scheduler), schedule, uncond=None if "weak_model" in options else uncond, **options
    )
    with torch.no_grad():
        return sampler(guided, start(sigmas), sigmas, extra_args=cond, disable=True), guided.nfe


# diffusers and k-diffusion are two float32 implementations of the same steps; levels reach 25, so do the latents
CLOSE = {"rtol": 1e-4, "atol": 1e-3}


def test_window_is_right_under_heun_where_a_step_window_is_not(sdxl_unet, conditions):
    """Guidance for the first half of the steps: 3 of 6. The loop has 11 iterations, 5 or 6 of them in those steps."""
    scheduler = diffusers.HeunDiscreteScheduler(timestep_spacing="leading")
    sigmas = scheduler_sigmas(scheduler, STEPS)
    edge = kdist.progress_to_sigma(0.5, sigmas)
    schedule = kdist.Interval(4.0, edge, 1e3)

    built_in = diffusers.ClassifierFreeGuidance(4.0, stop=0.5)
    _, called = run_pipeline(sdxl_unet, scheduler, built_in, conditions)
    # 3 guided iterations are one and a half Heun steps
    assert len(called) == 11 + 3
    guided_levels = sorted({t for t in called if called.count(t) > 2}, reverse=True)
    assert [round(sigma_of_timestep(scheduler, t), 3) for t in guided_levels] == [round(float(sigmas[1]), 3)]

    latents, called = run_pipeline(sdxl_unet, scheduler, ScheduleGuidance(schedule, scheduler=scheduler), conditions)
    # levels sigma_0, sigma_1, sigma_1, sigma_2, sigma_2 lie above the edge sigma_3: 5 guided iterations of 11
    assert len(called) == 11 + 5
    expected, nfe = run_k_diffusion(sdxl_unet, scheduler, K.sampling.sample_heun, schedule, conditions)
    assert nfe == len(called) == schedule.nfe(sigmas, "heun")
    torch.testing.assert_close(latents, expected, **CLOSE)


@pytest.mark.parametrize(
    ("scheduler", "sampler"),
    [("EulerDiscreteScheduler", "euler"), ("KDPM2DiscreteScheduler", "dpm_2")],
)
def test_whole_run_equals_k_diffusion(sdxl_unet, conditions, scheduler, sampler):
    """A window with both passes, the unconditional one alone, and the conditional one alone."""
    scheduler = getattr(diffusers, scheduler)(timestep_spacing="leading")
    schedule = kdist.NegativeWindow(3.0, sigma_lo=0.9, sigma_hi=3.0, after=1.0)
    latents, called = run_pipeline(sdxl_unet, scheduler, ScheduleGuidance(schedule, scheduler=scheduler), conditions)
    expected, nfe = run_k_diffusion(
        sdxl_unet, scheduler, getattr(K.sampling, f"sample_{sampler}"), schedule, conditions
    )
    assert nfe == len(called)
    torch.testing.assert_close(latents, expected, **CLOSE)


@pytest.mark.parametrize("scheduler", [diffusers.DDIMScheduler, diffusers.EulerDiscreteScheduler])
def test_constant_scale_equals_built_in_guidance(sdxl_unet, conditions, scheduler):
    scheduler = scheduler()
    ours, _ = run_pipeline(sdxl_unet, scheduler, ScheduleGuidance(4.0, scheduler=scheduler), conditions)
    theirs, _ = run_pipeline(sdxl_unet, scheduler, diffusers.ClassifierFreeGuidance(4.0), conditions)
    assert torch.equal(ours, theirs)  # the same arithmetic


SCALING = {
    False: ["Euler", "EulerAncestral", "LMS", "Heun", "KDPM2", "KDPM2Ancestral", "DPMSolverSDE"],
    True: ["Euler", "LMS", "Heun", "KDPM2", "KDPM2Ancestral", "DPMSolverSDE"],
}


@pytest.mark.filterwarnings("ignore:Should have tb")  # torchsde, about a rounding error of diffusers' own levels
@pytest.mark.parametrize(("karras", "name"), [(karras, name) for karras, names in SCALING.items() for name in names])
def test_sigma_is_the_one_by_which_the_scheduler_scales_the_input(karras, name):
    """``scale_model_input`` divides by sqrt(sigma^2 + 1), which gives the level away, mid-step calls included."""
    name += "Scheduler" if name == "DPMSolverSDE" else "DiscreteScheduler"
    scheduler = getattr(diffusers, name)(**({"use_karras_sigmas": True} if karras else {}))
    scheduler.set_timesteps(5)
    sample = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    for step, t in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(sample, t)
        sigma = float((1 / scaled.double() ** 2 - 1).sqrt())
        # float32 division, and timesteps of DPM-2 with Karras levels rounded to integers (0.5 of 1000 levels)
        assert sigma_of_timestep(scheduler, t, step) == pytest.approx(sigma, rel=1e-2 if karras else 1e-3)
        scheduler.step(torch.zeros_like(sample), t, sample)


def test_sigma_without_scaling_and_of_a_flow():
    ddim = diffusers.DDIMScheduler()
    ddim.set_timesteps(5)
    alpha = ddim.alphas_cumprod[ddim.timesteps[2]]
    assert sigma_of_timestep(ddim, ddim.timesteps[2]) == pytest.approx(float(((1 - alpha) / alpha).sqrt()), rel=1e-6)
    flow = diffusers.FlowMatchEulerDiscreteScheduler()
    flow.set_timesteps(5)
    s = float(flow.sigmas[2])
    assert sigma_of_timestep(flow, flow.timesteps[2]) == pytest.approx(s / (1 - s), rel=1e-6)
    assert sigma_of_timestep(flow, flow.timesteps[0]) == 1e4  # s = 1, an infinite sigma


def test_config_round_trip(tmp_path):
    scheduler = diffusers.EulerDiscreteScheduler()
    schedule = kdist.NegativeWindow(4.0, 0.3, 1.0)
    guider = ScheduleGuidance(str(schedule), scheduler=scheduler)
    guider.save_pretrained(tmp_path)
    loaded = ScheduleGuidance.from_pretrained(tmp_path)
    assert loaded.schedule == guider.schedule == schedule
    assert loaded.scheduler is None
    copy = guider.new(schedule=2.0)
    assert (copy.schedule, copy.scheduler) == (kdist.Constant(2.0), scheduler)
    for same in (
        guider.new(),
        ScheduleGuidance.from_config(guider.config),
        ScheduleGuidance(4.0).new(schedule=schedule),
    ):
        assert same.schedule == schedule
    assert not ScheduleGuidance(4.0, None, False).new()._enabled


def started(schedule, timestep_index=0, **options):
    scheduler = diffusers.EulerDiscreteScheduler()
    scheduler.set_timesteps(5)
    guider = ScheduleGuidance(schedule, scheduler=scheduler, **options)
    guider.set_state(timestep_index, 5, scheduler.timesteps[timestep_index])
    return guider


@pytest.mark.parametrize(
    ("scale", "passes"), [(4.0, ["pred_cond", "pred_uncond"]), (1.0, ["pred_cond"]), (0.0, ["pred_uncond"])]
)
def test_passes_and_their_inputs(scale, passes):
    guider = started(scale)
    cond, uncond = torch.ones(1), torch.zeros(1)
    state = BlockState(cond=cond, uncond=uncond)
    for batches in (
        guider.prepare_inputs({"tokens": (cond, uncond)}),
        guider.prepare_inputs_from_block_state(state, {"tokens": ("cond", "uncond")}),
    ):
        assert [batch.__guidance_identifier__ for batch in batches] == passes
        for batch, name in zip(batches, passes, strict=True):
            assert batch.tokens is (cond if name == "pred_cond" else uncond)
            guider.prepare_models(None)
            assert guider.is_conditional == (name == "pred_cond")
            batch.noise_pred = batch.tokens * 2.0
        guider.set_state(0, 5, guider.scheduler.timesteps[0])
        guider.prepare_inputs({"tokens": (cond, uncond)})
        assert guider(batches).pred == 2.0 * scale  # uncond + scale * (cond - uncond) = 0 + scale * 2
    assert guider.get_state()["scale"] == scale


def test_disabled_guider_runs_the_conditional_pass_alone():
    guider = started(4.0, enabled=False)
    assert guider.num_conditions == 1
    assert len(guider.prepare_inputs({"tokens": torch.ones(1)})) == 1


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_a_pass_that_is_left_out_is_no_none(scale):
    """Qwen-Image's pipeline takes the norm of pred_cond; LTX-2's asks which predictions there are."""
    guider = started(scale)
    (batch,) = guider.prepare_inputs({"tokens": (torch.ones(2), torch.zeros(2))})
    batch.noise_pred = torch.full((2,), 3.0)
    output = guider([batch])
    assert output.pred is output.pred_cond is output.pred_uncond is batch.noise_pred
    assert guider.active_predictions() == ["pred_cond" if scale else "pred_uncond"]


RULE = partial(rules.rescaled, phi=0.8, rule=partial(rules.projected, eta=0.3))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_rules_get_denoised_samples(sdxl_unet, conditions, prediction_type):
    """The whole run of the pipeline with a rule, and kdist.guide with the same rule under k-diffusion's Euler."""
    scheduler = diffusers.EulerDiscreteScheduler(timestep_spacing="leading", prediction_type=prediction_type)
    schedule = kdist.NegativeWindow(3.0, sigma_lo=0.9, sigma_hi=3.0, inside=0.5, after=1.0)
    guider = ScheduleGuidance(schedule, scheduler=scheduler, rule=RULE)
    latents, called = run_pipeline(sdxl_unet, scheduler, guider, conditions)
    expected, nfe = run_k_diffusion(sdxl_unet, scheduler, K.sampling.sample_euler, schedule, conditions, rule=RULE)
    assert nfe == len(called)  # the rule is the conditional prediction at scale 1
    torch.testing.assert_close(latents, expected, **CLOSE)
    linear, _ = run_k_diffusion(sdxl_unet, scheduler, K.sampling.sample_euler, schedule, conditions)
    assert not torch.allclose(latents, linear, rtol=1e-3, atol=1e-3)
    assert not sdxl_unet._forward_pre_hooks


def test_weak_model(sdxl_unet, conditions, tiny_models):
    """Autoguidance: the weak network gets the positive conditions; the pipeline's network is left as it was."""
    torch.manual_seed(5)
    weak = tiny_models.unet(xl=True)
    scheduler = diffusers.EulerDiscreteScheduler(timestep_spacing="leading")
    schedule = kdist.Interval(2.0, 0.9, 1e3)
    guider = ScheduleGuidance(schedule, scheduler=scheduler, weak_model=weak)
    latents, _ = run_pipeline(sdxl_unet, scheduler, guider, conditions)
    expected, _ = run_k_diffusion(
        sdxl_unet,
        scheduler,
        K.sampling.sample_euler,
        schedule,
        conditions,
        weak_model=DiffusersDenoiser(weak, scheduler),
    )
    torch.testing.assert_close(latents, expected, **CLOSE)
    assert "forward" not in vars(sdxl_unet)


class TwoModalities(torch.nn.Module):
    """The call of LTX-2's transformer; the prompt is a factor."""

    def forward(self, hidden_states, audio_hidden_states, encoder_hidden_states, **_):
        factor = encoder_hidden_states.mean()
        return factor * torch.tanh(hidden_states), factor * torch.tanh(audio_hidden_states)

    def cache_context(self, name):
        self.passes = [*getattr(self, "passes", []), name]
        return contextlib.nullcontext()


def run_ltx2(network, scheduler, **guiders):
    """LTX-2's own loop over video and audio latents."""
    from diffusers.modular_pipelines.ltx2.denoise import LTX2DenoiseStep

    pipe = LTX2DenoiseStep().init_pipeline()
    pipe.update_components(transformer=network, scheduler=scheduler, **guiders)
    pipe.set_progress_bar_config(disable=True)
    scheduler.set_timesteps(STEPS)
    sides = {"": 0.9, "negative_": 0.5}
    names = ("connector_prompt_embeds", "connector_audio_prompt_embeds", "connector_attention_mask")
    return pipe(
        **{f"{side}{name}": torch.full((1, 2, 4), value) for side, value in sides.items() for name in names},
        **{name: start([1.0]) for name in ("latents", "audio_latents")},
        timesteps=scheduler.timesteps,
        num_inference_steps=STEPS,
        audio_scheduler=copy.deepcopy(scheduler),
        dtype=torch.float32,
        **{"num_frames": 9, "height": 64, "width": 64, "frame_rate": 24.0},
        output=["latents", "audio_latents"],
    )


def test_ltx2_with_a_schedule_for_each_modality():
    """Two guiders in one loop that runs each pass once for both; the expected latents by a loop written out."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    schedules = {
        "latents": kdist.NegativeWindow(4.0, 0.9, 5.0, inside=0.0, after=1.0),
        "audio_latents": kdist.LateNegative(3.0, 2.0, late=1.0),
    }
    video, audio = (ScheduleGuidance(schedule, scheduler=scheduler) for schedule in schedules.values())
    network = TwoModalities()
    found = run_ltx2(network, scheduler, guider=video, audio_guider=audio)
    levels = scheduler.sigmas.tolist()
    scales = [
        [schedule(min(s / (1 - s), 1e4) if s < 1 else 1e4) for s in levels[:-1]] for schedule in schedules.values()
    ]
    for name, guided in zip(schedules, scales, strict=True):
        z = start([1.0])
        for step, scale in enumerate(guided):
            z = z + (levels[step + 1] - levels[step]) * (0.5 + scale * 0.4) * torch.tanh(z)
        torch.testing.assert_close(found[name], z, rtol=1e-4, atol=1e-5)  # float32, through x0 and back
    wanted = [set(both) for both in zip(*scales, strict=True)]
    assert len(network.passes) == sum(2 - (both in ({0.0}, {1.0})) for both in wanted)
    weak = ScheduleGuidance(3.0, scheduler=scheduler, weak_model=network)
    with pytest.raises(ValueError, match="no weak model"):
        run_ltx2(network, scheduler, guider=weak, audio_guider=audio)


def test_a_schedule_for_each_class(sdxl_unet, conditions):
    """Row by row, the runs with each class's own schedule."""
    scheduler = diffusers.EulerDiscreteScheduler(timestep_spacing="leading")
    schedule = PerClass({3: kdist.LateNegative(4.0, 2.0), 7: 1.0})
    guider = ScheduleGuidance(schedule, scheduler=scheduler, labels=torch.tensor([3, 7]))
    latents, _ = run_pipeline(sdxl_unet, scheduler, guider, conditions)
    for row, alone in enumerate((kdist.LateNegative(4.0, 2.0), 1.0)):
        expected, _ = run_pipeline(sdxl_unet, scheduler, ScheduleGuidance(alone, scheduler=scheduler), conditions)
        torch.testing.assert_close(latents[row], expected[row], **CLOSE)
    wrong = ScheduleGuidance(schedule, scheduler=scheduler, labels=torch.tensor([3, 7, 7]))
    with pytest.raises(ValueError, match="labels has 3 rows"):
        run_pipeline(sdxl_unet, scheduler, wrong, conditions)


def test_outside_its_loop():
    scheduler = diffusers.EulerDiscreteScheduler()
    guider = ScheduleGuidance(4.0, scheduler=scheduler)
    pair = {"tokens": (torch.ones(1), torch.zeros(1))}
    with pytest.raises(RuntimeError, match="outside its loop"):
        guider.prepare_inputs(pair)
    with pytest.raises(RuntimeError, match="outside its loop"):
        guider([BlockState(noise_pred=torch.ones(1))])
    scheduler.set_timesteps(5)
    with pytest.raises(ValueError, match="timestep 123"):
        guider.set_state(0, 5, torch.tensor(123))
    guider.set_state(0, 5, scheduler.timesteps[0])
    batches = guider.prepare_inputs(pair)
    with pytest.raises(RuntimeError, match="it got predictions"):
        guider(batches[:1])
    with pytest.raises(ValueError, match="no noise_pred"):
        guider(batches)


def test_bad_inputs():
    with pytest.raises(TypeError, match="schedule must be"):
        ScheduleGuidance(lambda sigma: 4.0)
    with pytest.raises(ValueError, match="upgrade kdist"):
        ScheduleGuidance({"kdist_schedule": 99, "type": "constant", "scale": 1.0})
    with pytest.raises(ValueError, match=r"PerClass needs the classes.*labels="):
        started(PerClass({0: 4.0}))
    guider = started(4.0, rule=rules.projected)
    with pytest.raises(ValueError, match="does not announce its network"):
        guider.forward(torch.ones(1, 2), torch.zeros(1, 2))
    with pytest.raises(RuntimeError, match=r"pipe\.scheduler"):
        ScheduleGuidance(4.0).set_state(0, 5, torch.tensor(1.0))
    with pytest.raises(ValueError, match="negative_prompt"):
        started(4.0).prepare_inputs({"tokens": (torch.ones(1), None)})
    with pytest.raises(ValueError, match="negative_prompt"):
        started(0.0).prepare_inputs({"tokens": torch.ones(1)})


def test_rules_need_a_known_kind_of_network():
    """What the network predicts, in a scheduler that nobody knows, of an unknown kind, or of another shape."""
    z = torch.ones(1, 4, 2, 2)
    vp = diffusers.EulerDiscreteScheduler()
    with pytest.raises(ValueError, match="neither variance preserving nor a flow"):
        Prediction.of(SimpleNamespace(config={}), 1.0, z, z)
    with pytest.raises(ValueError, match="prediction_type must be one of"):
        Prediction.of(SimpleNamespace(config={"prediction_type": "noise"}, alphas_cumprod=z), 1.0, z, z)
    with pytest.raises(ValueError, match="differ in shape"):
        Prediction.of(vp, 1.0, z, z.flatten(2))


def test_the_level_is_taken_in_float32(monkeypatch):
    """As solvers hold it: what float32 rounds to an edge is on it, and the calls are those that ``nfe`` predicts."""
    monkeypatch.setattr("kdist.adapters.diffusers.guider.sigma_of_timestep", lambda *_: 1 + 1e-8)
    guider = ScheduleGuidance(kdist.LateNegative(4.0, 1.0), scheduler=diffusers.EulerDiscreteScheduler())
    guider.set_state(0, 10, torch.tensor(500))
    assert float(guider.get_state()["scale"]) == 0
