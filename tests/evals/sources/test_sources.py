"""Sources: what is read and in which order, labels, ranges and layouts, samplers with seeds, bad input."""

import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from kdist.evals.sources import ArraySource, BadImage, as_source, quantise


def picture(value, size=(4, 5), mode="RGB"):
    return Image.new("RGB", size, (value, value, value)).convert(mode)


@pytest.fixture
def class_folders(tmp_path):
    """Classes 0, 2 and 10, a nested file, a text file and hidden ones to be overlooked."""
    root = tmp_path / "images"
    for value, name in enumerate(["10/b.png", "10/a.PNG", "2/x.jpg", "0/deep/er/y.webp", "0/a.bmp"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture(20 * value + 10).save(root / name)
    (root / "notes.txt").write_text("no image")
    (root / ".hidden").mkdir()
    picture(1).save(root / ".hidden" / "z.png")
    return root


def zip_folder(folder, path, prefix=""):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*"), reverse=True):  # unsorted on purpose
            if file.is_file():
                archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


class TestFiles:
    def test_class_folders_keep_their_numbers(self, class_folders):
        source = as_source(class_folders)
        assert [source.name(i) for i in range(5)] == ["0/a.bmp", "0/deep/er/y.webp", "10/a.PNG", "10/b.png", "2/x.jpg"]
        assert source.labels.tolist() == [0, 0, 10, 10, 2]
        assert source.classes == {0: "0", 2: "2", 10: "10"}

    def test_named_folders_are_numbered_in_sorted_order(self, tmp_path):
        for name in ("cat", "ape", "12"):
            (tmp_path / name).mkdir()
            picture(9).save(tmp_path / name / "1.png")
        assert as_source(tmp_path).classes == {0: "12", 1: "ape", 2: "cat"}

    @pytest.mark.parametrize("prefix", ["", "images/"])
    def test_zip_gives_the_same_as_its_folder(self, class_folders, tmp_path, prefix):
        folder = as_source(str(class_folders))
        archive = as_source(zip_folder(class_folders, tmp_path / "i.zip", prefix))
        assert [archive.name(i) for i in range(5)] == [prefix + folder.name(i) for i in range(5)]
        np.testing.assert_array_equal(archive.labels, folder.labels)
        for i in range(5):
            assert archive.digest(i) == folder.digest(i)
            np.testing.assert_array_equal(archive.load([i])[0], folder.load([i])[0])

    @pytest.mark.parametrize(
        ("file", "text", "classes"),
        [
            ("l.csv", "file,label\na.png,3\nb.png,1\n", {1: "1", 3: "3"}),
            ("l.tsv", "a.png\tdog\nb.png\tcat\n", {0: "cat", 1: "dog"}),
            ("l.json", json.dumps({"a.png": 3, "b.png": 1}), {1: "1", 3: "3"}),
            ("l.json", json.dumps({"labels": [["b.png", 1], ["a.png", 3]]}), {1: "1", 3: "3"}),
        ],
    )
    def test_label_files(self, tmp_path, file, text, classes):
        for name in ("a.png", "b.png"):
            picture(9).save(tmp_path / name)
        (tmp_path / file).write_text(text)
        source = as_source(tmp_path, labels=tmp_path / file)
        assert source.classes == classes
        assert source.labels.tolist() == [max(classes), min(classes)]

    def test_dataset_json_in_a_zip_outranks_its_folders(self, tmp_path):
        root = tmp_path / "edm"
        for i in range(3):
            (root / f"0000{i}").mkdir(parents=True)
            picture(i).save(root / f"0000{i}" / "img.png")
        labels = [[f"0000{i}/img.png", 7 - i] for i in range(3)]
        (root / "dataset.json").write_text(json.dumps({"labels": labels}))
        assert as_source(zip_folder(root, tmp_path / "a.zip")).labels.tolist() == [7, 6, 5]
        (root / "dataset.json").write_text(json.dumps({"labels": None}))
        assert as_source(zip_folder(root, tmp_path / "b.zip")).classes == {0: "all"}

    def test_flat_folder_without_labels_is_one_class(self, tmp_path):
        picture(9).save(tmp_path / "a.png")
        source = as_source(tmp_path)
        assert source.labels.tolist() == [0]
        assert source.classes == {0: "all"}

    @pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("1", 1), ("LA", 1), ("RGBA", 3), ("P", 3), ("CMYK", 3)])
    def test_modes(self, tmp_path, mode, channels):
        picture(255, mode=mode).save(tmp_path / "a.tiff")
        image = as_source(tmp_path).load([0])[0]
        assert image.shape == (5, 4, channels)
        assert image.dtype == np.uint8
        assert (image == 255).all()

    def test_broken_files_are_set_aside_with_a_reason(self, tmp_path):
        picture(9, (40, 40)).save(tmp_path / "a.jpg", quality=95)
        (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:300])
        (tmp_path / "c.png").write_bytes(b"")
        Image.fromarray(np.full((3, 3), 40_000, np.uint16)).save(tmp_path / "d.png")
        np.save(tmp_path / "e.npy", np.array([{}], dtype=object), allow_pickle=True)
        images = as_source(tmp_path).load(range(5))
        assert not isinstance(images[0], BadImage)
        reasons = [image.reason for image in images[1:] if isinstance(image, BadImage)]
        assert len(reasons) == 4
        assert "truncated" in reasons[0].lower()
        assert "more than 8 bits" in reasons[2]
        assert "allow_pickle=False" in reasons[3]  # and so it was not unpickled

    def test_changed_bytes_change_the_digest(self, tmp_path):
        picture(9).save(tmp_path / "a.png")
        source = as_source(tmp_path)
        before = source.digest(0)
        picture(10).save(tmp_path / "a.png")
        changed = source.digest(0)
        (tmp_path / "a.png").unlink()
        assert len({before, changed, source.digest(0)}) == 3


