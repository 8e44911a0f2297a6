"""Files that are whole or not there, alone and together, whenever the process ends."""

import errno
import os
import time

import pytest

from kdist import files
from kdist.files import printable, read_text, write_atomically, write_together, write_with_pictures, written_atomically

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
        for leftover in folder.glob("*.partial"):
            os.utime(leftover, (time.time() - 10,) * 2)
        write_together(folder, NEW, obsolete=["extra.png"])  # the same command again, seconds later
        assert set(contents(folder).values()) == {"new"}
        assert not list(folder.glob("*.partial"))
    assert found == NEW
    assert kept == 4  # until the first removal: three writes and the moment before it


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


def test_numbers_outlive_their_pictures(tmp_path):
    """A page or a picture that cannot be made leaves the numbers, and nothing of a former run beside them."""
    former = ["report.html", "a.png"]
    made = {"former": former, "draw": lambda: {"a": b"png"}, "page": lambda pictures: str(sorted(pictures))}
    write_together(tmp_path, OLD)
    assert len(write_with_pictures(tmp_path, {"results.json": "new"}, **made)) == 3
    assert contents(tmp_path) == {"results.json": "new", "a.png": "png", "report.html": "['a']", "extra.png": "old"}
    for failing in ({"draw": lambda: {"a": 1 / 0}}, {"page": lambda pictures: 1 / 0}):
        write_together(tmp_path, OLD)
        with pytest.raises(ZeroDivisionError):
            write_with_pictures(tmp_path, {"results.json": "new"}, **{**made, **failing})
        assert contents(tmp_path) == {"results.json": "new", "extra.png": "old"}
    write_with_pictures(tmp_path, {"results.json": "newer"}, **{**made, "page": None, "former": []})
    assert contents(tmp_path) == {"results.json": "newer", "extra.png": "old", "a.png": "png"}


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


@pytest.mark.skipif(files.fcntl is None, reason="needs file locks")
def test_another_processs_unfinished_file_stays_however_old(tmp_path):
    """The lock decides on this machine, the age where the file is another machine's."""
    others = tmp_path / "file.some-other-machine.4711.partial"
    others.write_bytes(b"half")
    with files._unfinished(tmp_path / "file") as living:
        for unfinished in (living, others):
            os.utime(unfinished, (time.time() - 3600,) * 2)
        write_atomically(tmp_path / "file", b"whole")
        assert living.exists()
        assert others.exists()
        os.utime(living, (0, 0))
        os.utime(others, (0, 0))
        write_atomically(tmp_path / "file", b"whole")
        assert living.exists()
        assert not others.exists()


def test_trying_a_folder_leaves_nothing_even_when_killed(tmp_path, monkeypatch):
    """Nothing has a name in the folder while it is tried (Linux)."""
    seen = []
    opened = files.tempfile.TemporaryFile
    monkeypatch.setattr(
        files.tempfile, "TemporaryFile", lambda **where: (opened(**where), seen.extend(tmp_path.iterdir()))[0]
    )
    files.prepare_output(tmp_path)
    assert not seen or not hasattr(os, "O_TMPFILE")


def test_text_as_a_terminal_may_have_it():
    assert printable("caf\u00e9 \u732b [x] $y$") == "caf\u00e9 \u732b [x] $y$"
    assert printable("a\x1b[2J\tb\r\n\x9b\u2028") == r"a\x1b[2J\x09b\x0d\x0a\x9b\u2028"
    assert printable("caf\udcc3\udca9") == "caf\u00e9"  # as Python has it where the locale is C
    assert printable("\udcff\ud800") == r"\xff\ud800"


def test_text_that_people_write(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfcat\n")
    assert read_text(tmp_path / "a.txt") == "cat\n"
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"a\.txt is no text in UTF-8"):
        read_text(tmp_path / "a.txt")
