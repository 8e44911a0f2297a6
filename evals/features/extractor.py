"""What every feature extractor is: a preparation on the CPU, a network on a device, and a name for both.

Images come as uint8 (H, W, C) with C = 1 or 3, the form in which a picture is saved. ``Preprocessing.on_cpu`` turns
one into a tensor (worker threads do this), ``Preprocessing.on_device`` finishes equally shaped ones together, and the
network maps (n, C, H, W) float32 in [0, 255] to (n, d). Networks run in float32 proper: no autocast, no TF32, and no
choice of kernel that depends on how often the network ran before, so that an interrupted run repeats bit by bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["Extractor", "Preprocessing", "full_precision", "resolve_device"]


@dataclass(frozen=True)
class Preprocessing:
    """From a saved image to the network's input.

    Attributes:
        name: what is done, in words; part of the cache key.
        on_cpu: uint8 (H, W, C) to (C, H', W'), run by worker threads.
        on_device: (n, C, H', W') of equal shapes to (n, C'', H'', W'') float32, run on the extractor's device.
        difference: how far ``on_device``'s resizing is from PIL's, for one image (None: PIL does it).
    """

    name: str
    on_cpu: Callable[[np.ndarray], torch.Tensor]
    on_device: Callable[[torch.Tensor], torch.Tensor] = torch.Tensor.float
    difference: Callable[[np.ndarray], torch.Tensor] | None = None


@dataclass(frozen=True)
class Extractor:
    """Maps images to features; made by :func:`build_extractor`.

    Attributes:
        name: ``inception``, ``clip``, ... or what the user calls it.
        network: (n, C, H, W) float32 in [0, 255] on ``device`` to (n, d).
        preprocessing: how an image becomes the network's input.
        device: where the network is.
        weights: hash of the weights; None when nothing says which function this is, and then nothing is cached.
        classify: (n, d) features to (n, K) scores of K classes; None where the network names no classes.
        recognises: the names of these classes.

    Examples:
        >>> from kdist.evals import build_extractor
        >>> build_extractor("digits", device="cpu").recognises[:3]
        ('0', '1', '2')
    """

    name: str
    network: Callable[[torch.Tensor], torch.Tensor]
    preprocessing: Preprocessing
    device: torch.device
    weights: str | None
    classify: Callable[[torch.Tensor], torch.Tensor] | None = None
    recognises: Sequence[str] = ()

    def __call__(self, prepared: Sequence[torch.Tensor]) -> np.ndarray:
        """Features of images that ``preprocessing.on_cpu`` prepared: (n, d) float32.

        Raises:
            ValueError: the images differ in shape after preprocessing, or the network gives no (n, d) real numbers.
        """
        with torch.no_grad(), full_precision(self.device):
            features = self.network(self._batch(prepared))
        if not torch.is_tensor(features) or features.shape[:1] != (len(prepared),) or features.numel() == 0:
            shape = tuple(features.shape) if torch.is_tensor(features) else type(features).__name__
            raise ValueError(f"extractor {self.name!r} must return ({len(prepared)}, d) features; got {shape}")
        if features.is_complex():
            raise ValueError(f"extractor {self.name!r} must return real features; got {features.dtype}")
        return features.flatten(1).float().cpu().numpy()

    def predict(self, features: np.ndarray) -> np.ndarray | None:
        """What the network takes (n, d) features for: (n,) places in :attr:`recognises`, or None."""
        if self.classify is None:
            return None
        with torch.no_grad(), full_precision(self.device):
            return self.classify(torch.from_numpy(features).to(self.device)).argmax(1).cpu().numpy()

    def _batch(self, prepared: Sequence[torch.Tensor]) -> torch.Tensor:
        """One tensor on the device; images of one size are finished together, the order is kept."""
        places: dict[tuple[int, ...], list[int]] = {}
        for place, image in enumerate(prepared):
            places.setdefault(tuple(image.shape), []).append(place)
        parts = [
            self.preprocessing.on_device(torch.stack([prepared[i] for i in group]).to(self.device))
            for group in places.values()
        ]
        shapes = {tuple(part.shape[1:]) for part in parts}
        if len(shapes) > 1:
            raise ValueError(
                f"extractor {self.name!r} needs images of one shape; got {sorted(shapes)} (channels, height, width); "
                "resize them, convert all to grey or to colour, or choose an extractor that resizes"
            )
        if len(parts) == 1:
            return parts[0]  # large: a copy costs as much as resizing an image of 64 px
        order = torch.tensor([i for group in places.values() for i in group]).argsort()
        return torch.cat(parts)[order.to(self.device)]

    @property
    def identity(self) -> dict[str, str | None]:
        """What decides the features of a given image: network, weights, preprocessing, number format, libraries."""
        from PIL import __version__ as pillow

        return {
            "extractor": self.name,
            "weights": self.weights,
            "preprocessing": self.preprocessing.name,
            "dtype": "float32",
            "device": self.device.type,
            "libraries": f"torch {torch.__version__}, pillow {pillow}",
        }


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Float32 arithmetic as it is written, the same at every call; the former settings come back afterwards."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with (
            torch.autocast(device.type, enabled=False),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
            # TorchScript would re-fuse its kernels after the first calls
            torch.jit.optimized_execution(False),  # type: ignore[attr-defined]
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def resolve_device(device: str | torch.device) -> torch.device:
    """``auto`` is this process's GPU where there is one, else the CPU; anything else is checked.

    Under ``accelerate launch`` (or torchrun), ``auto`` and ``cuda`` mean the GPU of the process's local rank.

    Raises:
        ValueError: no such device here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device must be auto, cpu, cuda, cuda:N or mps; got {device!r}") from error
    if resolved.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(
                f"device {str(device)!r} was asked for, but this torch ({torch.__version__}) sees no CUDA GPU; "
                "use device='cpu' (--device cpu) or install a CUDA build of torch"
            )
        index = int(os.environ.get("LOCAL_RANK", 0)) if resolved.index is None else resolved.index
        if index >= torch.cuda.device_count():
            raise ValueError(f"device cuda:{index} was asked for; this machine has {torch.cuda.device_count()} GPU(s)")
        return torch.device("cuda", index)
    if resolved.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device 'mps' was asked for, but torch sees no Apple GPU; use device='cpu'")
    return resolved
