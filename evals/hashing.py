"""Hashes that say which bytes, arrays and networks a number was made from: SHA-256, hexadecimal."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

__all__ = ["array_hash", "file_hash", "module_hash"]


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def module_hash(module: torch.nn.Module) -> str:
    """SHA-256 of a module's class name and of all its parameters and buffers."""
    digest = hashlib.sha256(f"{type(module).__module__}.{type(module).__qualname__}".encode())
    for name, tensor in sorted(module.state_dict().items()):
        if torch.is_tensor(tensor):
            tensor = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def array_hash(array: np.ndarray) -> bytes:
    """SHA-256 of an array's shape and bytes."""
    return hashlib.sha256(str((array.shape, array.dtype.str)).encode() + np.ascontiguousarray(array).tobytes()).digest()
