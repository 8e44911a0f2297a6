"""Train the classifiers that ship, the judges of samples: ``kdist.digits.classifier`` and ``kdist.fashion.classifier``.

    python -m scripts.training.classifier digits        # 1437 training images, judged on the other 360
    python -m scripts.training.classifier fashion       # 60 000 training images, judged on the 10 000 test images

Small rotations, shifts, scalings and noise keep a classifier a fair judge of images that no camera has seen. The loss
adds the error of a linear decoder from the features to the image, so that the features keep what varies within a class.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import torch
import typer
from rich.progress import track
from safetensors.torch import save_file
from torch.nn import functional as F

from kdist import digits, fashion
from kdist.digits.classifier import DigitsClassifier
from kdist.fashion.classifier import FashionClassifier
from kdist.files import written_atomically

__all__ = ["augment", "train_classifier"]

Data = tuple[torch.Tensor, torch.Tensor]
# of each data set: its module, its network, and the settings of the classifier that ships
RECIPES: dict[str, tuple[ModuleType, type, dict[str, Any]]] = {
    "digits": (digits, DigitsClassifier, {"epochs": 150, "batch_size": 64}),
    "fashion": (fashion, FashionClassifier, {"epochs": 8, "batch_size": 128, "shift": 1.0, "noise": 0.1}),
}


def augment(x: torch.Tensor, generator: torch.Generator, *, shift: float = 0.5, noise: float = 0.15) -> torch.Tensor:
    """Rotations by up to 10 degrees, scalings by 8 %, shifts by ``shift`` pixels, noise of up to ``noise``."""

    def uniform(bound: float) -> torch.Tensor:
        return (2 * torch.rand(len(x), generator=generator) - 1) * bound

    angle, scale = uniform(math.radians(10)), 1 + uniform(0.08)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    in_grid = shift * 2 / x.shape[-1]  # the grid's width is 2
    shift_x, shift_y = uniform(in_grid), uniform(in_grid)
    affine = torch.stack([torch.stack([cos, -sin, shift_x], 1), torch.stack([sin, cos, shift_y], 1)], 1)
    grid = F.affine_grid(affine, list(x.shape), align_corners=False)
    moved = F.grid_sample(x + 1, grid, align_corners=False) - 1  # the background is -1, grid_sample pads with 0
    strength = noise * torch.rand(len(x), 1, 1, 1, generator=generator)
    return moved + strength * torch.randn(x.shape, generator=generator)


def train_classifier(
    model: Any,
    load: Callable[[Path], Any],
    data: Data,
    held_out: Data,
    out: Path,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    decoder_weight: float,
    seed: int,
    **distortion: float,
) -> str:
    """Train, write the weights in float16, and say how accurate they are once read back.

    Args:
        model: the untrained classifier, with ``features`` and ``head``.
        load: reads what was written.
        data, held_out: images (N, C, H, W) and labels (N,).
        out: the safetensors file.
        epochs, batch_size, learning_rate: AdamW's, under one cycle.
        decoder_weight: the weight of the redrawing loss.
        seed: decides everything drawn.
        distortion: options of :func:`augment`.
    """
    generator = torch.Generator().manual_seed(seed)
    x, y = data
    decoder = torch.nn.Linear(model.feature_dim, x[0].numel())
    optimizer = torch.optim.AdamW([*model.parameters(), *decoder.parameters()], lr=learning_rate, weight_decay=0.02)
    steps = epochs * (len(x) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=learning_rate, total_steps=steps, pct_start=0.1)
    start = time.monotonic()
    for _ in track(range(epochs), "training"):
        order = torch.randperm(len(x), generator=generator)
        for index in order[: len(x) // batch_size * batch_size].split(batch_size):
            images = augment(x[index], generator, **distortion)
            features = model.features(images)
            loss = F.cross_entropy(model.head(features), y[index], label_smoothing=0.05)
            loss = loss + decoder_weight * F.mse_loss(decoder(features), images.flatten(1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    state = model.state_dict()
    weights = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    metadata = {"epochs": str(epochs), "seed": str(seed)}
    written_atomically(out, lambda path: save_file(weights, path, metadata=metadata))
    trained = load(out)  # judged as it will be used, after the rounding to float16
    held, seen = accuracy(trained, *held_out), accuracy(trained, x[: len(held_out[0])], y[: len(held_out[0])])
    return (
        f"{out}: {sum(p.numel() for p in model.parameters())} parameters, {out.stat().st_size / 1e3:.0f} kB; accuracy "
        f"{held:.4f} held out, {seen:.4f} on as many training images; {time.monotonic() - start:.0f} s"
    )


def accuracy(model: Any, x: torch.Tensor, y: torch.Tensor, rows: int = 1000) -> float:
    guesses = torch.cat([model.logits(part).argmax(1) for part in x.split(rows)])
    return float((guesses == y).float().mean())


def main(
    data: Annotated[str, typer.Argument(help=f"one of {', '.join(RECIPES)}")],
    out: Annotated[Path | None, typer.Option(help="the safetensors file to write  [default: the shipped one]")] = None,
    epochs: Annotated[int | None, typer.Option(help="[default: as the shipped one]")] = None,
    learning_rate: float = 3e-3,
    decoder_weight: Annotated[float, typer.Option(help="weight of the redrawing loss")] = 1.0,
    seed: int = 0,
) -> None:
    """Train, report the held-out accuracy, write the weights in float16."""
    if data not in RECIPES:
        raise typer.BadParameter(f"data must be one of {', '.join(RECIPES)}; got {data}")
    module, network, settings = RECIPES[data]
    torch.manual_seed(seed)
    report = train_classifier(
        network(),
        module.load_classifier,
        module.load_data("train"),
        module.load_data("held_out"),
        out or module.MODEL_PATH.with_name("classifier.safetensors"),
        learning_rate=learning_rate,
        decoder_weight=decoder_weight,
        seed=seed,
        **(settings if epochs is None else {**settings, "epochs": epochs}),
    )
    typer.echo(report)


if __name__ == "__main__":
    typer.run(main)
