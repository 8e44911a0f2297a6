"""From classes to their mean: closed forms of errors, and who is counted."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from kdist.evals import Estimate
from kdist.evals.statistics.averages import _mean, bootstrap_classes, pooled_estimates
from kdist.evals.statistics.estimate import Estimates, with_q_values
from kdist.evals.statistics.measure import _counts, _one_can_be_found
from kdist.evals.statistics.resampling import Finding, Resampling
from kdist.evals.statistics.stack import _among_correct


def mean(*arguments, **options) -> Estimate:
    """The mean, by itself."""
    value, low, high = (float(part) for (part,) in _mean(*arguments, **options))
    return Estimate(value, (low, high))


def test_the_mean_is_students_with_satterthwaites_degrees():
    """Equal errors e with v degrees each: the mean of k has error e / sqrt(k) and k v degrees."""
    found = mean(np.array([1.0, 2.0, 6.0]), np.full(3, 0.3), np.full(3, 4.0), 0.9)
    assert found == 3.0
    assert found.half_width == pytest.approx(stats.t.ppf(0.95, 12) * 0.3 / math.sqrt(3), rel=1e-9)
    exact = mean(np.array([1.0, 2.0]), np.zeros(2), np.full(2, 4.0), 0.9)
    assert (exact, exact.lo, exact.hi) == (1.5, 1.5, 1.5)


def test_errors_of_ratios_are_relative():
    """A ratio r with relative error e has error r e: two of them, mean 2, give sqrt(1 + 9) e / 2 over 2, on the log."""
    found = mean(np.array([1.0, 3.0]), np.full(2, 0.1), np.full(2, math.inf), 0.95, log=True)
    assert found == pytest.approx(2.0, rel=1e-12)
    half = stats.norm.ppf(0.975) * 0.1 * math.sqrt(10) / 4
    assert (found.lo, found.hi) == pytest.approx((2 * math.exp(-half), 2 * math.exp(half)), rel=1e-6)


def test_classes_as_a_sample_need_three():
    generator = np.random.default_rng(0)
    assert all(map(math.isnan, bootstrap_classes([0.5, 1.0], 0.95, generator)))
    low, high = bootstrap_classes([0.5, 1.0, 1.5], 0.9, generator)
    assert 0.5 <= low < 1 < high <= 1.5
    # the mean of n draws from n values of standard deviation s: s / sqrt(n), to 2000 resamples
    values = np.random.default_rng(1).normal(size=400)
    low, high = bootstrap_classes(list(values), 0.95, generator)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.06)


def test_findings_are_pooled_by_name():
    def finding(*values: float) -> Finding:
        point = np.array(values)
        return Finding(Estimates(point, point, point), np.full(len(values), 0.1))

    one = {"overshoot": finding(1.0, 2.0), "direction_0": finding(2.0, 3.0)}  # a stack of two classes, one of one
    two = {"overshoot": finding(3.0), "direction_0": finding(4.0)}
    pooled = pooled_estimates([one, two], 0.95)
    assert (pooled["overshoot"], pooled["directional_ratios"]) == (2.0, (3.0,))


def test_classes_are_counted_after_the_control_of_false_discoveries():
    """Ten p-values of 0.04, 0.08, ..., 0.4: one lies below 0.05, none of their q-values does."""
    ratios = with_q_values([Estimate(0.5 + k, p_value=0.04 * (1 + k)) for k in range(10)])
    settings = {"confidence": 0.95, "resamples": 999}
    assert sum(ratio.p_value < 0.05 for ratio in ratios) == 1
    assert _counts([SimpleNamespace(trace_ratio=r) for r in ratios], settings) == {"shrunk": 0, "widened": 0}
    clear = with_q_values([Estimate(v, p_value=0.001) for v in (0.5, 0.6, 1.4)] + ratios[1:3])
    assert _counts([SimpleNamespace(trace_ratio=r) for r in clear], settings) == {"shrunk": 2, "widened": 1}


@pytest.mark.parametrize(("classes", "resamples", "possible"), [(50, 999, True), (51, 999, False), (1, 0, False)])
def test_what_no_resample_can_find_is_not_counted_as_none(classes, resamples, possible):
    """The smallest p-value is 1 / 1000, alone in 50 classes its q-value 0.05."""
    assert _one_can_be_found(classes, {"confidence": 0.95, "resamples": resamples}) == possible
    nothing = [SimpleNamespace(trace_ratio=Estimate(1.0, p_value=1.0, q_value=1.0))] * classes
    expected = 0 if possible else None
    assert _counts(nothing, {"confidence": 0.95, "resamples": resamples})["shrunk"] == expected


def test_the_ratio_among_the_correct_is_that_of_these_samples():
    """Another number of them on either side; the rest is as if it had never been there."""
    random = np.random.default_rng(2)
    x = np.concatenate([random.normal(size=(14, 5)), 2 * random.normal(size=(30, 5))])
    correct = random.random(44) < 0.7
    correct[:3] = False
    fake, real = x[:14][correct[:14]], x[14:][correct[14:]]
    assert len(fake) != len(real)
    resampling, grams = Resampling(0.95, 0, [random], 0), (x @ x.T)[None]
    found = _among_correct(grams, 14, correct[None], resampling)
    expected = np.cov(fake.T).trace() / np.cov(real.T).trace()
    assert found.estimate.value == pytest.approx(expected, rel=1e-9)  # float64
    correct[1:14] = False
    assert math.isnan(_among_correct(grams, 14, correct[None], resampling).estimate.value[0])
