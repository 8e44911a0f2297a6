"""Train the shipped digits model: a class-conditional k-diffusion transformer on scikit-learn's 8x8 digits.

    python -m scripts.training.digits --out runs/digits             # resumes where it stopped
    python -m scripts.training.digits --out runs/digits --export kdist/digits/model.safetensors --export-step 4000

Every ``--eval-every`` steps the averaged weights are sampled without guidance (dpmpp_2m, 20 steps) and judged:
held-out loss, accuracy of a classifier fitted to real digits, mean trace ratio, distance to the nearest training image
relative to what held-out images have. The log is ``OUT/log.jsonl``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from kdist import digits
from kdist.compat import import_k_diffusion
from scripts.training.loop import cosine, labelled, train
from scripts.training.run_folder import export


def make_config(width: int, depth: int, d_ff: int, dropout: float, steps: int) -> dict[str, Any]:
    """The run in k-diffusion's own config format (its tools read it from the exported file)."""
    return {
        "model": {
            "type": "image_transformer_v1",
            "input_channels": 1,
            "input_size": [8, 8],
            "patch_size": [2, 2],
            "width": width,
            "depth": depth,
            "d_ff": d_ff,
            "dropout_rate": dropout,
            "sigma_data": 0.75,
            "sigma_min": digits.SIGMA_MIN,
            "sigma_max": digits.SIGMA_MAX,
            "sigma_sample_density": {"type": "lognormal", "mean": 0.1, "std": 1.6},
        },
        "dataset": {"type": "sklearn-digits", "num_classes": digits.NUM_CLASSES, "cond_dropout_rate": 0.15},
        "optimizer": {"type": "adamw", "lr": 1e-3, "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 1e-2},
        "lr_sched": {"type": "cosine", "warmup_steps": 500, "steps": steps},
    }


@torch.no_grad()
def judge(model: Any, per_class: int) -> dict[str, float]:
    """Held-out loss, and unguided samples against the real images."""
    from sklearn.linear_model import LogisticRegression

    train_x, train_y = digits.load_data("train")
    held_x, held_y = digits.load_data("held_out")
    classifier = LogisticRegression(C=0.1, max_iter=2000).fit(train_x.flatten(1), train_y)
    labels = torch.arange(digits.NUM_CLASSES).repeat_interleave(per_class)
    generator = torch.Generator().manual_seed(1234)
    x = torch.randn(len(labels), 1, 8, 8, generator=generator) * digits.SIGMA_MAX
    sampler = import_k_diffusion().sampling.sample_dpmpp_2m
    samples = sampler(model, x, digits.sigmas(20), extra_args={"class_cond": labels}, disable=True).flatten(1)
    real_x, real_y = digits.load_data("all")

    def trace(x: torch.Tensor, y: torch.Tensor, label: int) -> float:
        return float(x[y == label].flatten(1).var(0).sum())

    ratios = [trace(samples, labels, c) / trace(real_x, real_y, c) for c in range(digits.NUM_CLASSES)]
    nearest = torch.cdist(samples, train_x.flatten(1)).min(1).values.median()
    nearest_real = torch.cdist(held_x.flatten(1), train_x.flatten(1)).min(1).values.median()
    return {
        "held_out_loss": held_out_loss(model),
        "accuracy": float(classifier.score(samples, labels)),
        "accuracy_real": float(classifier.score(held_x.flatten(1), held_y)),
        "trace_ratio": sum(ratios) / len(ratios),
        "trace_ratio_min": min(ratios),
        "trace_ratio_max": max(ratios),
        "nearest_train_over_held_out": float(nearest / nearest_real),
    }


@torch.no_grad()
def held_out_loss(model: Any, draws: int = 8) -> float:
    """Denoising loss on images that were not trained on, the same noise at every call."""
    x, y = digits.load_data("held_out")
    generator = torch.Generator().manual_seed(0)
    total = 0.0
    for _ in range(draws):
        quantile = torch.rand(len(x), generator=generator).clamp(1e-4, 1 - 1e-4)
        sigma = torch.distributions.Normal(-0.4, 1.2).icdf(quantile).exp()
        noise = torch.randn(x.shape, generator=generator)
        total += float(model.loss(x, noise, sigma, class_cond=y).mean())
    return total / draws


def main(
    out: Annotated[Path, typer.Option(help="folder for checkpoints and the log; an interrupted run resumes")],
    steps: Annotated[int, typer.Option(help="optimizer steps")] = 8_000,
    batch_size: int = 96,
    width: int = 128,
    depth: int = 4,
    d_ff: int = 192,
    dropout: float = 0.0,
    ema_decay: float = 0.9995,
    eval_every: int = 500,
    eval_per_class: int = 60,
    seed: int = 0,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice")] = 0,
    export_to: Annotated[Path | None, typer.Option("--export", help="only write the trained weights here")] = None,
    export_step: Annotated[int | None, typer.Option(help="which step's weights  [default: the last]")] = None,
) -> None:
    """Train the digits model, or export a trained one."""
    if threads:
        torch.set_num_threads(threads)
    config = make_config(width, depth, d_ff, dropout, steps)
    schedule = config["lr_sched"]
    try:
        if export_to is not None:
            typer.echo(export(out, export_to, export_step))
            return
        train(
            out,
            config,
            labelled(
                *digits.load_data("train"),
                size=batch_size,
                uncond=digits.UNCOND,
                dropout=config["dataset"]["cond_dropout_rate"],
                condition=lambda classes: {"class_cond": classes},
            ),
            lambda model: judge(model, eval_per_class),
            steps=steps,
            rate=lambda step: cosine(step, warmup=schedule["warmup_steps"], steps=schedule["steps"]),
            ema_decay=ema_decay,
            eval_every=eval_every,
            keep_every=2 * eval_every,
            seed=seed,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


if __name__ == "__main__":
    typer.run(main)
