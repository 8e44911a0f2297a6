"""The extreme of each effect is measured, not dropped: equal samples, copies, one or two samples a class."""

import json
import math

import numpy as np
import pytest

from kdist.evals import ClassMoments, measure
from kdist.evals.statistics.estimate import exp

K, N, D = 4, 30, 12
CENTRES = np.random.default_rng(42).normal(size=(K, D)) * 2
LABELS = np.repeat(np.arange(K), N)
OPTIONS = {"resamples": 199, "splits": 3, "neighbour_queries": 0, "fid": False}


def samples(seed: int, n: int = N) -> np.ndarray:
    spread = np.arange(1, D + 1) ** -0.5
    return np.repeat(CENTRES, n, axis=0) + np.random.default_rng(seed).normal(size=(K * n, D)) * spread


@pytest.mark.parametrize("noise", [0.0, 1e-12, 1e-10, 1e-8, 1e-6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_collapsed_class_is_found_counted_and_said(noise: float, dtype: type) -> None:
    """One class of four is a single image, up to noise: ratio 0, significant, in the mean of the other three's 1."""
    real, fake = samples(0), samples(1)
    fake[LABELS == 2] = CENTRES[2] + noise * np.random.default_rng(2).normal(size=(N, D))
    report = measure(real.astype(dtype), fake.astype(dtype), LABELS, LABELS, **OPTIONS)
    ratio = report[2].trace_ratio
    assert 0 <= ratio < 1e-10
    assert ratio.hi < 0.01
    assert ratio.p_value == 1 / 200
    assert ratio.q_value <= 4 / 200
    assert report.pooled.shrunk == 1
    others = np.mean([float(report[k].trace_ratio) for k in (0, 1, 3)])
    assert report.pooled.trace_ratio == pytest.approx(0.75 * others, rel=1e-6)
    assert report.pooled.trace_ratio.p_value < 0.05
    assert report[2].energy_distance.p_value == 1 / 200
    for name in ("variance_main", "variance_rest", "log_det_ratio"):
        estimate = getattr(report[2], name)
        assert np.isfinite(estimate), name
        assert estimate.p_value == 1 / 200, name
    assert all(direction < 1e-9 and direction.p_value == 1 / 200 for direction in report[2].directional_ratios)
    assert report.pooled.log_det_ratio < -10  # counted
    if noise == 0:
        assert any("all generated samples are the same" in note for note in report.warnings)
    json.dumps(report.to_dict(), allow_nan=False)


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_a_collapsed_class_among_classes_that_cannot_be_told_apart(count: int) -> None:
    """Between-class scatter near 0: its interval on the log scale is wider than any float, and still an interval."""
    random, labels = np.random.default_rng(0), np.repeat(np.arange(count), 40)
    real, fake = random.normal(size=(2, 40 * count, 16))
    fake[labels == 0] = real[0]
    report = measure(real, fake, labels, labels, **OPTIONS)
    assert report[0].trace_ratio < 1e-10
    assert report[0].trace_ratio.p_value == 1 / 200
    json.dumps(report.to_dict(), allow_nan=False)


def test_intervals_without_bounds() -> None:
    assert exp(0.0) == 1
    assert exp(710.0) == math.inf
    assert exp(-1e9) == 0
    assert math.isnan(exp(math.nan))


def test_all_classes_collapsed() -> None:
    report = measure(samples(0), np.repeat(CENTRES, N, axis=0), LABELS, LABELS, **OPTIONS)
    assert (report.pooled.shrunk, report.pooled.widened) == (K, 0)
    assert report.pooled.trace_ratio < 1e-10
    assert report.pooled.trace_ratio.hi < 0.01
    assert report.pooled.separability > 1e6 or np.isnan(report.pooled.separability)  # no spread to divide by


def test_copies_of_real_samples_are_said() -> None:
    real, fake = samples(0), samples(1)
    fake[LABELS == 1] = real[LABELS == 1]
    report = measure(real, fake, LABELS, LABELS, **OPTIONS)
    assert any("equal a real one" in note for note in report.warnings)
    # the very same samples: |X - Y| has 30 of 900 pairs at 0, so the U-statistic is below 0
    assert -0.1 < report[1].energy_distance < 0


def test_copies_of_training_samples_are_measured() -> None:
    """Copies: 0; fresh samples: 1 within the interval; fresh ones mixed with half copies in between."""
    training, real = samples(0, 50), samples(1)
    y = np.repeat(np.arange(K), 50)
    copied = np.concatenate([training[y == k][:N] for k in range(K)])
    mixed = np.where((np.arange(K * N) % 2 == 0)[:, None], copied, samples(2))
    found = [
        measure(real, fake, LABELS, LABELS, training=training, training_labels=y, **OPTIONS).pooled.memorisation
        for fake in (copied, mixed, samples(3))
    ]
    assert found[0] < 1e-6
    assert found[0].p_value < 0.01
    assert found[1] == pytest.approx(0.5, abs=0.1)
    assert found[2].lo < 1 < found[2].hi


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_few_samples_a_class_give_documented_answers(n: int) -> None:
    """Values are finite; p-values are defined from two samples on, intervals of variances from three."""
    labels = np.repeat(np.arange(K), n)
    report = measure(samples(0, n), samples(1, n), labels, labels, resamples=49, splits=3)
    for entry in report.classes:
        assert np.isfinite(entry.energy_distance)
        assert entry.trace_ratio > 0
        assert 0.02 <= entry.trace_ratio.p_value <= 1
        assert 0.02 <= entry.energy_distance.p_value <= 1
        assert np.isnan(entry.trace_ratio.lo) == (n < 3)
    json.dumps(report.to_dict(), allow_nan=False)


def test_two_equal_fakes_are_a_collapse_too() -> None:
    labels = np.repeat(np.arange(K), 2)
    report = measure(samples(0), np.repeat(CENTRES, 2, axis=0), LABELS, labels, resamples=199)
    for entry in report.classes:
        assert entry.trace_ratio < 1e-10
        assert entry.trace_ratio.p_value < 0.05


def test_fewer_dimensions_than_main_directions_leave_no_rest() -> None:
    report = measure(samples(0)[:, :3], samples(1)[:, :3], LABELS, LABELS, **OPTIONS)
    assert all(np.isnan(entry.variance_rest) and np.isfinite(entry.variance_main) for entry in report.classes)


def test_what_cannot_be_found_is_not_counted_as_none() -> None:
    """Four classes, 39 resamples: the least q-value of one class is 0.1, so that 0 of 4 would say nothing."""
    options = {**OPTIONS, "resamples": 39}
    assert measure(samples(0), samples(1), LABELS, LABELS, **options).pooled.shrunk is None
    assert measure(samples(0), samples(1), LABELS, LABELS, **OPTIONS).pooled.shrunk == 0
    found = measure(samples(0), 0.1 * samples(1), LABELS, LABELS, **options)
    assert found.pooled.shrunk == K  # many at once can be found
    assert all(r.trace_ratio.q_value <= 1 for r in found.classes)
    few = measure(samples(0), samples(1), LABELS, LABELS, **{**OPTIONS, "resamples": 1})
    assert any("its least q-value is 1)" in note for note in few.warnings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"training": samples(0)}, "training needs training_labels"),
        ({"training_labels": LABELS}, "without training="),
        ({"training": samples(0)[:, :3], "training_labels": LABELS}, "training must have the width .* 12; got 3"),
        ({"training": samples(0)[:N], "training_labels": LABELS[:N]}, "no training samples of class 1, 2, 3"),
        ({"global_mean": np.zeros(D, complex)}, "global_mean must be a finite vector"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(samples(0), samples(1), LABELS, LABELS, **options)


@pytest.mark.parametrize("array", [np.ones((4, 2), complex), np.array([["1", "2"]] * 4), np.full((4, 2), None)])
def test_only_real_numbers_are_features(array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must be .*real numbers"):
        measure(array, np.ones((4, 2)))
    with pytest.raises(ValueError, match="real has features beyond the range of float32"):
        measure(np.array([[0.0, 1], [1, -1e200]]), np.ones((4, 2)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": np.zeros(3)}, "unknown: extra"),
        ({"counts": None}, "missing: counts"),
        ({"means": np.zeros(3)}, "means must be of shape"),
        ({"deviations": np.full(K, np.nan)}, "deviations must be finite"),
        ({"counts": np.ones(K + 1, int)}, "counts must be finite numbers of shape"),
    ],
)
def test_moments_from_a_dictionary_are_checked(change: dict, message: str) -> None:
    arrays = {**ClassMoments(K, D).update(samples(0), LABELS).to_dict(), **change}
    with pytest.raises(ValueError, match=message):
        ClassMoments.from_dict({name: array for name, array in arrays.items() if array is not None})
