"""Overshoot: a ratio along one direction, of arrays and of tensors alike."""

import numpy as np
import pytest
import torch

from kdist.theory import overshoot


def test_overshoot_in_units_of_the_distance():
    centre, mean = np.array([1.0, 1.0]), np.array([4.0, 5.0])  # 5 apart
    assert overshoot(mean + 0.3 * (mean - centre), mean, centre) == pytest.approx(0.3)
    assert abs(overshoot(mean + np.array([-4.0, 3.0]), mean, centre)) < 1e-15  # across
    assert overshoot(centre, mean, centre) == -1
    rows = overshoot(np.stack([centre, mean]), np.stack([mean, mean]), centre)
    np.testing.assert_array_equal(rows, [-1, 0])
    tensors = [torch.from_numpy(value) for value in (centre, mean, centre)]
    assert float(overshoot(*tensors)) == -1


def test_without_a_way_to_go_it_is_undefined():
    assert np.isnan(overshoot(np.ones(2), np.zeros(2), np.zeros(2)))
