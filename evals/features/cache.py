"""Shards of features on disk: written atomically, named by all that decides their content, checked when read.

A shard is a safetensors file ``<key>.safetensors`` with the features of consecutive images and the list of those that
could not be used. Its key is the hash of the images' hashes and of the extractor's identity, so that a changed image,
weight or option finds no shard and is computed. A run that is killed leaves whole shards and at most one ``.partial``.
Every byte of a shard is covered by its checksum, its header included.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdist.files import write_atomically

__all__ = ["Shard", "ShardCache", "shard_key"]

_ZEROS = b"0" * 64
_CHECKSUM = re.compile(rb'sha256\\": \\"([0-9a-f]{64})')


@dataclass(frozen=True)
class Shard:
    """Features of a run of images.

    Attributes:
        features: (n, d) float32, the usable images in order; (0, 0) when there is none.
        kept: (n,) int64, their places in the shard.
        bad: place and reason of each other image.
    """

    features: np.ndarray
    kept: np.ndarray
    bad: dict[int, str]


def shard_key(content: str, identity: Mapping[str, Any]) -> str:
    """The name of the shard with this content hash under this extractor (:attr:`Extractor.identity`)."""
    return hashlib.sha256(json.dumps([content, dict(identity)], sort_keys=True).encode()).hexdigest()


class ShardCache:
    """Shards in a folder; None keeps them in memory, for this run only."""

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = None if folder is None else Path(folder)
        self._memory: dict[str, Shard] = {}

    @property
    def persistent(self) -> bool:
        """Whether shards of former runs may be there."""
        return self.folder is not None

    def path(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / key[:2] / f"{key}.safetensors"

    def get(self, key: str) -> Shard | None:
        """The shard, or None where there is none or it is damaged (truncated, altered, another key)."""
        path = self.path(key)
        if path is None:
            return self._memory.get(key)
        try:
            return _decode(path.read_bytes(), key)
        except FileNotFoundError:
            return None
        except ValueError as error:
            warnings.warn(f"{path}: {error}; its features are computed again", stacklevel=2)
            path.unlink(missing_ok=True)
            return None

    def put(self, key: str, shard: Shard) -> None:
        """Keep the shard.

        Raises:
            OSError: it cannot be written.
        """
        path = self.path(key)
        if path is None:
            self._memory[key] = shard
        else:
            write_atomically(path, _encode(shard, key))


def _encode(shard: Shard, key: str) -> bytes:
    """A safetensors file whose metadata begin with the SHA-256 of the file itself, taken with zeros in that place."""
    from safetensors.numpy import save

    bad = {str(place): reason for place, reason in sorted(shard.bad.items())}
    tensors: dict[str, np.ndarray] = {
        "features": np.ascontiguousarray(shard.features, dtype=np.float32),
        "kept": np.asarray(shard.kept, dtype=np.int64),
    }
    data = save(tensors, metadata={"kdist": json.dumps({"sha256": _ZEROS.decode(), "key": key, "bad": bad})})
    return data.replace(_ZEROS, hashlib.sha256(data).hexdigest().encode(), 1)


def _decode(data: bytes, key: str) -> Shard:
    """Raises ValueError unless the bytes are a whole shard of this key; nothing is parsed before that is known."""
    from safetensors.numpy import load

    found = _CHECKSUM.search(data)
    blank = data[: found.start(1)] + _ZEROS + data[found.end(1) :] if found else b""
    if found is None or hashlib.sha256(blank).hexdigest().encode() != found.group(1):
        raise ValueError("damaged shard")
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    about = json.loads(header["__metadata__"]["kdist"])
    if about["key"] != key:
        raise ValueError("damaged shard: it is another one's")
    tensors = load(data)
    return Shard(tensors["features"], tensors["kept"], {int(place): reason for place, reason in about["bad"].items()})
