"""One check of values and of class names, whichever way the images come in."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from kdist.evals import Features, extract, make_comparable, measure
from kdist.evals.sources import BadImage, GeneratorSource, as_source
from kdist.evals.sources.datasets import DatasetSource

RANDOM = np.random.default_rng(0)
UNIT = RANDOM.uniform(0, 1, (6, 3, 8, 8)).astype(np.float32)
WRONG = {
    "floats in [0, 1] under (-1, 1)": (UNIT, (-1, 1), "does not look like value_range .*is it"),
    "floats in 0..255 under (-1, 1)": (255 * UNIT, (-1, 1), "far outside"),
    "floats in [0, 1] under (0, 255)": (UNIT, (0, 255), "does not look like value_range .*is it"),
    "floats in 0..255 under (0, 1)": (255 * UNIT, (0, 1), "far outside"),
    "int64 in 0..255": ((255 * UNIT).astype(np.int64), (-1, 1), "must be uint8 or floats; got torch.int64"),
    "uint16": ((255 * UNIT).astype(np.uint16), (-1, 1), "must be uint8 or floats; got torch.uint16"),
    "booleans": (UNIT > 0.5, (-1, 1), "must be uint8 or floats; got torch.bool"),
    "complex": (UNIT.astype(np.complex64), (-1, 1), "must be uint8 or floats; got torch.complex64"),
    "bytes of 0 and 1": ((UNIT > 0.5).astype(np.uint8), (-1, 1), "holds only 0 and 1"),
}


class Items:
    """A data set of ``(image, label)``."""

    def __init__(self, images, labels=None):
        self.images, self.labels = images, labels or [0] * len(images)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.labels[i]


def from_tensor(images, value_range):
    return as_source(torch.from_numpy(images), value_range=value_range)


def from_dataset(images, value_range):
    return as_source(Items([torch.from_numpy(image) for image in images]), value_range=value_range)


def from_arrays(images, value_range):
    return as_source(Items(list(images.transpose(0, 2, 3, 1))), value_range=value_range)


def from_sampler(images, value_range):
    def generate(labels, seeds):
        return torch.from_numpy(images)[[source.seeds.index(seed) for seed in seeds]]

    source = GeneratorSource(generate, [0] * len(images), value_range=value_range)
    return source


@pytest.mark.parametrize("path", [from_tensor, from_dataset, from_arrays, from_sampler])
@pytest.mark.parametrize("case", WRONG)
def test_wrong_conventions_are_refused_on_every_path(path, case):
    images, value_range, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        extract(path(images, value_range), "pixels")


@pytest.mark.parametrize("path", [from_tensor, from_dataset, from_arrays, from_sampler])
def test_right_conventions_give_the_same_on_every_path(path):
    expected = extract(np.rint(255 * UNIT).astype(np.uint8), "pixels").x
    for images, value_range in (
        (UNIT, (0, 1)),
        (2 * UNIT - 1, (-1, 1)),
        (255 * UNIT, (0, 255)),
        (np.rint(255 * UNIT).astype(np.uint8), (-1, 1)),
    ):
        # a value on the edge between two grey levels may fall to either: 2 / 255 on k-diffusion's scale
        np.testing.assert_allclose(extract(path(images, value_range), "pixels").x, expected, atol=2.1 / 255)


@pytest.mark.parametrize("path", [from_tensor, from_dataset, from_sampler])
def test_one_darker_image_shows_the_convention(path):
    """A bright set is no other convention's if a single image, the last, goes below mid-grey; nor is a dark one."""
    bright = UNIT.copy()
    bright[-1, 0, 0, 0] = -0.5
    assert len(extract(path(bright, (-1, 1)), "pixels")) == 6
    dark = (UNIT > 0.5).astype(np.uint8)
    dark[-1, 0, 0, 0] = 2
    assert len(extract(path(dark, (-1, 1)), "pixels")) == 6
    assert len(extract(path(UNIT[:1], (-1, 1)), "pixels")) == 1  # one image may look like anything


def test_bright_bytes_are_no_floats():
    """value_range is for floats: 8-bit sets may be as bright as they like."""
    bright = np.uint8(128 + 127 * UNIT)
    for path in (from_tensor, from_dataset, from_sampler):
        assert len(extract(path(bright, (-1, 1)), "pixels")) == 6


@pytest.mark.parametrize("suffix", ["npy", "png"])
def test_files_of_0_and_1(tmp_path, suffix):
    for i, image in enumerate((UNIT[:, 0] > 0.5).astype(np.uint8)):
        np.save(tmp_path / f"{i}.npy", image) if suffix == "npy" else Image.fromarray(image).save(tmp_path / f"{i}.png")
    with pytest.raises(ValueError, match="holds only 0 and 1 of 255"):
        extract(tmp_path, "pixels")


@pytest.mark.parametrize("mode", ["I", "I;16", "F"])
def test_pillow_images_of_more_than_8_bits(mode):
    dtype = {"I": np.int32, "I;16": np.uint16, "F": np.float32}[mode]
    images = [Image.fromarray(np.full((4, 4), 300, dtype)) for _ in range(3)]
    assert images[0].mode == mode
    with pytest.raises(ValueError, match="more than 8 bits per channel"):
        as_source(Items(images))


def test_samples_that_diverged_are_set_aside():
    images = 2 * UNIT - 1
    images[1, 0, 0, :2], images[3, 0, 0, 0] = (1e4, -1), np.inf
    source = from_sampler(images, (-1, 1))
    found = source.load(range(6))
    assert found[1] == BadImage("values in [-1, 1e+04], far outside")
    assert found[3] == BadImage("NaN or infinite pixels")
    np.testing.assert_array_equal(found[4], from_tensor(images[4:5], (-1, 1)).load([0])[0])
    assert extract(source, "pixels").index.tolist() == [0, 2, 4, 5]


