"""``measure``: known distortions recovered, invariances, self-consistency, and every bad input refused by name."""

import copy
import dataclasses
import json
import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from threads import torch_threads

from kdist.evals import DistortionReport, Estimate, measure
from kdist.evals.statistics import inputs

K, N, D = 5, 60, 16
POINT = {"resamples": 0, "splits": 0, "neighbour_queries": 0}  # values and intervals only
CENTRES = np.random.default_rng(42).normal(size=(K, D)) * 1.5
LABELS = np.repeat(np.arange(K), N)


def samples(seed: int, *, scale: float = 1.0, overshoot: float = 0.0, n: int = N) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(K * n, D)) * np.arange(1, D + 1) ** -0.5
    return np.repeat(CENTRES + overshoot * (CENTRES - CENTRES.mean(0)), n, axis=0) + scale * noise


def test_known_distortion_is_recovered() -> None:
    """Variance 0.64 and overshoot 0.3 planted: inside the pooled intervals, outside every floor, all flagged."""
    probabilities = np.full((K * N, K), 0.05)
    probabilities[np.arange(K * N), LABELS] = 0.8
    report = measure(
        samples(0),
        samples(1, scale=0.8, overshoot=0.3),
        LABELS,
        LABELS,
        resamples=199,
        fake_predictions=probabilities,
        real_predictions=LABELS,
    )
    pooled = report.pooled
    assert pooled.trace_ratio.lo < 0.64 < pooled.trace_ratio.hi < pooled.trace_ratio.floor.lo
    assert pooled.overshoot.lo < 0.3 < pooled.overshoot.hi
    assert pooled.overshoot.floor.hi < pooled.overshoot.lo
    assert pooled.log_det_ratio.lo < 8 * math.log(0.64) < pooled.log_det_ratio.hi
    assert pooled.trace_ratio.p_value == pooled.overshoot.p_value == pooled.mean_shift.p_value == 0.005
    assert pooled.trace_ratio_classes[0] < pooled.trace_ratio < pooled.trace_ratio_classes[1]
    assert (pooled.shrunk, pooled.widened) == (K, 0)
    # scatter scales as (1 + 0.3)^2 / 0.64; each ratio's own interval is about 5 %
    assert pooled.separability / pooled.separability_real == pytest.approx(1.69 / 0.64, rel=0.1)
    assert pooled.accuracy == pooled.accuracy_real == 1
    assert pooled.confidence == pytest.approx(0.8)
    assert pooled.trace_ratio_correct == pytest.approx(pooled.trace_ratio)  # all are correct
    assert all(entry.trace_ratio.q_value < 0.05 for entry in report.classes)
    assert not report.warnings
    assert str(report).startswith("mean over 5 classes: distance 0.2")
    assert f"; variance {report[3].trace_ratio:.2f} [" in str(report)


def test_no_distortion_is_not_reported_as_one() -> None:
    """Any seed passes with probability of about 0.8 (seven 95 % statements); these are two that do."""
    report = measure(samples(26), samples(27), LABELS, LABELS, resamples=199)
    pooled = report.pooled
    for estimate, truth in ((pooled.trace_ratio, 1.0), (pooled.overshoot, 0.0), (pooled.log_det_ratio, 0.0)):
        assert estimate.lo < truth < estimate.hi
        assert estimate.p_value > 0.01
    assert pooled.mean_shift.lo == 0
    assert (pooled.shrunk, pooled.widened) == (0, 0)
    for name in ("vendi", "coverage", "frechet_covariance", "participation_ratio"):
        estimate = getattr(pooled, name)
        assert estimate.lo < estimate.floor < estimate.hi, name


def test_sample_by_sample_map_has_exact_ratios() -> None:
    """Each sample pulled 0.8 towards its class mean, which itself moves: variances scale by 0.64 exactly."""
    real = samples(3)
    means = np.repeat(real.reshape(K, N, D).mean(1), N, axis=0)
    report = measure(real, 0.8 * (real - means) + 1.2 * means, LABELS, LABELS, **POINT)
    for entry in report.classes:
        assert entry.trace_ratio == pytest.approx(0.64, rel=1e-12)
        assert np.allclose(entry.directional_ratios, 0.64, rtol=1e-10)
        assert entry.log_det_ratio == pytest.approx(8 * math.log(0.64), rel=1e-10)


