"""Training the shipped classifiers: distortions that keep an image an image, and a judge that is read back."""

import torch
from safetensors import safe_open

from kdist.digits.classifier import DigitsClassifier, load_digits_classifier
from scripts.training.classifier import augment, train_classifier


def test_distortions_are_small_and_repeat():
    x = -torch.ones(40, 1, 28, 28)
    x[:, :, 8:20, 8:20] = 1.0
    draws = [augment(x, torch.Generator().manual_seed(0), shift=1.0, noise=0.0) for _ in range(2)]
    assert torch.equal(*draws)
    moved = draws[0]
    assert moved.min() >= -1.0001  # float32 of the interpolation
    assert moved.max() <= 1.0001
    ring = torch.ones(28, 28, dtype=torch.bool)
    ring[3:25, 3:25] = False
    # the square's corners lie 8.5 from the centre: 10 degrees, 8 % and 1 pixel bring none within 3 pixels of the edge
    assert (moved[..., ring] < -0.99).all()
    areas = ((moved + 1) / 2).flatten(1).sum(1) / 144
    assert areas.min() > 0.8  # a scale of 1.08 or 0.92 changes the area by its square, 0.86 to 1.18
    assert areas.max() < 1.25
    assert areas.std() > 0.02
    noisy = augment(x, torch.Generator().manual_seed(0), shift=1.0, noise=0.2)
    assert 0.05 < (noisy - moved).std() < 0.2  # of up to 0.2, uniformly: 0.2 / sqrt(3) on average


def test_a_classifier_learns_and_is_judged_as_written(tmp_path):
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(10).repeat(32)
    pattern = torch.randn(10, 1, 8, 8, generator=generator).sign()
    x = pattern[y] + 0.1 * torch.randn(len(y), 1, 8, 8, generator=generator)
    torch.manual_seed(0)
    options = {"epochs": 6, "batch_size": 32, "learning_rate": 5e-3, "decoder_weight": 1.0, "seed": 3}
    path = tmp_path / "new" / "c.safetensors"
    said = train_classifier(DigitsClassifier(), load_digits_classifier, (x, y), (x[:100], y[:100]), path, **options)
    assert "55602 parameters" in said
    right = float((load_digits_classifier(path).logits(x[:100]).argmax(1) == y[:100]).float().mean())
    assert right > 0.9  # ten patterns of 64 signs each: as far apart as can be
    assert f"accuracy {right:.4f} held out" in said
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"epochs": "6", "seed": "3"}
