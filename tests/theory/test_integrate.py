"""Where a schedule is split before it is integrated: breakpoints that it lists, features of callables that do not."""

import math

import numpy as np
import pytest

from kdist import Interval
from kdist.theory.integrate import WIDTH, split_log_range


def has(edges, sigma):
    return np.abs(edges - math.log(sigma)).min() < 1e-6


def test_listed_breakpoints_are_edges_however_narrow():
    edges = split_log_range(Interval(5.0, 1.0, 1.0001), 0.01, 100)
    assert has(edges, 1.0)
    assert has(edges, 1.0001)


@pytest.mark.parametrize("low", [0.37, 1.0, 2.9])
def test_narrow_features_of_callables_are_found(low):
    """A jump up and down 0.1 apart in log sigma: samples are about 0.06 apart."""
    edges = split_log_range(lambda s: 5.0 if low < s <= low * 1.105 else 1.0, 0.01, 100)
    assert has(edges, low)
    assert has(edges, low * 1.105)


def test_panels_are_no_wider_than_asked():
    edges = split_log_range(1.0, 0.01, 100)
    assert edges[0] == pytest.approx(math.log(0.01))
    assert edges[-1] == pytest.approx(math.log(100))
    assert np.diff(edges).max() <= WIDTH + 1e-12
    assert np.diff(split_log_range(1.0, 0.01, 100, 0.3)).max() <= 0.3 + 1e-12
