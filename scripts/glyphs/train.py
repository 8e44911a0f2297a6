"""Train the glyph model: one class-conditional k-diffusion network with a null token for every nested set of classes.

    python -m scripts.glyphs.train --out runs/glyphs/cpu                      # resumes where it stopped
    python -m scripts.glyphs.train --out runs/glyphs/gpu --preset gpu --device cuda
    python -m scripts.glyphs.train --out runs/glyphs/cpu --export docs/data/glyphs.safetensors

Tokens (``class_cond``): 0..P-1 are the classes, P the largest set; P + k is the null token of the k-th set of
``glyphs.SETS``. A null token is only ever shown with images of its own set, classes drawn uniformly from it, so that it
stands for "any of these 8 (32, ...) characters". The conditional branch is the same for all sets: exchanging the null
token changes the number of competing classes and nothing else.

What is drawn: 0.6 of the images carry a null token, the others their class. Either way first one of the sets is drawn,
then a class uniformly from it, then one of the class's images. For null tokens the sets are equally likely, so that all
null tokens are trained equally often; for class tokens the k-th set has weight 1/k, so that the classes of the smallest
set, which the measurement is about, are trained most (each of the first eight is 2.5 % of everything).

The log is ``OUT/log.jsonl``: losses of the EMA weights on held-out images, for every null token and for the classes of
every set, the same noise each time.
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file

from kdist.checkpoints import load_checkpoint, make_denoiser
from kdist.compat import import_k_diffusion
from kdist.files import written_atomically
from scripts.glyphs import data as glyphs
from scripts.training.loop import append_record, load_state, save_state, trapezoid

__all__ = ["PRESETS", "SIGMA_MAX", "SIGMA_MIN", "Sampler", "load_model", "make_config", "null_token", "train"]

SIGMA_MIN, SIGMA_MAX = 0.02, 80.0
# "cpu" takes about an hour of one core; "gpu" was not run
PRESETS: dict[str, dict[str, int]] = {
    "cpu": {"width": 128, "depth": 4, "d_ff": 256, "patch": 4, "batch_size": 96, "steps": 23_000},
    "gpu": {"width": 384, "depth": 8, "d_ff": 1024, "patch": 2, "batch_size": 512, "steps": 100_000},
}


def null_token(classes: int, sets: Sequence[int] = glyphs.SETS) -> int:
    """The ``class_cond`` that means "any of the first ``classes`` classes".

    Raises:
        ValueError: no such set.
    """
    if classes not in sets:
        raise ValueError(f"classes must be one of the nested sets {', '.join(map(str, sets))}; got {classes}")
    return max(sets) + list(sets).index(classes)


def make_config(
    *, width: int, depth: int, d_ff: int, patch: int, sets: Sequence[int] = glyphs.SETS, size: int = 16
) -> dict[str, Any]:
    """Network and vocabulary in k-diffusion's config format, which its own tools read from the exported file."""
    if list(sets) != sorted(set(sets)) or min(sets) < 2:
        raise ValueError(f"sets must be increasing numbers of classes, at least 2; got {tuple(sets)}")
    if size % patch or width % 64:
        raise ValueError(f"size must be a multiple of patch, and width of 64; got {size}, {patch} and {width}")
    characters = glyphs.class_characters(size)
    if max(sets) > len(characters):
        raise ValueError(f"sets ask for {max(sets)} classes, but there are {len(characters)} glyphs at {size} pixels")
    return {
        "model": {
            "type": "image_transformer_v1",
            "input_channels": 1,
            "input_size": [size, size],
            "patch_size": [patch, patch],
            "width": width,
            "depth": depth,
            "d_ff": d_ff,
            "sigma_data": 0.6,
            "sigma_min": SIGMA_MIN,
            "sigma_max": SIGMA_MAX,
            "sigma_sample_density": {"type": "lognormal", "mean": 0.3, "std": 1.2},
        },
        "dataset": {
            "type": "glyphs",
            "num_classes": max(sets) + len(sets) - 1,  # k-diffusion adds one
            "sets": list(sets),
            "characters": hashlib.sha256("".join(characters[: max(sets)]).encode()).hexdigest()[:16],
        },
    }


def load_model(path: Path, *, device: str | torch.device = "cpu") -> Any:
    """The trained denoiser, in eval mode, with its nested sets as ``model.sets``.

    Args:
        path: what ``--export`` or a run (``ema.safetensors``) wrote.
        device: where to put it.

    Raises:
        FileNotFoundError: nothing at ``path``.
        ValueError: not such a file, or trained on another vocabulary than the fonts at hand give.
    """
    model = load_checkpoint(path, device=device)
    if model.config["dataset"].get("type") != "glyphs":
        raise ValueError(f"{path} holds no glyph model")
    check_vocabulary(model.config, path)
    model.sets = tuple(model.config["dataset"]["sets"])
    return model


