"""Train the shipped digits classifier (``kdist.digits.classifier``) on scikit-learn's 8x8 digits.

    python -m scripts.training.digits_classifier --out kdist/digits/classifier.safetensors

Trains on the 1437 images that ``kdist.digits.load_data("train")`` gives and reports the accuracy on the other 360.
Small rotations, shifts, scalings and noise keep it a fair judge of images that no pen has drawn. The loss adds the
error of a linear decoder from the features to the image, so that the features keep what varies within a class.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import track
from safetensors.torch import save_file
from torch.nn import functional as F

from kdist import digits
from kdist.digits.classifier import CLASSIFIER_PATH, DigitsClassifier, load_digits_classifier


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Rotations by up to 10 degrees, scalings by 8 %, shifts by half a pixel, noise of up to 0.15: as the input."""

    def uniform(bound: float) -> torch.Tensor:
        return (2 * torch.rand(len(x), generator=generator) - 1) * bound

    angle, scale = uniform(math.radians(10)), 1 + uniform(0.08)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    shift_x, shift_y = uniform(0.5 * 2 / 8), uniform(0.5 * 2 / 8)  # in the grid's units: 8 pixels span 2
    affine = torch.stack([torch.stack([cos, -sin, shift_x], 1), torch.stack([sin, cos, shift_y], 1)], 1)
    grid = F.affine_grid(affine, list(x.shape), align_corners=False)
    moved = F.grid_sample(x + 1, grid, align_corners=False) - 1  # the paper's white is -1, grid_sample pads with 0
    strength = 0.15 * torch.rand(len(x), 1, 1, 1, generator=generator)
    return moved + strength * torch.randn(x.shape, generator=generator)


def main(
    out: Annotated[Path, typer.Option(help="the safetensors file to write")] = CLASSIFIER_PATH,
    epochs: int = 150,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
    decoder_weight: Annotated[float, typer.Option(help="weight of the redrawing loss")] = 1.0,
    seed: int = 0,
) -> None:
    """Train, report the held-out accuracy, write the weights in float16."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    x, y = digits.load_data("train")
    held_x, held_y = digits.load_data("held_out")
    model, decoder = DigitsClassifier(), torch.nn.Linear(DigitsClassifier.feature_dim, 64)
    optimizer = torch.optim.AdamW([*model.parameters(), *decoder.parameters()], lr=learning_rate, weight_decay=0.02)
    steps = epochs * (len(x) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=steps, pct_start=0.1)
    start = time.time()
    for _ in track(range(epochs), "training"):
        order = torch.randperm(len(x), generator=generator)
        for index in order[: len(x) // batch_size * batch_size].split(batch_size):
            images = augment(x[index], generator)
            features = model.features(images)
            loss = F.cross_entropy(model.head(features), y[index], label_smoothing=0.05)
            loss = loss + decoder_weight * F.mse_loss(decoder(features), images.flatten(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    out.parent.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in model.state_dict().items()
    }
    save_file(weights, out, metadata={"epochs": str(epochs), "seed": str(seed)})
    model = load_digits_classifier(out)  # judged as it will be used, after the rounding to float16
    errors = int((model.logits(held_x).argmax(1) != held_y).sum())
    train_accuracy = float((model.logits(x).argmax(1) == y).float().mean())
    typer.echo(
        f"{out}: {sum(p.numel() for p in model.parameters())} parameters, {out.stat().st_size / 1e3:.0f} kB; "
        f"accuracy {1 - errors / len(held_y):.4f} held out ({errors} errors of {len(held_y)}), "
        f"{train_accuracy:.4f} on the training images; {time.time() - start:.0f} s"
    )


if __name__ == "__main__":
    typer.run(main)
