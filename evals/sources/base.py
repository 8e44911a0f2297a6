"""What every source of images is: a list of labelled pictures, each uint8 (H, W, C) as it would be saved.

Floats become pictures by :func:`quantise`: ``round(255 (x - lo) / (hi - lo))`` after clipping, as
``torchvision.utils.save_image`` and EDM's tools do. (k-diffusion's ``to_pil_image`` truncates instead, which makes
every image half a grey level darker.)
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

__all__ = ["BadImage", "Layout", "Source", "ValueRange", "as_pictures", "check_labels", "quantise"]

ValueRange = tuple[float, float]
Layout = Literal["NCHW", "NHWC", "NHW"]


@dataclass(frozen=True)
class BadImage:
    """Stands where an image could not be had; ``reason`` says why."""

    reason: str

    @classmethod
    def because(cls, error: Exception) -> BadImage:
        """What ``error`` says, without memory addresses: equal runs must leave equal files."""
        return cls(re.sub(r" at 0x[0-9a-fA-F]+", "", f"{type(error).__name__}: {error}"))


class Source(ABC):
    """Labelled images by index.

    Attributes:
        labels: (N,) int64.
        classes: the name of each label that may occur.
        description: where the images come from, in words; part of the features' metadata.
        concurrent: whether other threads may load while the network runs.
    """

    labels: np.ndarray
    classes: dict[int, str]
    description: str
    concurrent: bool = True

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """What to call image ``index`` in messages."""
        return f"image {index}"

    @abstractmethod
    def digest(self, index: int) -> bytes:
        """A hash that changes when image ``index`` does."""

    @abstractmethod
    def load(self, indices: Sequence[int], pool: Executor | None = None) -> list[np.ndarray | BadImage]:
        """The images ``indices``, uint8 (H, W, C) with C = 1 or 3; ``pool`` may be used to load them in parallel."""


def quantise(images: torch.Tensor, value_range: ValueRange) -> torch.Tensor:
    """Floats to the uint8 that a saved image holds: clipped to ``value_range``, mapped to 0..255, rounded."""
    lo, hi = value_range
    return ((images.float() - lo) * (255 / (hi - lo))).round().clamp(0, 255).to(torch.uint8)


def as_pictures(images: Any, *, value_range: ValueRange | None, layout: Layout | None, name: str) -> np.ndarray:
    """A batch of arrays or a tensor as uint8 (N, H, W, C).

    Args:
        images: (N, C, H, W), (N, H, W, C) or (N, H, W); uint8 in 0..255, or floats on ``value_range``.
        value_range: what black and white are, for floats; (-1, 1) in k-diffusion.
        layout: None finds out from where the 1 or 3 channels are.
        name: what to call the argument in messages.

    Raises:
        ValueError: another dtype, shape or channel count; a layout that cannot be told; values that do not fit
            ``value_range`` (more than half its width outside, or all of them on one half or in 0..1).
    """
    tensor = (
        images.detach().cpu() if torch.is_tensor(images) else torch.from_numpy(np.require(images, requirements="W"))
    )
    tensor = tensor.permute(_permutation(tuple(tensor.shape), layout, name)) if tensor.ndim == 4 else tensor
    if tensor.ndim == 3:
        if layout not in (None, "NHW"):
            raise ValueError(f"{name} must have four axes for layout {layout}; got shape {tuple(tensor.shape)}")
        tensor = tensor[..., None]
    if tensor.ndim != 4:
        raise ValueError(
            f"{name} must be (N, C, H, W), (N, H, W, C) or grey (N, H, W); got shape {tuple(tensor.shape)}"
        )
    if tensor.dtype == torch.uint8:
        if len(tensor) > 1 and tensor.numel() and int(tensor.max()) <= 1:
            raise ValueError(f"{name} is uint8 but holds only 0 and 1; multiply by 255, or pass floats in (0, 1)")
        return tensor.contiguous().numpy()
    if not tensor.is_floating_point():
        raise ValueError(
            f"{name} must be uint8 or floats; got {tensor.dtype}: convert with .astype('uint8') if in 0..255"
        )
    return quantise(tensor, _check_range(tensor, value_range, name)).contiguous().numpy()


def check_labels(labels: Any, count: int, *, name: str = "labels") -> np.ndarray:
    """Labels as (N,) int64; None is one class, 0.

    Raises:
        ValueError: not one whole number of at least 0 per image.
    """
    if labels is None:
        return np.zeros(count, dtype=np.int64)
    array = labels.detach().cpu().numpy() if torch.is_tensor(labels) else np.asarray(labels)
    if array.shape != (count,):
        raise ValueError(f"{name} must hold one label for each of the {count} images; got shape {array.shape}")
    if array.dtype.kind not in "iu" or (array < 0).any():
        raise ValueError(f"{name} must be whole numbers from 0; got dtype {array.dtype}, e.g. {array[:3].tolist()}")
    return array.astype(np.int64)


def _permutation(shape: tuple[int, ...], layout: Layout | None, name: str) -> tuple[int, int, int, int]:
    """The axes' order that makes (N, H, W, C)."""
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if layout is None:
        if first and last:
            raise ValueError(f"{name}: shape {shape} fits NCHW and NHWC; say which with layout")
        layout = "NCHW" if first else "NHWC"
    channels = {"NCHW": shape[1], "NHWC": shape[3]}.get(layout)
    if channels is None:
        raise ValueError(f"layout must be 'NCHW' or 'NHWC' for four axes; got {layout!r}")
    if channels not in (1, 3):
        raise ValueError(
            f"{name} must have 1 (grey) or 3 (RGB) channels, (N, C, H, W) or (N, H, W, C); got shape {shape}"
            + ("; drop the alpha channel" if 4 in (shape[1], shape[3]) else "")
        )
    return (0, 2, 3, 1) if layout == "NCHW" else (0, 1, 2, 3)


def _check_range(images: torch.Tensor, value_range: ValueRange | None, name: str) -> ValueRange:
    if value_range is None:
        raise ValueError(f"{name} holds floats: say what black and white are, e.g. value_range=(-1, 1) or (0, 1)")
    lo, hi = value_range
    if not lo < hi:
        raise ValueError(f"value_range must be (lo, hi) with lo < hi; got {value_range}")
    if not len(images):
        return value_range
    if not images.isfinite().all():
        bad = (~images.isfinite().flatten(1).all(1)).nonzero().flatten().tolist()
        raise ValueError(f"{name} has NaN or infinite pixels in {len(bad)} images: {bad[:5]}; drop them")
    least, most = float(images.min()), float(images.max())
    slack = (hi - lo) / 2  # samplers overshoot a little; twice the range is another convention
    if least < lo - slack or most > hi + slack:
        raise ValueError(f"{name} has values in [{least:.4g}, {most:.4g}], far outside value_range {value_range}")
    if len(images) > 1 and (least >= 0 > lo or (hi > 1 and most <= 1)):
        raise ValueError(
            f"{name} has values in [{least:.4g}, {most:.4g}], which does not look like value_range {value_range}; "
            "is it (0, 1)?"
        )
    return value_range
