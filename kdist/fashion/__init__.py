"""The second shipped example: Fashion-MNIST and a class-conditional k-diffusion model of it.

Images are (N, 1, 28, 28) float32 in [-1, 1]; labels 0..9 (:data:`CLASS_NAMES`); ``class_cond`` = 10 (:data:`UNCOND`)
is the unconditional class. The network is k-diffusion's ``image_v1``, trained by ``scripts/training/fashion.py``; its
safetensors file carries the k-diffusion config in its metadata, so that k-diffusion's own tools load it too.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ..solvers import karras_sigmas
from .classifier import FashionClassifier, load_classifier
from .conditional import ClassConditional, one_hot
from .data import CLASS_NAMES, FOLDER_VARIABLE, load_data

__all__ = [
    "CLASS_NAMES",
    "FOLDER_VARIABLE",
    "MODEL_PATH",
    "NUM_CLASSES",
    "SIGMA_MAX",
    "SIGMA_MIN",
    "UNCOND",
    "WEAK_MODEL_PATH",
    "ClassConditional",
    "FashionClassifier",
    "load_classifier",
    "load_data",
    "load_model",
    "one_hot",
    "sigmas",
]

NUM_CLASSES = len(CLASS_NAMES)
"""The number of classes, 10."""
UNCOND = NUM_CLASSES
"""The ``class_cond`` of the unconditional prediction."""
SIGMA_MIN = 0.02
"""The last noise level above 0 that :func:`sigmas` visits."""
SIGMA_MAX = 80.0
"""The first noise level."""
MODEL_PATH = Path(__file__).parent / "model.safetensors"
"""The network that :func:`load_model` loads."""
WEAK_MODEL_PATH = MODEL_PATH.with_name("weak.safetensors")
"""The same network early in its training: the weak model of autoguidance."""


def load_model(path: str | Path = MODEL_PATH, *, device: str | torch.device = "cpu") -> ClassConditional:
    """A k-diffusion denoiser ``model(x, sigma, class_cond=...)`` in eval mode, float32.

    Args:
        path: a safetensors file as ``scripts/training/fashion.py`` writes it (config in its metadata).
        device: where to put it.

    Raises:
        FileNotFoundError: no file at ``path``.
        ImportError: k-diffusion or safetensors is missing.

    Examples:
        >>> import torch
        >>> from kdist import fashion
        >>> fashion.load_model()(torch.zeros(2, 1, 28, 28), torch.ones(2), class_cond=torch.tensor([3, 7])).shape
        torch.Size([2, 1, 28, 28])
    """
    from ..checkpoints import load_checkpoint

    model = ClassConditional(load_checkpoint(path, device=device), NUM_CLASSES).to(device).eval()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # on a CPU a tenth faster
    return model


def sigmas(steps: int = 20) -> torch.Tensor:
    """Karras noise levels from :data:`SIGMA_MAX` to :data:`SIGMA_MIN` and 0: (steps + 1,) float32.

    Examples:
        >>> from kdist import fashion
        >>> fashion.sigmas(4).shape
        torch.Size([5])
    """
    return karras_sigmas(steps, SIGMA_MIN, SIGMA_MAX).float()
