"""One self-contained HTML file: pictures inside, no scripts, no network."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdist.files import png

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

__all__ = ["figure_png", "figure_uri", "grid", "image_uri", "png_uri", "render"]

TEMPLATES = Path(__file__).parent / "templates"


def png_uri(file: bytes) -> str:
    """The bytes of a PNG file as a ``data:`` URI."""
    return "data:image/png;base64," + base64.b64encode(file).decode()


def figure_png(figure: Figure, *, dpi: int = 160) -> bytes:
    """A matplotlib figure as the bytes of a PNG file; the figure is closed."""
    import matplotlib.pyplot as plt
    from matplotlib.text import Text

    with plt.rc_context({"text.parse_math": False}):  # a dollar in the name of a set or a class begins no formula
        for text in figure.findobj(Text):
            text.set_parse_math(False)
        return png(figure, dpi=dpi)


def figure_uri(figure: Figure, *, dpi: int = 160) -> str:
    """A matplotlib figure as a ``data:`` URI; the figure is closed."""
    return png_uri(figure_png(figure, dpi=dpi))


def image_uri(pixels: np.ndarray) -> str:
    """(H, W) or (H, W, 3) uint8 as a ``data:`` URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png", optimize=True)
    return png_uri(buffer.getvalue())


def grid(images: np.ndarray, columns: int, *, gap: int = 1) -> np.ndarray:
    """Images side by side, row by row, on white.

    Args:
        images: (N, C, H, W) in [-1, 1], C = 1 or 3; values outside are clipped.
        columns: images in a row.
        gap: white pixels between them.

    Returns:
        (H', W') or (H', W', 3) uint8.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images must be (N, 1 or 3, H, W); got {images.shape}")
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 255, np.uint8)
    for index, image in enumerate(np.clip((images + 1) * 127.5, 0, 255).round().astype(np.uint8)):
        top, left = (
            gap + position * (size + gap)
            for position, size in zip(divmod(index, columns), (height, width), strict=True)
        )
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return sheet[..., 0] if channels == 1 else sheet


def breakable(name: str) -> Markup:
    """Long names of sets break after ``_``, ``/``, ``.`` and ``-``, not within a word or a number."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"([_/](?=\w)|[.-](?=[^\W\d]))", r"\1<wbr>", str(escape(name))))


def render(template: str, *, folder: Path | None = None, **context: Any) -> str:
    """Fill a jinja2 template; ``folder`` is looked into first, then this package's templates (``base.html``)."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folders: Sequence[Path] = [TEMPLATES] if folder is None else [folder, TEMPLATES]
    loader = FileSystemLoader([str(path) for path in folders])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["breakable"] = breakable
    return environment.get_template(template).render(**context)