def test_identical_sets_differ_in_nothing() -> None:
    """A ratio of exactly 1 (logarithm 0) is a value like any other."""
    real = samples(3)
    pooled = measure(real, real, LABELS, LABELS, resamples=19).pooled
    assert pooled.trace_ratio == pytest.approx(1, rel=1e-12)
    assert pooled.log_det_ratio == pytest.approx(0, abs=1e-10)
    assert pooled.log_det_ratio.lo < 0 < pooled.log_det_ratio.hi
    assert np.allclose(pooled.directional_ratios, 1)
    assert pooled.participation_ratio == pytest.approx(1, rel=1e-12)
    assert pooled.mean_shift == 0
    assert abs(pooled.fid_mean + pooled.fid_covariance) < 1e-8


def test_pure_overshoot_has_no_orthogonal_part_and_the_converse() -> None:
    """Many samples, so that the errors (about 0.01) are far below the effect (0.5)."""
    n = 700
    labels = np.repeat(np.arange(K), n)
    real, along = samples(4, n=n), samples(5, overshoot=0.5, n=n)
    pooled = measure(real, along, labels, labels, **POINT).pooled
    assert pooled.overshoot == pytest.approx(0.5, abs=0.02)
    assert pooled.orthogonal_shift < 0.1  # root of an unbiased square: errors add in quadrature
    u = CENTRES - CENTRES.mean(0)
    across = np.linalg.svd(u)[2][-1]  # orthogonal to every class direction
    pooled = measure(real, samples(6, n=n) + 0.5 * across, labels, labels, **POINT).pooled
    assert abs(pooled.overshoot) < 0.02
    expected = 0.5 / np.sqrt(1 / np.mean(1 / np.square(u).sum(axis=1)))
    assert pooled.orthogonal_shift == pytest.approx(expected, rel=0.05)
    trace = (np.arange(1, D + 1) ** -1.0).sum()
    assert pooled.mean_shift == pytest.approx(0.5 / np.sqrt(trace), rel=0.05)


def test_means_are_unbiased_at_small_n() -> None:
    """6 samples a class: overshoot and squared shift average to the planted values within 4 standard errors."""
    rng = np.random.default_rng(7)
    labels = np.repeat(np.arange(K), 6)
    overshoots, squares = [], []
    for _ in range(150):
        seeds = rng.integers(1 << 31, size=2)
        report = measure(
            samples(seeds[0], n=6), samples(seeds[1], overshoot=0.3, n=6), labels, labels, subspace=0, **POINT
        )
        overshoots.append(report.pooled.overshoot)
        squares.append(report.pooled.mean_shift**2)  # 5 classes together: clipping at 0 is rare
    truth = 0.09 * np.square(CENTRES - CENTRES.mean(0)).sum(1).mean() / (np.arange(1, D + 1) ** -1.0).sum()
    assert abs(np.mean(overshoots) - 0.3) < 4 * np.std(overshoots) / np.sqrt(150)
    # the spread tr S in the denominator is estimated too: 1 / tr S is biased by its squared relative error, about 8 %
    assert np.mean(squares) == pytest.approx(truth, rel=0.12)


def test_intervals_of_a_clear_shift_are_those_of_its_square() -> None:
    """The square has a symmetric interval whose upper end grows with it: in roots ``s + (s**2 - lo**2) / (2 s)``."""
    report = measure(samples(0), samples(1, overshoot=0.3), LABELS, LABELS, **POINT)
    for entry in report.classes:
        for shift in (entry.mean_shift, entry.displacement):
            assert shift.lo > 0
            assert shift.hi == pytest.approx(shift + (float(shift) ** 2 - shift.lo**2) / (2 * float(shift)), rel=1e-9)


def test_invariant_under_rotation_scale_and_shift() -> None:
    rng = np.random.default_rng(8)
    turn = 3.7 * np.linalg.qr(rng.normal(size=(D, D)))[0]
    real, fake, offset = samples(9), samples(10, scale=0.9, overshoot=0.1), rng.normal(size=D) * 10
    options = {"resamples": 19, "splits": 4, "subspace": 0}
    one = measure(real, fake, LABELS, LABELS, **options)
    two = measure(real @ turn + offset, fake @ turn + offset, LABELS, LABELS, **options)
    for name in ("trace_ratio", "overshoot", "mean_shift", "orthogonal_shift", "vendi", "recall", "coverage"):
        for a, b in zip(one.classes, two.classes, strict=True):
            first, second = getattr(a, name), getattr(b, name)
            assert first == pytest.approx(second, rel=1e-8, abs=1e-8), name
            assert first.interval == pytest.approx(second.interval, rel=1e-7, abs=1e-7), name
    assert one.pooled.separability == pytest.approx(two.pooled.separability, rel=1e-9)


