"""Class numbers for a network that takes its class as a vector: k-diffusion's ``image_v1`` and its ``mapping_cond``."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["ClassConditional", "one_hot"]


def one_hot(class_cond: torch.Tensor, num_classes: int) -> torch.Tensor:
    """(N,) int64 in 0..num_classes to (N, num_classes) float32; ``num_classes`` itself, "no class", gives zeros.

    Examples:
        >>> import torch
        >>> from kdist.fashion import one_hot
        >>> one_hot(torch.tensor([1, 3]), 3)
        tensor([[0., 1., 0.],
                [0., 0., 0.]])
    """
    return torch.eye(num_classes + 1, num_classes, device=class_cond.device)[class_cond]


class ClassConditional(nn.Module):
    """A denoiser ``(x, sigma, mapping_cond=...)`` as one that takes ``class_cond``: (N,) int64 in 0..num_classes.

    ``class_cond = num_classes`` is the unconditional class. Other attributes are the wrapped denoiser's.

    Examples:
        >>> from kdist import fashion
        >>> fashion.load_model().num_classes
        10
    """

    def __init__(self, denoiser: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.num_classes = num_classes

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, *, class_cond: torch.Tensor, **extra: Any) -> torch.Tensor:
        """The denoised images, of the shape of ``x`` (N, C, H, W)."""
        return self.denoiser(x, sigma, mapping_cond=one_hot(class_cond, self.num_classes).to(x.dtype), **extra)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "denoiser":  # not yet set: nothing to look in
                raise
            return getattr(self.denoiser, name)
