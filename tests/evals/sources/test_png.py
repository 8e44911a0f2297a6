"""Plain PNG files without Pillow: the same answer as Pillow's for every file, whole or broken."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kdist.evals.sources import png
from kdist.evals.sources.files import decode
from kdist.evals.sources.pictures import from_pillow

pytest.importorskip("imagecodecs")
RNG = np.random.default_rng(0)


def encoded(image: Image.Image, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, "png", **options)
    return out.getvalue()


def noise(*shape: int) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8))


def by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return from_pillow(image)


def answer(read, data: bytes):
    """The pixels, or the error's kind and words (but for where in memory the file was)."""
    try:
        return read(data)
    except Exception as error:
        return type(error), str(error).partition(" <")[0]


@pytest.fixture
def undecoded(monkeypatch):
    """What the decoder was asked for; it gives nothing. Broken files are refused by a decoder in any case."""
    asked = []
    monkeypatch.setattr(png, "_codecs", lambda: SimpleNamespace(spng_decode=asked.append))
    return asked


@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("shape", [(7, 5), (1, 1), (7, 5, 3), (64, 33, 3)])
def test_plain_files_have_pillows_pixels(shape, level):
    data = encoded(noise(*shape), compress_level=level)
    found = png.plain_png(data)
    assert found is not None
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, by_pillow(data))


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (noise(6, 4, 4), {}),  # with alpha
        (noise(6, 4, 2), {}),  # grey with alpha
        (noise(6, 4, 3).convert("P"), {}),
        (noise(6, 4).convert("1"), {}),
        (noise(6, 4, 3), {"transparency": (1, 2, 3)}),
        (noise(6, 4), {"transparency": 7}),
        (noise(6, 4, 3), {"save_all": True, "append_images": [noise(6, 4, 3)]}),
        (Image.fromarray(np.arange(24, dtype=np.uint16).reshape(6, 4)), {}),  # refused, by Pillow's path
    ],
    ids=["RGBA", "LA", "palette", "bits", "transparent colour", "transparent grey", "animated", "16 bits"],
)
def test_all_others_are_left_to_pillow(undecoded, image, options):
    data = encoded(image, **options)
    assert png.plain_png(data) is None
    assert not undecoded
    mine, theirs = answer(lambda d: decode(d, "a.png"), data), answer(by_pillow, data)
    np.testing.assert_equal(mine, theirs)


def test_interlaced_files_and_files_of_too_many_pixels_are_left_to_pillow(undecoded):
    data = bytearray(encoded(noise(6, 4)))
    png.plain_png(bytes(data))
    assert undecoded.pop() == data  # as it is, it is decoded
    data[28] = 1
    assert png.plain_png(bytes(data)) is None
    data[28], data[16:20] = 0, (1 << 25).to_bytes(4, "big")
    assert png.plain_png(bytes(data)) is None
    assert not undecoded


def test_broken_files_are_what_they_are_to_pillow():
    """Cut anywhere, or with any byte changed: never pixels where Pillow gives an error, never others."""
    whole = encoded(noise(9, 8, 3))
    cut = [whole[:end] for end in range(8, len(whole), 3)]
    changed = [whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :] for at in range(8, len(whole), 3)]
    read_anyway = 0
    for data in cut + changed:
        mine, theirs = answer(lambda d: decode(d, "a.png"), data), answer(by_pillow, data)
        np.testing.assert_equal(mine, theirs)
        read_anyway += isinstance(theirs, np.ndarray)
    assert 0 < read_anyway < len(cut + changed)  # both kinds were met


def test_without_imagecodecs_pillow_reads_all(monkeypatch):
    data = encoded(noise(5, 4, 3))
    expected = decode(data, "a.png")
    monkeypatch.setattr(png, "_codecs", lambda: None)
    assert png.plain_png(data) is None
    np.testing.assert_array_equal(decode(data, "a.png"), expected)
