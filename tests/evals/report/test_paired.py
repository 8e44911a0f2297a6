"""Two sets of the same seeds, pair by pair: exact where noise cancels, intervals that cover, which rows are pairs."""

import dataclasses

import numpy as np
import pytest
from feature_sets import features, make_set
from scipy import stats

from kdist.evals import energy_distance
from kdist.evals.features import Features
from kdist.evals.report import paired_ratio
from kdist.evals.report.paired import paired_distance


def test_pairs_cancel_the_noise_exactly():
    """x -> c x scales every variance by c^2, whichever sample is left out: the interval has no width but rounding."""
    first = make_set("a", seed=3).features
    other = dataclasses.replace(first, x=np.float32(0.5) * first.x)
    found = paired_ratio(first, other)
    assert found.ratio == pytest.approx(0.25, rel=1e-12)  # halving is exact in float32
    assert found.ratio.half_width < 1e-12
    assert found.pairs == 120
    assert found.smaller == 4
    assert found.larger == 0


def test_jackknife_is_leave_one_pair_out():
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(7, 3)), generator.normal(size=(7, 3))
    found = paired_ratio(features(a, np.zeros(7)), features(b, np.zeros(7)), confidence=0.95)
    a, b = a.astype(np.float32).astype(float), b.astype(np.float32).astype(float)
    logs = [np.log(np.delete(b, i, 0).var(0, ddof=1).sum() / np.delete(a, i, 0).var(0, ddof=1).sum()) for i in range(7)]
    error = np.sqrt(6 / 7 * np.square(logs - np.mean(logs)).sum())
    half = 2.446912 * error  # Student's 97.5 % quantile at 6 degrees of freedom
    assert np.log(found.ratio.hi / found.ratio) == pytest.approx(half, rel=1e-6)
    assert found.ratio == pytest.approx(b.var(0, ddof=1).sum() / a.var(0, ddof=1).sum(), rel=1e-12)


@pytest.mark.parametrize("shared", [1.0, 0.0])
def test_paired_intervals_cover(shared):
    """400 classes of 20 pairs, true ratio 0.64: coverage 0.95 within 4 standard errors (0.011 each)."""
    generator = np.random.default_rng(5)
    y = np.repeat(np.arange(400), 20)
    a = generator.normal(size=(len(y), 8))
    fresh = generator.normal(size=a.shape)
    b = 0.8 * (np.sqrt(0.9) * a + np.sqrt(0.1) * fresh if shared else fresh)
    found = paired_ratio(features(a, y), features(b, y))
    covered = np.mean([ratio.lo < 0.64 < ratio.hi for ratio in found.classes.values()])
    assert 0.95 - 4 * 0.011 < covered <= 1
    # the logarithm's bias is of order 1/n: 0.64 (1 +- 0.01) beside the interval's own width
    assert found.ratio.lo * 0.99 < 0.64 < found.ratio.hi * 1.01
    assert (found.ratio.half_width < 0.004) == bool(shared)  # sharing 0.9 of the variance narrows it


def test_paired_distance_is_the_difference_of_the_distances():
    real, first, other = (
        make_set("a", classes=1, seed=seed, scale=scale) for seed, scale in ((1, 1), (2, 1), (3, 0.5))
    )
    gap = paired_distance(real.features, first.features, other.features)
    expected = energy_distance(real.features.x, other.features.x) - energy_distance(real.features.x, first.features.x)
    assert float(gap) == pytest.approx(expected, rel=1e-6)  # features are float32, the scatter of rounding is below
    back = paired_distance(real.features, other.features, first.features)
    assert (float(back), *back.interval) == pytest.approx((-float(gap), -gap.hi, -gap.lo), rel=1e-9)
    same = paired_distance(real.features, first.features, first.features)
    assert (float(same), same.lo, same.hi) == (0, 0, 0)


