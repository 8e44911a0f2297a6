"""The shipped classifiers as extractors: right, strict about sizes; what they recognise goes with their features."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from kdist import digits, fashion
from kdist.evals.features import build_extractor, load_features, make_comparable
from kdist.evals.features.extraction import extract


def test_digits_classifier_is_right_on_held_out_digits():
    """96 % of 360 unseen digits would already be far below what it had when it was shipped."""
    x, y = digits.load_data("held_out")
    model = digits.load_classifier()
    assert sum(p.numel() for p in model.parameters()) <= 100_000
    assert float((model.logits(x).argmax(1) == y).float().mean()) >= 0.985
    features = extract((x, y), build_extractor("digits", device="cpu"), value_range=(-1, 1))
    # quantised to 8 bits first: up to 1/255 of the range per pixel
    assert np.abs(features.x - model.features(x).numpy()).max() < 0.1
    assert features.x.shape == (360, 64)
    with pytest.raises(ValueError, match=r"shape \(N, 1, 8, 8\)"):
        model.features(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match="8x8 digits; got an image of 9x8"):
        extract(np.zeros((2, 8, 9, 3), np.uint8) + 7, build_extractor("digits", device="cpu"))


def test_digits_weights_truncated(tmp_path):
    file = tmp_path / "cut.safetensors"
    file.write_bytes(digits.classifier.CLASSIFIER_PATH.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        build_extractor("digits", device="cpu", weights=file)
    with pytest.raises(FileNotFoundError, match="no classifier weights"):
        build_extractor("digits", device="cpu", weights=tmp_path / "absent.safetensors")


@pytest.fixture(scope="module")
def garments():
    """Features of 20 real garments of each class, with what the classifier takes them for."""
    x, y = fashion.load_data("sample")
    labels = [fashion.CLASS_NAMES[label] for label in y[::10].tolist()]
    return extract((x[::10], labels), build_extractor("fashion", device="cpu"), value_range=(-1, 1))


def test_predictions_are_those_of_the_classifier(garments):
    x = fashion.load_data("sample")[0][::10]
    eight_bits = ((x + 1) * 127.5).round() / 127.5 - 1  # as a picture is saved
    expected = fashion.load_classifier().logits(eight_bits).argmax(1).numpy()
    assert (garments.predictions == expected).all()
    assert garments.metadata["recognises"] == {str(k): name for k, name in enumerate(fashion.CLASS_NAMES)}
    # here classes are numbered in the order of their names, which is not the classifier's
    names = [garments.classes[label] for label in garments.recognised().tolist()]
    assert names == [fashion.CLASS_NAMES[code] for code in expected.tolist()]
    assert (garments.recognised() == garments.y).mean() > 0.85  # .917 on 10 000: 3 standard errors of 200 below
    with pytest.raises(ValueError, match="28x28 garments; got an image of 8x8"):
        extract(np.full((2, 8, 8), 7, np.uint8), build_extractor("fashion", device="cpu"))


def test_networks_that_name_no_classes_predict_nothing():
    found = extract(np.random.default_rng(0).integers(0, 256, (3, 4, 4), dtype=np.uint8), "pixels")
    assert found.predictions is None
    assert found.recognised() is None
    assert "recognises" not in found.metadata


def test_a_class_that_a_set_lacks_is_recognised_as_none_of_its_own(garments):
    label = next(label for label, name in garments.classes.items() if name == "shirt")
    shirts = garments.rows(garments.y == label)  # the class that is most often taken for another
    alone = dataclasses.replace(shirts, metadata={**shirts.metadata, "classes": {str(label): "shirt"}})
    others = shirts.recognised() != shirts.y
    assert others.any()
    assert (alone.recognised()[others] == -1).all()
    assert (alone.recognised()[~others] == label).all()


def test_unknown_classes_are_not_judged(garments):
    classes = {**garments.metadata["classes"], str(int(garments.y[0])): "hat"}
    assert dataclasses.replace(garments, metadata={**garments.metadata, "classes": classes}).recognised() is None


def test_predictions_follow_the_class_numbers_of_the_other_set(garments):
    real = dataclasses.replace(
        garments,
        y=9 - garments.y,
        metadata={**garments.metadata, "classes": {str(9 - k): name for k, name in garments.classes.items()}},
    )
    moved = make_comparable(real, garments)
    assert (moved.y == 9 - garments.y).all()
    assert (moved.recognised() == 9 - garments.recognised()).all()


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_predictions_are_kept_on_disk_and_by_rows(garments, tmp_path, suffix):
    path = tmp_path / f"garments.{suffix}"
    garments.save(path)
    found = load_features(path)
    assert found.predictions.dtype == np.int64
    assert (found.predictions == garments.predictions).all()
    assert (found.rows(np.arange(3, 9)).predictions == garments.predictions[3:9]).all()
    dataclasses.replace(garments, predictions=None).save(path)  # as files were written before there were any
    assert load_features(path).recognised() is None


def test_old_files_and_those_of_other_makers_still_load(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((3, 2)), y=np.arange(3), predictions=np.array(["a", "b", "c"]))
    assert load_features(tmp_path / "a.npz").predictions is None


@pytest.mark.parametrize(
    ("predictions", "recognises", "message"),
    [
        ([0, 1], {"0": "a", "1": "b"}, r"predictions must be \(N,\) whole numbers; got shape \(2,\)"),
        ([0.0, 1.0, 1.0], {"0": "a", "1": "b"}, "predictions must be .* float64"),
        ([0, 1, 5], {"0": "a", "1": "b"}, r"predictions \[5\] are not among what its metadata recognise"),
        ([0, 1, 1], {"0": "a", "1": "a"}, "recognises in its metadata must name each code once"),
        ([0, 1, 1], ["a", "b"], "recognises in its metadata must name each code once"),
        ([0, 1, 1], {"zero": "a", "1": "b"}, "recognises in its metadata must name each code once"),
    ],
)
def test_predictions_that_do_not_fit(tmp_path, predictions, recognises, message):
    about = {"classes": {"0": "a", "1": "b"}, "recognises": recognises}
    arrays = {"x": np.ones((3, 2)), "y": np.array([0, 1, 1]), "predictions": np.array(predictions)}
    np.savez(tmp_path / "a.npz", metadata=np.array(json.dumps(about)), **arrays)
    with pytest.raises(ValueError, match=message):
        load_features(tmp_path / "a.npz")
