"""Finding, checking and downloading weight files; hashes that say which weights made a feature.

A published file is accepted only with the SHA-256 it was published with: a download that broke off, or another
file under the same name, is refused with what to do about it.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = ["PublishedFile", "cache_folder", "file_hash", "find_weights", "module_hash"]


@dataclass(frozen=True)
class PublishedFile:
    """A weight file as its authors publish it: its name, address and SHA-256."""

    name: str
    url: str
    sha256: str


def cache_folder() -> Path:
    """``$KDIST_CACHE``, else ``kdist`` in ``$XDG_CACHE_HOME`` or ``~/.cache``: ``weights/`` and ``features/``."""
    if os.environ.get("KDIST_CACHE"):
        return Path(os.environ["KDIST_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kdist"


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


def find_weights(
    published: PublishedFile,
    weights: str | Path | None,
    *,
    allow_unknown: bool = False,
    also_in: tuple[Path, ...] = (),
) -> tuple[Path, str]:
    """The checked weight file and its SHA-256.

    Args:
        published: what the file must be.
        weights: the file, or a folder that holds it under its published name; None looks into
            ``cache_folder()/weights`` and ``also_in``, then downloads.
        allow_unknown: accept a given file whose hash is another (a stand-in or a retrained network).
        also_in: further folders to look in; wrong files there are passed over with a warning.

    Raises:
        FileNotFoundError: the given file is not there.
        ValueError: the given file is not the published one and ``allow_unknown`` is False.
        OSError: the download failed.
    """
    if weights is not None:
        path = Path(weights)
        path = path / published.name if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(f"weights: no file at {path}; it is published at {published.url}")
        digest = file_hash(path)
        if digest != published.sha256 and not allow_unknown:
            raise ValueError(_wrong(path, digest, published))
        return path, digest
    target = cache_folder() / "weights" / published.name
    for path in (target, *(folder / published.name for folder in also_in)):
        if path.is_file():
            if file_hash(path) == published.sha256:
                return path, published.sha256
            warnings.warn(f"{path} is not {published.name} as published (truncated?); passed over", stacklevel=3)
    return _download(published, target), published.sha256


def _wrong(path: Path, digest: str, published: PublishedFile) -> str:
    return (
        f"weights: {path} ({path.stat().st_size} bytes) has SHA-256 {digest}, the published {published.name} has "
        f"{published.sha256}: a broken download or another file. Delete it and fetch {published.url} again, or allow "
        "unknown weights (allow_unknown_weights=True, --allow-unknown-weights) if this stand-in is meant"
    )


def _download(published: PublishedFile, target: Path) -> Path:
    """Download with torch.hub: progress bar, hash check, and the name only once the file is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(published.url, str(target), hash_prefix=published.sha256, progress=True)
    except RuntimeError as error:
        raise OSError(
            f"the download of {published.url} is not the published file ({error}); try again, or fetch it with a "
            "browser and pass its path as weights (--weights FILE)"
        ) from error
    except OSError as error:
        raise OSError(
            f"could not download {published.url} ({error}); fetch it on a connected machine and pass its path as "
            f"weights (--weights FILE), or put it at {target}"
        ) from error
    return target