def check_vocabulary(config: dict[str, Any], path: Path) -> None:
    """Classes are positions in the order of the characters: other fonts, other sizes mean other classes.

    Raises:
        ValueError: ``config`` is of another vocabulary.
    """
    sets, size = config["dataset"]["sets"], config["model"]["input_size"][0]
    found = hashlib.sha256("".join(glyphs.class_characters(size)[: max(sets)]).encode()).hexdigest()[:16]
    if found != config["dataset"]["characters"]:
        raise ValueError(
            f"{path} was trained on another vocabulary (characters {config['dataset']['characters']}, here {found} for "
            f"the first {max(sets)} at {size} pixels): its classes mean other characters. Use the fonts it was trained "
            "with, or train anew"
        )


class Sampler:
    """Draws (images, tokens) as the header says; ``sets`` are increasing, ``data.labels`` sorted."""

    def __init__(self, data: glyphs.Glyphs, sets: Sequence[int]) -> None:
        self.images = data.images
        self.sets = torch.tensor(sets)
        self.counts = torch.bincount(data.labels, minlength=max(sets))
        self.starts = self.counts.cumsum(0) - self.counts  # labels are sorted

    def rows(self, classes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """A random image's row for each of ``classes``."""
        share = torch.rand(len(classes), generator=generator, dtype=torch.float64)
        return self.starts[classes] + (share * self.counts[classes]).long()

    def draw(self, number: int, generator: torch.Generator, null: float = 0.6) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (number, 1, size, size) in [-1, 1] and tokens (number,), a share ``null`` of them null tokens."""
        is_null = torch.rand(number, generator=generator) < null
        harmonic = 1 / torch.arange(1, len(self.sets) + 1)
        weights = torch.where(is_null[:, None], torch.ones_like(harmonic), harmonic)
        which = torch.multinomial(weights, 1, generator=generator).squeeze(1)
        share = torch.rand(number, generator=generator, dtype=torch.float64)
        classes = (share * self.sets[which]).long()
        rows = self.rows(classes, generator)
        tokens = torch.where(is_null, self.sets.max() + which, classes)
        return glyphs.to_model(self.images[rows]), tokens


@torch.no_grad()
def held_out_losses(model: Any, sampler: Sampler, device: str, images: int = 384) -> dict[str, float]:
    """Denoising loss on held-out images per token: null token and class tokens of every set, same noise each time."""
    losses = {}
    for index, classes in enumerate(sampler.sets.tolist()):
        generator = torch.Generator().manual_seed(index)
        labels = (
            torch.arange(images) * classes // images
            if classes <= images
            else torch.randperm(classes, generator=generator)[:images]
        )
        x = glyphs.to_model(sampler.images[sampler.rows(labels, generator)])
        noise = torch.randn(x.shape, generator=generator)
        quantiles = (torch.randperm(images, generator=generator) + 0.5) / images
        sigma = torch.distributions.Normal(0.0, 1.5).icdf(quantiles).exp()
        for name, tokens in (("null", torch.full_like(labels, int(sampler.sets.max()) + index)), ("class", labels)):
            inputs = [tensor.to(device) for tensor in (x, noise, sigma, tokens)]
            losses[f"{name}_{classes}"] = float(model.loss(*inputs[:3], class_cond=inputs[3]).mean())
    return losses


def train(
    out: Path,
    config: dict[str, Any],
    *,
    steps: int,
    batch_size: int,
    lr: float = 1e-3,
    warmup: int = 500,
    ema_decay: float = 0.999,
    eval_every: int = 1000,
    save_seconds: float = 300.0,
    seed: int = 0,
    device: str = "cpu",
    data: dict[str, Any] | None = None,
) -> None:
    """Train, or go on training, the run in ``out``.

    Args:
        out: folder of ``config.json``, ``checkpoint.pt``, ``ema.safetensors`` and ``log.jsonl``.
        config: see :func:`make_config`.
        steps, batch_size, lr, warmup, ema_decay: of AdamW and the moving average; ``steps`` may differ on resuming.
        eval_every: steps between lines of the log.
        save_seconds: time between checkpoints (there is one with every line of the log besides).
        seed: of everything drawn; a resumed run draws what an uninterrupted one would.
        device: torch's.
        data: options of ``glyphs.load``.

    Raises:
        ValueError: ``out`` holds a run with another config or a damaged checkpoint.
    """
    K = import_k_diffusion()
    config_file, log = out / "config.json", out / "log.jsonl"
    if config_file.exists() and json.loads(config_file.read_text()) != config:
        raise ValueError(
            f"{out} holds a run with another network or vocabulary (see {config_file}); choose another folder, or the "
            "same settings to resume it"
        )
    torch.manual_seed(seed)
    model = make_denoiser(config).to(device)
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    # as fast as the rest: every token speaks through the mapping network alone
    groups = model.inner_model.param_groups(lr, mapping_lr_scale=1.0)
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), eps=1e-8, weight_decay=1e-2)
    base_rates = [group["lr"] for group in optimizer.param_groups]
    parts = {"model": model, "ema": ema, "optimizer": optimizer}
    step = load_state(out / "checkpoint.pt", **parts)
    written_atomically(config_file, lambda path: path.write_text(json.dumps(config, indent=1)))

    sets, size = config["dataset"]["sets"], config["model"]["input_size"][0]
    options = {"classes": max(sets), "size": size, **(data or {})}
    sampler = Sampler(glyphs.load("train", **options), sets)
    held_out = Sampler(glyphs.load("held_out", **options), sets)
    density = K.config.make_sample_density(config["model"])

    def save() -> None:
        save_state(out / "checkpoint.pt", step, **parts)
        weights = {name: tensor.cpu().contiguous() for name, tensor in ema.inner_model.state_dict().items()}
        metadata = {"config": json.dumps(config)}
        written_atomically(out / "ema.safetensors", lambda path: save_file(weights, path, metadata=metadata))

    running, start = float("nan"), time.monotonic()
    saved = start
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task("", total=steps, completed=step)
        if step:
            progress.console.print(f"resuming at step {step}")
        while step < steps:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + step)  # resuming repeats nothing
            torch.manual_seed(seed * 1_000_003 + step)
            x, tokens = sampler.draw(batch_size, generator)
            noise = torch.randn(x.shape, generator=generator)
            for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
                group["lr"] = rate * trapezoid(step, warmup=warmup, steps=steps)
            inputs = [tensor.to(device) for tensor in (x, noise, density([batch_size]), tokens)]
            loss = model.loss(*inputs[:3], class_cond=inputs[3]).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            K.utils.ema_update(model, ema, min(ema_decay, (step + 1) / (step + 10)))
            running = loss.item() if running != running else 0.99 * running + 0.01 * loss.item()
            progress.update(task, advance=1, description=f"loss {running:.4f}")
            if step % eval_every == 0 or step == steps:
                record = {"step": step, "of": steps, "seconds": round(time.monotonic() - start, 1)}
                losses = {"train": running, **held_out_losses(ema, held_out, device)}
                append_record(log, record | {name: round(value, 5) for name, value in losses.items()})
                progress.console.print(f"step {step} " + " ".join(f"{k} {v:.4f}" for k, v in losses.items()))
            if step % eval_every == 0 or step == steps or time.monotonic() - saved > save_seconds:
                save()
                saved = time.monotonic()


def export(run: Path, target: Path) -> None:
    """The EMA weights in float16, the config in the metadata."""
    if not (run / "ema.safetensors").is_file():
        raise ValueError(f"{run} holds no trained weights yet")
    weights = {name: tensor.half().contiguous() for name, tensor in load_file(run / "ema.safetensors").items()}
    config = json.dumps(json.loads((run / "config.json").read_text()))
    written_atomically(target, lambda path: save_file(weights, path, metadata={"config": config}))
    typer.echo(f"{target}: {target.stat().st_size / 1e6:.2f} MB")


def main(
    out: Annotated[Path, typer.Option(help="folder for checkpoints and the log; an interrupted run resumes")],
    preset: Annotated[str, typer.Option(help=f"size of network and run: {', '.join(PRESETS)}")] = "cpu",
    steps: Annotated[int | None, typer.Option(help="optimizer steps; may differ when a run is resumed")] = None,
    sets: Annotated[str, typer.Option(help="nested sets of classes")] = ",".join(map(str, glyphs.SETS)),
    size: Annotated[int, typer.Option(help="pixels")] = 16,
    lr: float = 1e-3,
    eval_every: int = 1000,
    seed: int = 0,
    device: str = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice")] = 0,
    export_to: Annotated[Path | None, typer.Option("--export", help="only write the trained weights here")] = None,
) -> None:
    """Train the glyph model, or export a trained one."""
    if preset not in PRESETS:
        raise typer.BadParameter(f"preset must be one of {', '.join(PRESETS)}; got {preset}")
    if threads:
        torch.set_num_threads(threads)
    chosen = dict(PRESETS[preset])
    batch_size, preset_steps = chosen.pop("batch_size"), chosen.pop("steps")
    try:
        if export_to is not None:
            export(out, export_to)
            return
        config = make_config(**chosen, sets=[int(part) for part in sets.split(",")], size=size)
        train(
            out,
            config,
            steps=steps or preset_steps,
            batch_size=batch_size,
            lr=lr,
            eval_every=eval_every,
            seed=seed,
            device=device,
        )
    except (ValueError, FileNotFoundError) as error:
        raise typer.BadParameter(str(error)) from error


if __name__ == "__main__":
    typer.run(main)
