"""A small classifier of Fashion-MNIST images: the judge of samples, whose accuracy on real images is the target line.

Images are (N, 1, 28, 28) float in [-1, 1]; features are the 64 numbers that the last linear layer reads. The shipped
weights were trained by ``scripts/training/classifier.py`` on the 60 000 training images; a second, linear head
that had to redraw the image kept what varies *within* a class in the features.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ..classifier import ImageClassifier, block, with_weights

__all__ = ["CLASSIFIER_PATH", "FashionClassifier", "load_classifier"]

CLASSIFIER_PATH = Path(__file__).parent / "classifier.safetensors"


class FashionClassifier(ImageClassifier):
    """Five convolutions, one hidden layer of 64 units, ten classes; 140 618 parameters. Images are (N, 1, 28, 28).

    Examples:
        >>> import torch
        >>> from kdist.fashion import FashionClassifier
        >>> FashionClassifier()(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(self) -> None:
        body = nn.Sequential(
            nn.PixelUnshuffle(2),  # 14x14 patches of 2x2 pixels
            block(4, 32),
            block(32, 32),
            nn.MaxPool2d(2),
            block(32, 64),
            block(64, 64),
            nn.MaxPool2d(2),
            block(64, 64),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(64 * 3 * 3, self.feature_dim),
            nn.GELU(),
        )
        super().__init__(body, (1, 28, 28))


def load_classifier(path: str | Path = CLASSIFIER_PATH, *, device: str | torch.device = "cpu") -> FashionClassifier:
    """The trained classifier in eval mode, float32, without gradients.

    Raises:
        FileNotFoundError: no file at ``path``.
        ValueError: the file is no whole safetensors file of this network.

    Examples:
        >>> from kdist import fashion
        >>> images, labels = fashion.load_data()
        >>> fashion.load_classifier()(images[:2]).argmax(1), labels[:2]
        (tensor([0, 6]), tensor([0, 0]))
    """
    return with_weights(FashionClassifier(), path, script="scripts/training/classifier.py").to(device)
