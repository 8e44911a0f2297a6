"""A schedule in diffusers' classic pipelines, from their own code on tiny random networks."""

import diffusers
import pytest
import torch

import kdist
from kdist.adapters.diffusers import DiffusersDenoiser, encode_prompts, scheduled_scale, scheduler_sigmas
from kdist.solvers import sample

SCHEDULE = kdist.NegativeWindow(5.0, sigma_lo=0.9, sigma_hi=4.0, inside=0.0, after=2.0)
PROMPTS = ["a red dog", "a cat"]


@pytest.fixture(params=["sd", "sdxl"])
def pipeline(request, tiny_models):
    def make(scheduler):
        if request.param == "sdxl":
            pipe = diffusers.StableDiffusionXLPipeline(**tiny_models.sdxl_components(scheduler))
        else:
            pipe = tiny_models.stable_diffusion(scheduler)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return make


def run(pipe, scale, steps=6):
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    options = {"num_inference_steps": steps, "output_type": "latent", "latents": latents}
    return pipe(PROMPTS, guidance_scale=scale, generator=torch.Generator().manual_seed(1), **options).images


@pytest.mark.parametrize(("name", "solver"), [("Euler", "euler"), ("Heun", "heun"), ("KDPM2", "dpm_2")])
def test_the_scale_of_each_call(pipeline, name, solver):
    """The same latents as kdist.guide in k-diffusion's solver, mid-step and correction calls included."""
    scheduler = getattr(diffusers, f"{name}DiscreteScheduler")(timestep_spacing="leading", steps_offset=1)
    pipe = pipeline(scheduler)
    with scheduled_scale(pipe, SCHEDULE) as scale:
        theirs = run(pipe, scale)
    assert scale.uses == len(scale.sigmas) == (6 if name == "Euler" else 11)
    assert not pipe.unet._forward_pre_hooks
    sigmas = scheduler_sigmas(scheduler, 6)
    cond, uncond = encode_prompts(pipe, PROMPTS)
    guided = kdist.guide(DiffusersDenoiser(pipe.unet, scheduler), SCHEDULE, uncond=uncond)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * scheduler.init_noise_sigma
    with torch.no_grad():
        ours = sample(solver, guided, x, sigmas, extra_args=cond)
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-3)  # float32, latents start at 25


@pytest.mark.parametrize(
    "scheduler", ["DDIMScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler", "DDPMScheduler"]
)
def test_constant_equals_the_plain_number(pipeline, scheduler):
    pipe = pipeline(getattr(diffusers, scheduler)())
    with scheduled_scale(pipe, kdist.Constant(3.0)) as scale:
        ours = run(pipe, scale)
    assert torch.equal(ours, run(pipe, 3.0))


def test_flow_pipeline_with_true_cfg():
    """Qwen-Image's formula, network told the timestep as a fraction: the scale of each level of the flow."""

    class Network(torch.nn.Module):
        def forward(self, hidden_states, timestep):
            return hidden_states

    class Pipe:
        transformer, scheduler = Network(), diffusers.FlowMatchEulerDiscreteScheduler()

        def __call__(self, true_cfg_scale):
            self.scheduler.set_timesteps(5)
            found = []
            for t in self.scheduler.timesteps:
                cond = self.transformer(hidden_states=torch.ones(1), timestep=t.expand(1) / 1000)
                uncond = self.transformer(hidden_states=torch.zeros(1), timestep=t.expand(1) / 1000)
                found.append(float(uncond + true_cfg_scale * (cond - uncond)))
                self.scheduler.step(torch.zeros(1), t, torch.zeros(1))
            return found

    pipe, late = Pipe(), kdist.LateNegative(3.0, 1.0)
    with scheduled_scale(pipe, late) as scale:
        found = pipe(scale)
    expected = [late(min(float(s / (1 - s)), 1e4)) for s in pipe.scheduler.sigmas[:-1].double()]
    assert found == expected
    assert set(found) == {3.0, 0.0}


def test_tensors_on_the_left_do_not_take_the_plain_number(pipeline):
    pipe = pipeline(diffusers.EulerDiscreteScheduler())
    with scheduled_scale(pipe, kdist.Constant(3.0)) as scale:
        run(pipe, scale)
        assert torch.equal(torch.ones(2) * scale, torch.full((2,), 3.0))
        with pytest.raises(TypeError):
            torch.ones(2) + scale


def test_bad_input(pipeline):
    pipe = pipeline(diffusers.EulerDiscreteScheduler())
    with pytest.raises(RuntimeError, match="never multiplied"), scheduled_scale(pipe, SCHEDULE):
        run(pipe, 3.0)
    with pytest.raises(TypeError, match="unet or transformer"), scheduled_scale(torch.nn.Linear(1, 1), SCHEDULE):
        pass
    with pytest.raises(ValueError, match=r"kdist\.guide"), scheduled_scale(pipe, kdist.PerClass({0: 1.0})):
        pass
    with scheduled_scale(pipe, SCHEDULE) as scale, pytest.raises(RuntimeError, match="belongs to one pipeline's run"):
        scale * torch.ones(1)
