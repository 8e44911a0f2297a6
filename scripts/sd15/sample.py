"""The latent-diffusion experiment of arXiv 2602.00716: Stable Diffusion 1.5, Euler ancestral, 30 steps.

    python -m scripts.sd15.sample MODEL --out runs/sd15 --plan  # the time, memory and disk it will need, nothing else
    python -m scripts.sd15.sample MODEL --out runs/sd15 --clip CLIP \\
        --features clip=ViT-B-32.pt --features inception=inception-2015-12-05.pt

MODEL is a local diffusers folder (``model_index.json`` in it). 50 prompts x 20 samples, guided strongly and then at
scale 0 after 50, 60 or 70 % of the steps, in a window from 50 to 70 %, at a constant scale, inside an interval, at
scale 0 for the first 30 % and then strongly, and not at all (scale 1), which is what the others are compared with.
Every image has a seed of its own, the same under every schedule; it decides the first noise and that of every step.
Images that are there already are not made again.

Images: ``OUT/images/SCHEDULE/PROMPT/SAMPLE.png``. Results: ``OUT/results.json`` (scripts/sd15/measure.py).
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import kdist
from kdist.compat import import_k_diffusion
from kdist.evals.features.alignment import load_clip, read_prompts
from kdist.evals.features.extractor import resolve_device
from kdist.files import write_atomically
from scripts.sd15.measure import REFERENCE, load_extractors, measure_run

K = import_k_diffusion()  # also mends torchvision, which diffusers imports

from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionPipeline  # noqa: E402

from kdist.adapters.diffusers import DiffusersDenoiser, encode_prompts, scheduler_sigmas  # noqa: E402

DTYPES = ("float32", "float16", "bfloat16")
PROMPTS = Path(__file__).with_name("prompts.txt")
# Kynkäänniemi et al. 2024 (arXiv 2404.07724), their interval for Stable Diffusion XL
INTERVAL = (0.28, 5.42)


def protocol(scale: float, sigmas: torch.Tensor) -> dict[str, kdist.Schedule]:
    """The experiment's schedules over these noise levels."""

    def at(progress: float) -> float:
        return kdist.progress_to_sigma(progress, sigmas)

    return {
        REFERENCE: kdist.Constant(1.0),
        "constant": kdist.Constant(scale),
        "interval": kdist.Interval(scale, *INTERVAL),
        "late-50": kdist.LateNegative(scale, at(0.5)),
        "late-60": kdist.LateNegative(scale, at(0.6)),
        "late-70": kdist.LateNegative(scale, at(0.7)),
        "window-50-70": kdist.NegativeWindow(scale, sigma_lo=at(0.7), sigma_hi=at(0.5)),
        "early-30": kdist.EarlyNegative(scale, at(0.3)),  # not the paper's: what won on smaller networks
    }


