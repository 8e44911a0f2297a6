"""Folders and their zips: the same images and classes from both, what cannot be told is refused by name."""

import io
import os
import stat
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from kdist.evals.sources import as_source
from kdist.evals.sources.containers import LARGEST_FILE


def png(value, size=(4, 5)):
    data = io.BytesIO()
    Image.new("L", size, value).save(data, "png")
    return data.getvalue()


def make_folder(root, names):
    for value, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(10 * value + 20))
    return root


def make_zip(path, entries):
    """Entries by name: bytes, or None for a folder's own entry."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            info = zipfile.ZipInfo(name)
            info.filename = name  # as it is: ZipInfo would change what other systems wrote
            archive.writestr(info, data or b"")
    return path


def zipped(folder, path, prefix=""):
    files = {prefix + file.relative_to(folder).as_posix(): file for file in folder.rglob("*")}
    return make_zip(path, {n + "/" * f.is_dir(): None if f.is_dir() else f.read_bytes() for n, f in files.items()})


def listing(source):
    """Class name and content of every image: what must not depend on the container."""
    return sorted((source.classes[int(y)], source.digest(i)) for i, y in enumerate(source.labels))


TREES = {
    "flat": ["a.png", "b.png"],
    "classes": ["cat/a.png", "cat/b.png", "dog/a.png"],
    "numbers": ["0/a.png", "2/b.png", "10/c.png"],
    "one class": ["cat/a.png", "cat/b.png"],
    "around": ["images/cat/a.png", "images/dog/b.png"],
    "two around": ["data/images/cat/a.png", "data/images/dog/b.png", "data/notes/"],
    "deep": ["cat/2020/a.png", "dog/2021/b.png"],
}


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
@pytest.mark.parametrize("prefix", ["", "real/", "./", "/"])
def test_folder_and_zip_are_one(tmp_path, tree, prefix):
    folder = make_folder(tmp_path / "real", [name for name in tree if not name.endswith("/")])
    found = as_source(folder)
    archive = as_source(zipped(folder, tmp_path / "real.zip", prefix))
    assert listing(archive) == listing(found)
    assert len(found) == len(list(folder.rglob("*.png")))


def test_classes_of_a_folder_in_a_folder(tmp_path):
    assert as_source(make_folder(tmp_path / "wrap", TREES["around"])).classes == {0: "cat", 1: "dog"}
    assert as_source(make_folder(tmp_path / "one", TREES["one class"])).classes == {0: "cat"}
    assert as_source(make_folder(tmp_path / "flat", TREES["flat"])).classes == {0: "all"}


def test_two_zipped_flat_folders_are_one_class_each(tmp_path):
    for name in ("real", "fake"):
        folder = make_folder(tmp_path / name, TREES["flat"])
        assert as_source(zipped(folder, tmp_path / f"{name}.zip", f"{name}/")).classes == {0: "all"}


def test_backslashes_are_separators(tmp_path):
    path = make_zip(tmp_path / "w.zip", {"cat\\a.png": png(20), "cat\\b.png": png(30), "dog\\a.png": png(40)})
    source = as_source(path)
    assert source.classes == {0: "cat", 1: "dog"}
    assert source.labels.tolist() == [0, 0, 1]
    assert listing(source) == listing(as_source(make_folder(tmp_path / "f", TREES["classes"])))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat/a.png", "cat/a.png"], r"holds cat/a.png twice"),
        (["cat/a.png", "cat\\a.png"], r"holds cat/a.png twice"),
        (["cat/a.png", "./cat//a.png"], r"holds cat/a.png twice"),
        (["cat/a.png", "dog/../cat/b.png"], r"'dog/../cat/b.png' .* leads through '..'"),
        (["1/a.png", "01/b.png"], "classes '01' and '1' would be one"),
    ],
)
def test_ambiguous_archives(tmp_path, names, message):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for value, name in enumerate(names):
            archive.writestr(name, png(20 + value))
    with pytest.raises(ValueError, match=message):
        as_source(tmp_path / "a.zip")


def test_folders_1_and_01(tmp_path):
    with pytest.raises(ValueError, match="classes '01' and '1' would be one; rename one of them"):
        as_source(make_folder(tmp_path / "f", ["1/a.png", "01/b.png"]))


def test_empty_class_folder_of_a_zip(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"cat/a.png": png(20), "dog/": None})
    with pytest.raises(ValueError, match=r"class folder\(s\) without an image in .*: dog"):
        as_source(path)


class TestLinks:
    @pytest.mark.parametrize("target", ["..", ".", "../..", "../../.."])
    def test_back_to_a_folder_around(self, tmp_path, target):
        folder = make_folder(tmp_path / "f", TREES["classes"])
        expected = listing(as_source(folder))
        (folder / "cat" / "up").symlink_to(target)
        assert listing(as_source(folder)) == expected
        path = zipped(make_folder(tmp_path / "g", TREES["classes"]), tmp_path / "g.zip")
        with zipfile.ZipFile(path, "a") as archive:
            link = zipfile.ZipInfo("cat/up")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, target)
        assert listing(as_source(path)) == expected

    def test_to_a_class_that_is_there_already(self, tmp_path):
        folder = make_folder(tmp_path / "f", TREES["classes"])
        (folder / "kitty").symlink_to("cat")
        with pytest.raises(ValueError, match=r"kitty and cat in .* are one folder"):
            as_source(folder)

    def test_to_another_disk(self, tmp_path):
        folder = make_folder(tmp_path / "f", ["cat/a.png"])
        (folder / "dog").symlink_to(make_folder(tmp_path / "elsewhere", ["b.png"]))
        assert as_source(folder).classes == {0: "cat", 1: "dog"}

    def test_file_links_in_a_zip_say_nothing(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("cat/a.png", png(20))
            link = zipfile.ZipInfo("cat/b.png")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, "a.png")
        with pytest.raises(ValueError, match=r"entry cat/b.png of .*a.zip is a link"):
            as_source(tmp_path / "a.zip")

    def test_to_nothing_is_set_aside(self, tmp_path):
        folder = make_folder(tmp_path / "f", ["cat/a.png"])
        (folder / "cat" / "b.png").symlink_to("absent.png")
        assert "FileNotFoundError" in as_source(folder).load([1])[0].reason


def test_pipe_among_the_images(tmp_path):
    folder = make_folder(tmp_path / "f", ["cat/a.png"])
    os.mkfifo(folder / "cat" / "b.png")
    with pytest.raises(ValueError, match=r"b.png is no file but a pipe"):
        as_source(folder)
    os.mkfifo(tmp_path / "p.zip")
    with pytest.raises(ValueError, match="neither a folder nor"):
        as_source(tmp_path / "p.zip")


def test_what_unpacks_to_far_more_than_an_image(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/a.png", png(20))
        with archive.open("cat/b.npy", "w", force_zip64=True) as entry:
            for _ in range(LARGEST_FILE // 2**24 + 1):
                entry.write(bytes(2**24))
    assert path.stat().st_size < 2**20
    with pytest.raises(ValueError, match=r"cat/b.npy in .* has 272 MiB unpacked, more than the 256"):
        as_source(path)


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
@pytest.mark.parametrize("name", [b"caf\xe9/a.png", b"cat/caf\xe9.png"])
def test_names_that_are_no_utf8(tmp_path, name):
    path = os.path.join(os.fsencode(tmp_path), b"f", name)
    os.makedirs(os.path.dirname(path))
    with open(path, "wb") as file:
        file.write(png(20))
    with pytest.raises(ValueError, match=r"the name .*caf\\xe9.* is no UTF-8; rename it"):
        as_source(tmp_path / "f")


def test_utf8_names_in_a_c_locale(tmp_path):
    """There Python holds them byte by byte; the classes are the same as everywhere."""
    make_folder(tmp_path / "f", ["caf\u00e9/a.png", "\u732b/b.png"])
    show = "import sys; from kdist.evals.sources import as_source; print(ascii(as_source(sys.argv[1]).classes))"
    environment = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-X", "utf8=0", "-c", show, str(tmp_path / "f")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == r"{0: 'caf\xe9', 1: '\u732b'}", done.stderr


def test_dataset_json_in_the_zipped_folder(tmp_path):
    folder = make_folder(tmp_path / "edm", ["00000/a.png", "00000/b.png"])
    (folder / "dataset.json").write_text('{"labels": [["00000/a.png", 3], ["00000/b.png", 1]]}')
    expected = listing(as_source(folder))
    for prefix in ("", "edm/", "other/"):
        source = as_source(zipped(folder, tmp_path / "x.zip", prefix))
        assert source.labels.tolist() == [3, 1]
        assert listing(source) == expected


def test_label_file_of_the_folder_serves_its_zip(tmp_path):
    folder = make_folder(tmp_path / "f", ["cat/a.png", "dog/b.png"])
    labels = tmp_path / "l.csv"
    labels.write_text("cat/a.png,7\ndog/b.png,5\n")
    for prefix in ("", "images/"):
        assert as_source(zipped(folder, tmp_path / "x.zip", prefix), labels=labels).labels.tolist() == [7, 5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a.png," + b"x" * 200_000, "is no table of files and labels: field larger than field limit"),
        ("é.png,1".encode("latin-1"), "is not UTF-8"),
        ("a.png,1".encode("utf-16"), "is not UTF-8"),
        (b"a.png,1,2", "each entry must be"),
    ],
)
def test_bad_tables(tmp_path, content, message):
    folder = make_folder(tmp_path / "f", ["a.png"])
    (tmp_path / "l.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        as_source(folder, labels=tmp_path / "l.csv")


def test_byte_order_mark_and_line_ends(tmp_path):
    folder = make_folder(tmp_path / "f", ["a.png", "b.png"])
    for text in ("file,label\r\na.png,5\r\nb.png,6\r\n", "a.png, 5\nb.png , 6", "a.png,5\rb.png,6"):
        (tmp_path / "l.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert as_source(folder, labels=tmp_path / "l.csv").labels.tolist() == [5, 6]
    for name, text in (("l.csv", "a.png, cat\nb.png,cat "), ("l.json", '{"a.png": " cat", "b.png": "cat"}')):
        (tmp_path / name).write_text(text)  # one class, whatever stands around its name
        assert as_source(folder, labels=tmp_path / name).classes == {0: "cat"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a.png": 1, "a.png": 2}', "names 'a.png' twice"),
        ('{"labels": [["a.png", 1], ["./a.png", 1]]}', "names 'a.png' twice"),
        ("[" * 100_000, "is not JSON"),
        ('{"a.png": ' + "9" * 40 + "}", "no number of int64"),
        ('{"a.png": [1]}', r"whole numbers or names; got \[1\]"),
        ('{"a.png": NaN}', "whole numbers or names; got nan"),
    ],
)
def test_bad_json(tmp_path, text, message):
    folder = make_folder(tmp_path / "f", ["a.png"])
    (tmp_path / "l.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        as_source(folder, labels=tmp_path / "l.json")


@pytest.mark.parametrize("name", ["rgb.png", "la.png", "grey.png", "rgb.ppm", "rgb.tiff"])
def test_16_bits_are_refused(tmp_path, name):
    """Pillow would read the high byte of colour; the files are written by hand, as it cannot."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    kind, suffix = name.split(".")
    channels = {"rgb": 3, "la": 2, "grey": 1}[kind]
    pixels = np.full((2, 2, channels), 300, ">u2").tobytes()
    if suffix == "png":
        rows = b"".join(b"\0" + pixels[i * 4 * channels : (i + 1) * 4 * channels] for i in range(2))
        header = struct.pack(">IIBBBBB", 2, 2, 16, {3: 2, 2: 4, 1: 0}[channels], 0, 0, 0)
        data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    elif suffix == "ppm":
        data = b"P6 2 2 65535\n" + pixels
    else:
        entries = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 3, 134), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 140),
                   (277, 3, 1, 3), (278, 3, 1, 2), (279, 4, 1, 24), (284, 3, 1, 1)]  # fmt: skip
        packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
        head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + packed + struct.pack("<I", 0)
        data = head + struct.pack("<3H", 16, 16, 16) + pixels
    (tmp_path / name).write_bytes(data)
    assert "more than 8 bits per channel" in as_source(tmp_path).load([0])[0].reason
