"""Pictures: uint8 (H, W, C) with C = 1 or 3, made from arrays, tensors and Pillow's images.

Floats become pictures by :func:`quantise`: ``round(255 (x - lo) / (hi - lo))`` after clipping, as
``torchvision.utils.save_image`` and EDM's tools do. (k-diffusion's ``to_pil_image`` truncates instead, which makes
every image half a grey level darker.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Layout", "ValueRange", "as_pictures", "far_outside", "from_pillow", "holds_floats", "quantise"]

ValueRange = tuple[float, float]
Layout = Literal["NCHW", "NHWC", "NHW"]


def quantise(images: torch.Tensor, value_range: ValueRange) -> torch.Tensor:
    """Floats to the uint8 that a saved image holds: clipped to ``value_range``, mapped to 0..255, rounded."""
    lo, hi = value_range
    return ((images.float() - lo) * (255 / (hi - lo))).round().clamp(0, 255).to(torch.uint8)


def from_pillow(image: Image) -> np.ndarray:
    """A Pillow image as uint8 (H, W, C): grey stays grey, all else becomes RGB as clean-fid has it.

    Raises:
        ValueError: more than 8 bits per channel, which Pillow would clip, or cut to the high byte.
    """
    if image.mode.startswith("I") or image.mode == "F" or _more_than_8_bits(image):
        raise ValueError(f"{image.mode} pixels: more than 8 bits per channel; convert it to 8 bits")
    picture = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB"))
    return picture[..., None] if picture.ndim == 2 else picture


def _more_than_8_bits(image: Image) -> bool:
    """What an unread file's decoder is asked for: 16-bit colour comes in the modes of 8 bits."""
    for decoder, _, _, arguments in getattr(image, "tile", []):
        listed = arguments if isinstance(arguments, tuple) else (arguments,)
        if any(isinstance(entry, str) and ";16" in entry for entry in listed):
            return True
        if decoder.startswith("ppm") and any(isinstance(entry, int) and entry > 255 for entry in listed):
            return True
    return False


def as_pictures(images: Any, *, value_range: ValueRange | None, layout: Layout | None, name: str) -> np.ndarray:
    """A batch of arrays or a tensor as uint8 (N, H, W, C).

    Args:
        images: (N, C, H, W), (N, H, W, C) or (N, H, W); uint8 in 0..255, or floats on ``value_range``.
        value_range: what black and white are, for floats; (-1, 1) in k-diffusion.
        layout: None finds out from where the 1 or 3 channels are.
        name: what to call the argument in messages.

    Raises:
        ValueError: another dtype, shape or channel count; a layout that cannot be told; no finite values, or values
            more than half the width of ``value_range`` outside it. (Values that lie in it, but look like another
            convention's, are for :meth:`Source.check_scale`: it takes a whole set to tell.)
    """
    tensor = _as_tensor(images, name)
    if tensor.ndim == 4:
        tensor = tensor.permute(_permutation(tuple(tensor.shape), layout, name))
    elif tensor.ndim == 3:
        if layout not in (None, "NHW"):
            raise ValueError(f"{name} must have four axes for layout {layout}; got shape {tuple(tensor.shape)}")
        tensor = tensor[..., None]
    else:
        raise ValueError(
            f"{name} must be (N, C, H, W), (N, H, W, C) or grey (N, H, W); got shape {tuple(tensor.shape)}"
        )
    if not all(tensor.shape[1:]):
        raise ValueError(f"{name} has no pixels: shape {tuple(tensor.shape)}")
    if tensor.dtype != torch.uint8:
        if not tensor.is_floating_point():
            raise ValueError(
                f"{name} must be uint8 or floats; got {tensor.dtype}: convert with .astype('uint8') if in 0..255"
            )
        tensor = quantise(tensor, _check_range(tensor, value_range, name))
    return tensor.contiguous().numpy()


def holds_floats(images: Any) -> bool:
    """Whether ``value_range`` is needed to see these."""
    return images.is_floating_point() if torch.is_tensor(images) else np.asarray(images).dtype.kind == "f"


def far_outside(least: float, most: float, value_range: ValueRange) -> bool:
    """Samplers overshoot a little; twice the range is another convention."""
    lo, hi = value_range
    return least < lo - (hi - lo) / 2 or most > hi + (hi - lo) / 2


def _as_tensor(images: Any, name: str) -> torch.Tensor:
    if torch.is_tensor(images):
        return images.detach().cpu()
    try:
        array = np.asarray(images)
        return torch.from_numpy(np.require(array.astype(array.dtype.newbyteorder("=")), requirements=["C", "W"]))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of uint8 or floats; got {type(images).__name__}: {error}") from error


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
        raise ValueError(
            f"{name} holds floats: say what black and white are, value_range=(-1, 1) or (0, 1) "
            "(--value-range -1,1 on the command line)"
        )
    lo, hi = value_range
    if not lo < hi:
        raise ValueError(f"value_range must be (lo, hi) with lo < hi; got {value_range}")
    if not len(images):
        return value_range
    if not images.isfinite().all():
        bad = (~images.isfinite().flatten(1).all(1)).nonzero().flatten().tolist()
        raise ValueError(f"{name} has NaN or infinite pixels in {len(bad)} images: {bad[:5]}; drop them")
    least, most = float(images.min()), float(images.max())
    if far_outside(least, most, value_range):
        raise ValueError(f"{name} has values in [{least:.4g}, {most:.4g}], far outside value_range {value_range}")
    return value_range