@dataclass(frozen=True)
class Run:
    """Everything that decides an image, except which schedule, prompt and sample it is of.

    Attributes:
        pipe: the loaded pipeline.
        denoiser: its network for k-diffusion.
        sigmas: (steps + 1,) noise levels.
        tokens: (prompts, L, D) embeddings of the prompts.
        no_tokens: (1, L, D) embeddings of the empty prompt.
        seed: the run's seed.
        out: the folder.
    """

    pipe: Any
    denoiser: DiffusersDenoiser
    sigmas: torch.Tensor
    tokens: torch.Tensor
    no_tokens: torch.Tensor
    seed: int
    out: Path

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        size = self.pipe.unet.config.sample_size
        return self.pipe.unet.config.in_channels, size, size

    def path(self, schedule: str, prompt: int, sample: int) -> Path:
        return self.out / "images" / schedule / f"{prompt:03d}" / f"{sample:03d}.png"

    def guided(self, schedule: kdist.Schedule) -> kdist.GuidedDenoiser:
        return kdist.guide(self.denoiser, schedule, uncond={"encoder_hidden_states": self.no_tokens})

    @torch.no_grad()
    def images(self, guided: Callable[..., torch.Tensor], prompt: int, samples: Sequence[int]) -> np.ndarray:
        """(n, H, W, 3) uint8 pictures of a prompt."""
        seeds = [np.random.SeedSequence([self.seed, prompt, sample]) for sample in samples]
        generators = [torch.Generator().manual_seed(int(s.generate_state(1, np.uint64)[0]) >> 1) for s in seeds]
        device = self.sigmas.device

        def noise(*_: Any) -> torch.Tensor:
            # on the CPU and image by image: the same whatever the batch and the device
            return torch.stack([torch.randn(self.latent_shape, generator=g) for g in generators]).to(device)

        tokens = self.tokens[prompt].expand(len(samples), -1, -1)
        latents = K.sampling.sample_euler_ancestral(
            guided,
            noise() * self.sigmas[0],
            self.sigmas,
            extra_args={"encoder_hidden_states": tokens},
            noise_sampler=noise,
            disable=True,
        )
        if not latents.isfinite().all():
            raise FloatingPointError(f"prompt {prompt}: latents are not finite; try --dtype float32")
        vae = self.pipe.vae
        pictures = vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor).sample.float()
        pictures = (pictures * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        return pictures.permute(0, 2, 3, 1).cpu().numpy()


def load(model: Path, prompts: Sequence[str], out: Path, *, steps: int, seed: int, device: str, dtype: str) -> Run:
    """The pipeline and the encoded prompts.

    Raises:
        FileNotFoundError: no diffusers folder there.
        ValueError: no such device or number format.
    """
    if not (model / "model_index.json").is_file():
        raise FileNotFoundError(f"no diffusers model at {model}: a folder with model_index.json is needed")
    place = resolve_device(device)
    dtype = ("float16" if place.type == "cuda" else "float32") if dtype == "auto" else dtype
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be auto, {', '.join(DTYPES)}; got {dtype!r}")
    pipe = StableDiffusionPipeline.from_pretrained(
        model,
        local_files_only=True,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(place)
    if dtype != "float32":
        pipe.to(getattr(torch, dtype))
    pipe.set_progress_bar_config(disable=True)
    scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    cond, uncond = encode_prompts(pipe, prompts)
    return Run(
        pipe=pipe,
        denoiser=DiffusersDenoiser(pipe.unet, scheduler).to(place),
        sigmas=scheduler_sigmas(scheduler, steps).to(place),
        tokens=cond["encoder_hidden_states"],
        no_tokens=uncond["encoder_hidden_states"][:1],
        seed=seed,
        out=out,
    )


def choose_schedules(wanted: Sequence[str], own: dict[str, kdist.Schedule]) -> dict[str, kdist.Schedule]:
    """The protocol's schedules by name, or ``NAME=SPEC`` for others; none given is all. The reference is always in.

    Raises:
        ValueError: an unknown name, or a schedule that cannot be read.
    """
    chosen = {REFERENCE: own[REFERENCE]}
    for text in wanted or own:
        name, equals, spec = text.partition("=")
        if not equals and name not in own:
            raise ValueError(f"unknown schedule {name!r}: one of {', '.join(own)}, or NAME=SPEC such as mine=4")
        if equals and (not name or name in own or "/" in name):
            raise ValueError(f"{text!r}: give a new schedule a name of its own, without a slash")
        chosen[name] = kdist.parse(spec) if equals else own[name]
    return chosen


def claim(out: Path, settings: dict[str, Any], schedules: dict[str, kdist.Schedule]) -> None:
    """Write down what the folder's images are made with; raise ValueError where some were made with other settings."""
    settings = {**settings, "schedules": {name: schedule.to_dict() for name, schedule in schedules.items()}}
    path = out / "settings.json"
    if path.is_file():
        before = json.loads(path.read_text())
        settings["schedules"] = {**before["schedules"], **settings["schedules"]}
        changed = [name for name in before if name != "schedules" and before[name] != settings.get(name)]
        changed += [f"schedule {name}" for name, s in before["schedules"].items() if s != settings["schedules"][name]]
        if changed:
            raise ValueError(f"{out} holds images made with other settings ({', '.join(changed)}): give another --out")
    write_atomically(path, (json.dumps(settings, indent=1) + "\n").encode())


def png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def plain_calls(run: Run) -> int:
    """Network calls per image of guidance at a constant scale."""
    return 2 * (len(run.sigmas) - 1)


def missing(run: Run, schedule: str, samples: int, batch: int) -> Iterator[tuple[int, list[int]]]:
    """Batches of ``(prompt, samples)`` that are not on disk yet."""
    for prompt in range(len(run.tokens)):
        todo = [sample for sample in range(samples) if not run.path(schedule, prompt, sample).is_file()]
        for start in range(0, len(todo), batch):
            yield prompt, todo[start : start + batch]


def plan(run: Run, schedules: dict[str, kdist.Schedule], samples: int, batch: int, console: Console) -> None:
    """Print what is left to do and what it takes, from timed network calls and one decoded batch."""
    sigmas = run.sigmas.cpu()
    calls = {name: schedule.nfe(sigmas) for name, schedule in schedules.items()}
    todo = {name: sum(len(b) for _, b in missing(run, name, samples, batch)) for name in schedules}
    guided = run.guided(kdist.Constant(2.0))
    few = replace(run, sigmas=run.sigmas[-4:])  # 3 guided steps: 6 rows of the network per image
    timings = []
    for _ in range(2):  # the first one warms up
        start = time.perf_counter()
        pictures = few.images(guided, 0, range(batch))
        timings.append(time.perf_counter() - start)
    x = torch.zeros(batch, *run.latent_shape, device=run.sigmas.device)
    tokens = run.tokens[0].expand(batch, -1, -1)
    start = time.perf_counter()
    with torch.no_grad():
        guided(x, run.sigmas[:1].expand(batch), encoder_hidden_states=tokens).sum().item()
    per_row = (time.perf_counter() - start) / (2 * batch)
    decoding = max(0.0, timings[-1] / batch - 6 * per_row)
    seconds = {name: todo[name] * (calls[name] * per_row + decoding) for name in schedules}

    full = plain_calls(run)
    table = Table(title=f"{len(sigmas) - 1} steps, {len(run.tokens)} prompts x {samples} samples, batches of {batch}")
    for column in ("schedule", "calls per image", "saved", "images left", "minutes"):
        table.add_column(column, justify="left" if column == "schedule" else "right")
    for name in schedules:
        saved = f"{1 - calls[name] / full:.0%}"
        table.add_row(name, f"{calls[name]:g}", saved, str(todo[name]), f"{seconds[name] / 60:.1f}")
    table.add_section()
    table.add_row("together", "", "", str(sum(todo.values())), f"{sum(seconds.values()) / 60:.1f}")
    console.print(table)
    if run.sigmas.is_cuda:
        memory = f"{torch.cuda.max_memory_allocated(run.sigmas.device) / 2**30:.1f} GiB of GPU memory"
    else:
        import resource  # there only on Unix

        memory = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB of memory (at its peak so far)"
    disk = sum(todo.values()) * np.mean([len(png(picture)) for picture in pictures]) / 2**30
    console.print(f"needs {memory} and about {disk:.2f} GiB of disk; smaller --batch, less memory")


def sample(run: Run, schedules: dict[str, kdist.Schedule], samples: int, batch: int, console: Console) -> None:
    """Make the images that are not there, and say what each schedule's network calls were."""
    columns = (TextColumn("{task.description:14}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    full = plain_calls(run)
    with Progress(*columns, console=console) as progress:
        for name, schedule in schedules.items():
            batches = list(missing(run, name, samples, batch))
            if not batches:
                continue
            task = progress.add_task(name, total=sum(len(b) for _, b in batches))
            expected = schedule.nfe(run.sigmas.cpu())
            for prompt, todo in batches:
                guided = run.guided(schedule)
                for index, picture in zip(todo, run.images(guided, prompt, todo), strict=True):
                    write_atomically(run.path(name, prompt, index), png(picture))
                if guided.nfe != expected:
                    raise RuntimeError(f"{name}: {guided.nfe} network calls per image, {expected} were predicted")
                progress.advance(task, len(todo))
            saved = f"{full - expected:g} of {full} network calls per image saved ({1 - expected / full:.0%})"
            progress.console.print(f"{name}: {saved}")


def fingerprint(model: Path) -> str:
    """Tells models apart by their files' names and sizes (hashing gigabytes would take minutes)."""
    files = sorted(p for p in model.rglob("*") if p.is_file())
    listing = "\n".join(f"{p.relative_to(model)} {p.stat().st_size}" for p in files)
    return hashlib.sha256(listing.encode()).hexdigest()[:16]


def main(
    model: Annotated[Path, typer.Argument(help="Local diffusers folder of Stable Diffusion 1.5.")],
    out: Annotated[Path, typer.Option(help="Where images and results go; a folder with some is continued.")],
    prompts: Annotated[Path, typer.Option(help="Text file, one prompt per line.")] = PROMPTS,
    samples: Annotated[int, typer.Option(min=2, help="Images per prompt.")] = 20,
    steps: Annotated[int, typer.Option(min=2, help="Steps of Euler ancestral.")] = 30,
    scale: Annotated[float, typer.Option(help="The strong guidance scale (1 conditional).")] = 7.5,
    schedule: Annotated[list[str] | None, typer.Option(help="Only these: a name of the protocol or NAME=SPEC.")] = None,
    features: Annotated[list[str] | None, typer.Option(help="NAME[=WEIGHTS]: clip, inception, dinov2, pixels.")] = None,
    clip: Annotated[Path | None, typer.Option(help="Local transformers CLIP folder, for prompt alignment.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 4,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto (float16 on a GPU), float32, float16, bfloat16")] = "auto",
    plan_only: Annotated[bool, typer.Option("--plan", help="Say what it will need, and stop.")] = False,
) -> None:
    """Sample Stable Diffusion under the schedules of arXiv 2602.00716, and measure diversity and alignment."""
    console = Console()
    try:
        texts = read_prompts(prompts)
        run = load(model, texts, out, steps=steps, seed=seed, device=device, dtype=dtype)
        schedules = choose_schedules(schedule or (), protocol(scale, run.sigmas.cpu()))
        batch = min(batch, samples)
        plan(run, schedules, samples, batch, console)
        if plan_only:
            return
        settings = {"model": fingerprint(model), "prompts": texts, "steps": steps, "seed": seed}
        # before hours of sampling: are the weights there, and the right ones?
        extractors = load_extractors(features or ["pixels"], str(run.sigmas.device))
        judge = None if clip is None else load_clip(clip, str(run.sigmas.device))
        claim(out, {**settings, "dtype": str(run.pipe.unet.dtype)}, schedules)
    except (ImportError, OSError, ValueError) as error:
        console.print(f"[red]error:[/red] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(2) from None
    sample(run, schedules, samples, batch, console)
    calls = {name: entry.nfe(run.sigmas.cpu()) for name, entry in schedules.items()}
    measure_run(
        out, calls, plain_calls(run), texts, samples=samples, extractors=extractors, clip=judge, console=console
    )


if __name__ == "__main__":
    typer.run(main)
