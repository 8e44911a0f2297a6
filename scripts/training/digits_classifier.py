"""Train the shipped digits classifier (``kdist.digits.classifier``) on scikit-learn's 8x8 digits.

    python -m scripts.training.digits_classifier --out kdist/digits/classifier.safetensors

Trains on the 1437 images that ``kdist.digits.load_data("train")`` gives and reports the accuracy on the other 360.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from kdist import digits
from kdist.digits.classifier import CLASSIFIER_PATH, DigitsClassifier, load_digits_classifier
from scripts.training.classifier import train_classifier


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
    report = train_classifier(
        DigitsClassifier(),
        load_digits_classifier,
        digits.load_data("train"),
        digits.load_data("held_out"),
        out,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        decoder_weight=decoder_weight,
        seed=seed,
    )
    typer.echo(report)


if __name__ == "__main__":
    typer.run(main)
