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

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from kdist.checkpoints import load_checkpoint
from scripts.glyphs import data as glyphs
from scripts.training import loop, run_folder

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
    *,
    width: int,
    depth: int,
    d_ff: int,
    patch: int,
    sets: Sequence[int] = glyphs.SETS,
    size: int = 16,
    lr: float = 1e-3,
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
        "optimizer": {"type": "adamw", "lr": lr, "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 1e-2},
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
    eval_every: int = 1000,
    seed: int = 0,
    device: str = "cpu",
    data: dict[str, Any] | None = None,
) -> None:
    """Train, or go on training, the run in ``out``.

    Args:
        out: the run's folder, see :func:`scripts.training.loop.train`.
        config: what :func:`make_config` gives.
        steps, batch_size: AdamW's; ``steps`` may differ on resuming.
        eval_every: steps between lines of the log.
        seed: decides everything drawn; a resumed run draws what an uninterrupted one would.
        device: torch's.
        data: options of ``glyphs.load``.

    Raises:
        ValueError: ``out`` holds a run with another config or a damaged checkpoint.
    """
    run_folder.check_settings(out, config)  # before the glyphs are drawn
    sets, size = config["dataset"]["sets"], config["model"]["input_size"][0]
    options = {"classes": max(sets), "size": size, **(data or {})}
    sampler = Sampler(glyphs.load("train", **options), sets)
    held_out = Sampler(glyphs.load("held_out", **options), sets)

    def batch(generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        x, tokens = sampler.draw(batch_size, generator)
        return x, {"class_cond": tokens}

    loop.train(
        out,
        config,
        batch,
        lambda model: held_out_losses(model, held_out, device),
        steps=steps,
        rate=lambda step: loop.trapezoid(step, warmup=500, steps=steps),
        ema_decay=0.999,
        eval_every=eval_every,
        keep_every=0,
        seed=seed,
        device=device,
        # as fast as the rest: every token speaks through the mapping network alone
        group_options={"mapping_lr_scale": 1.0},
    )


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
            typer.echo(run_folder.export(out, export_to))
            return
        config = make_config(**chosen, sets=[int(part) for part in sets.split(",")], size=size, lr=lr)
        train(
            out,
            config,
            steps=steps or preset_steps,
            batch_size=batch_size,
            eval_every=eval_every,
            seed=seed,
            device=device,
        )
    except (ValueError, FileNotFoundError) as error:
        raise typer.BadParameter(str(error)) from error


if __name__ == "__main__":
    typer.run(main)
