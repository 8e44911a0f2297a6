"""The per-sample numbers against the public statistics and closed forms."""

import numpy as np
import pytest

from kdist.evals.statistics.energy import energy_distance
from kdist.tuning.scores import Reference, correctness, influence, join, pixels, values


@pytest.fixture
def block():
    rng = np.random.default_rng(1)
    real = {k: rng.normal(k, 1, (40, 3)) for k in (0, 1)}
    fake = {k: rng.normal(k * 1.3, 0.8, (12, 3)) for k in (0, 1)}
    reference = Reference(np.concatenate(list(real.values())), np.repeat([0, 1], 40), [0, 1])
    columns = reference.columns(np.concatenate(list(fake.values())), np.repeat([0, 1], 12))
    return real, fake, columns


def test_the_energy_distance_is_that_of_evals(block):
    real, fake, columns = block
    expected = np.mean([energy_distance(real[k], fake[k]) for k in (0, 1)])
    assert values(columns)["distance"].value == pytest.approx(expected, abs=1e-9)  # rounding of float64 distances


def test_variance_and_displacement_are_those_of_the_moments(block):
    real, fake, columns = block
    kept = np.mean([fake[k].var(0, ddof=1).sum() / real[k].var(0, ddof=1).sum() for k in (0, 1)])
    assert values(columns)["variance"].value == pytest.approx(kept)
    squared = []
    for k in (0, 1):
        trace = real[k].var(0, ddof=1).sum()
        moved = np.square(fake[k].mean(0) - real[k].mean(0)).sum()
        squared.append((moved - fake[k].var(0, ddof=1).sum() / 12) / trace - 1 / 40)
    assert values(columns)["displacement"].value == pytest.approx(np.mean(squared))


def test_separability_is_the_scatter_ratio_of_evals(block):
    from kdist.evals.statistics.separability import scatter_ratio

    _, fake, columns = block
    features = np.concatenate(list(fake.values()))
    rows = [np.arange(12), np.arange(12, 24)]
    expected, _ = scatter_ratio(features, rows, np.stack([f.mean(0) for f in fake.values()]), confidence=0.95)
    assert values(columns)["separability"].value == pytest.approx(float(expected), rel=1e-6)


def test_errors_cover_the_spread_of_repeated_blocks():
    rng = np.random.default_rng(2)
    reference = Reference(rng.normal(size=(400, 4)), np.repeat([0, 1], 200), [0, 1])
    labels = np.repeat([0, 1], 20)
    found = [values(reference.columns(1.3 * rng.normal(size=(40, 4)) + 0.4, labels))["distance"] for _ in range(200)]
    spread, error = np.std([v.value for v in found]), np.mean([v.error for v in found])
    # the influence leaves out the second order of a U-statistic of 20, some 10 %; 200 repeats know the spread to 5 %
    assert 0.8 < error / spread < 1.15


def test_errors_hold_for_a_few_samples_of_the_real_law():
    # five samples of what is right: only what pairs add is left, and rows show it twice
    rng = np.random.default_rng(4)
    reference = Reference(rng.normal(size=(600, 4)), np.repeat([0, 1], 300), [0, 1])
    labels = np.repeat([0, 1], 5)
    found = [values(reference.columns(rng.normal(size=(10, 4)), labels))["distance"] for _ in range(400)]
    spread, error = np.std([v.value for v in found]), np.sqrt(np.mean([v.error**2 for v in found]))
    # 400 repeats know the spread to 4 %; single errors of ten samples are cut off at a tenth of the squares
    assert 0.85 < error / spread < 1.3


def test_paired_differences_are_less_noisy_than_independent_ones():
    rng = np.random.default_rng(3)
    reference = Reference(rng.normal(size=(200, 4)), [0] * 200, [0])
    x = rng.normal(size=(50, 4))
    a, b = (reference.columns(factor * x, [0] * 50) for factor in (1.0, 1.1))
    paired = (influence(a)["distance"] - influence(b)["distance"]).std()
    assert paired < 0.5 * np.hypot(influence(a)["distance"].std(), influence(b)["distance"].std())


def test_blocks_join(block):
    _, _, columns = block
    assert values(join([columns, columns]))["distance"].value == pytest.approx(values(columns)["distance"].value)


def test_a_judge_gives_labels_or_probabilities():
    labels = ["a", "b", "b"]
    assert correctness(["a", "a", "b"], labels, ["a", "b"]).tolist() == [1, 0, 1]
    assert correctness(np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), labels, ["a", "b"]).tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match=r"judge must give labels of shape \(3,\) or probabilities"):
        correctness(np.zeros((3, 5)), labels, ["a", "b"])


def test_a_class_without_spread_is_refused():
    with pytest.raises(ValueError, match="class 1 are the same"):
        Reference(np.array([[0.0], [1.0], [2.0], [2.0]]), [0, 0, 1, 1], [0, 1])
    once = np.random.default_rng(0).normal(size=(2, 300)).astype(np.float32)
    again = np.nextafter(once[1:], np.float32(9))  # equal but for the last digit of float32
    with pytest.raises(ValueError, match="class 1 are the same"):
        Reference(np.concatenate([once, once[1:], again]).astype(float), [0, 1, 1, 1], [1])
    with pytest.raises(ValueError, match="class 1 has 1 samples"):
        Reference(np.array([[0.0], [1.0], [2.0]]), [0, 0, 1], [0, 1])


def test_large_images_are_projected_on_the_real_ones_components():
    import torch

    images = torch.randn(200, 1, 9, 9)
    features = pixels(images)(images)
    assert features.shape == (200, 40)
    assert pixels(images[:, :, :8, :8])(images[:, :, :8, :8]).shape == (200, 64)
    total = ((images.flatten(1).double() - images.flatten(1).double().mean(0)) ** 2).sum()
    assert 0.5 * total < (features**2).sum() < total  # the leading half of white noise's components, and no more
