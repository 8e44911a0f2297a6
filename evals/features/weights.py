"""Finding, checking and downloading weight files.

A published file is accepted only with the SHA-256 it was published with: a download that broke off, or another
file under the same name, is refused with what to do about it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from kdist.files import cache_folder

from ..hashing import file_hash

__all__ = ["PublishedFile", "find_weights"]


@dataclass(frozen=True)
class PublishedFile:
    """A weight file as its authors publish it: its name, address and SHA-256."""

    name: str
    url: str
    sha256: str


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
