"""CADS, condition-annealed diffusion sampling (Sadat et al. 2023, arXiv 2310.17347), for networks with ``class_cond``.

The paper adds noise to the class embedding while the image is noisy, less and less, and none at the end. Its noise is
drawn anew at every step; here it is a function of (seed, sigma), so that a call in mid-step or made twice gets the
same, and the denoiser stays a pure function.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

import kdist

__all__ = ["Annealed", "annealing", "dynamic_scales"]


def annealing(sigmas: Sequence[float] | torch.Tensor, low: float, high: float) -> list[float]:
    """gamma of each step of a run over ``sigmas`` (steps + 1,): 0 in the first ``1 - high`` of the steps, 1 in the last
    ``low`` of them, linear between (the paper's tau1 and tau2, its time counted in steps)."""
    steps = len(sigmas) - 1
    time = 1 - np.arange(steps) / steps
    return np.clip((high - time) / (high - low), 0.0, 1.0).tolist()


def dynamic_scales(scale: float, sigmas: torch.Tensor, low: float, high: float) -> kdist.Piecewise:
    """Dynamic classifier-free guidance, the same paper's other half: the weight, not the condition, is annealed."""
    return kdist.Piecewise.from_steps([1 + (scale - 1) * gamma for gamma in annealing(sigmas, low, high)], sigmas)


class Annealed(torch.nn.Module):
    """A denoiser whose class vector is noisy.

    Args:
        model: takes ``class_cond``, (N,) int64, and turns it into a vector by the submodule ``embedding``.
        embedding: that submodule: its output (N, d) is what gets noise.
        uncond: the class number that stays as it is.
        sigmas: (steps + 1,) the run's noise levels.
        strength: the noise's strength, the paper's s.
        low, high: the same as in :func:`annealing`.

    Call it with ``seed``, (N,) int64, beside ``class_cond``. The vector becomes
    ``sqrt(gamma) y + strength sqrt(1 - gamma) noise``, brought back to the mean and deviation of ``y`` (the paper's
    rescaling, with mixing factor 1).
    """

    def __init__(
        self,
        model: torch.nn.Module,
        embedding: torch.nn.Module,
        uncond: int,
        sigmas: torch.Tensor,
        *,
        strength: float,
        low: float,
        high: float,
    ) -> None:
        super().__init__()
        self.model, self.embedding, self.uncond, self.strength = model, embedding, uncond, strength
        self.gamma = kdist.Piecewise.from_steps(annealing(sigmas, low, high), sigmas)

    def forward(
        self, x: torch.Tensor, sigma: torch.Tensor, *, class_cond: torch.Tensor, seed: torch.Tensor, **extra: Any
    ) -> torch.Tensor:
        """The denoised samples, of the shape of ``x``."""
        gamma = self.gamma(sigma).to(x.dtype).clamp(0, 1)
        gamma = torch.where(class_cond == self.uncond, 1, gamma)[:, None]

        def noisy(module: Any, given: Any, y: torch.Tensor) -> torch.Tensor:
            draws = [_noise(int(key), float(level), y.shape[1]) for key, level in zip(seed, sigma, strict=True)]
            mixed = gamma.sqrt() * y + self.strength * (1 - gamma).sqrt() * torch.stack(draws).to(y)
            mean, spread = y.mean(1, keepdim=True), y.std(1, keepdim=True)
            scaled = (mixed - mixed.mean(1, keepdim=True)) / mixed.std(1, keepdim=True) * spread + mean
            return torch.where(gamma < 1, scaled, y)

        with _hooked(self.embedding, noisy):
            found: torch.Tensor = self.model(x, sigma, class_cond=class_cond, **extra)
        return found


@contextmanager
def _hooked(module: torch.nn.Module, hook: Any) -> Any:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _noise(seed: int, sigma: float, dimension: int) -> torch.Tensor:
    """(dimension,) standard normal numbers that depend on ``seed`` and ``sigma`` alone."""
    bits = int(np.float32(sigma).view(np.uint32))
    return torch.from_numpy(np.random.Generator(np.random.Philox(key=[seed, bits])).standard_normal(dimension))