def test_removal_of_outliers_is_told_from_shrinkage() -> None:
    """Real classes hold 10 % strays that the classifier gets wrong; generation only lost those strays."""
    rng = np.random.default_rng(11)
    real, predictions = samples(12), LABELS.copy()
    strays = rng.permutation(K * N)[: K * N // 10]
    real[strays] += 6 * rng.normal(size=(len(strays), D)) / 4
    predictions[strays] = (LABELS[strays] + 1) % K
    pooled = measure(
        real, samples(13), LABELS, LABELS, real_predictions=predictions, fake_predictions=LABELS, **POINT
    ).pooled
    assert pooled.trace_ratio.hi < 0.8
    assert pooled.trace_ratio_correct.lo < 1 < pooled.trace_ratio_correct.hi
    assert pooled.accuracy_real == pytest.approx(0.9)
    assert pooled.accuracy_real.lo < 0.9 < pooled.accuracy_real.hi


def test_neighbours_and_global_mean() -> None:
    far = samples(14) + np.repeat(100 * np.eye(K, D), N, axis=0)
    report = measure(far, far + 1e-3, LABELS, LABELS, resamples=0, splits=0)
    assert report.pooled.neighbour_accuracy == report.pooled.neighbour_accuracy_real == 1
    shuffled = measure(far, far, LABELS, np.roll(LABELS, N), resamples=0, splits=0)
    assert shuffled.pooled.neighbour_accuracy == 0
    moved = measure(far, far, LABELS, LABELS, global_mean=far.mean(0) + 50, **POINT)
    assert moved.settings["global_mean"] == "given"
    # against another origin; the same samples twice: only the noise correction of that origin is left
    assert abs(moved.pooled.overshoot) < 0.01


def test_same_seed_same_report_and_torch_like_numpy() -> None:
    real, fake = samples(15).astype(np.float32), samples(16).astype(np.float32)
    one = measure(real, fake, LABELS, LABELS, resamples=49, seed=3)
    two = measure(
        torch.from_numpy(real), torch.from_numpy(fake), torch.from_numpy(LABELS), LABELS.tolist(), resamples=49, seed=3
    )
    other = measure(real, fake, LABELS, LABELS, resamples=49, seed=4)
    with torch_threads(3):
        side_by_side = measure(real, fake, LABELS, LABELS, resamples=49, seed=3)

    def digits(report: DistortionReport) -> Any:
        # ten: the last ones of a product depend on where BLAS finds its arrays in memory, once in some 150 runs
        return json.loads(json.dumps(report.to_dict()), parse_float=lambda text: f"{float(text):.10g}")

    assert digits(one) == digits(two) == digits(side_by_side) != digits(other)


def test_per_class_compares_some_and_says_so() -> None:
    real, fake = samples(27), samples(28, scale=0.8)
    whole, some, enough = (
        measure(real, fake, LABELS, LABELS, per_class=n, resamples=99, splits=0) for n in (None, 20, N)
    )
    assert {(entry.n_real, entry.n_fake) for entry in some.classes} == {(20, 20)}
    chosen = inputs.check_inputs(real, fake, LABELS, LABELS, *[None] * 6).limited(20, 0)
    in_real, in_fake = np.concatenate(chosen.real_rows), np.concatenate(chosen.fake_rows)
    alone = measure(real[in_real], fake[in_fake], LABELS[in_real], LABELS[in_fake], **POINT)
    for name in ("trace_ratio", "overshoot", "separability"):
        assert getattr(some.pooled, name) == pytest.approx(getattr(alone.pooled, name), rel=1e-10), name
    for name in ("fid_mean", "fid_covariance", "neighbour_accuracy"):
        assert getattr(some.pooled, name) == getattr(whole.pooled, name), name  # those of all samples
    assert some.warnings == [
        "at most 20 samples of a class on each side were compared, of up to 60; Fréchet distance, neighbours and "
        "accuracies are of all"
    ]
    assert enough.warnings == []
    for name in ("trace_ratio", "overshoot", "energy_distance", "separability"):  # the same in another order
        assert getattr(enough.pooled, name) == pytest.approx(getattr(whole.pooled, name), rel=1e-10), name


def test_a_class_too_large_for_memory_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = samples(29), samples(30)
    monkeypatch.setattr(inputs, "memory", lambda: 4 * 8 * (2 * N) ** 2 - 1)
    with pytest.raises(ValueError, match=r"class 4 has 60 real and 60 generated samples.*per_class=20 ") as error:
        measure(real, fake, LABELS, LABELS)
    assert "all pairs takes 0.0 GiB, and there are 0.0 here" in str(error.value)
    measure(real, fake, LABELS, LABELS, per_class=20, **POINT)


def test_progress_counts_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[measure.__module__], "_CLASSES_AT_ONCE", 2)
    told: list[tuple[int, int]] = []
    measure(samples(31), samples(32), LABELS, LABELS, progress=lambda done, total: told.append((done, total)), **POINT)
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_report_is_json_and_versioned() -> None:
    report = measure(samples(17, n=4), samples(18, n=4), np.repeat(np.arange(K), 4), np.repeat(np.arange(K), 4))
    text = json.dumps(report.to_dict(), allow_nan=False)  # nan has become null
    loaded = json.loads(text)
    assert loaded["schema"] == "kdist.distortion/2"
    assert loaded["classes"][2]["trace_ratio"]["value"] == float(report[2].trace_ratio)
    assert loaded["classes"][0]["recall"]["value"] is None
    assert len(loaded["warnings"]) >= 3  # few samples, no log-det, no recall
    assert isinstance(report, DistortionReport)
    with pytest.raises(KeyError):
        report["no such class"]


