"""The guidance schedule for a Stable Diffusion network and your own prompts, by ``kdist.tune``.

    python scripts/examples/tune_diffusers.py                            # random networks, to see that it runs
    python scripts/examples/tune_diffusers.py MODEL_FOLDER CLIP_FOLDER   # writes tuned/report.html and schedule.json

There are no real images of a prompt: samples shall stay close to what the network draws without guidance (that is the
diversity of the prompt), while CLIP's alignment of image and prompt reaches what a constant scale of 5 gives.
"""

from __future__ import annotations

import sys
from typing import Any

from kdist.compat import import_k_diffusion

K = import_k_diffusion()  # also mends torchvision, which diffusers imports

import torch  # noqa: E402
from diffusers import DDIMScheduler, DiffusionPipeline  # noqa: E402
from transformers import CLIPModel, CLIPTokenizer  # noqa: E402

import kdist  # noqa: E402
from kdist.adapters.diffusers import DiffusersDenoiser, encode_prompts  # noqa: E402

BATCH = 8  # as many images at a time as the memory holds
PROMPTS = ["a red dog", "a house by the sea", "a bowl of soup", "an old man"]


def generator(pipe: Any, steps: int) -> Any:
    """``generate(schedule, prompts, seeds) -> images`` of a pipeline: that of docs/tuning.md."""
    denoiser = DiffusersDenoiser(pipe.unet, pipe.scheduler).to(pipe.device)
    sigmas, size = denoiser.get_sigmas(steps), pipe.unet.config.sample_size

    @torch.no_grad()
    def generate(schedule: kdist.Schedule, prompts: list[str], seeds: list[int]) -> torch.Tensor:
        images = []
        for n in range(0, len(seeds), BATCH):
            cond, uncond = encode_prompts(pipe, prompts[n : n + BATCH], negative_prompt="")
            generators = [torch.Generator().manual_seed(seed) for seed in seeds[n : n + BATCH]]
            noise = torch.stack([torch.randn(4, size, size, generator=own) for own in generators]).to(sigmas)
            guided = kdist.guide(denoiser, schedule, uncond=uncond)
            latents = K.sampling.sample_dpmpp_2m(guided, noise * sigmas[0], sigmas, extra_args=cond, disable=True)
            images.append(pipe.vae.decode(latents.to(pipe.vae.dtype) / pipe.vae.config.scaling_factor).sample)
        return torch.cat(images).float().clamp(-1, 1).cpu()

    return generate


class Clip:
    """Image embeddings, in which images are compared, and their cosine with the prompt's."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer, self.size = model.eval(), tokenizer, model.config.vision_config.image_size

    @torch.no_grad()
    def features(self, images: torch.Tensor) -> torch.Tensor:
        pixels = torch.nn.functional.interpolate(images, size=self.size, mode="bicubic", antialias=True).clamp(-1, 1)
        mean = torch.tensor([0.4815, 0.4578, 0.4082]).view(3, 1, 1)
        spread = torch.tensor([0.2686, 0.2613, 0.2758]).view(3, 1, 1)
        hidden = self.model.vision_model(pixel_values=((pixels + 1) / 2 - mean) / spread).pooler_output
        return torch.nn.functional.normalize(self.model.visual_projection(hidden), dim=1)

    @torch.no_grad()
    def align(self, images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        words = self.tokenizer(list(prompts), padding=True, truncation=True, return_tensors="pt")
        text = self.model.text_projection(self.model.text_model(**words).pooler_output)
        return (self.features(images) * torch.nn.functional.normalize(text, dim=1)).sum(1)


def load(folder: str | None, clip_folder: str | None) -> tuple[Any, Clip]:
    """The pipeline and CLIP; random ones without folders."""
    if folder is None or clip_folder is None:
        from tiny_models import clip, stable_diffusion, tokenizer

        levels = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
        return stable_diffusion(DDIMScheduler(**levels, steps_offset=1, clip_sample=False)), Clip(clip(), tokenizer())
    pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    if torch.cuda.is_available():
        pipe.to("cuda", torch.float16)
    tokens = CLIPTokenizer.from_pretrained(clip_folder, local_files_only=True)
    return pipe, Clip(CLIPModel.from_pretrained(clip_folder, local_files_only=True), tokens)


def main(folder: str | None = None, clip_folder: str | None = None, out: str | None = None) -> None:
    pipe, clip = load(folder, clip_folder)
    small = folder is None
    prompts, steps = (PROMPTS[:2], 4) if small else (PROMPTS, 20)
    generate = generator(pipe, steps)
    seeds = list(range(2 if small else 10))
    paired = [(prompt, seed) for prompt in prompts for seed in seeds]
    usual = generate(kdist.Constant(5.0), [p for p, _ in paired], [s for _, s in paired])
    wanted = float(clip.align(usual, [p for p, _ in paired]).mean())
    print(f"a constant scale of 5 gives an alignment of {wanted:.3f}")
    tuned = kdist.tune(
        generate,
        labels=prompts,
        features=clip.features,
        align=clip.align,
        alignment=wanted - (0.5 if small else 0.01),  # random networks align by chance
        calls=1_200 if small else 2 * steps * len(prompts) * 200,
        per_class=2 if small else 5,
        out=out or (None if small else "tuned"),
    )
    print(f"{tuned.schedule}\n{tuned.certified.verdict}")
    alignment = tuned.certified.tuned.values["alignment"]
    print(f"alignment {alignment.value:.3f} on {tuned.certified.samples} fresh samples; {tuned.calls} network calls")


if __name__ == "__main__":
    main(*sys.argv[1:3])
