"""A window of noise levels in a diffusers modular pipeline, right under a second-order scheduler too.

    python scripts/examples/diffusers_guider.py                 # a random network, to see what runs when
    python scripts/examples/diffusers_guider.py SDXL_FOLDER     # a local SDXL; writes guided.png

Prints the noise levels at which each guider ran both passes, "first half of the steps" being what was asked for.
"""

from __future__ import annotations

import sys

from kdist.compat import repair_torchvision

repair_torchvision()  # diffusers imports torchvision, which fails beside a CPU build of torch

import torch  # noqa: E402
from diffusers import ClassifierFreeGuidance, HeunDiscreteScheduler, ModularPipeline  # noqa: E402
from diffusers.modular_pipelines import StableDiffusionXLAutoBlocks  # noqa: E402

import kdist  # noqa: E402
from kdist.adapters.diffusers import ScheduleGuidance, scheduler_sigmas, sigma_of_timestep  # noqa: E402

STEPS = 10


def load(folder: str | None) -> ModularPipeline:
    if folder is None:
        from tiny_models import sdxl_components

        pipe = StableDiffusionXLAutoBlocks().init_pipeline()
        pipe.update_components(**sdxl_components(HeunDiscreteScheduler()))
        return pipe
    pipe = ModularPipeline.from_pretrained(folder, local_files_only=True)
    pipe.load_components()
    pipe.update_components(scheduler=HeunDiscreteScheduler.from_config(pipe.scheduler.config))
    return pipe.to("cuda", torch.float16) if torch.cuda.is_available() else pipe


def main(folder: str | None = None) -> None:
    pipe = load(folder)
    pipe.set_progress_bar_config(disable=True)
    sigmas = scheduler_sigmas(pipe.scheduler, STEPS)
    half = kdist.progress_to_sigma(0.5, sigmas)
    schedule = kdist.LateNegative(scale=7.5, sigma_switch=half, late=1.0)
    print(f"first half of {STEPS} Heun steps: sigma {float(sigmas[0]):.2f} down to {half:.2f}")

    called: list[float] = []
    pipe.unet.register_forward_pre_hook(lambda _, args: called.append(float(args[1])))
    guiders = {
        "built-in, stop=0.5": ClassifierFreeGuidance(guidance_scale=7.5, stop=0.5),
        "kdist schedule": ScheduleGuidance(schedule, scheduler=pipe.scheduler),
    }
    for name, guider in guiders.items():
        called.clear()
        pipe.update_components(guider=guider)
        image = pipe(
            prompt="a red dog",
            negative_prompt="",
            num_inference_steps=STEPS,
            generator=torch.Generator().manual_seed(0),
            output="images",
        )[0]
        iterations = 2 * STEPS - 1
        # a level is asked once or twice (Heun's correction); guided, twice as often
        counts = {float(t): (pipe.scheduler.timesteps == t).sum().item() for t in pipe.scheduler.timesteps}
        guided = [sigma_of_timestep(pipe.scheduler, t) for t, count in counts.items() if called.count(t) > count]
        print(f"{name}: {len(called)} network calls in {iterations} iterations, guided down to sigma {min(guided):.2f}")
    if folder is not None:
        image.save("guided.png")


if __name__ == "__main__":
    main(*sys.argv[1:2])
