"""A report's files, changed together: numbers first, pictures and a page that show those numbers or are not there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kdist.files import write_together

__all__ = ["write_with_page"]


def write_with_page(
    out: Path,
    numbers: Mapping[str, str],
    *,
    figures: Sequence[str],
    draw: Callable[[], dict[str, bytes]],
    page: Callable[[dict[str, bytes]], str],
) -> list[Path]:
    """Write every output; should a picture or the page fail, the numbers are written without them.

    Args:
        out: The folder.
        numbers: File names and texts.
        figures: Names of all pictures that there may be; those of a former run go.
        draw: Makes the pictures, by name.
        page: Makes ``report.html`` of them.

    Returns:
        The files written.

    Raises:
        OSError: no space, no permission.
    """
    obsolete = ("report.html", *(f"{name}.png" for name in figures))
    files: dict[str, bytes | str] = dict(numbers)
    try:
        pictures = draw()
        files |= {f"{name}.png": png for name, png in pictures.items()}
        files["report.html"] = page(pictures)
        write_together(out, files, obsolete=obsolete)
    except Exception:
        write_together(out, dict(numbers), obsolete=obsolete)
        raise
    return [out / name for name in files]
