"""Files that are whole or not there, alone and together, whenever the process ends."""

import errno
import os

import pytest

from kdist import files
from kdist.files import write_atomically, write_together, written_atomically

OLD = {"results.json": "old", "report.html": "old", "extra.png": "old"}
NEW = {"results.json": "new", "classes.csv": "new", "report.html": "new"}


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if path.suffix != ".partial"}


def in_a_process_that_dies(step, work):
    """Run ``work`` in a fork that ends, without cleaning up, before its ``step``-th write, rename or removal.

    True if it died.
    """
    child = os.fork()
    if child == 0:
        left = [step]

        def counting(function):
            def counted(*arguments, **options):
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)
                return function(*arguments, **options)

            return counted

        try:
            files._write = counting(files._write)
            files.os.replace = counting(os.replace)
            files.Path.unlink = counting(files.Path.unlink)
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of threads that the child does not use
def test_files_of_two_runs_never_stand_side_by_side(tmp_path):
    kept = 0
    for step in range(100):
        folder = tmp_path / str(step)
        write_together(folder, OLD)
        died = in_a_process_that_dies(step, lambda: write_together(folder, NEW, obsolete=["extra.png"]))  # noqa: B023
        found = contents(folder)
        assert set(found.values()) in ({"old"}, {"new"}, set()), (step, found)
        kept += found == OLD
        if not died:
            break
    assert found == NEW
    assert kept == 4  # until the first removal: three writes and the moment before it
    assert not list(folder.glob("*.partial"))


def test_full_disk_changes_nothing(tmp_path, monkeypatch):
    write_together(tmp_path, OLD)
    write = files._write

    def full(path, data):
        if path.name.startswith("report.html"):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    monkeypatch.setattr(files, "_write", full)
    with pytest.raises(OSError, match=r"no space left for .*report\.html; nothing that was finished is lost"):
        write_together(tmp_path, NEW)
    assert contents(tmp_path) == OLD
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("number", [errno.EFBIG, errno.EIO, errno.EROFS])
def test_errors_name_the_file(tmp_path, monkeypatch, number):
    def broken(path, data):
        path.write_bytes(b"half")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "_write", broken)
    with pytest.raises(OSError, match=r"cannot write .*a\.npz: ") as caught:
        write_atomically(tmp_path / "a.npz", b"whole")
    assert caught.value.errno == number
    assert not list(tmp_path.iterdir())


def test_content_reaches_the_disk_before_its_name(tmp_path, monkeypatch):
    """fsync before the rename: else a power cut may leave the name with nothing in it."""
    done = []
    monkeypatch.setattr(files.os, "fsync", lambda number: done.append("flushed"))
    replace = os.replace
    monkeypatch.setattr(files.os, "replace", lambda *paths: (done.append("renamed"), replace(*paths)))
    write_atomically(tmp_path / "a", "text")
    assert done == ["flushed", "renamed"]
    write_together(tmp_path, {"b": "text", "c": "text"})
    assert done[2:] == ["flushed", "flushed", "renamed", "renamed"]


def test_text_with_bytes_that_are_none(tmp_path):
    write_atomically(tmp_path / "a.json", '"caf\udce9"')
    assert (tmp_path / "a.json").read_bytes() == b'"caf\\udce9"'


def test_names_with_brackets(tmp_path):
    """Leftovers are found by a pattern; a name must not be taken for one."""
    (tmp_path / "a1.npz.0.partial").write_bytes(b"half")
    os.utime(tmp_path / "a1.npz.0.partial", (0, 0))
    (tmp_path / "a[1].npz.0.partial").write_bytes(b"half")
    os.utime(tmp_path / "a[1].npz.0.partial", (0, 0))
    written_atomically(tmp_path / "a[1].npz", lambda partial: partial.write_bytes(b"whole"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a1.npz.0.partial", "a[1].npz"]


def test_leftovers_of_killed_runs_are_removed(tmp_path):
    for name in ("file.4711.partial", "file.4712.partial", "other.4711.partial"):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (0, 0))
    os.utime(tmp_path / "file.4712.partial")  # a process that is writing now
    write_atomically(tmp_path / "file", b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "file.4712.partial", "other.4711.partial"]
