"""Files that are whole or not there, folders that can be written, what the numbers were made with.

Standard library only, until a figure is drawn: the command line reads it before anything heavy is imported.
"""

from __future__ import annotations

import errno
import glob
import io
import os
import platform
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "cache_folder",
    "png",
    "prepare_file",
    "prepare_output",
    "printable",
    "read_text",
    "versions",
    "write_atomically",
    "write_together",
    "write_with_pictures",
    "written_atomically",
]

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be renamed
    fcntl = None  # type: ignore[assignment]

# control characters, line and paragraph separators, surrogates
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_STALE_SECONDS = 24 * 3600.0  # an unfinished file this old belongs to no running process
_LOCKED_AFTER = 1.0  # seconds after which a file that a process has made is surely locked by it


def write_atomically(path: Path, content: bytes | str) -> None:
    """The whole file or none: written beside the target, flushed to the disk, renamed.

    Text is written as UTF-8; what cannot be (bytes of a path that are none) becomes ``\\udce9``.

    Raises:
        OSError: no space, no permission; the unfinished file is removed and what was at ``path`` stays.
    """
    written_atomically(path, lambda partial: _write(partial, _encoded(content)))


def write_together(folder: Path, contents: Mapping[str, bytes | str], *, obsolete: Collection[str] = ()) -> None:
    """Files that belong together: all are written beside their places before the first takes its name.

    A run that is killed while they are written leaves what was there. In the moment of renaming, the former files are
    removed before any new one appears, so that files of two runs never stand side by side.

    Args:
        folder: where they shall be; it is made.
        contents: name to content.
        obsolete: further names that are removed where they exist: former files that the new ones say nothing of.

    Raises:
        OSError: no space, no permission; then nothing has changed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as unfinished:
        partials: dict[Path, Path] = {}
        for path, content in ((folder / name, content) for name, content in contents.items()):
            with _explained(path):
                partials[path] = unfinished.enter_context(_unfinished(path))
                _write(partials[path], _encoded(content))
        for name in (*contents, *obsolete):
            (folder / name).unlink(missing_ok=True)
        for path, partial in partials.items():
            os.replace(partial, path)


def write_with_pictures(
    out: Path,
    numbers: Mapping[str, str],
    *,
    former: Collection[str],
    draw: Callable[[], dict[str, bytes]],
    page: Callable[[dict[str, bytes]], str] | None = None,
) -> list[Path]:
    """Numbers, the pictures that show them and a page, changed together; should drawing fail, the numbers alone.

    Args:
        out: The folder.
        numbers: File names and texts.
        former: Names of all files that a former run may have left; they go.
        draw: Makes the pictures, by name without ``.png``.
        page: Makes ``report.html`` of them.

    Returns:
        The files written.

    Raises:
        OSError: no space, no permission.
    """
    files: dict[str, bytes | str] = dict(numbers)
    try:
        pictures = draw()
        files |= {f"{name}.png": png for name, png in pictures.items()}
        if page is not None:
            files["report.html"] = page(pictures)
        write_together(out, files, obsolete=former)
    except Exception:
        write_together(out, dict(numbers), obsolete=former)
        raise
    return [out / name for name in files]


def _encoded(content: bytes | str) -> bytes:
    # a path with bytes that are no UTF-8 must not cost a finished run
    return content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content


@contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write to, which is gone at the end unless it got another name.

    Its name is its own, since processes that write the same file at the same time must not share an unfinished one.
    It is locked, and the system lets go of the locks of a process that is killed: so its leftovers are known.
    """
    partial = path.with_name(f"{path.name}.{platform.node()}.{uuid.uuid4().hex}.partial")
    try:
        with nullcontext() if fcntl is None else partial.open("xb") as file:
            if file is not None:
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(file, fcntl.LOCK_EX)
            yield partial
    finally:
        partial.unlink(missing_ok=True)
        _remove_stale(path)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """An error that says which file could not be written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(
                error.errno,
                f"no space left for {path}; nothing that was finished is lost: free some space and run the same "
                "command again, it goes on from there",
            ) from error
        if error.errno is None:
            raise
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from error


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def written_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write(partial)`` make a file beside ``path``, then give it that name.

    Args:
        path: where the finished file shall be; its folder is made.
        write: writes the file whose path it is given (a library's own ``save``).

    Raises:
        OSError: no space, no permission; the unfinished file is removed and what was at ``path`` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _explained(path), _unfinished(path) as partial:
        write(partial)
        os.replace(partial, path)


def _remove_stale(path: Path) -> None:
    """Unfinished files of killed runs; one that another process is writing stays."""
    with suppress(OSError):
        for leftover in path.parent.glob(f"{glob.escape(path.name)}.*.partial"):
            with suppress(FileNotFoundError):
                if _abandoned(leftover):
                    leftover.unlink()


def _abandoned(partial: Path) -> bool:
    """Whether no process writes it: it is old, or of this machine, where its lock would be seen, and not locked."""
    age = time.time() - partial.stat().st_mtime
    if fcntl is None or age < _LOCKED_AFTER or f".{platform.node()}." not in partial.name:
        return age > _STALE_SECONDS
    with partial.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return age > _STALE_SECONDS
    return True


def prepare_output(out: Path) -> Path:
    """Make the folder and prove that it can be written, before any work is done.

    Raises:
        OSError: it cannot be made or written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):  # without a name where the system can: a killed run leaves nothing
            pass
    except OSError as error:
        raise OSError(f"cannot write to --out {out}: {error.strerror or error}; choose another folder") from None
    return out


def prepare_file(path: Path) -> Path:
    """Prove that a file can be written at ``path``, before any work is done; its folder is made.

    Raises:
        OSError: the folder cannot be made or written, or there is a folder of that name.
    """
    prepare_output(path.parent)
    if path.is_dir():
        raise IsADirectoryError(f"cannot write to --out {path}: there is a folder of that name; choose another name")
    return path


def printable(text: str) -> str:
    """Text for a terminal, a page or a message: ``\\x1b`` for control characters and for bytes that are no UTF-8."""
    with suppress(UnicodeError):  # letters, which Python in a C locale holds byte by byte
        text = text.encode("utf-8", "surrogateescape").decode("utf-8")
    return _UNPRINTABLE.sub(lambda found: _escaped(ord(found[0])), text)


def _escaped(code: int) -> str:
    byte = code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code  # how Python holds such bytes of a path
    return f"\\x{byte:02x}" if byte < 256 else f"\\u{byte:04x}"


def read_text(path: Path) -> str:
    """A text file that people wrote: UTF-8, with or without a byte-order mark.

    Raises:
        ValueError: it is no UTF-8.
        OSError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error}); save it as UTF-8") from error


def cache_folder() -> Path:
    """``$KDIST_CACHE``, else ``kdist`` in ``$XDG_CACHE_HOME`` or ``~/.cache``: ``weights/`` and ``features/``."""
    if os.environ.get("KDIST_CACHE"):
        return Path(os.environ["KDIST_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kdist"


def versions(
    packages: Iterable[str] = ("kdist", "numpy", "scipy", "scikit-learn", "torch", "clean-fid"),
) -> dict[str, str]:
    """Python's version and those of the packages that are installed, by name."""
    found = {"python": platform.python_version()}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def png(figure: Figure, *, dpi: int) -> bytes:
    """The figure as the bytes of a PNG file, and closed: the picture of ``savefig``, which draws all twice."""
    import matplotlib.pyplot as plt
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    figure.set_dpi(dpi)
    FigureCanvasAgg(figure).print_png(buffer)
    plt.close(figure)
    return buffer.getvalue()
