"""A network replaced, class by class and noise level by noise level, by the affine map that fits it best.

Statistical linearisation: training images of class ``c`` are noised to each noise level of the solver, the network's
two predictions there are fitted by ``A x + b`` (least squares), and the solver runs on these maps. What a class then
loses under guidance is contraction alone: no sample can move from one kind of image to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from kdist.digits import NUM_CLASSES

__all__ = ["LinearisedDenoiser", "linearise", "unconditional"]


class LinearisedDenoiser(torch.nn.Module):
    """``forward(x, sigma, class_cond)``: class ``c < K`` conditional; ``c + K`` unconditional, fitted around class c.

    Args:
        levels: (L,) noise levels; any other sigma is answered by the nearest one.
        maps: (L, 2K, d + 1, d) affine maps, the constant in the last row.
    """

    def __init__(self, levels: torch.Tensor, maps: torch.Tensor) -> None:
        super().__init__()
        self.levels, self.maps = levels, maps

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, class_cond: torch.Tensor) -> torch.Tensor:
        nearest = int((self.levels.log() - sigma.flatten()[0].double().log()).abs().argmin())
        flat, out = _with_one(x.flatten(1).double()), torch.empty_like(x)
        for c in class_cond.unique().tolist():
            rows = class_cond == c
            out[rows] = (flat[rows] @ self.maps[nearest, c]).reshape(-1, *x.shape[1:]).to(x.dtype)
        return out


def linearise(
    model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, levels: Sequence[float], *, draws: int, seed: int
) -> LinearisedDenoiser:
    """Fit the maps.

    Args:
        model: ``model(x, sigma, class_cond=...)``, class K the unconditional one.
        x: (N, ...) real images.
        y: (N,) their classes, ``0..K-1``.
        levels: noise levels at which the solver calls the network.
        draws: noisy copies of each image and level; ``draws`` times the smallest class must exceed ``d``.
        seed: the seed of the noise.
    """
    classes = int(y.max()) + 1
    generator = torch.Generator().manual_seed(seed)
    images, labels = x.repeat(draws, *[1] * (x.ndim - 1)), y.repeat(draws)
    maps = []
    for sigma in levels:
        noisy = images + sigma * torch.randn(images.shape, generator=generator)
        inputs = _with_one(noisy.flatten(1).double())
        both = []
        for condition in (labels, torch.full_like(labels, classes)):
            made = _in_parts(model, noisy, sigma, condition).flatten(1).double()
            both += [torch.linalg.lstsq(inputs[labels == c], made[labels == c]).solution for c in range(classes)]
        maps.append(torch.stack(both))
    return LinearisedDenoiser(torch.tensor(list(levels), dtype=torch.float64), torch.stack(maps))


def unconditional(extra_args: Any) -> dict[str, torch.Tensor]:
    """For ``kdist.guide(..., uncond=unconditional)``: the unconditional prediction as fitted around the row's class."""
    return {"class_cond": extra_args["class_cond"] + NUM_CLASSES}


def _with_one(flat: torch.Tensor) -> torch.Tensor:
    return torch.cat([flat, flat.new_ones(len(flat), 1)], 1)


@torch.no_grad()
def _in_parts(model: torch.nn.Module, x: torch.Tensor, sigma: float, labels: torch.Tensor) -> torch.Tensor:
    parts = zip(x.split(200), labels.split(200), strict=True)  # what fits a processor's cache
    return torch.cat([model(a, a.new_full((len(a),), sigma), class_cond=b) for a, b in parts])