# -- names ---------------------------------------------------------------------------------------------------------

ANIMALS = ["cat", "dog", "fish"]
OTHERS = ["cat", "fish", "zebra"]


def pictures(count):
    return [Image.fromarray(RANDOM.integers(0, 256, (8, 8), dtype=np.uint8)) for _ in range(count)]


def named_labels(names):
    return Items(pictures(9), [name for name in names for _ in range(3)])


def class_list(names):
    dataset = Items(pictures(9), [0, 0, 0, 1, 1, 1, 2, 2, 2])
    dataset.classes = names
    return dataset


def subset(names):
    return torch.utils.data.Subset(class_list(names), range(9))


def joined(names):
    parts = [class_list(names), class_list(names)]
    return torch.utils.data.ConcatDataset(parts)


def targets(names):
    dataset = class_list(names)
    dataset.targets = torch.tensor(dataset.labels)
    return dataset


@pytest.mark.parametrize("make", [named_labels, class_list, subset, joined, targets])
def test_data_sets_are_matched_by_name(make):
    real, fake = extract(make(ANIMALS), "pixels"), extract(make(OTHERS), "pixels")
    assert real.classes == dict(enumerate(ANIMALS))
    matched = make_comparable(real, fake)
    assert [matched.classes[label] for label in matched.y[:9].tolist()] == [name for name in OTHERS for _ in range(3)]
    assert set(matched.y[:6].tolist()) == {0, 2}  # cat and fish, by the real set's numbers
    assert matched.y[6] not in real.classes


def test_names_against_numbers_are_refused():
    real, fake = extract(named_labels(ANIMALS), "pixels"), extract(Items(pictures(3), [0, 1, 2]), "pixels")
    for pair in ((real, fake), (fake, real)):
        with pytest.raises(ValueError, match=r"no class in common: .* Equal numbers are no equal classes"):
            make_comparable(*pair)


def test_samplers_may_name_their_classes():
    real = extract(named_labels(ANIMALS), "pixels")
    source = GeneratorSource(lambda y, seeds: -torch.ones(len(y), 1, 8, 8), [2, 1], classes=real.classes)
    assert make_comparable(real, extract(source, "pixels")).y.tolist() == [2, 1]
    with pytest.raises(ValueError, match=r"the numbers that the model knows its classes by; name them with classes="):
        GeneratorSource(print, ["cat", "dog"])


def test_parts_that_number_their_classes_differently():
    with pytest.raises(ValueError, match="parts of ConcatDataset number their classes differently"):
        as_source(torch.utils.data.ConcatDataset([class_list(ANIMALS), class_list(OTHERS)]))


def test_number_without_a_name():
    dataset = class_list(ANIMALS)
    dataset.labels[4] = 3
    with pytest.raises(ValueError, match=r"\[3\] have no name among the 3 classes"):
        as_source(dataset)


def test_data_sets_of_other_items():
    images = torch.utils.data.TensorDataset(torch.from_numpy(np.uint8(255 * UNIT)))
    source = as_source(images)
    assert source.classes == {0: "all"}
    np.testing.assert_array_equal(source.load([2])[0], np.uint8(255 * UNIT[2]).transpose(1, 2, 0))
    with pytest.raises(ValueError, match=r"items of data set list are dicts; wrap it so that each is an image or"):
        as_source([{"image": picture, "label": 0} for picture in pictures(2)])
    with pytest.raises(ValueError, match="items of data set list are strs"):
        as_source(["a.png", "b.png"])
    with pytest.raises(ValueError, match=r"labels must be whole numbers or strings.*got float64"):
        as_source(Items(pictures(2), [0.5, 1.5]))


def test_digest_is_of_the_image_that_was_loaded():
    class Changing(Items):
        def __getitem__(self, i):
            return np.random.default_rng().integers(0, 256, (4, 4), dtype=np.uint8), 0

    digest, image = DatasetSource(Changing([0, 1])).load_hashed([0])[0]
    assert digest == as_source(image[None, ..., 0]).digest(0)


def test_measure_matches_sets_by_name():
    def features_of(names, order):
        x = np.random.default_rng(1).normal(size=(60, 4)) + 5 * np.repeat(np.array(order), 20)[:, None]
        about = {"classes": {str(k): name for k, name in enumerate(names)}, "extractor": "pixels"}
        return Features(x.astype(np.float32), np.repeat(np.arange(3), 20), np.arange(60), about)

    real, fake = features_of(ANIMALS, [0, 1, 2]), features_of(["fish", "dog", "cat"], [2, 1, 0])
    options = {"resamples": 0, "splits": 0, "neighbour_queries": 0, "fid": False}
    report = measure(real, fake, **options)
    assert [(entry.label, entry.name) for entry in report.classes] == list(enumerate(ANIMALS))
    # the same noise about the same means: no class has moved (by numbers, cat and fish would be 10 apart)
    assert max(abs(float(entry.mean_shift)) for entry in report.classes) < 1
    with pytest.raises(ValueError, match="no real samples of class zebra"):
        measure(real, features_of(OTHERS, [0, 2, 1]), **options)
    for wrong in ((real, fake, real.y, fake.y), (real, fake.x), (real.x, fake, real.y, None)):
        with pytest.raises(ValueError, match="Features carry their labels and names"):
            measure(*wrong, **options)
    with pytest.raises(ValueError, match="differ in extractor"):
        measure(real, replace(fake, metadata={**fake.metadata, "extractor": "clip"}), **options)
