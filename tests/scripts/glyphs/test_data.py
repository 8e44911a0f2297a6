"""The glyph data set: deterministic, nested, distinct, and clear about fonts that are not the pinned ones."""

import shutil

import numpy as np
import pytest
import torch

from scripts.glyphs import data as glyphs

SMALL = {"classes": 12, "size": 8, "most": 6, "fewest": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("glyphs")


def test_the_same_seed_gives_the_same_images_and_another_one_others():
    first, again = glyphs.render(3, 5, "train", size=8), glyphs.render(3, 5, "train", size=8)
    assert torch.equal(first, again)
    assert not torch.equal(first, glyphs.render(3, 5, "train", size=8, seed=1))
    assert not torch.equal(first, glyphs.render(3, 5, "held_out", size=8))


def test_images_do_not_depend_on_how_many_are_asked_for(folder):
    few, many = glyphs.render(0, 4, "train", size=8), glyphs.render(0, 9, "train", size=8)
    assert torch.equal(few, many[:4])
    smaller = glyphs.load("train", folder=folder, **{**SMALL, "classes": 5})
    larger = glyphs.load("train", folder=folder, **SMALL).first(5)
    assert torch.equal(smaller.images, larger.images)
    assert torch.equal(smaller.labels, larger.labels)
    assert smaller.characters == larger.characters == glyphs.class_characters(8)[:5]


def test_the_cache_is_used_and_gives_what_rendering_gives(folder, monkeypatch):
    first = glyphs.load("held_out", folder=folder, **SMALL)
    monkeypatch.setattr(glyphs, "render", None)  # would fail if it were called
    again = glyphs.load("held_out", folder=folder, **SMALL)
    assert torch.equal(first.images, again.images)
    assert not list(folder.glob("*.partial"))


def test_images_vary_inside_a_class_and_every_class_has_its_number(folder):
    data = glyphs.load("train", folder=folder, **SMALL)
    assert data.images.dtype == torch.uint8
    assert data.images.shape[1:] == (1, 8, 8)
    assert torch.bincount(data.labels).tolist() == [
        glyphs.variants(label, "train", most=6, fewest=3) for label in range(12)
    ]
    for label in range(12):
        assert len(data.images[data.labels == label].flatten(1).unique(dim=0)) > 1
    values = glyphs.to_model(data.images)
    assert values.min() == -1  # paper
    assert values.max() <= 1


def test_classes_are_distinct_and_enough_for_every_nested_set():
    characters = glyphs.class_characters(16)
    assert len(set(characters)) == len(characters) >= max(glyphs.SETS)
    # Latin, Greek and Cyrillic capitals of the same shape are one class
    assert len({"A", "Α", "А"} & set(characters)) == 1


@pytest.mark.parametrize(("classes", "message"), [(0, "classes must be in 1"), (10**6, "distinct glyphs")])
def test_more_classes_than_glyphs_is_an_error(classes, message):
    with pytest.raises(ValueError, match=message):
        glyphs.load("train", classes=classes, size=8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((-1, 2, "train"), "label must be"), ((0, 2, "test"), "split must be")],
)
def test_bad_labels_and_splits(arguments, message):
    with pytest.raises(ValueError, match=message):
        glyphs.render(*arguments, size=8)


def test_a_size_too_small_to_read(folder):
    with pytest.raises(ValueError, match="size must be at least 8"):
        glyphs.load("train", size=4, folder=folder)


def test_missing_and_changed_fonts_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"12 of the 12 faces .*DejaVuSerif\.ttf"):
        glyphs.check_fonts(tmp_path)
    for path in glyphs.check_fonts():
        shutil.copy(path, tmp_path)
    assert len(glyphs.check_fonts(tmp_path)) == 12
    with (tmp_path / "DejaVuSans-Bold.ttf").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"not DejaVu 2.37: DejaVuSans-Bold.ttf; .*weights that do not fit"):
        glyphs.check_fonts(tmp_path)


def test_the_sheet_shows_ink_on_paper(folder, tmp_path):
    from PIL import Image

    glyphs.sheet(glyphs.load("train", folder=folder, **SMALL), tmp_path / "sheet.png", rows=3, columns=2, zoom=1)
    picture = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert picture.shape == (27, 18)  # three rows and two columns of 8 pixels and a line
    assert picture[:8, :8].min() < 128 < picture[:8, :8].max()