def test_estimate_is_a_float_that_survives_copying() -> None:
    estimate = Estimate(0.5, (0.4, 0.6), floor=Estimate(1.0, (0.9, 1.1)), p_value=0.01)
    assert estimate * 2 == 1
    assert f"{estimate:.2f} {estimate}" == "0.50 0.5 [0.4, 0.6]"
    twin = copy.copy(estimate)
    assert (twin.interval, twin.floor.hi, twin.p_value) == ((0.4, 0.6), 1.1, 0.01)
    report = measure(samples(0), samples(1), LABELS, LABELS, **POINT)
    assert dataclasses.asdict(report.classes[0])["trace_ratio"].interval == report.classes[0].trace_ratio.interval


def test_one_class_without_labels() -> None:
    report = measure(samples(19)[:N], samples(20)[:N], resamples=19)
    (entry,) = report.classes
    assert entry.trace_ratio.lo < 1 < entry.trace_ratio.hi
    assert math.isnan(entry.overshoot)  # no other class, no direction to overshoot in
    assert math.isnan(report.pooled.separability)
    assert any("overshoot is undefined" in note for note in report.warnings)
    assert any("pass basis=" in note for note in report.warnings)
    given = measure(samples(19)[:N], samples(20)[:N], basis=np.eye(D)[:, :3], **POINT)
    assert len(given.classes[0].directional_ratios) == 3


def test_warnings_for_tiny_and_unequal_numbers() -> None:
    keep = np.concatenate([np.arange(5), np.arange(N, K * N)])
    report = measure(samples(21), samples(22)[keep], LABELS, LABELS[keep], class_names=list("abcde"), **POINT)
    assert any("fewer than 20 samples" in note for note in report.classes[0].warnings)
    assert any("very unequal numbers" in note for note in report.classes[0].warnings)
    assert not report.classes[1].warnings
    assert any(note.startswith("fewer than 20 samples: 1 of 5 classes (a)") for note in report.warnings)


def test_warning_when_resamples_cannot_reach_significance() -> None:
    """The least p-value of 19 resamples is 0.05; over five classes a single one has a q-value of 0.25 at best."""
    report = measure(samples(21), samples(22), LABELS, LABELS, resamples=19, splits=0)
    assert any("one class of 5 (its least q-value is 0.25); 100 can" in note for note in report.warnings)


def test_two_samples_a_class_give_values_without_intervals() -> None:
    labels = np.repeat(np.arange(K), 2)
    report = measure(samples(23, n=2), samples(24, n=2), labels, labels)
    assert all(np.isfinite(entry.trace_ratio) and math.isnan(entry.trace_ratio.lo) for entry in report.classes)
    json.dumps(report.to_dict(), allow_nan=False)


