"""Glyphs: images of characters in the fonts that come with matplotlib, a data set with up to 2048 classes.

    python -m scripts.glyphs.data --sheet glyphs.png         # render, cache, draw a sheet to look at

A class is a character; inside a class vary the style (the twelve DejaVu faces), size, place, slant, stroke weight
and a small elastic deformation. Characters that look alike (Latin A and Greek Alpha) are one class, blank ones none.
Classes come in a fixed random order, so that the nested sets of :data:`SETS` are simply the classes 0..P-1: every set
is a random draw from the same law of characters, only its number differs. Everything follows from a seed: the images of
a class do not depend on how many classes are asked for, nor held-out images on the training ones.

Images are (N, 1, size, size) uint8, paper 0, ink 255; :func:`to_model` maps them to [-1, 1].

The faces: DejaVu 2.37, https://dejavu-fonts.github.io. Elastic deformation: P. Simard, D. Steinkraus, J. Platt, Best
practices for convolutional neural networks applied to visual document analysis, ICDAR 2003.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
import typer
from PIL import Image, ImageDraw, ImageFont

from kdist.files import write_atomically

__all__ = [
    "FONTS",
    "SETS",
    "Glyphs",
    "check_fonts",
    "class_characters",
    "load",
    "render",
    "sheet",
    "to_model",
    "variants",
]

SETS = (8, 32, 128, 512, 2048)
CACHE = Path("runs/glyphs")
Split = Literal["train", "held_out"]

# SHA-256 of the faces that every published number was made with (DejaVu 2.37, the same in matplotlib since 2.0)
FONTS = {
    "DejaVuSans.ttf": "3fdf69cabf06049ea70a00b5919340e2ce1e6d02b0cc3c4b44fb6801bd1e0d22",
    "DejaVuSans-Bold.ttf": "b184b89e3c1075f22f6b71575b6fc20d4972b3cfd3b23322ca6fd596dcaef167",
    "DejaVuSans-Oblique.ttf": "ccdf74b350f11fd3dd5774de50e5e6346a1a5da1f5b7d5fb83590665e97a5213",
    "DejaVuSans-BoldOblique.ttf": "6edf0283160186af451cbee71e7b845f2e4cabf264bb992ce668c83c25465e6f",
    "DejaVuSansMono.ttf": "602ec86b8948cfcd956482fe64f94c36c867770149ef2f791d4613f443bcecb3",
    "DejaVuSansMono-Bold.ttf": "baada9a5172fe20886251aff0433fc38461912d5daf07287e7bee56620a8da96",
    "DejaVuSansMono-Oblique.ttf": "28052813f7a709fc89f52d192dc995ef4f0fdc5c3d7b73a49d6849b1916d0cd0",
    "DejaVuSansMono-BoldOblique.ttf": "a69081c15c76c827e0a27a5a7f5c74b6135c843499955495ffa8c20d3a98288b",
    "DejaVuSerif.ttf": "107244956e9962b9e96faccdc551825e0ae0898ae13737133e1b921a2fd35ffa",
    "DejaVuSerif-Bold.ttf": "c3753f2ed6bc673f15846dc45addbeb3b9c872f32fb18fd53a21f1bef1ed7676",
    "DejaVuSerif-Italic.ttf": "3e7994fbc54fa10ce3352a42d548fadd7d9cadb69cb1109bc9d960f6dac57f04",
    "DejaVuSerif-BoldItalic.ttf": "d93efec7a9d2e826768d1a2ee95b95870e15e29599a84f3484af1de1cec2e181",
}
_FINE = 3  # masks are drawn this much larger, deformed there, then averaged down
_FONT_SIZE, _BASELINE = 0.75, 0.73  # of the image's height: accents above and descenders below just fit
_ALIKE = 0.5  # L2 distance of two images with ink 1, root mean square over the styles (a glyph's own norm is about 4)
_ORDER_SEED = 2602  # of the random order of the classes, part of the data's definition
_FORMAT = 1  # raise when the rendering changes: old caches are then made again


@dataclasses.dataclass(frozen=True)
class Glyphs:
    """Rendered images: ``images`` (N, 1, size, size) uint8, ``labels`` (N,) int64, one character per class."""

    images: torch.Tensor
    labels: torch.Tensor
    characters: tuple[str, ...]

    def first(self, classes: int) -> Glyphs:
        """The nested set of the first ``classes`` classes."""
        keep = self.labels < classes
        return Glyphs(self.images[keep], self.labels[keep], self.characters[:classes])


def to_model(images: torch.Tensor) -> torch.Tensor:
    """uint8 images as the float32 in [-1, 1] that networks see."""
    return images.float() / 127.5 - 1


def check_fonts(folder: Path | None = None) -> list[Path]:
    """Paths of the twelve faces.

    Args:
        folder: where they are; None for matplotlib's own.

    Raises:
        FileNotFoundError: faces are missing.
        ValueError: faces are not those that :data:`FONTS` pins.
    """
    if folder is None:
        import matplotlib

        folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    paths = [folder / name for name in FONTS]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(FONTS)} faces are not in {folder}: {', '.join(missing)}; "
            "matplotlib's wheels carry them (some distributions' packages do not): pip install matplotlib"
        )
    changed = [p.name for p in paths if hashlib.sha256(p.read_bytes()).hexdigest() != FONTS[p.name]]
    if changed:
        raise ValueError(
            f"these faces in {folder} are not DejaVu 2.37: {', '.join(changed)}; other outlines give other images, "
            "classes in another order and weights that do not fit them. Use a matplotlib that carries DejaVu 2.37, or "
            "render with fonts that you name and train anew"
        )
    return paths


@cache
def _masks(size: int) -> tuple[tuple[str, ...], np.ndarray]:
    """One large mask per distinct character and style: characters in class order, (classes, styles, h, h) uint8."""
    from matplotlib.ft2font import FT2Font

    paths = check_fonts()
    shared = set.intersection(*[set(FT2Font(str(path)).get_charmap()) for path in paths])
    characters = [chr(code) for code in sorted(shared) if unicodedata.category(chr(code))[0] in "LNPS"]
    fine = size * _FINE
    masks = np.zeros((len(characters), len(paths), fine, fine), np.uint8)
    for style, path in enumerate(paths):
        fonts = {}
        strip = Image.new("L", (fine, fine * len(characters)))  # all below each other: one image, not thousands
        pen = ImageDraw.Draw(strip)
        for index, character in enumerate(characters):
            pixels = round(_FONT_SIZE * fine)
            while True:  # the few wide or tall ones are made to fit
                if pixels not in fonts:
                    fonts[pixels] = ImageFont.truetype(str(path), pixels, layout_engine=ImageFont.Layout.BASIC)
                left, top, right, bottom = fonts[pixels].getbbox(character, anchor="ls")
                if max(right - left, bottom - top) <= fine:
                    break
                pixels = min(pixels - 1, int(pixels * fine / max(right - left, bottom - top)))
            baseline = min(max(round(_BASELINE * fine), -top), fine - bottom)
            place = (fine / 2 - (left + right) / 2, fine * index + baseline)
            pen.text(place, character, fill=255, font=fonts[pixels], anchor="ls")
        masks[:, style] = np.asarray(strip).reshape(-1, fine, fine)
    keep = _distinct(masks, size)
    order = np.random.default_rng(_ORDER_SEED).permutation(len(keep))
    keep = np.array(keep)[order]
    return tuple(characters[index] for index in keep), masks[keep]


def _distinct(masks: np.ndarray, size: int) -> list[int]:
    """Indices of the characters that are not blank in any style and not like an earlier one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count, styles = masks.shape[:2]
    small = np.zeros((count, styles, size, size), np.float32)
    for row, column in np.ndindex(_FINE, _FINE):
        small += masks[:, :, row::_FINE, column::_FINE]
    small /= _FINE**2 * 255
    blank = small.reshape(count, styles, -1).max(2).min(1) < 0.1
    flat = small.reshape(count, -1)
    squares, limit = np.square(flat).sum(1), styles * _ALIKE**2
    # by one product, off by 0.001 in float32, those that may be alike; by their difference, whether they are
    one, other = np.nonzero(squares[:, None] + squares - 2 * (flat @ flat.T) < limit + 0.1)
    alike = np.square(flat[one] - flat[other]).sum(1, dtype=np.float64) < limit
    _, group = connected_components(coo_array((alike[alike], (one[alike], other[alike])), (count, count)))
    seen: set[int] = set()
    keep = []
    for index in np.flatnonzero(~blank):
        if group[index] not in seen:
            seen.add(group[index])
            keep.append(int(index))
    return keep


