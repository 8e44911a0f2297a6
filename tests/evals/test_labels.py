"""Labels: one check for features, images and label files."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from kdist.evals import measure
from kdist.evals.features.feature_set import Features, load_features
from kdist.evals.labels import as_labels, class_labels, number_classes
from kdist.evals.sources import GeneratorSource, as_source
from kdist.files import printable


@pytest.mark.parametrize(
    "labels",
    [
        [3, 1, 2],
        (3, 1, 2),
        np.array([3, 1, 2], np.uint8),
        np.array([3, 1, 2], np.uint64),
        np.array([3.0, 1.0, 2.0]),
        np.array([3, 1, 2], object),
        torch.tensor([3, 1, 2]),
        torch.tensor([3, 1, 2], dtype=torch.bfloat16),
        [torch.tensor(3), torch.tensor(1), torch.tensor(2)],
    ],
)
def test_whole_numbers_in_every_form(labels):
    found = as_labels("labels", labels, 3)
    assert found.tolist() == [3, 1, 2]
    assert found.dtype == np.int64


@pytest.mark.parametrize("labels", [["b", "a"], np.array(["b", "a"]), np.array(["b", "a"], object)])
def test_names_in_every_form(labels):
    assert as_labels("labels", labels, 2).tolist() == ["b", "a"]
    numbers, classes = class_labels("labels", labels, 2)
    assert (numbers.tolist(), classes) == ([1, 0], {0: "a", 1: "b"})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1.5, 2.0], r"must be whole numbers or strings.*got float64, e.g. \[1.5, 2.0\]"),
        (torch.tensor([1.5, 2.0]), "must be whole numbers"),
        ([float("nan"), 1.0], "must be whole numbers"),
        ([float("inf"), 1.0], "must be whole numbers"),
        ([1e300, 1.0], "must be whole numbers"),
        (np.array([2**63, 1], np.uint64), "must be whole numbers or strings, numbers within int64; got uint64"),
        (np.array([2**70, 1], object), "within int64"),
        ([1 + 2j, 1], "got complex128"),
        ([True, False], "got bool"),
        ([1, "cat"], "got a mixture"),
        ([b"cat", b"dog"], r"got \|S3"),
        ([None, None], "got a mixture"),
        ([1, 2, 3], r"shape \(2,\); got shape \(3,\)"),
        ([[1], [2]], r"got shape \(2, 1\)"),
        ([[1], [2, 3]], "one label per sample"),
        (3, r"got shape \(\)"),
    ],
)
def test_what_is_no_label(labels, message):
    with pytest.raises(ValueError, match=message):
        as_labels("labels", labels, 2)


def test_no_labels_are_one_class():
    assert as_labels("labels", None, 2).tolist() == [0, 0]
    assert class_labels("labels", None, 2)[1] == {0: "all"}


def test_numbers_may_be_named():
    assert class_labels("labels", [2, 0], 2)[1] == {0: "0", 2: "2"}
    assert class_labels("labels", [2, 0], 2, ["cat", "dog", "fish"])[1] == {0: "cat", 2: "fish"}
    assert class_labels("labels", [2, 0], 2, {2: "fish", 0: "cat"})[1] == {0: "cat", 2: "fish"}
    with pytest.raises(ValueError, match=r"\[3\] have no name among the 3 classes"):
        class_labels("labels", [3, 0], 2, ["cat", "dog", "fish"])
    with pytest.raises(ValueError, match="two classes are called 'cat'"):
        class_labels("labels", [1, 0], 2, ["cat", "cat"])
    with pytest.raises(ValueError, match=r"whole numbers from 0, or names; got \[-1\]"):
        class_labels("labels", [-1, 0], 2)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["1", "01"], "classes '01' and '1' would be one"),
        (["1", "１"], r"classes '1' and '\\uff11' would be one"),
        (["cat", "cat "], "classes 'cat' and 'cat ' would be one"),
        (["\u00e9", "e\u0301"], "would be one"),  # composed and decomposed
        (["9" * 30, "1"], "no number of int64"),
        ([10**19, 1], "no number of int64"),
        ([2**63, 1], "no number of int64"),
        ([[1], 2], r"whole numbers or names; got \[1\]"),
    ],
)
def test_ambiguous_names_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        number_classes(labels, name="images")


def test_names_of_archives_made_on_a_mac():
    assert number_classes(["e\u0301"], name="zip")[1] == number_classes(["\u00e9"], name="folder")[1] == {0: "\u00e9"}


def test_number_of_a_class_is_kept_and_written_once():
    numbers, classes = number_classes(["007", 12, "12", str(2**63 - 1)], name="labels")
    assert numbers.tolist() == [7, 12, 12, 2**63 - 1]
    assert classes == {7: "7", 12: "12", 2**63 - 1: str(2**63 - 1)}


BAD = ["\x1b[31mcat", "cat\x00", "c\nat", "c\x7fat", "c\x85at", "c\u2028at", "cat\ud800"]


@pytest.mark.parametrize("text", BAD)
def test_control_characters_in_names_are_refused_wherever_names_come_from(text, tmp_path):
    """A terminal would obey them; NumPy would drop a zero at the end, and make one class of two."""
    images = np.arange(2 * 64, dtype=np.uint8).reshape(2, 8, 8)
    (tmp_path / "1.png").write_bytes(b"")
    (tmp_path / "labels.json").write_text(json.dumps({"1.png": text}))
    x = np.eye(4)
    named = {"classes": {"0": text, "1": "dog"}}
    Features(x.astype(np.float32), np.array([0, 0, 1, 1]), np.arange(4), named).save(tmp_path / "f.npz")
    for make in (
        lambda: as_labels("labels", [text, "dog"], 2),
        lambda: as_labels("labels", np.array([text, "dog"], object), 2),
        lambda: class_labels("labels", [0, 1], 2, [text, "dog"]),
        lambda: class_labels("labels", [0, 1], 2, {0: "dog", 1: text}),
        lambda: number_classes([text, "dog"], name="images"),
        lambda: as_source((images, [text, "dog"])),
        lambda: as_source(tmp_path, labels=tmp_path / "labels.json"),
        lambda: GeneratorSource(lambda labels, seeds: None, [0, 1], classes=[text, "dog"]),
        lambda: load_features(tmp_path / "f.npz"),
        lambda: measure(x, x, [0, 0, 1, 1], [0, 0, 1, 1], class_names=[text, "dog"]),
    ):
        with pytest.raises(ValueError, match="has control characters in it; take them out") as caught:
            make()
        assert str(caught.value) == printable(str(caught.value))


def test_folders_and_file_names_with_control_characters(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b\x1b[2J.png").write_bytes(b"broken")
    source = as_source(tmp_path)
    assert [source.name(0), source.name(1)] == ["a.png", r"b\x1b[2J.png"]
    (tmp_path / "set" / "c\x07").mkdir(parents=True)
    (tmp_path / "a.png").rename(tmp_path / "set" / "c\x07" / "a.png")
    with pytest.raises(ValueError, match=r"'c\\x07' has control characters"):
        as_source(tmp_path / "set")
