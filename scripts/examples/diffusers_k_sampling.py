"""A Stable Diffusion or SDXL network from diffusers under k-diffusion's solvers, with a schedule.

python scripts/examples/diffusers_k_sampling.py                           # a random network
python scripts/examples/diffusers_k_sampling.py MODEL_FOLDER "a red dog"  # writes images 0.png, 1.png, ...
"""

from __future__ import annotations

import sys

from kdist.compat import import_k_diffusion

K = import_k_diffusion()  # also mends torchvision, which diffusers imports

import torch  # noqa: E402
from diffusers import DDIMScheduler, DiffusionPipeline  # noqa: E402

import kdist  # noqa: E402
from kdist.adapters.diffusers import DiffusersDenoiser, encode_prompts  # noqa: E402


def main(folder: str | None = None, prompt: str = "a red dog") -> None:
    if folder is None:
        from tiny_models import stable_diffusion

        levels = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
        pipe = stable_diffusion(DDIMScheduler(**levels, steps_offset=1, clip_sample=False))
    else:
        pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
        if torch.cuda.is_available():
            pipe.to("cuda", torch.float16)

    denoiser = DiffusersDenoiser(pipe.unet, pipe.scheduler).to(pipe.device)
    cond, uncond = encode_prompts(pipe, [prompt] * 2, negative_prompt="")
    sigmas = denoiser.get_sigmas(20)
    schedule = kdist.LateNegative(scale=7.5, sigma_switch=kdist.progress_to_sigma(0.6, sigmas))
    guided = kdist.guide(denoiser, schedule, uncond=uncond)

    size = pipe.unet.config.sample_size
    noise = torch.randn(2, 4, size, size, generator=torch.Generator().manual_seed(0)).to(pipe.device)
    with torch.no_grad():
        latents = K.sampling.sample_dpmpp_2m(guided, noise * sigmas[0], sigmas, extra_args=cond, disable=True)
        pictures = pipe.vae.decode(latents.to(pipe.vae.dtype) / pipe.vae.config.scaling_factor).sample
    print(f"{guided.nfe} network calls per image (predicted {schedule.nfe(sigmas, 'dpmpp_2m')}), constant scale: 40")
    images = pipe.image_processor.postprocess(pictures)
    if folder is None:
        print(f"images of {images[0].size} pixels from a random network; nothing to look at")
    else:
        for index, image in enumerate(images):
            image.save(f"{index}.png")


if __name__ == "__main__":
    main(*sys.argv[1:3])
