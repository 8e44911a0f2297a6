"""What the components of a Gaussian mixture contribute to its density and score, many components at a time.

Equations E1 and E2 of :mod:`kdist.theory.mixture`; shapes: n points, k components, d dimensions, ``t = sigma**2``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch

__all__ = ["Quantity", "eigen_terms", "isotropic_terms"]

Quantity = Literal["denoised", "score", "log_prob"]
_LOG_2PI = math.log(2 * math.pi)
Combine = Callable[[torch.Tensor], torch.Tensor]


def isotropic_terms(
    x: torch.Tensor, t: torch.Tensor, means: torch.Tensor, variances: torch.Tensor, quantity: Quantity
) -> tuple[torch.Tensor, Combine]:
    """Log-densities (n, k) of components ``N(mu_j, c_j + t)``, and the sum E1 or E2 for given weights (n, k)."""
    shared = bool((variances == variances[0]).all())
    c = variances[:1] if shared else variances
    spread = c + t  # (n, 1) where shared, else (n, k)
    cross = x @ means.T - (means.square().sum(1) + x.square().sum(1, keepdim=True)) / 2  # - |x - mu|^2 / 2
    log_density = cross / spread - x.shape[1] / 2 * (spread.log() + _LOG_2PI)

    def combine(weight: torch.Tensor) -> torch.Tensor:
        scaled = weight / spread
        pulled = scaled @ means
        if quantity == "score":
            return pulled - x * scaled.sum(1, keepdim=True)
        return t * pulled + x * (c * scaled).sum(1, keepdim=True)

    return log_density, combine


def eigen_terms(
    x: torch.Tensor,
    t: torch.Tensor,
    means: torch.Tensor,
    variances: torch.Tensor,
    axes: torch.Tensor | None,
    quantity: Quantity,
) -> tuple[torch.Tensor, Combine]:
    """As :func:`isotropic_terms`, with means and variances (k, n or 1, d) and eigenvectors (k, d, d)."""
    z = x - means  # (k, n, d)
    z = z if axes is None else z @ axes
    spread = variances + t
    repeat = z.shape[-1] / variances.shape[-1]  # d where one variance stands for all directions
    quadratic = (z.square() / spread).sum(-1) + repeat * spread.log().sum(-1)
    log_density = -(quadratic + z.shape[-1] * _LOG_2PI).T / 2

    def combine(weight: torch.Tensor) -> torch.Tensor:
        scaled = weight.T[..., None] * z / spread  # (k, n, d)
        part = -scaled if quantity == "score" else variances * scaled
        part = part if axes is None else part @ axes.mT
        if quantity == "denoised":
            part = part + weight.T[..., None] * means
        return part.sum(0)

    return log_density, combine