def test_paired_distance_with_fewer_real_samples_than_pairs():
    """Its value, and its error: about the jackknife's, over pairs and over real samples."""
    real, first, other = (
        make_set("a", classes=1, per_class=n, seed=s, scale=scale).features.x.astype(float)
        for n, s, scale in ((12, 1, 1), (40, 2, 1), (40, 3, 0.5))
    )
    y = {n: np.zeros(n, dtype=np.int64) for n in (12, 40)}
    sets = [Features(x.astype(np.float32), y[len(x)], np.arange(len(x)), {}) for x in (real, first, other)]

    def gap(real, first, other):
        return energy_distance(real, other) - energy_distance(real, first)

    def spread(left_out):
        return (len(left_out) - 1) / len(left_out) * np.square(left_out - np.mean(left_out)).sum()

    found = paired_distance(*sets)
    assert float(found) == pytest.approx(gap(real, first, other), rel=1e-5)  # float32
    by_pair = [gap(real, *(np.delete(x, i, axis=0) for x in (first, other))) for i in range(40)]
    by_real = [gap(np.delete(real, i, axis=0), first, other) for i in range(12)]
    error = np.sqrt(spread(by_pair) + spread(by_real))
    assert found.half_width / stats.t.ppf(0.975, 39) == pytest.approx(error, rel=0.1)  # without second-order terms


def test_paired_distance_intervals_cover():
    """The truth from 4000 samples; 200 runs of 40 pairs: 0.95 within 3 standard errors of 0.0154."""
    truth = {"classes": 1, "dimension": 4}
    many = [
        make_set("a", per_class=4000, seed=seed, scale=s, **truth).features for seed, s in ((1, 1), (2, 0.9), (2, 0.7))
    ]
    expected = energy_distance(many[0].x, many[2].x) - energy_distance(many[0].x, many[1].x)
    covered = 0
    for run in range(200):
        sets = [
            make_set("a", per_class=40, seed=1000 + 2 * run + (s < 1), scale=s, **truth).features for s in (1, 0.9, 0.7)
        ]
        gap = paired_distance(*sets)
        covered += gap.lo <= expected <= gap.hi
    assert covered >= 200 * (0.95 - 3 * 0.0154)


def test_paired_distance_of_some_pairs():
    """A quarter of the samples: the same number with an interval about twice as wide."""
    sets = [make_set("a", per_class=200, seed=1 + (s < 1), scale=s).features for s in (1, 0.9, 0.7)]
    whole, quarter = (paired_distance(*sets, per_class=n) for n in (None, 50))
    assert quarter.lo < whole < quarter.hi
    assert quarter.half_width / whole.half_width == pytest.approx(2, abs=0.3)  # 50 samples know their spread to 10 %
    assert paired_distance(*sets, per_class=50, seed=1) != quarter
    assert paired_distance(*sets, per_class=200) == pytest.approx(whole, rel=1e-9)


def test_paired_distance_to_equal_real_samples_is_undefined():
    once = np.random.default_rng(0).normal(size=(9, 300)).astype(np.float32)
    real = np.concatenate([once[:1], once[:1], np.nextafter(once[:1], np.float32(9))])  # but for float32's last digit
    sets = [Features(x, np.zeros(len(x), dtype=np.int64), np.arange(len(x)), {}) for x in (real, once[1:5], once[5:])]
    assert np.isnan(paired_distance(*sets))


def test_paired_distance_needs_pairs():
    real, first = make_set("a").features, make_set("b", seed=1).features
    assert paired_distance(real, first, dataclasses.replace(first, index=first.index + 1000)) is None


def test_pairs_are_found_by_place_not_by_row():
    first = make_set("a", seed=3).features
    rows = np.random.default_rng(0).permutation(len(first))[:-5]
    other = Features(first.x[rows] * 2, first.y[rows], first.index[rows], {})
    found = paired_ratio(first, other)
    assert found.pairs == len(first) - 5
    assert found.ratio == pytest.approx(4, rel=1e-12)


def test_pairs_are_of_one_class():
    """A place that has another label in the other set is no pair: its seed began another class."""
    first = make_set("a", seed=3).features
    swapped = first.y.copy()
    swapped[[0, 30]] = swapped[[30, 0]]  # one sample of class 0 and one of class 1 change places
    other = dataclasses.replace(first, x=np.float32(0.5) * first.x, y=swapped)
    found = paired_ratio(first, other)
    assert found.pairs == len(first) - 2
    assert found.ratio == pytest.approx(0.25, rel=1e-12)


def test_no_pairs_no_ratio():
    first = make_set("a").features
    assert paired_ratio(first, dataclasses.replace(first, index=first.index + 1000)) is None
    with pytest.raises(ValueError, match="differ in length: 6 and 5"):
        paired_ratio(first, dataclasses.replace(first, x=first.x[:, :5]))
