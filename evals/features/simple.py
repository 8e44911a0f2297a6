"""Extractors without a network of our own or a published one: ``pixels``, TorchScript files and callables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ..hashing import file_hash, module_hash
from .extractor import Extractor, Preprocessing
from .resize import ResizeMethod, resize_square, to_chw

__all__ = ["from_callable", "from_torchscript", "pixels"]


def pixels(device: torch.device, *, size: int | None = None, resize: ResizeMethod = "pil") -> Extractor:
    """The pixels themselves as vectors on k-diffusion's scale, [-1, 1]; all images must then have one shape."""
    return Extractor("pixels", lambda x: x.flatten(1) / 127.5 - 1, _sized(size, resize), device, "none")


def from_torchscript(
    device: torch.device, path: Path, *, size: int | None = None, resize: ResizeMethod = "pil"
) -> Extractor:
    """A TorchScript file that maps (n, C, H, W) float32 in [0, 255] to (n, d).

    Raises:
        FileNotFoundError: no file there.
        ValueError: no TorchScript file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"extractor: no TorchScript file at {path}")
    try:
        network = torch.jit.load(str(path), map_location=device).eval()
    except RuntimeError as error:
        raise ValueError(
            f"extractor: {path} is not a TorchScript file ({error}); save one with torch.jit.save"
        ) from error
    return Extractor(path.stem, network, _sized(size, resize), device, file_hash(path))


def from_callable(
    device: torch.device,
    function: Callable[[torch.Tensor], torch.Tensor],
    *,
    key: str | None = None,
    size: int | None = None,
    resize: ResizeMethod = "pil",
) -> Extractor:
    """Any function of (n, C, H, W) float32 in [0, 255] that gives (n, d).

    A module is known by its class and weights; another function only by the ``key`` that the user gives, and without
    one nothing of it is cached.
    """
    name = getattr(function, "__qualname__", type(function).__name__)
    weights = None if key is None else f"key {key}"
    if isinstance(function, torch.nn.Module):
        function = function.to(device).eval()
        weights = module_hash(function) + ("" if key is None else f" key {key}")
    return Extractor(name, function, _sized(size, resize), device, weights)


def _sized(size: int | None, resize: ResizeMethod) -> Preprocessing:
    return Preprocessing("as it is", to_chw) if size is None else resize_square(size, resize)
