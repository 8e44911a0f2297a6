"""A design verified on a run: what it measures, and when it refuses."""

import numpy as np
import pytest

from kdist import EarlyNegative
from kdist.theory import DesignMismatch, MixtureDesign, verify_design

CENTRES = np.array([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]])


def design(trace_ratio, overshoot):
    return MixtureDesign(EarlyNegative(3.0, 1.0), trace_ratio, overshoot, 0.99, 0.99)


def run(count, seed, ratio=1.0, overshoot=0.0):
    """Samples of variance ``ratio`` whose class means are that far out of the classes'."""
    rng, y = np.random.default_rng(seed), np.repeat(["a", "b", "c"], count)
    means = np.repeat(CENTRES + overshoot * (CENTRES - CENTRES.mean(0)), count, 0)
    return means + np.sqrt(ratio) * rng.normal(size=(3 * count, 3)), y


REAL = run(2000, 0)


def test_what_was_promised_is_accepted_and_measured():
    samples, y = run(400, 1, 0.7, 0.2)
    found = verify_design(design(0.7, 0.2), samples, y, *REAL)
    # 1200 samples of 3 directions against 6000: 4 standard errors
    assert np.log(found.trace_ratio / 0.7) == pytest.approx(0, abs=4 * np.hypot(found.log_trace_error, 0.011))
    assert found.overshoot == pytest.approx(0.2, abs=4 * np.hypot(found.overshoot_error, 0.004))
    # a trace of n samples in 3 directions has a relative error of sqrt(2 / (3 n)); the log-ratios of three are averaged
    assert found.log_trace_error == pytest.approx(np.sqrt(2 / (3 * 400) / 3), rel=0.3)
    # along the way to the class, sqrt(32 / 3) long
    assert found.overshoot_error == pytest.approx(np.sqrt(0.7 / 400 / 3 / (32 / 3)), rel=0.3)
    assert found == verify_design(design(0.7, 0.2), samples, y, *REAL)  # repeatable


@pytest.mark.parametrize(("ratio", "overshoot"), [(0.69, 0.0), (1.2, 0.29), (0.69, 0.29), (1.7, 0.0)])
def test_a_mismatch_in_either_is_refused_with_both(ratio, overshoot):
    samples, y = run(100, 1, ratio, overshoot)
    with pytest.raises(DesignMismatch, match=r"promised variance 1\.20 .* \+0\.00, measured"):
        verify_design(design(1.2, 0.0), samples, y, *REAL)
    verify_design(design(1.2, 0.0), samples, y, *REAL, tolerance=1.0)


def test_a_short_run_is_given_its_errors():
    """Six samples of each class miss by more than the tolerance, and by less than that and two errors."""
    samples, y = run(6, 3, 1.0, 0.0)
    found = verify_design(design(1.0, 0.0), samples, y, *REAL, tolerance=10.0)
    real, names = REAL
    logs = [np.log(samples[y == c].var(0, ddof=1).sum() / real[names == c].var(0, ddof=1).sum()) for c in "abc"]
    assert np.log(found.trace_ratio) == pytest.approx(np.mean(logs))  # unbiased variances: six samples are few
    target = found.trace_ratio * np.exp(0.1 + 1.9 * found.log_trace_error)
    verify_design(design(target, found.overshoot), samples, y, *REAL)
    with pytest.raises(DesignMismatch):
        verify_design(design(target * np.exp(0.2 * found.log_trace_error), found.overshoot), samples, y, *REAL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.repeat(["a", "b", "d"], 10)}, "at least 4 of every real class.*'c'"),
        ({"labels": np.repeat(["a", "b", "c", "d", "a"], 6)}, "of no other; look at class 'd'"),
        ({"samples": np.zeros((30, 2))}, "have 2 numbers each, the real data 3"),
        ({"tolerance": -1.0}, "cannot be negative"),
        ({"samples": np.full((30, 3), np.nan)}, "must be finite"),
    ],
)
def test_bad_runs(change, message):
    samples, y = run(10, 1)
    arguments = {"samples": samples, "labels": y, "real": REAL[0], "real_labels": REAL[1], **change}
    with pytest.raises(ValueError, match=message):
        verify_design(design(1.0, 0.0), **arguments)