def test_identical_images_are_zero_variance_not_a_crash() -> None:
    collapsed = np.repeat(CENTRES, N, axis=0)
    report = measure(samples(25), collapsed, LABELS, LABELS, resamples=49)
    assert report.pooled.trace_ratio == pytest.approx(0, abs=1e-12)  # rounding of inner products
    json.dumps(report.to_dict(), allow_nan=False)


REAL, FAKE = samples(30, n=4), samples(31, n=4)
FEW = np.repeat(np.arange(K), 4)
WITH_NAN = REAL.copy()
WITH_NAN[[3, 17], 2] = np.nan, np.inf
SAME = REAL.copy()
SAME[FEW == 2] = SAME[8]
ONE_LEFT = np.array([0, 1, 1, 1, *FEW[4:]])


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((WITH_NAN, FAKE, FEW, FEW), {}, r"real has NaN or infinite features in 2 of 20 rows: 3, 17"),
        ((REAL, FAKE[:, :7], FEW, FEW), {}, "same feature width; got 16 and 7"),
        (
            (REAL, FAKE, FEW[:-1], FEW),
            {},
            r"real_labels must hold one label per sample, shape \(20,\); got shape \(19,\)",
        ),
        ((REAL, FAKE, FEW, FEW + 0.5), {}, "fake_labels must be whole numbers or strings"),
        ((REAL, FAKE, FEW, None), {}, "go together"),
        ((REAL, FAKE[FEW != 3], FEW, FEW[FEW != 3]), {}, "no fake samples of class 3"),
        ((REAL[FEW > 1], FAKE, FEW[FEW > 1], FEW), {}, "no real samples of class 0, 1"),
        ((REAL, FAKE, FEW, FEW), {"class_names": [*"abcdef"]}, "no real samples of class f"),
        ((REAL, FAKE, FEW, FEW), {"class_names": {0: "zero"}}, "class_names lacks the labels 1, 2, 3, 4"),
        ((REAL, FAKE, ONE_LEFT, FEW), {}, "one real sample in class 0: a class's variance is undefined"),
        ((REAL, FAKE, FEW, ONE_LEFT), {"class_names": [*"abcde"]}, "one fake sample in class a"),
        ((SAME, FAKE, FEW, FEW), {}, "real samples of class 2 are all the same"),
        ((REAL[:0], FAKE, FEW[:0], FEW), {}, r"real is empty: shape \(0, 16\)"),
        ((REAL.reshape(20, 4, 2, 2), FAKE, FEW, FEW), {}, r"must be features of shape \(N, d\).*reshape"),
        ((np.full((20, D), "x"), FAKE, FEW, FEW), {}, "real must be numeric"),
        ((REAL, FAKE, FEW, FEW), {"confidence": 1.0}, r"confidence must lie in \(0, 1\); got 1.0"),
        ((REAL, FAKE, FEW, FEW), {"resamples": -1}, "resamples must be >= 0; got -1"),
        ((REAL, FAKE, FEW, FEW), {"splits": 1}, "splits must be 0 .* got 1"),
        ((REAL, FAKE, FEW, FEW), {"neighbours": 0}, "neighbours must be at least 1"),
        ((REAL, FAKE, FEW, FEW), {"subspace": -1}, "subspace must be >= 0"),
        ((REAL, FAKE, FEW, FEW), {"global_mean": np.zeros(3)}, r"global_mean must be a finite vector of shape \(16,\)"),
        ((REAL, FAKE, FEW, FEW), {"basis": np.ones((D, 2))}, "linearly independent"),
        ((REAL, FAKE, FEW, FEW), {"basis": np.ones((3, 2))}, r"shape \(16, k\); got \(3, 2\)"),
        ((REAL, FAKE, FEW, FEW), {"fake_predictions": np.zeros((20, 4))}, r"shape \(20, 5\).* got shape \(20, 4\)"),
        ((REAL, FAKE, FEW, FEW), {"fake_predictions": np.ones((20, 5))}, "apply softmax"),
    ],
)
def test_bad_input(arguments: tuple, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(*arguments, **options)


def test_unknown_option_fails() -> None:
    with pytest.raises(TypeError, match="resample"):
        measure(REAL, FAKE, FEW, FEW, resample=10)
