"""Where a schedule is split before it is integrated: breakpoints that it lists, features of callables that do not."""

import math

import numpy as np
import pytest

from kdist import Interval
from kdist.theory.integrate import NODES, WIDTH, quadrature, split_log_range


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


@pytest.mark.parametrize("variance", [1e-4, 0.3, 1.0])
def test_a_panel_is_narrow_enough_for_the_promised_accuracy(variance):
    """The integral of 1 / (c + t) over t has a closed form; 1e-12 is what WIDTH promises with NODES per panel."""
    nodes = quadrature(1.0, sigma_min=0.01, sigma_max=80.0, variances=[np.array([variance])])
    x, weights = np.polynomial.legendre.leggauss(NODES)
    assert nodes.t.shape[1] == len(x)
    found = float((weights * nodes.jacobian / (variance + nodes.t)).sum())
    assert found == pytest.approx(math.log((variance + nodes.end) / (variance + nodes.start)), rel=1e-12)
