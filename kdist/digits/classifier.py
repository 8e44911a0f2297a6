"""A small classifier of 8x8 handwritten digits: the judge that needs no download.

Images are (N, 1, 8, 8) float in [-1, 1] (scikit-learn's 0..16 grey values as ``x / 8 - 1``); features are the 64
numbers that the last linear layer reads. The shipped weights were trained by ``scripts/training/classifier.py``
on 80 % of scikit-learn's digits; a second, linear head that had to redraw the image kept what varies *within* a
class in the features (a plain classifier discards it, and with it the diversity that is to be measured).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ..classifier import ImageClassifier, block, with_weights

__all__ = ["CLASSIFIER_PATH", "DigitsClassifier", "load_digits_classifier"]

CLASSIFIER_PATH = Path(__file__).parent / "classifier.safetensors"


class DigitsClassifier(ImageClassifier):
    """Three convolutions, one hidden layer of 64 units, ten classes; 55 602 parameters. Images are (N, 1, 8, 8)."""

    def __init__(self) -> None:
        body = nn.Sequential(
            block(1, 24),
            block(24, 48),
            nn.MaxPool2d(2),
            block(48, 64),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(64 * 2 * 2, self.feature_dim),
            nn.GELU(),
        )
        super().__init__(body, (1, 8, 8))


def load_digits_classifier(
    path: str | Path = CLASSIFIER_PATH, *, device: str | torch.device = "cpu"
) -> DigitsClassifier:
    """The trained classifier in eval mode, float32, without gradients.

    Raises:
        FileNotFoundError: no file at ``path``.
        ValueError: the file is no whole safetensors file of this network.

    Examples:
        >>> from kdist import digits
        >>> images, labels = digits.load_data()
        >>> digits.load_classifier()(images[:2]).argmax(1), labels[:2]
        (tensor([0, 1]), tensor([0, 1]))
    """
    return with_weights(DigitsClassifier(), path, script="scripts/training/classifier.py").to(device)
