"""Each statistic of a class against its definition, and what its error, floor and p-value must not confuse."""

import math
from typing import Any

import numpy as np
import pytest

from kdist.evals import Estimate, energy_distance, measure
from kdist.evals.statistics import separability
from kdist.evals.statistics.averages import mean_finding
from kdist.evals.statistics.discrepancy import energy_finding, kid_finding, variance_of_mean
from kdist.evals.statistics.diversity import _statistics, matched_findings
from kdist.evals.statistics.estimate import Estimates, variance_degrees
from kdist.evals.statistics.gram import split_means, squared_distances
from kdist.evals.statistics.moments import shift_findings
from kdist.evals.statistics.resampling import Finding, Null, Resampling, joined, quantiles, random_splits
from kdist.evals.statistics.separability import neighbour_accuracies, scatter_ratio
from kdist.evals.statistics.spread import held_out_squares, ratio_findings, trace_ratio_finding
from kdist.evals.statistics.subspace import log_det_bias, subspace_findings


def splits_of(n_fake: int, n_real: int, count: int = 0, seed: int = 0):
    return Resampling(0.95, count, [np.random.default_rng(seed)], seed).of(n_fake, n_real)


def gram_of(fake: np.ndarray, real: np.ndarray, origin: float | np.ndarray = 0.0) -> np.ndarray:
    z = np.concatenate([fake, real]) - origin
    return (z @ z.T)[None]


def test_energy_of_a_class_is_the_plain_function() -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(23, 6)), 1.3 * rng.normal(size=(17, 6)) + 0.4
    found = energy_finding(squared_distances(gram_of(fake, real)), splits_of(17, 23))
    assert found.estimate.value == pytest.approx(energy_distance(real, fake), rel=1e-10)


