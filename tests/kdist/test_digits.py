"""The digits: their data, and a model that is small and copies none of them. See test_shipped.py."""

import pytest
import torch
from shipped_samples import unguided_samples

from kdist import digits


def test_data_and_split():
    images, labels = digits.load_data("all")
    assert (images.shape, images.dtype, labels.dtype) == ((1797, 1, 8, 8), torch.float32, torch.int64)
    assert (float(images.min()), float(images.max())) == (-1, 1)
    train = digits.load_data("train")[0]
    held_out, held_labels = digits.load_data("held_out")
    assert (len(train), len(held_out)) == (1437, 360)
    share = torch.bincount(held_labels) / torch.bincount(labels)
    assert (share - 0.2).abs().max() < 0.01  # stratified
    both = torch.cat([train, held_out]).flatten(1)
    assert len(both.unique(dim=0)) == len(images.flatten(1).unique(dim=0))  # nothing lost
    with pytest.raises(ValueError, match="split must be one of train, held_out, all; got 'test'"):
        digits.load_data("test")


def test_the_model_does_not_copy_its_training_images():
    """Samples lie as far from the nearest training image as held-out digits do (an exact copier would be at 0)."""
    train = digits.load_data("train")[0].flatten(1)
    held_out = digits.load_data("held_out")[0].flatten(1)
    sampled = torch.cdist(unguided_samples(digits)[0].flatten(1), train).min(1).values
    real = torch.cdist(held_out, train).min(1).values
    assert sampled.median() > 0.9 * real.median()
    # nor some of them: the closest one in a hundred is no closer than the closest held-out digits
    assert sampled.quantile(0.01) > 0.75 * real.quantile(0.01)


def test_the_weights_are_small():
    assert digits.MODEL_PATH.stat().st_size <= 2_000_000
