"""Two generated sets, pair by pair: unbiased though paired, an exact null, ratios of known value."""

import warnings

import numpy as np
import pytest

from kdist.evals.statistics.pairwise import Jackknife, compare_pairs, pooled


def compare(x, y, *, resamples=0, seed=0):
    return compare_pairs(x, y, x.mean(axis=0), resamples=resamples, generator=np.random.default_rng(seed))


def test_scaled_pairs_give_the_scale_exactly():
    x = np.random.default_rng(0).normal(size=(20, 5))
    found = compare(x, 0.5 * x)
    # every distance within is halved, whichever pair is left out; rounding only
    assert np.exp(found.log_spread.value) == pytest.approx(0.5, rel=1e-12)
    assert found.log_spread.error == pytest.approx(0, abs=1e-12)
    same = compare(x, x, resamples=99)
    assert (same.distance.value, same.log_vendi.value) == (0, 0)
    assert same.vendi == same.vendi_reference
    assert np.all(same.swapped == 0)


def test_distance_is_unbiased_for_pairs_of_any_closeness():
    """Equal laws, members of a pair 0.9 correlated: the mean over 400 runs is 0 within 4 standard errors."""
    generator = np.random.default_rng(1)
    values = []
    for _ in range(400):
        shared, own, other = generator.normal(size=(3, 12, 3))
        values.append(compare(np.sqrt(0.9) * shared + np.sqrt(0.1) * own, np.sqrt(0.9) * shared + np.sqrt(0.1) * other))
    distances = np.array([found.distance.value for found in values])
    assert abs(distances.mean()) < 4 * distances.std(ddof=1) / 20


def test_distance_of_far_points_in_closed_form():
    """Two clouds far apart: 2 E|X - Y| - E|X - X'| - E|Y - Y'| over E|X - X'|, pairs left out."""
    x = np.array([[0.0], [1.0], [2.0]])
    # between 10 on average whichever pairs are left out; within 4/3 either
    assert compare(x, x + 10).distance.value == pytest.approx((2 * 10 - 8 / 3) / (4 / 3))


def test_the_vendi_ratio_is_that_of_the_two_scores():
    x, y = np.random.default_rng(5).normal(size=(2, 12, 4))
    found = compare(x, y * [1, 1, 0.1, 0.1])
    assert found.vendi < found.vendi_reference
    assert np.exp(found.log_vendi.value) == pytest.approx(found.vendi / found.vendi_reference, rel=1e-12)
    # cosines are taken about the centre, which moves along; rounding of 5 beside 1
    moved = compare(x + 5, y * [1, 1, 0.1, 0.1] + 5)
    assert (moved.vendi, moved.vendi_reference) == pytest.approx((found.vendi, found.vendi_reference), rel=1e-9)


def test_swapped_is_the_distance_with_pairs_exchanged():
    x, y = np.random.default_rng(2).normal(size=(2, 9, 4)) * np.array([1, 1.5])[:, None, None]
    found = compare(x, y, resamples=1, seed=3)
    exchanged = np.random.default_rng(3).choice([-1.0, 1.0], size=(1, 9))[0] < 0
    a, b = np.where(exchanged[:, None], y, x), np.where(exchanged[:, None], x, y)
    within = [np.linalg.norm(s[:, None] - s[None], axis=2).sum() for s in (a, x)]
    # the unit stays that of the reference
    assert found.swapped[0] == pytest.approx(compare(a, b).distance.value * within[0] / within[1], rel=1e-12)


def test_pooled_is_the_mean_and_leaves_out_what_is_not_defined():
    parts = [Jackknife(1.0, 0.3, 9), Jackknife(2.0, 0.4, 9)]
    mean = pooled(parts)
    assert (mean.value, mean.error) == pytest.approx((1.5, 0.25))
    assert 9 < mean.degrees <= 18  # Welch and Satterthwaite: between the smallest and the sum
    assert pooled([*parts, Jackknife(float("-inf"), float("nan"), 9)]) == mean
    assert np.isnan(pooled([Jackknife(float("nan"), 1.0, 9)]).value)


def test_intervals_of_the_ratios_cover():
    """Pairwise distance of pairs that share a part: 0.95 within 4 standard errors of 200 runs."""
    generator = np.random.default_rng(4)

    def draw(count):
        shared, own = generator.normal(size=(2, count, 4))
        return shared, 0.8 * shared + 0.3 * own

    truth = np.log(0.8**2 + 0.3**2) / 2  # the same law at another width
    covered = 0
    for _ in range(200):
        estimate = compare(*draw(20)).log_spread.estimate()
        covered += estimate.lo <= truth <= estimate.hi
    assert covered / 200 > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 200)


def test_displacement_is_the_moved_mean_over_the_way_from_the_centre():
    """The reference's mean two from the centre, the other moved by one across: a square of 1 / 4, noise not counted."""
    rng = np.random.default_rng(11)
    values = []
    for _ in range(200):
        x = rng.normal(size=(12, 3)) * 0.5 + [2, 0, 0]
        y = x + rng.normal(size=(12, 3)) * 0.5 + [0, 1, 0]
        found = compare_pairs(x, y, np.zeros(3), resamples=0, generator=rng).displacement
        values.append(found.value)
        assert found.error > 0
    assert np.mean(values) == pytest.approx(0.25, abs=4 * np.std(values) / np.sqrt(200) + 0.005)  # 1 / |u|^2: 2 %
    at_centre = compare_pairs(x - [2, 0, 0], y, np.zeros(3), resamples=0, generator=rng).displacement
    assert np.isnan(at_centre.value)


def test_a_class_that_collapsed_gives_no_warning_of_numpy():
    x = np.random.default_rng(12).normal(size=(6, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for first, other in ((x, np.ones((6, 3))), (np.ones((6, 3)), x), (np.ones((6, 3)), np.ones((6, 3)))):
            compare_pairs(first, other, np.zeros(3), resamples=9, generator=np.random.default_rng(0))