class TestBadFolders:
    def test_nothing_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nothing at"):
            as_source(tmp_path / "absent")
        with pytest.raises(ValueError, match="no image in"):
            as_source(tmp_path)

    def test_empty_class_folder(self, class_folders):
        (class_folders / "7").mkdir()
        with pytest.raises(ValueError, match=r"class folder\(s\) without an image in .*: 7; remove or fill"):
            as_source(class_folders)

    def test_images_beside_class_folders(self, class_folders):
        picture(1).save(class_folders / "stray.png")
        with pytest.raises(ValueError, match=r"has images \(stray.png\) beside class folders"):
            as_source(class_folders)

    def test_unreadable_zip(self, class_folders, tmp_path):
        path = zip_folder(class_folders, tmp_path / "i.zip")
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(ValueError, match="not a readable zip archive"):
            as_source(path)

    def test_damaged_member_of_a_zip_is_set_aside(self, class_folders, tmp_path):
        path = zip_folder(class_folders, tmp_path / "i.zip")
        data = bytearray(path.read_bytes())
        at = data.find(b"BM", data.find(b"0/a.bmp"))  # the stored bmp's first bytes
        data[at + 60] ^= 255
        path.write_bytes(bytes(data))
        image = as_source(path).load([0])[0]
        assert isinstance(image, BadImage)
        assert "CRC" in image.reason

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a.png,1\n", r"1 images have no label: b.png"),
            ("a.png,1\nb.png,1\nc.png,2\n", r"1 labels have no image: c.png"),
            ("a.png,-1\nb.png,2\n", r"all whole numbers from 0, or all names; got \['-1', '2'\]"),
            ("a.png,1.5\nb.png,2\n", r"all whole numbers from 0, or all names"),
            ("a.png,\nb.png,2\n", r"all whole numbers from 0, or all names"),
            ("a.png,1\nb.png,2\na.png,2\n", r"names 'a.png' twice"),
            ("a.png,1,5\nb.png,2,5\n", r"each entry must be a file and its label"),
        ],
    )
    def test_labels_that_do_not_match(self, tmp_path, text, message):
        for name in ("a.png", "b.png"):
            picture(9).save(tmp_path / name)
        (tmp_path / "l.csv").write_text(text)
        with pytest.raises(ValueError, match=message):
            as_source(tmp_path, labels=tmp_path / "l.csv")

    def test_label_file_of_another_kind(self, tmp_path):
        picture(9).save(tmp_path / "a.png")
        (tmp_path / "l.json").write_text("[1, 2")
        with pytest.raises(ValueError, match="is not JSON"):
            as_source(tmp_path, labels=tmp_path / "l.json")
        (tmp_path / "l.json").write_text("3")
        with pytest.raises(ValueError, match="must hold a mapping or a list of pairs; got int"):
            as_source(tmp_path, labels=tmp_path / "l.json")
        (tmp_path / "l.xml").write_text("")
        with pytest.raises(ValueError, match=r"must end in .csv, .tsv or .json"):
            as_source(tmp_path, labels=tmp_path / "l.xml")
        with pytest.raises(FileNotFoundError, match="labels: no file"):
            as_source(tmp_path, labels=tmp_path / "absent.csv")