def test_energy_interval_covers() -> None:
    """Truth from 4000 samples; the 95 % interval of 30 against 40 holds it in at least 92 % of 400 sets."""
    rng = np.random.default_rng(1)

    def sets(n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
        return 0.7 * rng.standard_t(5, size=(n, 4)) + 0.4, rng.standard_t(5, size=(m, 4))

    fake, real = sets(4000, 4000)
    truth, splits = energy_distance(real, fake), splits_of(30, 40)
    grams = np.concatenate([gram_of(*sets(30, 40)) for _ in range(400)])
    estimate = energy_finding(squared_distances(grams), splits).estimate
    assert ((estimate.lo < truth) & (estimate.hi > truth)).sum() >= 0.92 * 400


def test_kid_is_the_unbiased_cubic_mmd() -> None:
    rng = np.random.default_rng(2)
    real, fake = rng.normal(size=(9, 5)) + 1, rng.normal(size=(7, 5)) + 1.5
    kernel = (np.concatenate([fake, real]) @ np.concatenate([fake, real]).T / 5 + 1) ** 3
    within_fake = (kernel[:7, :7].sum() - np.trace(kernel[:7, :7])) / 42
    within_real = (kernel[7:, 7:].sum() - np.trace(kernel[7:, 7:])) / 72
    origin = real.mean(axis=0)
    z = np.concatenate([fake, real]) - origin
    found = kid_finding((z @ z.T)[None], (z @ origin)[None], float(origin @ origin), 5, splits_of(7, 9))
    assert found.estimate.value == pytest.approx(within_fake + within_real - 2 * kernel[:7, 7:].mean(), rel=1e-10)


def test_displacement_is_overshoot_and_sideways_together() -> None:
    """Means known: |D| / |u| with D = (0.3, 0.4), u = (2, 0): 0.25; four errors of 1000 samples."""
    rng = np.random.default_rng(3)
    fake, real = (rng.normal(size=(1000, 2)) + np.array(mean) for mean in ((2.3, 0.4), (2.0, 0.0)))
    found = {name: f.shown(0.95)[0] for name, f in shift_findings(gram_of(fake, real), splits_of(1000, 1000)).items()}
    assert found["displacement"] == pytest.approx(0.25, abs=0.08)
    together = math.hypot(found["overshoot"], found["orthogonal_shift"])
    assert found["displacement"] == pytest.approx(together, abs=5e-3)  # the noise of 1000 samples
    assert found["displacement"].lo < 0.25 < found["displacement"].hi


def test_main_and_rest_tell_lost_structure_from_added_noise() -> None:
    """Two wide directions of ten halved in variance, 0.5 added to the eight narrow ones of 0.25."""
    rng = np.random.default_rng(4)
    spread = np.array([3.0, 2.0] + [0.5] * 8)
    real, fake = (rng.normal(size=(1000, 10)) * spread for _ in range(2))
    fake = fake * np.sqrt([0.5] * 2 + [1.0] * 8) + rng.normal(size=fake.shape) * np.sqrt([0.0] * 2 + [0.5] * 8)
    squares = held_out_squares(gram_of(fake, real), 1000, 2)
    main, rest = ratio_findings(squares, splits_of(1000, squares.shape[1] - 1000))
    # four standard errors of ratios of 1000 to 500 sums of squares, of 2 and 8 normals
    assert main.estimate.value == pytest.approx(0.5, abs=0.12)
    assert rest.estimate.value == pytest.approx(3.0, abs=0.35)


def test_main_directions_are_held_out() -> None:
    """Real against real in 200 equal directions, 20 samples: fitted on what they score, main would be far below 1."""
    rng = np.random.default_rng(5)
    logs = []
    for _ in range(200):
        squares = held_out_squares(gram_of(rng.normal(size=(20, 200)), rng.normal(size=(20, 200))), 20, 5)
        logs.append(
            [math.log(f.estimate.value[0]) for f in ratio_findings(squares, splits_of(20, squares.shape[1] - 20))]
        )
    means, errors = np.mean(logs, axis=0), np.std(logs, axis=0) / np.sqrt(200)
    # log of a mean of 10 held-out squares of 5 directions: biased by 2 / (2 * 5 * 10), the same for 20 generated ones
    assert abs(means[0] - (1 / 50 - 1 / 100)) < 4 * errors[0]
    assert abs(means[1]) < 4 * errors[1] + 1e-3


@pytest.mark.parametrize(("n_fake", "n_real"), [(5, 40), (30, 12)])
def test_log_det_and_directions_have_their_closed_forms(n_fake: int, n_real: int) -> None:
    rng = np.random.default_rng(6)
    fake, real = rng.normal(size=(n_fake, 3)), 2 * rng.normal(size=(n_real, 3)) + 1
    log_det, *directions = subspace_findings(np.concatenate([fake, real])[None], splits_of(n_fake, n_real))
    expected = np.linalg.slogdet(np.cov(fake.T))[1] - np.linalg.slogdet(np.cov(real.T))[1]
    expected -= log_det_bias(n_fake, 3) - log_det_bias(n_real, 3)
    assert log_det.estimate.value == pytest.approx(expected, rel=1e-10)
    for j, direction in enumerate(directions):
        ratio = math.log(fake[:, j].var(ddof=1) / real[:, j].var(ddof=1))
        assert direction.estimate.value == pytest.approx(
            ratio - log_det_bias(n_fake, 1) + log_det_bias(n_real, 1), rel=1e-10
        )


def test_orthogonal_square_is_unbiased_under_pure_overshoot() -> None:
    """<D, u>^2 is too large by its variance; 1500 sets of 8 with an overshoot of 0.5: 0 within four errors.

    80 real samples: what 1 / |u|^2 is too large by on average is then small (it would be 0.0015 with 8).
    """
    rng = np.random.default_rng(7)
    u = np.array([12.0, 0, 0])
    values = []
    for _ in range(15):
        sets = [(rng.normal(size=(8, 3)) * [3, 1, 1] + 1.5 * u, rng.normal(size=(80, 3)) + u) for _ in range(100)]
        grams = np.concatenate([gram_of(fake, real) for fake, real in sets])
        values += shift_findings(grams, splits_of(8, 80))["orthogonal_shift"].estimate.value.tolist()
    values = [value for value in values if not math.isnan(value)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(len(values))


def test_orthogonal_error_leaves_the_overshoot_out() -> None:
    """Wide along u, a large overshoot: the error of the sideways part must not hold the spread along u."""
    rng = np.random.default_rng(8)
    u = np.array([5.0, 0, 0, 0])
    fake, real = rng.normal(size=(200, 4)) * [2, 0.1, 0.1, 0.1] + 2 * u, rng.normal(size=(200, 4)) * 0.1 + u
    found = shift_findings(gram_of(fake, real), splits_of(200, 200))["orthogonal_shift"]
    # noise of the mean along u is 2 / sqrt(200) = 0.14, over |u| = 5: squared 0.0008; with 4 D^T V D it would be 0.05
    assert found.error < 0.005


def test_unequal_spread_is_no_shift_and_unequal_tails_no_spread() -> None:
    """15 samples of three times the spread against 90, and 60 of heavy tails against 240: 5 % level, 200 sets each."""
    rng = np.random.default_rng(9)
    resampling = Resampling(0.95, 99, [rng])
    alarms = np.zeros(2)
    for _ in range(200):
        wide = gram_of(3 * rng.normal(size=(15, 6)), rng.normal(size=(90, 6)), np.full(6, 5.0))
        alarms[0] += shift_findings(wide, resampling.of(15, 90))["mean_shift"].null.p_values()[0] <= 0.05
        tails = rng.normal(size=(60, 6)) * np.sqrt(5 / rng.chisquare(7, size=(60, 1)))  # variance 1
        heavy = gram_of(tails, rng.normal(size=(240, 6)))
        alarms[1] += trace_ratio_finding(heavy, resampling.of(60, 240)).null.p_values()[0] <= 0.05
    # 0.05 plus three standard errors (0.046); without the noise below the line these are 0.25 and 0.14
    assert (alarms / 200 <= 0.1).all(), alarms


@pytest.mark.parametrize(("n_fake", "n_real"), [(60, 20), (20, 60)])
def test_floors_of_lengths_fit_unequal_sizes(n_fake: int, n_real: int) -> None:
    """The floor's interval holds fresh real samples: 95 % of 300 sets, less three errors and the floor's own noise."""
    rng = np.random.default_rng(10)
    sets = [(rng.normal(size=(n_fake, 5)), rng.normal(size=(n_real, 5))) for _ in range(300)]
    grams = np.concatenate([gram_of(fake, real, 3.0) for fake, real in sets])
    splits = Resampling(0.95, 99, [rng] * 300).of(n_fake, n_real)
    found = shift_findings(grams, splits) | {"energy": energy_finding(squared_distances(grams), splits)}
    for name in ("mean_shift", "overshoot", "orthogonal_shift", "energy"):
        inside = np.mean([value.floor.lo <= value <= value.floor.hi for value in found[name].shown(0.95)])
        assert 0.9 <= inside <= 0.99, name  # nor are they too wide


def test_global_mean_that_holds_the_class_does_not_spoil_overshoot() -> None:
    """Few real against many generated samples, a third of the global mean their own: p-values stay at their level."""
    rng = np.random.default_rng(11)
    resampling, alarms, centres = Resampling(0.95, 99, [rng]), 0, 3 * np.eye(3, 5)
    for _ in range(300):
        real = np.repeat(centres, 12, axis=0) + rng.normal(size=(36, 5))
        z = np.concatenate([centres[0] + rng.normal(size=(120, 5)), real[:12]]) - real.mean(axis=0)
        found = shift_findings((z @ z.T)[None], resampling.of(120, 12), weight=1 / 3, others_noise=3 * 5 / 12 / 9)
        alarms += found["overshoot"].null.p_values()[0] <= 0.05
    assert alarms <= 0.05 * 300 + 3 * math.sqrt(0.05 * 0.95 * 300)


def test_permuted_overshoot_moves_the_global_mean_along() -> None:
    """Each resample by definition: u from the resampled real mean, the observed one within the global mean."""
    rng, weight = np.random.default_rng(18), 0.6
    z = rng.normal(size=(19, 3)) + np.array([4.0, 0, 0])
    splits = splits_of(8, 11, count=5)
    null = shift_findings((z @ z.T)[None], splits, weight=weight)["overshoot"].null
    for members, statistic in zip(splits.members[splits.orders[0]], null.permuted[0], strict=True):
        a, b = z[members == 1], z[members == 0]
        u = (1 - weight) * b.mean(axis=0) + weight * z[8:].mean(axis=0)
        along = (a - b.mean(axis=0)).mean(axis=0) @ u + (1 - weight) * b.var(axis=0, ddof=1).sum() / 11
        error = math.hypot((a @ u).std(ddof=1) / math.sqrt(8), (b @ u).std(ddof=1) / math.sqrt(11))
        assert statistic == pytest.approx(along / error, rel=1e-9)


def test_matched_sizes_and_errors() -> None:
    """Half of the smaller set on either side; the error is the halves' spread times sqrt(1 + 1 / halves)."""
    rng = np.random.default_rng(12)
    z = rng.normal(size=(80, 4))
    found, size = matched_findings((z @ z.T)[None], splits_of(60, 20), halves=5, permutations=0, neighbours=3)
    assert size == 10
    generator = np.random.default_rng(0)  # as in splits_of; no resamples were drawn from it
    generated = np.stack([generator.permutation(60)[:10] for _ in range(5)])
    real = 60 + np.stack([generator.permutation(20)[:20] for _ in range(5)])
    values = _statistics((z @ z.T)[None], np.concatenate([generated, real[:, :10]], axis=1)[None], 10, 3)[0, :, 2]
    assert found["vendi"].error == pytest.approx(values.std(ddof=1) * math.sqrt(1.2), rel=1e-12)


def test_skewness_is_taken_out_of_an_interval() -> None:
    """Means of 20 exponential samples: 2000 intervals of 95 %, with Student's 1.5 % less of them hold the truth."""
    x = np.random.default_rng(19).exponential(size=(2000, 20))
    mean, error = x.mean(axis=1), x.std(axis=1, ddof=1) / math.sqrt(20)
    third = 20 / (19 * 18) * ((x - mean[:, None]) ** 3).sum(axis=1) / 20**2
    found = Estimates.without_skewness(mean, error, third / error**3, 19, 0.95)
    plain = Estimates.student(mean, error, 19, 0.95)
    held, held_plain = (np.mean((part.lo < 1) & (part.hi > 1)) for part in (found, plain))
    assert held > 0.93  # standard error 0.5 %
    assert held > held_plain + 0.01
    symmetric = Estimates.without_skewness(mean, error, np.zeros(2000), 19, 0.95)
    assert np.allclose(symmetric.lo, plain.lo, rtol=1e-5)
    assert np.allclose(symmetric.hi, plain.hi, rtol=1e-5)


def test_stacked_classes_are_as_by_themselves() -> None:
    """Three classes at once, or one by one with the same generators: equal but for rounding, nulls included."""
    rng = np.random.default_rng(20)
    grams = np.concatenate([gram_of(rng.normal(size=(9, 4)), rng.normal(size=(12, 4)) + 2) for _ in range(3)])
    together = Resampling(0.95, 19, np.random.default_rng(0).spawn(3)).of(9, 12)
    at_once = shift_findings(grams, together, weight=0.3, others_noise=0.1)
    alone = [
        shift_findings(gram[None], Resampling(0.95, 19, [own]).of(9, 12), weight=0.3, others_noise=0.1)
        for gram, own in zip(grams, np.random.default_rng(0).spawn(3), strict=True)
    ]
    for name, found in at_once.items():
        part = joined([entry[name] for entry in alone])
        assert np.allclose(found.estimate, part.estimate, rtol=1e-9, equal_nan=True)
        assert np.allclose(found.null.permuted, part.null.permuted, rtol=1e-9, equal_nan=True)
        assert np.allclose(found.null.floor, part.null.floor, rtol=1e-9, equal_nan=True)


@pytest.mark.parametrize(("n_a", "n_b"), [(3, 9), (9, 3), (6, 6)])
def test_means_of_splits_are_what_they_are_called(n_a: int, n_b: int) -> None:
    """Unbiased squares, traces and products of every split, from the samples themselves."""
    rng = np.random.default_rng(21)
    z = rng.normal(size=(2, n_a + n_b, 3))
    members = random_splits(n_a + n_b, n_a, 5, rng)
    means = split_means(z @ z.transpose(0, 2, 1), members)
    for k in range(2):
        for j, row in enumerate(members):
            a, b = z[k][row == 1], z[k][row == 0]
            spread = [group.var(axis=0, ddof=1).sum() for group in (a, b)]
            assert means.trace_a[k, j] == pytest.approx(spread[0])
            assert means.trace_b[k, j] == pytest.approx(spread[1])
            assert means.ab[k, j] == pytest.approx(a.mean(axis=0) @ b.mean(axis=0))
            gap = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
            assert means.squared[k, j] == pytest.approx(gap - spread[0] / n_a - spread[1] / n_b)


def test_ties_count_against_a_finding() -> None:
    def p_value(observed: float, *draws: float, two_sided: bool = True) -> float:
        return float(Null(np.array([observed]), np.array([draws]), two_sided=two_sided).p_values()[0])

    assert p_value(1.0, *[1.0] * 9) == 1.0
    assert p_value(2.0, 0, 1, 2, 3, two_sided=False) == pytest.approx(3 / 5)
    assert p_value(2.0, 0, 1, 1, math.nan, two_sided=False) == pytest.approx(2 / 5)  # nan counts
    assert math.isnan(p_value(math.nan, 1, 1, 1))


def test_small_tools() -> None:
    assert variance_of_mean(np.array([1.0, 3.0])) == 1.0  # (1 + 1) / (2 - 1) / 2
    draws = np.random.default_rng(13).normal(size=101)
    levels = (0.025, 0.3, 1.0)
    expected = np.quantile(draws, levels, method="weibull")
    assert np.ravel(quantiles(draws[None], levels)) == pytest.approx(expected, rel=1e-14)
    # kurtosis of -1, 1 in equal shares is 1: (n - 3) / (n - 1) below it leaves more than n - 1, which is the most
    assert variance_degrees(np.array([-1.0, 1.0] * 20)) == 39
    spike = np.zeros(100)
    spike[0] = 1.0  # kurtosis about n: two degrees of freedom
    assert variance_degrees(spike) == pytest.approx(2.05, abs=0.05)
    estimate = Estimate(4.0, (1.0, 9.0), floor=Estimate(0.25, (0.0, 1.0)), p_value=0.5).map(math.sqrt)
    assert (estimate, estimate.lo, estimate.hi, estimate.floor, estimate.floor.hi) == (2, 1, 3, 0.5, 1)


def test_mean_of_findings() -> None:
    """Errors add in squares, biases come off, undefined classes are left out, a collapsed one counts."""

    def found(*values: float, errors: tuple[float, ...] = (0.1, 0.1), **more: Any) -> Finding:
        point = np.array(values)
        return Finding(Estimates(point, point, point), np.array(errors[: len(values)]), **more)

    two = [found(1.0, errors=(0.3,), bias=0.2), found(2.0, math.nan, errors=(0.4, math.nan))]  # of two stacks
    mean = mean_finding(two, 0.95)
    assert mean == pytest.approx(1.4)
    assert mean.half_width == pytest.approx(1.959964 * 0.25, rel=1e-6)
    assert mean_finding([found(1e-16, 1.0, scale="ratio")], 0.95) == pytest.approx(0.5)
    assert mean_finding([found(-1.0, scale="square")], 0.95) == 0
    assert mean_finding([found(math.log(0.5), math.log(2.0), scale="logarithm")], 0.95) == pytest.approx(1.0)


def test_separability_interval_covers_and_counts_both_parts() -> None:
    """Four classes of 30 whose between-scatter moves with the within one: 92 % of 300 sets, and not over 99 %."""
    rng = np.random.default_rng(14)
    centres = np.random.default_rng(15).normal(size=(4, 3))
    rows = list(np.arange(120).reshape(4, 30))
    truth = np.square(centres - centres.mean(axis=0)).sum() / 4 / 3
    hits = 0
    for _ in range(300):
        x = np.repeat(centres, 30, axis=0) + rng.normal(size=(120, 3))
        found, _ = scatter_ratio(x, rows, np.stack([x[r].mean(axis=0) for r in rows]), confidence=0.95)
        hits += found.lo < truth < found.hi
    assert 0.92 * 300 <= hits <= 0.985 * 300


def test_separability_error_holds_the_within_scatter() -> None:
    """Classes so far apart that only W is uncertain: var log W = 2 / (K d n), its root known to a tenth."""
    rng = np.random.default_rng(17)
    rows = list(np.arange(800).reshape(4, 200))
    x = np.repeat(1e4 * np.eye(4, 3), 200, axis=0) + rng.normal(size=(800, 3))
    found, _ = scatter_ratio(x, rows, np.stack([x[r].mean(axis=0) for r in rows]), confidence=0.95)
    error = math.log(found.hi / found) / 1.959964
    assert error == pytest.approx(math.sqrt(2 / (4 * 3 * 200)), rel=0.1)


def test_the_nearer_neighbour_decides_a_tie() -> None:
    """One neighbour of each class: the nearer one's class wins, also where its number is the larger."""
    real = np.array([[0.0], [10.0], [1.0], [11.0]])
    rows = [np.array([0, 1]), np.array([2, 3])]
    queries = np.array([[0.1], [10.1], [0.9], [10.9]])
    (found,) = neighbour_accuracies(
        [(queries, [np.array([0, 1]), np.array([2, 3])])], real, rows,
        neighbours=2, most=4, confidence=0.95, generator=np.random.default_rng(0),
    )  # fmt: skip
    assert found == 1.0  # 0.5 if the class of the lower number won


def test_neighbours_found_in_parts_are_the_nearest_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of fewer rows than neighbours, queries in two lots, some of them rows themselves."""
    monkeypatch.setattr(separability, "_ROWS_AT_ONCE", 4)
    monkeypatch.setattr(separability, "_QUERIES_AT_ONCE", 10)
    rng = np.random.default_rng(0)
    real, themselves = rng.normal(size=(30, 3)) + 5, np.array([*range(2, 30, 2), -1, -1])
    queries = np.concatenate([real[themselves[:-2]], rng.normal(size=(2, 3)) + 5])
    squares = np.square(queries[:, None] - real).sum(axis=2)
    squares[np.arange(14), themselves[:-2]] = np.inf
    found = separability._nearest(queries, real, 6, themselves, map)
    assert np.array_equal(found, squares.argsort(axis=1)[:, :6])


def test_report_holds_the_new_numbers() -> None:
    rng = np.random.default_rng(16)
    y = np.repeat(np.arange(3), 25)
    centres = np.repeat(2 * np.eye(3, 9), 25, axis=0)
    report = measure(centres + rng.normal(size=(75, 9)), centres + rng.normal(size=(75, 9)), y, y, resamples=19)
    names = ("energy_distance", "displacement", "variance_main", "variance_rest", "precision", "density", "kid")
    plain = report.to_dict()
    for record in (plain["pooled"], *plain["classes"]):
        for name in names:
            assert record[name]["value"] is not None, name
            assert record[name]["floor"] is not None, name
    for k in range(3):
        expected = energy_distance(*_sets(k))
        assert report[k].energy_distance == pytest.approx(expected, rel=1e-9)


def _sets(k: int) -> tuple[np.ndarray, np.ndarray]:
    """The samples of class k in :func:`test_report_holds_the_new_numbers`."""
    rng = np.random.default_rng(16)
    centres = np.repeat(2 * np.eye(3, 9), 25, axis=0)
    real, fake = (centres + rng.normal(size=(75, 9)) for _ in range(2))
    return real[25 * k : 25 * (k + 1)], fake[25 * k : 25 * (k + 1)]
