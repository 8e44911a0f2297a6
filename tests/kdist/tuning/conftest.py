"""A model whose samples are a formula of the schedule, so that the best schedule is known."""

import numpy as np
import pytest
import torch

LEVELS = [10.0, 3.0, 1.0, 0.3, 0.1]


class Toy:
    """Two classes in the plane, at -1 and +1 of the first axis, both with unit variance in the real set.

    With ``early`` and ``late`` the mean weight above and below sigma 2, class means lie at ``0.6 + 0.3 (early + late)``
    and the standard deviation is ``1 - 0.9 early + 0.45 late``: right at early = 0.44, late = 0.89, for no constant.
    """

    def __init__(self, noise: float = 0.0) -> None:
        self.noise, self.runs = noise, 0

    def __call__(self, schedule, labels, seeds):
        self.runs += 1
        weight = schedule(torch.tensor(LEVELS, dtype=torch.float64)) - 1
        early, late = float(weight[:2].mean()), float(weight[2:].mean())
        z = torch.stack([torch.randn(2, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        side = 2.0 * torch.as_tensor(labels) - 1
        x = (1 - 0.9 * early + 0.45 * late) * z
        x[:, 0] += side * (0.6 + 0.3 * (early + late))
        return x + self.noise * torch.randn(x.shape)


@pytest.fixture
def toy():
    return Toy()


@pytest.fixture
def careless_toy():
    """One that ignores the seeds in part."""
    return Toy(noise=0.2)


@pytest.fixture
def real():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 300)
    x = rng.standard_normal((600, 2))
    x[:, 0] += 2.0 * labels - 1
    return torch.tensor(x, dtype=torch.float32), torch.tensor(labels)


@pytest.fixture
def judge():
    return lambda images: (images[:, 0] > 0).long()
