"""Files that are whole or not there, folders that can be written, what the numbers were made with.

Standard library only: the command line reads it before anything heavy is imported.
"""

from __future__ import annotations

import errno
import glob
import os
import platform
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["cache_folder", "prepare_output", "versions", "write_atomically", "write_together", "written_atomically"]

_STALE_SECONDS = 24 * 3600.0  # an unfinished file this old belongs to no running process


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
    partials = {folder / name: _unfinished(folder / name) for name in contents}
    try:
        for path, partial in partials.items():
            with _explained(path):
                _write(partial, _encoded(contents[path.name]))
        for name in (*contents, *obsolete):
            (folder / name).unlink(missing_ok=True)
        for path, partial in partials.items():
            os.replace(partial, path)
    finally:
        for path, partial in partials.items():
            partial.unlink(missing_ok=True)
            _remove_stale(path)


def _encoded(content: bytes | str) -> bytes:
    # a path with bytes that are no UTF-8 must not cost a finished run
    return content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content


def _unfinished(path: Path) -> Path:
    # a name of its own: processes that write the same file at the same time must not share an unfinished one
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")


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
    partial = _unfinished(path)
    try:
        with _explained(path):
            write(partial)
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    _remove_stale(path)


def _remove_stale(path: Path) -> None:
    """Unfinished files of killed runs; another process's fresh one stays."""
    with suppress(OSError):
        for leftover in path.parent.glob(f"{glob.escape(path.name)}.*.partial"):
            with suppress(FileNotFoundError):
                if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                    leftover.unlink()


def prepare_output(out: Path) -> Path:
    """Make the folder and prove that it can be written, before any work is done.

    Raises:
        OSError: it cannot be made or written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=out):
            pass
    except OSError as error:
        raise OSError(f"cannot write to --out {out}: {error.strerror or error}; choose another folder") from None
    return out


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
