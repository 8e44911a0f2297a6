"""The closed forms of the energy distance are what samples of the laws have."""

import numpy as np
import pytest

from kdist.evals import energy_distance
from scripts.results.law_distance import in_many_dimensions, in_one_dimension

CASES = [(0.0, 1.0), (0.7, 1.0), (0.0, 0.3), (1.5, 2.2), (-0.4, 0.05)]


@pytest.mark.parametrize(("delta", "ratio"), CASES)
def test_one_dimension_is_what_samples_have(delta, ratio):
    # quantiles instead of draws: 2000 of each are within 1e-3 of the law's own distances
    from scipy.stats import norm

    q = norm.ppf((np.arange(2000) + 0.5) / 2000)[:, None]
    found = energy_distance(q, delta + np.sqrt(ratio) * q)
    assert found == pytest.approx(float(in_one_dimension(delta, ratio)), abs=4e-3)


@pytest.mark.parametrize(("delta", "ratio"), CASES)
def test_many_dimensions_are_the_limit(delta, ratio):
    # in d = 400 directions distances scatter by 1 / sqrt(2 d) of themselves and are 1 / 4 d shorter: below 1 % of 1
    x, y = np.random.default_rng(0).normal(size=(2, 200, 400))
    found = energy_distance(y, delta + np.sqrt(ratio) * x)
    assert found == pytest.approx(float(in_many_dimensions(delta, ratio)), abs=0.01)


def test_no_distance_where_the_laws_agree_and_never_below():
    delta, ratio = np.meshgrid(np.linspace(-2, 2, 21), np.geomspace(0.01, 10, 31))
    for distance in (in_one_dimension, in_many_dimensions):
        assert abs(float(distance(0.0, 1.0))) < 1e-14  # rounding of sums of order 1
        assert distance(delta, ratio).min() > -1e-12
