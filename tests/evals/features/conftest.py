"""A network in the place of Inception's, in the form of the published file."""

import pytest
import torch

from kdist.evals.features.inception import INCEPTION


class Layers(torch.nn.Module):
    """In the place of Inception's layers: (n, 3, 299, 299) about [-1, 1] to (n, 2048)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3 * 13 * 13, 2048)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = torch.nn.functional.adaptive_avg_pool2d(x, (13, 13))
        return torch.relu(self.linear(pooled.flatten(1)))


class StandIn(torch.nn.Module):
    """The interface of the published TorchScript file: ``layers`` and ``forward(x, return_features)``."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = Layers()

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        return self.layers((x - 128) / 128)


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory):
    """A folder with a stand-in under the published name, as clean-fid wants it."""
    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.jit.script(StandIn()).save(str(folder / INCEPTION.name))
    return folder
