"""Fréchet distance: closed forms, the low-rank identity against the d x d square root, agreement with clean-fid."""

import numpy as np
import pytest
from scipy import linalg

from kdist.compat import repair_torchvision
from kdist.evals import frechet_distance, frechet_from_moments
from kdist.evals.statistics import frechet


def reference(first: np.ndarray, second: np.ndarray) -> float:
    """Textbook formula through the d x d matrix square root."""
    s1, s2 = np.cov(first.T), np.cov(second.T)
    root = linalg.sqrtm(s1 @ s2).real
    return np.sum((first.mean(0) - second.mean(0)) ** 2) + np.trace(s1 + s2 - 2 * root)


def test_commuting_covariances_closed_form() -> None:
    a, b, m = np.array([1.0, 4.0, 9.0]), np.array([4.0, 1.0, 0.0]), np.array([1.0, 0.0, 2.0])
    found = frechet_from_moments(np.zeros(3), np.diag(b), m, np.diag(a))  # the singular one first
    assert found.mean == pytest.approx(5.0, rel=1e-14)
    assert found.covariance == pytest.approx(((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), rel=1e-12)  # 1 + 1 + 9
    assert found.total == pytest.approx(16.0, rel=1e-12)


@pytest.mark.parametrize(("n1", "n2", "d"), [(12, 9, 40), (200, 150, 6), (30, 8, 20), (60, 5, 20)])
def test_low_rank_equals_matrix_square_root(n1: int, n2: int, d: int) -> None:
    rng = np.random.default_rng(n1)
    first, second = rng.normal(size=(n1, d)), 0.7 * rng.normal(size=(n2, d)) @ rng.normal(size=(d, d)) + 0.3
    # scipy's root of a singular product is only good to the square root of rounding: a loose bound where n <= d
    tolerance = 1e-10 if min(n1, n2) > d else 1e-4
    assert frechet_distance(first, second).total == pytest.approx(reference(first, second), rel=tolerance)


@pytest.mark.parametrize("n", [10, 200])
def test_identical_sets_are_at_distance_zero(n: int) -> None:
    x = np.random.default_rng(0).normal(size=(n, 32))
    parts = frechet_distance(x, x)
    assert parts.mean == 0
    assert abs(parts.covariance) < 1e-10 * np.trace(np.cov(x.T))  # rounding of 32 singular values


@pytest.mark.parametrize(("dtype", "centre"), [(np.float64, 3), (np.float32, 1e6)])  # a mean that float32 cannot hold
def test_products_in_parts_are_those_of_the_whole(dtype: type, centre: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    first, second = ((rng.normal(size=(n, 6)) + centre).astype(dtype) for n in (50, 40))
    monkeypatch.setattr(frechet, "_ROWS_AT_ONCE", 7)  # 8 parts of the one set, 6 of the other
    tolerance = 1e-12 if dtype is np.float64 else 1e-5  # rounding of the products
    assert frechet_distance(first, second).total == pytest.approx(
        reference(first.astype(float), second.astype(float)), rel=tolerance
    )


@pytest.mark.parametrize("shape", [(300, 260), (260, 300), (280, 280)])
def test_nuclear_norm_of_large_matrices(shape: tuple[int, int]) -> None:
    """Half of them singular: to the root of rounding, for each direction that is missing."""
    rng = np.random.default_rng(4)
    full = rng.normal(size=shape)
    singular = full[:, :200] @ rng.normal(size=(200, shape[1]))
    found = frechet.nuclear_norm(np.stack([full, singular]))
    expected = np.linalg.svd(np.stack([full, singular]), compute_uv=False).sum(axis=1)
    assert found[0] == pytest.approx(expected[0], rel=1e-9)
    assert found[1] == pytest.approx(expected[1], rel=1e-7)


def test_both_branches_agree() -> None:
    """n on either side of the switch (d) with the same samples padded by zero columns, which change nothing."""
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(50, 8)), rng.normal(size=(40, 8)) * 0.5
    wide = [np.pad(x, ((0, 0), (0, 60))) for x in (first, second)]
    assert frechet_distance(*wide).total == pytest.approx(frechet_distance(first, second).total, rel=1e-10)


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
def test_agrees_with_clean_fid() -> None:
    """clean-fid takes moments; its square root is iterative, hence 1e-6."""
    repair_torchvision()
    fid = pytest.importorskip("cleanfid.fid")
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=(300, 24)), rng.normal(size=(300, 24)) @ rng.normal(size=(24, 24)) + 1
    try:
        theirs = fid.frechet_distance(first.mean(0), np.cov(first.T), second.mean(0), np.cov(second.T))
    except TypeError:
        pytest.skip("this clean-fid calls scipy.linalg.sqrtm(disp=...), which SciPy 1.18 no longer takes")
    assert frechet_distance(first, second).total == pytest.approx(theirs, rel=1e-6)


def test_raw_distance_rewards_shrinkage_at_small_n() -> None:
    """Why it is never the headline: 50 samples of a law with 0.64 of the variance score better than the true law."""
    rng = np.random.default_rng(3)
    spectrum = np.arange(1, 129) ** -0.5
    differences = []
    for _ in range(20):
        real, true, shrunk = (rng.normal(size=(50, 128)) * spectrum for _ in range(3))
        differences.append(frechet_distance(real, true).total - frechet_distance(real, 0.8 * shrunk).total)
    error = np.std(differences, ddof=1) / np.sqrt(20)
    assert np.mean(differences) > 4 * error


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.zeros((3, 4)), np.zeros((3, 5)), "same d"),
        (np.zeros((1, 4)), np.zeros((3, 4)), "at least two samples"),
        (np.zeros(4), np.zeros((3, 4)), "same d"),
    ],
)
def test_bad_input(first: np.ndarray, second: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frechet_distance(first, second)
