"""What the shipped classifiers share: convolutions, features, one linear layer; reading their weights."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

__all__ = ["ImageClassifier", "block", "with_weights"]


def block(channels_in: int, channels_out: int) -> nn.Sequential:
    """A 3x3 convolution, normalised over the batch."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False), nn.BatchNorm2d(channels_out), nn.GELU()
    )


class ImageClassifier(nn.Module):
    """A ``body`` from images (N, *shape) to features (N, feature_dim), and a linear ``head`` to ten classes."""

    feature_dim = 64
    num_classes = 10

    def __init__(self, body: nn.Module, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(self.feature_dim, self.num_classes)
        self.shape = shape

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) float in [-1, 1] to (N, 64).

        Raises:
            ValueError: ``x`` has another shape.
        """
        if x.ndim != 4 or tuple(x.shape[1:]) != self.shape:
            wanted = ", ".join(map(str, self.shape))
            raise ValueError(f"x must have shape (N, {wanted}), values in [-1, 1]; got {tuple(x.shape)}")
        return self.body(x)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) float in [-1, 1] to (N, 10), the unnormalised log-probabilities of the classes."""
        return self.head(self.features(x))

    forward = logits


AnyClassifier = TypeVar("AnyClassifier", bound=ImageClassifier)


def with_weights(model: AnyClassifier, path: str | Path, *, script: str) -> AnyClassifier:
    """The classifier with the weights at ``path``: in eval mode, float32, without gradients.

    Args:
        model: the untrained classifier.
        path: a safetensors file.
        script: what trains it, for the messages.

    Raises:
        FileNotFoundError: no file at ``path``.
        ValueError: the file is no whole safetensors file of this network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no classifier weights at {path}; train them with {script}")
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(
            f"{path} is not a whole safetensors file of the {type(model).__name__} ({error}); write it again with "
            f"{script}"
        ) from error
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # on a CPU in half the time
    return model.eval().requires_grad_(False)
