"""PNG files without Pillow: the same pixels in less time, where imagecodecs is installed (libspng).

Only plain files, 8 bits of grey or RGB, in which a decoder has nothing to choose. All others, and all broken ones, are
left to Pillow, whose answers and errors count.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

__all__ = ["plain_png"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PLAIN = (b"\x08\x00\0\0\0", b"\x08\x02\0\0\0")  # 8 bits, grey or RGB, not interlaced
_MOST_PIXELS = 1 << 26  # Pillow warns of more, and then refuses


def plain_png(data: bytes) -> np.ndarray | None:
    """A file's pixels, uint8 (H, W, 1 or 3); None where Pillow has to look at it."""
    height, width = int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    if data[:8] != _SIGNATURE or data[24:29] not in _PLAIN or height * width > _MOST_PIXELS or _codecs() is None:
        return None
    head = data[: data.find(b"IDAT")]
    if b"tRNS" in head or b"acTL" in head:  # transparency, animation
        return None
    try:
        picture: np.ndarray = _codecs().spng_decode(data).reshape(height, width, -1)
    except Exception:  # broken: Pillow says how, or reads it all the same
        return None
    return picture if picture.dtype == np.uint8 and picture.shape[2] in (1, 3) else None


@cache
def _codecs() -> Any:
    try:
        import imagecodecs
    except ImportError:
        return None
    return imagecodecs
