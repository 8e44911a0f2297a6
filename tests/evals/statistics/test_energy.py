"""Energy distance: closed forms, brute force, invariances, and what is refused."""

from math import erf, exp, pi, sqrt

import numpy as np
import pytest
import torch

from kdist.evals import energy_distance
from kdist.evals.statistics import energy


def test_is_the_u_statistic_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(7, 3)), 2 * rng.normal(size=(5, 3)) + 1

    def mean(x: np.ndarray, y: np.ndarray) -> float:
        return np.mean([np.linalg.norm(a - b) for a in x for b in y if a is not b])

    rows = list(real), list(fake)
    expected = (2 * mean(rows[0], rows[1]) - mean(rows[0], rows[0]) - mean(rows[1], rows[1])) / mean(rows[0], rows[0])
    assert energy_distance(real, fake) == pytest.approx(expected, rel=1e-12)  # rounding of 84 distances


def test_sums_of_distances_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "_DISTANCES_AT_ONCE", 12)  # 2 of the 7 rows at a time
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(7, 3)), rng.normal(size=(5, 3))
    expected = np.linalg.norm(x[:, None] - y, axis=2)
    rows, columns = energy.distance_sums(x, y)
    np.testing.assert_allclose(rows, expected.sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(columns, expected.sum(axis=0), rtol=1e-12)
    far = x[:1] * 1e8
    assert energy.distance_sums(far, far) == (0, 0)  # of a sample to itself


def test_gaussians_on_a_line_have_a_closed_form() -> None:
    """E|N(m, s^2)| = s sqrt(2/pi) exp(-m^2 / 2 s^2) + m erf(m / s sqrt 2); 3000 samples, four standard errors."""
    rng = np.random.default_rng(1)
    real, fake = rng.normal(size=(3000, 1)), 1 + 0.5 * rng.normal(size=(3000, 1))
    s = sqrt(1.25)
    between = s * sqrt(2 / pi) * exp(-1 / 2 / s**2) + erf(1 / s / sqrt(2))
    expected = (2 * between - 2 * 0.5 / sqrt(pi) - 2 / sqrt(pi)) / (2 / sqrt(pi))
    error = 0.026  # spread of 40 repeats of this very set-up (mean 0.671, expected 0.671)
    assert abs(energy_distance(real, fake) - expected) < 4 * error


def test_unbiased_at_few_samples_and_zero_for_the_same_law() -> None:
    rng = np.random.default_rng(2)
    values = [energy_distance(rng.normal(size=(6, 4)), rng.normal(size=(9, 4))) for _ in range(600)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(600)
    assert min(values) < 0 < max(values)


@pytest.mark.parametrize("difference", ["shift", "shrink", "noise", "mode", "directions"])
def test_sees_every_difference(difference: str) -> None:
    """Five kinds of distortion, one of which (directions) leaves mean and total variance as they are."""
    rng = np.random.default_rng(3)
    spread = np.array([2.0, 1.0, 0.5, 0.5])
    real, fake = (rng.normal(size=(400, 4)) * spread for _ in range(2))
    side = np.sign(rng.normal(size=(2, 400, 1))) * np.array([3.0, 0, 0, 0])
    if difference == "mode":
        real, fake = real + side[0], fake + np.array([3.0, 0, 0, 0])
    null = energy_distance(real, real[rng.permutation(400)])
    changed = {
        "shift": fake + 1,
        "shrink": 0.7 * fake,
        "noise": fake + rng.normal(size=fake.shape),
        "mode": fake,
        "directions": fake[:, ::-1],
    }[difference]
    assert null < 0.001 < 0.02 < energy_distance(real, changed)


def test_invariant_and_the_same_for_tensors() -> None:
    rng = np.random.default_rng(4)
    real, fake = rng.normal(size=(20, 5)), rng.normal(size=(15, 5)) + 0.5
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    value = energy_distance(real, fake)
    # 1e-9: squares of differences of features 100 spreads away from the origin
    assert energy_distance(7 * real @ turn + 100, 7 * fake @ turn + 100) == pytest.approx(value, rel=1e-9)
    # the mean is taken off first: squares of 1e7 would leave distances of 1 with an error of 0.1
    assert energy_distance(real + 1e7, fake + 1e7) == pytest.approx(value, rel=1e-6)
    assert energy_distance(torch.from_numpy(real), torch.from_numpy(fake)) == value
    assert energy_distance(torch.from_numpy(real).half(), fake) == pytest.approx(value, rel=0.01)  # half's rounding


@pytest.mark.parametrize(
    ("real", "fake", "message"),
    [
        (np.zeros((3, 2)), np.ones((3, 2)), "real samples are all the same"),
        (np.full((3, 2), 1 / 3, np.float32), np.ones((3, 2)), "real samples are all the same"),
        (np.eye(3), np.eye(3)[:1], "fake has 1"),
        (np.eye(3), np.eye(4), "same feature width; got 3 and 4"),
        (np.full((3, 2), np.nan), np.ones((3, 2)), "real has NaN"),
    ],
)
def test_bad_input(real: np.ndarray, fake: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        energy_distance(real, fake)


def test_equal_fakes_are_far_not_undefined() -> None:
    """A point mass at the mean of N(0, I_d): 2 E|Y| / E|Y - Y'| - 1 = sqrt(2) - 1."""
    real = np.random.default_rng(5).normal(size=(500, 6))
    # 0.01: four standard errors of a mean length over 500 samples
    assert energy_distance(real, np.zeros((3, 6))) == pytest.approx(2**0.5 - 1, abs=0.01)
