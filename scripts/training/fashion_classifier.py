"""Train the shipped Fashion-MNIST classifier (``kdist.fashion.classifier``), the judge of samples.

    python -m scripts.training.fashion_classifier --out kdist/fashion/classifier.safetensors

Trains on the 60 000 training images and reports the accuracy on the 10 000 test images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from kdist import fashion
from kdist.fashion.classifier import CLASSIFIER_PATH
from scripts.training.classifier import train_classifier


def main(
    out: Annotated[Path, typer.Option(help="the safetensors file to write")] = CLASSIFIER_PATH,
    epochs: int = 10,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    decoder_weight: Annotated[float, typer.Option(help="weight of the redrawing loss")] = 1.0,
    seed: int = 0,
) -> None:
    """Train, report the held-out accuracy, write the weights in float16."""
    torch.manual_seed(seed)
    report = train_classifier(
        fashion.FashionClassifier(),
        fashion.load_classifier,
        fashion.load_data("train"),
        fashion.load_data("held_out"),
        out,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        decoder_weight=decoder_weight,
        seed=seed,
        shift=1.0,
        noise=0.1,
    )
    typer.echo(report)


if __name__ == "__main__":
    typer.run(main)
