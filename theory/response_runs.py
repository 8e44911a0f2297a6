"""The runs behind :class:`kdist.theory.Response`: samples of a model, how far guidance moves it, class moments."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kdist.solvers import sample

from .integrate import Array
from .mean_shift import overshoot

__all__ = ["ClassMoments", "Contrast", "Counted", "Model", "drawn"]

Model = Callable[..., torch.Tensor]


def drawn(
    solver: str | Callable[..., torch.Tensor],
    denoiser: Model,
    parts: Iterable[tuple[torch.Tensor, torch.Tensor]],
    sigmas: torch.Tensor,
    seed: int,
    options: dict[str, Any],
) -> Array:
    """(N, d) samples of all ``parts`` (start, classes), the solver's own noise from ``seed``."""
    made = []
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        with torch.no_grad():
            for x, c in parts:
                made.append(sample(solver, denoiser, x, sigmas, extra_args={"class_cond": c}, **options))
    out = torch.cat(made).flatten(1).double().cpu().numpy()
    if not np.isfinite(out).all():
        raise ValueError("the model gave samples that are not finite; look at it at scales 0 and 1 first")
    return out


class Counted:
    """A model that counts the rows it evaluates."""

    def __init__(self, model: Model) -> None:
        self.model, self.rows = model, 0

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, **extra_args: Any) -> torch.Tensor:
        self.rows += len(x)
        return self.model(x, sigma, **extra_args)


class ClassMoments:
    """Log total variance and overshoot of each class, in two halves: samples -> (2, 2, K)."""

    def __init__(self, base: Array, labels: npt.NDArray[np.int64], class_means: Any, centre: Any) -> None:
        self.rows = [np.flatnonzero(labels == c) for c in np.unique(labels)]
        own = np.stack([base[rows].mean(0) for rows in self.rows])
        self.means = own if class_means is None else _flat("class_means", class_means, own.shape)
        self.centre = self.means.mean(0) if centre is None else _flat("centre", centre, own.shape[1:])

    def __call__(self, x: Array) -> Array:
        halves = [[self._moments(x[rows[half::2]], k) for k, rows in enumerate(self.rows)] for half in (0, 1)]
        return np.array(halves).transpose(2, 0, 1)

    def _moments(self, x: Array, k: int) -> tuple[float, float]:
        with np.errstate(divide="ignore"):
            return np.log(x.var(0, ddof=1).sum()), float(overshoot(x.mean(0), self.means[k], self.centre))


class Contrast:
    """The conditional model, taking note of how far the two predictions are apart on the way."""

    def __init__(self, cond: Model, uncond: Model) -> None:
        self.cond, self.uncond = cond, uncond
        self.squares: dict[float, list[tuple[float, float]]] = {}

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, **extra_args: Any) -> torch.Tensor:
        cond, uncond = self.cond(x, sigma, **extra_args), self.uncond(x, sigma, **extra_args)
        apart, spread = ((a - b).double().square().sum().item() for a, b in ((cond, uncond), (x, x.mean(0))))
        self.squares.setdefault(float(sigma.flatten()[0]), []).append((apart, spread))
        return cond

    def importance(self) -> tuple[Array, Array]:
        """Noise levels, decreasing, and the relative displacement per unit of weight of the step around each."""
        levels = np.array(sorted((s for s in self.squares if s > 0), reverse=True))
        sums = np.array([np.sum(self.squares[s], axis=0) for s in levels])
        steps = np.abs(np.gradient(np.log(levels))) if len(levels) > 1 else np.ones(1)
        return levels, np.sqrt(sums[:, 0] / sums[:, 1]) * steps


def _flat(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    array = np.asarray(value.cpu() if isinstance(value, torch.Tensor) else value, dtype=np.float64)
    if array.size != math.prod(shape) or not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite and hold {' x '.join(map(str, shape))} numbers; got {array.shape}")
    return array.reshape(shape)
