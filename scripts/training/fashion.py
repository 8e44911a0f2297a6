"""Train the shipped Fashion-MNIST model: a class-conditional k-diffusion U-Net on the 60 000 training images.

    python -m scripts.training.fashion --out runs/fashion-0 --threads 1             # resumes where it stopped
    python -m scripts.training.fashion --out runs/fashion-0 --export kdist/fashion/model.safetensors

The learning rate is a trapezoid, so ``--steps`` may change when a run is resumed. Every ``--eval-every`` steps the
averaged weights are judged: the denoising loss on test images, with and without their class, the same noise each
time; and unguided samples (dpmpp_2m, 20 steps) by the shipped classifier and by their variance. The log is
``OUT/log.jsonl``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from kdist import fashion
from kdist.compat import import_k_diffusion
from scripts.training.loop import labelled, train, trapezoid
from scripts.training.run_folder import export


def make_config() -> dict[str, Any]:
    """The run in k-diffusion's own config format (its tools read it from the exported file)."""
    return {
        "model": {
            "type": "image_v1",
            "input_channels": 1,
            "input_size": [28, 28],
            "patch_size": 2,
            "mapping_out": 64,
            "mapping_cond_dim": fashion.NUM_CLASSES,
            "augment_wrapper": False,  # a mirrored shoe is no shoe of this data set
            "depths": [2, 2],
            "channels": [48, 80],
            "self_attn_depths": [False, True],
            "sigma_data": 0.7,
            "sigma_min": fashion.SIGMA_MIN,
            "sigma_max": fashion.SIGMA_MAX,
            "sigma_sample_density": {"type": "lognormal", "mean": -0.3, "std": 1.5},
        },
        "dataset": {"type": "fashion-mnist", "num_classes": fashion.NUM_CLASSES, "cond_dropout_rate": 0.15},
        "optimizer": {"type": "adamw", "lr": 1e-3, "betas": [0.9, 0.99], "eps": 1e-8, "weight_decay": 1e-2},
    }


class Judge:
    """What the log says of a denoiser: loss on test images, accuracy and variance of unguided samples."""

    def __init__(self, per_class: int, images: int = 512) -> None:
        self.per_class = per_class
        held_x, held_y = fashion.load_data("held_out")
        self.x, self.y = held_x[:images], held_y[:images]
        self.classifier = fashion.load_classifier()
        self.traces = torch.stack([held_x[held_y == c].flatten(1).var(0).sum() for c in range(fashion.NUM_CLASSES)])

    @torch.no_grad()
    def __call__(self, denoiser: Any) -> dict[str, float]:
        generator = torch.Generator().manual_seed(0)
        quantiles = (torch.randperm(len(self.x), generator=generator) + 0.5) / len(self.x)
        sigma = torch.distributions.Normal(-0.3, 1.5).icdf(quantiles).exp()
        noise = torch.randn(self.x.shape, generator=generator)
        cond = fashion.one_hot(self.y, fashion.NUM_CLASSES)
        losses = {
            name: float(denoiser.loss(self.x, noise, sigma, mapping_cond=given).mean())
            for name, given in (("held_out_loss", cond), ("held_out_loss_uncond", torch.zeros_like(cond)))
        }
        samples, labels = self.sample(fashion.ClassConditional(denoiser, fashion.NUM_CLASSES))
        traces = [samples[labels == c].flatten(1).var(0).sum() for c in range(fashion.NUM_CLASSES)]
        ratios = torch.stack(traces) / self.traces
        return losses | {
            "accuracy": float((self.classifier(samples).argmax(1) == labels).float().mean()),
            "trace_ratio": float(ratios.mean()),
            "trace_ratio_min": float(ratios.min()),
            "trace_ratio_max": float(ratios.max()),
        }

    def sample(self, model: Any, steps: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
        """Unguided samples of every class, from the same noise each time, and their labels."""
        labels = torch.arange(fashion.NUM_CLASSES).repeat_interleave(self.per_class)
        generator = torch.Generator().manual_seed(1234)
        noise = torch.randn(len(labels), *self.x.shape[1:], generator=generator) * fashion.SIGMA_MAX
        sampler = import_k_diffusion().sampling.sample_dpmpp_2m
        return sampler(model, noise, fashion.sigmas(steps), extra_args={"class_cond": labels}, disable=True), labels


def main(
    out: Annotated[Path, typer.Option(help="folder for checkpoints and the log; an interrupted run resumes")],
    steps: Annotated[int, typer.Option(help="optimizer steps; may differ when a run is resumed")] = 10_000,
    batch_size: int = 64,
    ema_decay: float = 0.9995,
    eval_every: int = 1000,
    eval_per_class: int = 50,
    seed: int = 0,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice")] = 0,
    bfloat16: Annotated[bool, typer.Option(help="forward passes in bfloat16")] = True,
    export_to: Annotated[Path | None, typer.Option("--export", help="only write the trained weights here")] = None,
    export_step: Annotated[int | None, typer.Option(help="which step's weights  [default: the last]")] = None,
) -> None:
    """Train the Fashion-MNIST model, or export a trained one."""
    if threads:
        torch.set_num_threads(threads)
    try:
        if export_to is not None:
            typer.echo(export(out, export_to, export_step))
            return
        config = make_config()
        train(
            out,
            config,
            labelled(
                *fashion.load_data("train"),
                size=batch_size,
                uncond=fashion.UNCOND,
                dropout=config["dataset"]["cond_dropout_rate"],
                condition=lambda classes: {"mapping_cond": fashion.one_hot(classes, fashion.NUM_CLASSES)},
            ),
            Judge(eval_per_class),
            steps=steps,
            rate=lambda step: trapezoid(step, warmup=500, steps=steps),
            ema_decay=ema_decay,
            eval_every=eval_every,
            seed=seed,
            bfloat16=bfloat16,
        )
    except (ValueError, FileNotFoundError) as error:
        raise typer.BadParameter(str(error)) from error


if __name__ == "__main__":
    typer.run(main)
