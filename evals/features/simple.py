"""Extractors without a published network: ``digits``, ``pixels``, TorchScript files and callables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from kdist.digits.classifier import CLASSIFIER_PATH, load_digits_classifier

from ..hashing import file_hash, module_hash
from .extractor import Extractor, Preprocessing
from .resize import ResizeMethod, resize_square, to_chw, to_grey

__all__ = ["digits", "from_callable", "from_torchscript", "pixels"]


def digits(device: torch.device, weights: str | Path | None) -> Extractor:
    """The shipped classifier's features of 8x8 digits, (n, 64); colour becomes grey, other sizes are refused."""
    path = Path(weights or CLASSIFIER_PATH)
    model = load_digits_classifier(path, device=device)

    def prepare(image: np.ndarray) -> torch.Tensor:
        if image.shape[:2] != (8, 8):
            raise ValueError(f"extractor 'digits' judges 8x8 digits; got an image of {image.shape[1]}x{image.shape[0]}")
        return to_chw(to_grey(image))

    return Extractor(
        "digits", lambda x: model.features(x / 127.5 - 1), Preprocessing("grey 8x8", prepare), device, file_hash(path)
    )


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
