"""Feature extractors by name: what turns an image into the vector whose distribution is measured.

    extractor = build_extractor("inception", device="cuda", weights="inception-2015-12-05.pt")

``inception``, ``clip``, ``dinov2`` need published weights, ``digits`` (8x8 digits) and ``fashion`` (28x28 garments) are
shipped, ``pixels`` needs none; a path to a TorchScript file or any callable serves as well.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from .clip import clip
from .dinov2 import dinov2
from .extractor import Extractor, resolve_device
from .inception import inception
from .resize import ResizeMethod
from .shipped import SHIPPED, shipped
from .simple import from_callable, from_torchscript, pixels

__all__ = ["EXTRACTORS", "build_extractor"]

EXTRACTORS = ("inception", "clip", "dinov2", *SHIPPED, "pixels")
_TORCHSCRIPT_SUFFIXES = (".pt", ".pth", ".ts", ".jit", ".torchscript")


def build_extractor(
    name: str | Path | Callable[[torch.Tensor], torch.Tensor],
    *,
    device: str | torch.device = "auto",
    weights: str | Path | None = None,
    allow_unknown_weights: bool = False,
    resize: ResizeMethod = "pil",
    size: int | None = None,
    key: str | None = None,
) -> Extractor:
    """Make an extractor.

    Args:
        name: one of :data:`EXTRACTORS`, the path of a TorchScript file, or a callable; the last two take
            (n, C, H, W) float32 in [0, 255] and give (n, d).
        device: ``auto`` (this process's GPU where there is one), ``cpu``, ``cuda``, ``cuda:1``, ...
        weights: a file (``inception``, ``clip``, ``digits``, ``fashion``), a folder or hub name (``dinov2``); None
            takes the published weights from the cache folder, and downloads them when they are not there.
        allow_unknown_weights: accept ``inception`` or ``clip`` weights that are not the published ones.
        resize: ``pil`` is clean-fid's resizing on the CPU, ``torch`` does it on the device (same kernel; the
            difference is measured on the images and kept in the features' metadata).
        size: resize to ``size`` x ``size`` first; for ``pixels``, TorchScript files and callables only.
        key: names the version of a callable that is not a module, so that its features can be cached.

    Raises:
        ValueError: unknown name, an option that the extractor does not have, wrong weights, absent device.
        FileNotFoundError: a given file is not there.
        ImportError: the extractor's library is missing.
        OSError: weights could not be downloaded.

    Examples:
        >>> from kdist.evals import build_extractor
        >>> build_extractor("digits", device="cpu").name
        'digits'
    """
    named = isinstance(name, str) and name in EXTRACTORS
    path = None if named or not isinstance(name, str | Path) else Path(name)
    if path is not None and path.suffix.lower() not in _TORCHSCRIPT_SUFFIXES:
        raise ValueError(
            f"extractor must be one of {', '.join(EXTRACTORS)}, a callable, or a TorchScript file "
            f"({', '.join(_TORCHSCRIPT_SUFFIXES)}); got {str(name)!r}"
        )
    if not named and path is None and not callable(name):
        raise ValueError(f"extractor must be a name, a path or a callable; got {type(name).__name__}")
    if resize not in ("pil", "torch"):
        raise ValueError(f"resize must be 'pil' or 'torch'; got {resize!r}")

    free_size = not named or name == "pixels"
    _refuse(name, "weights", weights is not None and (not named or name == "pixels"))
    _refuse(name, "allow_unknown_weights", allow_unknown_weights and name not in ("inception", "clip"))
    _refuse(name, "size", size is not None and not free_size)
    _refuse(name, "resize", resize != "pil" and (name in SHIPPED or (free_size and size is None)))
    _refuse(name, "key", key is not None and (named or path is not None))

    place = resolve_device(device)
    if path is not None:
        return from_torchscript(place, path, size=size, resize=resize)
    if name == "inception":
        return inception(place, weights, resize=resize, allow_unknown=allow_unknown_weights)
    if name == "clip":
        return clip(place, weights, resize=resize, allow_unknown=allow_unknown_weights)
    if name == "dinov2":
        return dinov2(place, weights, resize=resize)
    if isinstance(name, str) and name in SHIPPED:
        return shipped(name, place, weights)
    if name == "pixels":
        return pixels(place, size=size, resize=resize)
    assert callable(name)
    return from_callable(place, name, key=key, size=size, resize=resize)


def _refuse(name: object, option: str, given: bool) -> None:
    if given:
        shown = name if isinstance(name, str | Path) else getattr(name, "__qualname__", type(name).__name__)
        raise ValueError(f"extractor {str(shown)!r} has no option {option!r} as given; leave it out")