def class_characters(size: int = 16) -> tuple[str, ...]:
    """The distinct characters in class order: class ``c`` is ``class_characters()[c]``."""
    return _masks(size)[0]


def variants(label: int, split: Split, *, most: int = 1024, fewest: int = 24, sets: Sequence[int] = SETS) -> int:
    """Images of a class: many in the small sets, which are trained on most, few in the largest. Held-out: a quarter."""
    smallest = next(count for count in sets if label < count)
    number = max(fewest, min(most, 32 * most // smallest))
    return number if split == "train" else max(1, number // 4)


def render(label: int, number: int, split: Split, *, size: int = 16, seed: int = 0) -> torch.Tensor:
    """Images of one class, (number, 1, size, size) uint8; the first few do not change when more are asked for.

    Raises:
        ValueError: ``label`` or ``split`` out of range.
    """
    characters, masks = _masks(size)
    if not 0 <= label < len(characters):
        raise ValueError(
            f"label must be in 0..{len(characters) - 1}, the distinct glyphs at {size} pixels; got {label}"
        )
    if split not in ("train", "held_out"):
        raise ValueError(f"split must be train or held_out; got {split!r}")
    generator = np.random.default_rng([seed, split == "held_out", label])
    draws = torch.from_numpy(generator.random((number, 40))).float()
    style = (draws[:, 0] * masks.shape[1]).long()
    mask = torch.from_numpy(masks[label])[style, None].float() / 255
    return _deform(mask, draws[:, 1:] * 2 - 1, size)


def _deform(mask: torch.Tensor, draws: torch.Tensor, size: int) -> torch.Tensor:
    """(N, 1, h, h) masks in [0, 1] and (N, 39) uniform draws in [-1, 1] to (N, 1, size, size) uint8."""
    number, pixel = len(mask), 2 / size  # grid_sample's coordinates run over 2
    zoom = 1 / (0.95 + 0.12 * draws[:, 0])
    stretch, slant = 1 + 0.06 * draws[:, 1], 0.15 * draws[:, 2]
    zero = torch.zeros_like(zoom)
    affine = torch.stack(
        [
            torch.stack([zoom * stretch, slant, 1.0 * pixel * draws[:, 3]], -1),
            torch.stack([zero, zoom / stretch, 1.0 * pixel * draws[:, 4]], -1),
        ],
        1,
    )
    grid = F.affine_grid(affine, list(mask.shape), align_corners=False)
    waves = 0.6 * pixel * draws[:, 5:37].reshape(number, 2, 4, 4)  # displacements on a coarse grid, made smooth
    waves = F.interpolate(waves, size=mask.shape[-2:], mode="bicubic", align_corners=True)
    warped = F.grid_sample(mask, grid + waves.permute(0, 2, 3, 1), align_corners=False)
    # stroke weight: blur a little, then cut at a level that differs
    blurred = F.avg_pool2d(warped, 3, stride=1, padding=1)
    level = 0.42 + 0.17 * draws[:, 37].view(-1, 1, 1, 1)
    inked = ((blurred - level) * 3 + 0.5).clamp(0, 1)
    return (F.avg_pool2d(inked, _FINE) * 255).round().to(torch.uint8)


def load(
    split: Split,
    *,
    classes: int = SETS[-1],
    size: int = 16,
    seed: int = 0,
    most: int = 1024,
    fewest: int = 24,
    folder: Path = CACHE,
) -> Glyphs:
    """Rendered images of the first ``classes`` classes, from the cache in ``folder`` or made now and kept there.

    Raises:
        ValueError: more classes than there are distinct glyphs.
        FileNotFoundError, ValueError: what :func:`check_fonts` refuses.
    """
    if size < 8:
        raise ValueError(f"size must be at least 8 pixels; got {size}")
    characters = class_characters(size)
    if not 1 <= classes <= len(characters):
        raise ValueError(
            f"classes must be in 1..{len(characters)}, the distinct glyphs at {size} pixels in the {len(FONTS)} faces; "
            f"got {classes}. A larger size tells more of them apart"
        )
    settings = f"{_FORMAT} {''.join(FONTS.values())} {size} {seed} {most} {fewest} {classes} {split}"
    path = folder / f"glyphs-{split}-{classes}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}.npz"
    if not path.is_file():
        numbers = [variants(label, split, most=most, fewest=fewest) for label in range(classes)]
        images = torch.cat([render(c, n, split, size=size, seed=seed) for c, n in enumerate(numbers)])
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=images.numpy(), labels=np.repeat(np.arange(classes), numbers))
        write_atomically(path, buffer.getvalue())
    with np.load(path) as arrays:
        images, labels = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"])
    return Glyphs(images, labels, characters[:classes])


def sheet(glyphs: Glyphs, path: Path, *, rows: int = 24, columns: int = 16, zoom: int = 2) -> None:
    """Draw the first images of the first classes, a class per row."""
    per_class = [glyphs.images[glyphs.labels == c, 0][:columns] for c in range(min(rows, len(glyphs.characters)))]
    size = glyphs.images.shape[-1]
    canvas = np.full((len(per_class) * (size + 1), columns * (size + 1)), 128, np.uint8)
    for row, images in enumerate(per_class):
        for column, image in enumerate(images):
            top, left = row * (size + 1), column * (size + 1)
            canvas[top : top + size, left : left + size] = 255 - image.numpy()
    picture = Image.fromarray(canvas)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST).save(path)


def main(
    sheet_path: Annotated[Path, typer.Option("--sheet", help="PNG to draw")] = CACHE / "sheet.png",
    classes: int = SETS[-1],
    size: int = 16,
    seed: int = 0,
) -> None:
    """Render and cache the glyphs, draw a sheet, say what there is."""
    for split in ("train", "held_out"):
        glyphs = load(split, classes=classes, size=size, seed=seed)  # type: ignore[arg-type]
        typer.echo(f"{split}: {len(glyphs.images)} images of {classes} classes")
        if split == "train":
            sheet(glyphs, sheet_path)
    typer.echo(
        f"{len(class_characters(size))} distinct glyphs at {size} pixels; the smallest set: "
        f"{' '.join(class_characters(size)[: SETS[0]])}; sheet: {sheet_path}"
    )


if __name__ == "__main__":
    typer.run(main)
