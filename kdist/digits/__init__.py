"""The shipped example: scikit-learn's handwritten digits and a class-conditional k-diffusion model of them.

Images are (N, 1, 8, 8) float32 in [-1, 1]; labels 0..9; ``class_cond`` = 10 (:data:`UNCOND`) is the unconditional
class. The network is k-diffusion's ``image_transformer_v1``, trained by ``scripts/training/digits.py``; its safetensors
file carries the k-diffusion config in its metadata, so that k-diffusion's own tools load it too.

The data: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from ..solvers import karras_sigmas
from .classifier import load_digits_classifier as load_classifier

__all__ = [
    "CLASS_NAMES",
    "MODEL_PATH",
    "NUM_CLASSES",
    "SIGMA_MAX",
    "SIGMA_MIN",
    "UNCOND",
    "WEAK_MODEL_PATH",
    "load_classifier",
    "load_data",
    "load_model",
    "sigmas",
]

CLASS_NAMES = tuple("0123456789")
"""What each label stands for."""
NUM_CLASSES = len(CLASS_NAMES)
"""The number of classes, 10."""
UNCOND = NUM_CLASSES
"""The ``class_cond`` of the unconditional prediction."""
SIGMA_MIN = 0.02
"""The last noise level above 0 that :func:`sigmas` visits."""
SIGMA_MAX = 20.0
"""The first noise level: all noise at 8x8 pixels, where class means lie within a fifth of it."""
MODEL_PATH = Path(__file__).parent / "model.safetensors"
"""The network that :func:`load_model` loads."""
WEAK_MODEL_PATH = MODEL_PATH.with_name("weak.safetensors")
"""The same network after a quarter of the training: the weak model of autoguidance."""
_HELD_OUT_FRACTION, _SPLIT_SEED = 0.2, 0

Split = Literal["train", "held_out", "all"]


def load_data(split: Split = "all") -> tuple[torch.Tensor, torch.Tensor]:
    """Real digits as ``(images, labels)``: (N, 1, 8, 8) float32 in [-1, 1] and (N,) int64.

    ``train`` (1437 images) is what the shipped network and classifier saw, ``held_out`` (360) what they did not.

    Raises:
        ValueError: unknown ``split``.
        ImportError: scikit-learn is missing.

    Examples:
        >>> from kdist import digits
        >>> images, labels = digits.load_data("held_out")
        >>> images.shape
        torch.Size([360, 1, 8, 8])
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ImportError("the digits data come with scikit-learn: pip install 'kdist[evals]'") from error
    data = load_digits()
    images = torch.as_tensor(data.images / 8 - 1, dtype=torch.float32)[:, None]
    labels = torch.as_tensor(data.target, dtype=torch.int64)
    train, held_out = train_test_split(
        range(len(labels)), test_size=_HELD_OUT_FRACTION, random_state=_SPLIT_SEED, stratify=data.target
    )
    index = {"train": sorted(train), "held_out": sorted(held_out), "all": list(range(len(labels)))}
    if split not in index:
        raise ValueError(f"split must be one of {', '.join(index)}; got {split!r}")
    return images[index[split]], labels[index[split]]


def load_model(path: str | Path = MODEL_PATH, *, device: str | torch.device = "cpu") -> Any:
    """A k-diffusion denoiser ``model(x, sigma, class_cond=...)`` in eval mode, float32.

    Args:
        path: a safetensors file as ``scripts/training/digits.py`` writes it (config in its metadata).
        device: where to put it.

    Raises:
        FileNotFoundError: no file at ``path``.
        ImportError: k-diffusion or safetensors is missing.

    Examples:
        >>> import torch
        >>> from kdist import digits
        >>> digits.load_model()(torch.zeros(2, 1, 8, 8), torch.ones(2), class_cond=torch.tensor([3, 7])).shape
        torch.Size([2, 1, 8, 8])
    """
    from ..checkpoints import load_checkpoint

    return load_checkpoint(path, device=device)


def sigmas(steps: int = 20) -> torch.Tensor:
    """Karras noise levels from :data:`SIGMA_MAX` to :data:`SIGMA_MIN` and 0: (steps + 1,) float32.

    Examples:
        >>> from kdist import digits
        >>> digits.sigmas(4).shape
        torch.Size([5])
    """
    return karras_sigmas(steps, SIGMA_MIN, SIGMA_MAX).float()
