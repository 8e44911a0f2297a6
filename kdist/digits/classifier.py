"""A small classifier of 8x8 handwritten digits: the judge that needs no download.

Images are (N, 1, 8, 8) float in [-1, 1] (scikit-learn's 0..16 grey values as ``x / 8 - 1``); features are the 64
numbers that the last linear layer reads. The shipped weights were trained by ``scripts/training/digits_classifier.py``
on 80 % of scikit-learn's digits; a second, linear head that had to redraw the image kept what varies *within* a
class in the features (a plain classifier discards it, and with it the diversity that is to be measured).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

__all__ = ["CLASSIFIER_PATH", "DigitsClassifier", "load_digits_classifier"]

CLASSIFIER_PATH = Path(__file__).parent / "classifier.safetensors"


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False), nn.BatchNorm2d(channels_out), nn.GELU()
    )


class DigitsClassifier(nn.Module):
    """Three convolutions, one hidden layer of :attr:`feature_dim` units, ten classes; 55 602 parameters."""

    feature_dim = 64
    num_classes = 10

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _block(1, 24),
            _block(24, 48),
            nn.MaxPool2d(2),
            _block(48, 64),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(64 * 2 * 2, self.feature_dim),
            nn.GELU(),
        )
        self.head = nn.Linear(self.feature_dim, self.num_classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 1, 8, 8) float in [-1, 1] to (N, 64).

        Raises:
            ValueError: ``x`` has another shape.
        """
        if x.ndim != 4 or tuple(x.shape[1:]) != (1, 8, 8):
            raise ValueError(f"x must have shape (N, 1, 8, 8), values in [-1, 1]; got {tuple(x.shape)}")
        return self.body(x)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 1, 8, 8) float in [-1, 1] to (N, 10), the unnormalised log-probabilities of the digits 0..9."""
        return self.head(self.features(x))

    forward = logits


def load_digits_classifier(
    path: str | Path = CLASSIFIER_PATH, *, device: str | torch.device = "cpu"
) -> DigitsClassifier:
    """The trained classifier in eval mode, float32, without gradients.

    Raises:
        FileNotFoundError: no file at ``path``.
        ValueError: the file is no whole safetensors file of this network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no classifier weights at {path}; train them with scripts/training/digits_classifier.py"
        )
    model = DigitsClassifier()
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"{path} is not a whole safetensors file of the digits classifier ({error}); "
            "write it again with scripts/training/digits_classifier.py"
        ) from error
    return model.to(device).eval().requires_grad_(False)
