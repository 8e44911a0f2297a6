"""Streaming moments: equal to the plain ones however the data are cut, over processes too, and to ``measure``."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch

from kdist.evals import ClassMoments, compare_moments, frechet_distance, measure

K, D = 4, 6
EXACT = 1e-10  # relative; rounding of some hundred float64 additions is far below


def data(seed: int, scale: float = 1.0, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(K), [30, 41, 25, 54]))
    centres = np.random.default_rng(99).normal(size=(K, D)) * 2
    return centres[labels] * (1 + offset) + scale * rng.normal(size=(len(labels), D)) + 1e3, labels


def stream(features: np.ndarray, labels: np.ndarray, batch: int, **options: bool) -> ClassMoments:
    moments = ClassMoments(K, D, **options)
    for start in range(0, len(features), batch):
        moments.update(features[start : start + batch], labels[start : start + batch])
    return moments


def assert_same(one: ClassMoments, other: ClassMoments) -> None:
    assert np.array_equal(one.counts, other.counts)
    for name, array in one.to_dict().items():
        assert np.allclose(array, other.to_dict()[name], rtol=EXACT, atol=0), name


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_streaming_equals_plain_moments(batch: int) -> None:
    """Far from the origin (1000 spreads), where sums of squares would have lost six digits."""
    x, y = data(0)
    moments = stream(x, y, batch, covariance=True)
    for k in range(K):
        assert np.allclose(moments.means[k], x[y == k].mean(0), rtol=EXACT)
        assert moments.traces[k] == pytest.approx(np.trace(np.cov(x[y == k].T)), rel=EXACT)
    assert np.allclose(moments.covariance, np.cov(x.T), rtol=1e-9)  # entries near 0 lose a digit to cancellation


def test_merge_is_associative_and_keeps_tensors() -> None:
    x, y = data(1)
    whole = stream(x, y, 40, covariance=True)
    parts = [stream(x[i::3], y[i::3], 11, covariance=True) for i in range(3)]
    assert_same(parts[0].merge(parts[1]).merge(parts[2]), whole)
    assert_same(ClassMoments(K, D, covariance=True).update(torch.from_numpy(x), torch.from_numpy(y)), whole)
    assert_same(ClassMoments.from_dict(whole.to_dict()), whole)
    assert_same(ClassMoments(K, D, covariance=True).merge(whole), whole)


def _one_process(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    x, y = data(2)
    gathered = stream(x[rank::2], y[rank::2], 16, covariance=True).gather()
    np.savez(f"{folder}/{rank}.npz", **gathered.to_dict())
    torch.distributed.destroy_process_group()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork, which Windows lacks")
def test_two_processes_give_the_statistics_of_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_one_process, args=(rank, str(tmp_path))) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    whole = stream(*data(2), 150, covariance=True)
    real = stream(*data(3), 150, covariance=True)
    for rank in range(2):
        gathered = ClassMoments.from_dict(dict(np.load(tmp_path / f"{rank}.npz")))
        assert_same(gathered, whole)
        one, two = compare_moments(real, whole), compare_moments(real, gathered)
        assert np.allclose(one.trace_ratio, two.trace_ratio, rtol=EXACT)
        assert np.allclose(one.overshoot, two.overshoot, rtol=1e-8)  # differences of means near 1000
    assert_same(whole.gather(), whole)  # without a process group: a copy


def test_moments_and_samples_give_the_same_numbers() -> None:
    (real, real_y), (fake, fake_y) = data(4), data(5, scale=0.8, offset=0.2)
    found = compare_moments(stream(real, real_y, 32, covariance=True), stream(fake, fake_y, 32, covariance=True))
    report = measure(real, fake, real_y, fake_y, resamples=0, splits=0)
    for k, entry in enumerate(report.classes):
        # rounding, at features 1000 spreads away from the origin
        assert found.trace_ratio[k] == pytest.approx(entry.trace_ratio, rel=1e-9)
        assert found.overshoot[k] == pytest.approx(entry.overshoot, rel=1e-7)
        assert found.mean_shift[k] == pytest.approx(entry.mean_shift, rel=1e-7)
    assert found.separability == pytest.approx(report.pooled.separability, rel=1e-9)
    assert found.separability_real == pytest.approx(report.pooled.separability_real, rel=1e-9)
    assert found.frechet is not None
    assert found.frechet.total == pytest.approx(frechet_distance(real, fake).total, rel=1e-7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ClassMoments(0, 3), "must be positive"),
        (lambda: ClassMoments(K, D).update(np.zeros((2, D + 1)), [0, 1]), "features must have width 6; got 7"),
        (lambda: ClassMoments(K, D).update(np.zeros((2, D)), [0, K]), "whole numbers in 0..3"),
        (lambda: ClassMoments(K, D).update(np.zeros((2, D)), [0]), "one label per sample"),
        (lambda: ClassMoments(K, D).update(np.full((2, D), np.nan), [0, 1]), "2 of 2 rows: 0, 1"),
        (lambda: ClassMoments(K, D).merge(ClassMoments(K, D, covariance=True)), "same kind"),
        (lambda: ClassMoments(K, D).covariance, "covariance=True"),
        (lambda: ClassMoments(K, D, covariance=True).covariance, "at least two samples; got 0"),
        (
            lambda: compare_moments(ClassMoments(K, D), ClassMoments(K, D)),
            "real has 0 of class 0 and too few of 3 more",
        ),
        (lambda: compare_moments(ClassMoments(K, D), ClassMoments(K, D + 1)), "same classes and width"),
    ],
)
def test_bad_input(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