class TestArrays:
    def test_quantised_as_a_saved_image(self):
        """Against torchvision.utils.save_image's rule, x * 255 + 0.5 cut off, and a real PNG."""
        x = torch.linspace(-1.2, 1.2, 1001)
        ours = quantise(x, (-1, 1))
        saved = ((x.clamp(-1, 1) + 1) / 2).mul(255).add(0.5).clamp(0, 255).to(torch.uint8)
        # both round to nearest; float32 may fall on either side of an exact half
        assert int((ours.int() - saved.int()).abs().max()) <= 1
        assert float((ours != saved).float().mean()) < 0.01
        assert ours[[0, 500, -1]].tolist() == [0, 128, 255]

    @pytest.mark.parametrize(
        ("shape", "layout"),
        [((2, 3, 6, 5), None), ((2, 6, 5, 3), None), ((2, 1, 6, 5), None), ((2, 6, 5), None), ((2, 3, 6, 3), "NCHW")],
    )
    def test_layouts(self, shape, layout):
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        loaded = as_source(images, layout=layout).load([1])[0]
        expected = images[1][..., None] if len(shape) == 3 else images[1]
        expected = expected.transpose(1, 2, 0) if len(shape) == 4 and shape[1] in (1, 3) else expected
        np.testing.assert_array_equal(loaded, expected)

    @pytest.mark.parametrize(
        ("images", "options", "message"),
        [
            (torch.zeros(2, 3, 4, 4), {}, "say what black and white are"),
            (torch.rand(2, 3, 4, 4), {"value_range": (-1, 1)}, r"does not look like value_range .*is it \(0, 1\)"),
            (torch.rand(2, 3, 4, 4), {"value_range": (0, 255)}, "does not look like value_range"),
            (torch.rand(2, 3, 4, 4) * 255, {"value_range": (0, 1)}, "far outside value_range"),
            (torch.rand(2, 3, 4, 4), {"value_range": (1, 0)}, "lo < hi"),
            (torch.full((2, 3, 4, 4), float("nan")), {"value_range": (0, 1)}, r"NaN or infinite pixels in 2 images"),
            (torch.ones(2, 3, 4, 4, dtype=torch.uint8), {}, "holds only 0 and 1"),
            (torch.ones(2, 3, 4, 4, dtype=torch.int64), {}, "must be uint8 or floats"),
            (torch.zeros(2, 3, 8, 3, dtype=torch.uint8), {}, "fits NCHW and NHWC"),
            (torch.zeros(2, 4, 8, 8, dtype=torch.uint8), {}, "drop the alpha channel"),
            (torch.zeros(2, 8, 8, 7, dtype=torch.uint8), {}, r"must have 1 \(grey\) or 3 \(RGB\) channels"),
            (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), {"layout": "NHWC"}, r"must have 1 \(grey\) or 3"),
            (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), {"layout": "CHWN"}, "layout must be 'NCHW' or 'NHWC'"),
            (torch.zeros(8, 8, dtype=torch.uint8), {}, r"must be \(N, C, H, W\)"),
            (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), {}, "images is empty"),
            (torch.zeros(2, 0, 5, dtype=torch.uint8), {}, "has no pixels"),
            (torch.zeros(2, 3, 5, 0, dtype=torch.uint8), {}, "has no pixels"),
            (np.zeros((2, 8, 8, 3), np.uint8) + 9, {"labels": [1]}, r"one label per sample, shape \(2,\); got shape"),
            (np.zeros((2, 8, 8, 3), np.uint8) + 9, {"labels": [1, -1]}, "whole numbers from 0"),
            (np.zeros((2, 8, 8, 3), np.uint8) + 9, {"labels": [0.5, 1.5]}, "must be whole numbers"),
        ],
    )
    def test_bad_arrays(self, images, options, message):
        with pytest.raises(ValueError, match=message):
            as_source(images, **options)

    def test_npz(self, tmp_path):
        images, labels = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8), np.arange(4)
        np.savez(tmp_path / "adm.npz", images, labels)
        np.savez(tmp_path / "named.npz", images=images.transpose(0, 3, 1, 2), labels=labels)
        for name in ("adm.npz", "named.npz"):
            source = as_source(tmp_path / name)
            assert source.labels.tolist() == [0, 1, 2, 3]
            np.testing.assert_array_equal(source.load([2])[0], images[2])

    def test_bad_npz(self, tmp_path):
        np.savez(tmp_path / "features.npz", x=np.zeros((3, 8), np.float32), y=np.arange(3))
        with pytest.raises(ValueError, match="holds features of shape"):
            as_source(tmp_path / "features.npz")
        np.savez(tmp_path / "other.npz", z=np.zeros(3))
        with pytest.raises(ValueError, match="no array called"):
            as_source(tmp_path / "other.npz")
        np.savez(tmp_path / "pickled.npz", images=np.array([{}], dtype=object))
        with pytest.raises(ValueError, match="allow_pickle=False"):
            as_source(tmp_path / "pickled.npz")
        (tmp_path / "cut.npz").write_bytes((tmp_path / "features.npz").read_bytes()[:-30])
        with pytest.raises(ValueError, match="cannot read images"):
            as_source(tmp_path / "cut.npz")

    def test_options_that_a_source_has_no_use_for(self, class_folders):
        with pytest.raises(ValueError, match="are for arrays"):
            as_source(class_folders, value_range=(0, 1))
        with pytest.raises(ValueError, match="source is complete"):
            as_source(ArraySource(np.zeros((1, 4, 4), np.uint8)), labels=[1])
        with pytest.raises(ValueError, match="labels given twice"):
            as_source((np.zeros((1, 4, 4), np.uint8), [0]), labels=[0])
        with pytest.raises(ValueError, match="source must be a folder"):
            as_source(3)


class TestDatasets:
    class Pairs:
        """PIL images, tensors and a broken item, as data sets give them."""

        classes = ("ape", "cat")

        def __len__(self):
            return 4

        def __getitem__(self, i):
            if i == 3:
                raise OSError("cannot identify image file")
            return [picture(9), torch.full((1, 5, 4), 9, dtype=torch.uint8), np.full((5, 4, 3), 9, np.uint8)][i], i % 2

    def test_items(self):
        source = as_source(self.Pairs(), labels=[0, 1, 0, 1])
        images = source.load(range(4))
        assert [image.shape for image in images[:3]] == [(5, 4, 3), (5, 4, 1), (5, 4, 3)]
        assert all((image == 9).all() for image in images[:3])
        assert images[3] == BadImage("OSError: cannot identify image file")
        assert source.classes == {0: "ape", 1: "cat"}
        assert source.digest(0) != source.digest(1)

    def test_labels_from_items_and_targets(self):
        images = torch.rand(3, 1, 4, 4) * 2 - 1
        dataset = torch.utils.data.TensorDataset(images, torch.tensor([5, 3, 5]))
        source = as_source(dataset, value_range=(-1, 1))
        assert source.labels.tolist() == [5, 3, 5]
        np.testing.assert_array_equal(source.load([1])[0][..., 0], quantise(images[1, 0], (-1, 1)))
        dataset.targets = [1, 2, 3]
        assert as_source(dataset, value_range=(-1, 1)).labels.tolist() == [1, 2, 3]

    def test_empty(self):
        with pytest.raises(ValueError, match="data set is empty"):
            as_source([])
