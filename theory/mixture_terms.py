"""What the components of a Gaussian mixture contribute to its density and score, many components at a time.

Equations E1 and E2 of :mod:`kdist.theory.mixture`; shapes: n points, k components, d dimensions, ``t = sigma**2``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch

__all__ = ["Quantity", "alike", "eigen_terms", "isotropic_terms", "lifted"]

Quantity = Literal["denoised", "score", "log_prob"]
_LOG_2PI = math.log(2 * math.pi)
Combine = Callable[[torch.Tensor], torch.Tensor]


def lifted(means: torch.Tensor, log_weights: torch.Tensor) -> torch.Tensor:
    """(k, d + 3) rows ``[1, mu, |mu|^2 / 2, log p]``: with them :func:`alike` is two matrix products and a softmax."""
    half_squares = means.square().sum(1, keepdim=True) / 2
    return torch.cat([torch.ones_like(half_squares), means, half_squares, log_weights[:, None]], 1)


def alike(
    x: torch.Tensor, t: torch.Tensor, rows: torch.Tensor, variance: torch.Tensor, elements: int, quantity: Quantity
) -> torch.Tensor:
    """E1, E2 or the log-density (weights not normalised) of components ``N(mu_j, c)`` that differ in their means only.

    With ``s = c + t`` the responsibilities are a softmax of ``(x mu - |mu|^2 / 2) / s + log p``, and E1 and E2 need
    their mean of ``mu`` alone.

    Args:
        x, t: (n, d) and (n, 1).
        rows: (k, d + 3), see :func:`lifted`.
        variance: (1,) ``c``.
        elements: how many numbers one intermediate array may hold.
    """
    spread, d = variance + t, x.shape[1]
    query = torch.cat([x, -torch.ones_like(t), spread], 1) / spread
    peak, sums = torch.full_like(t, -math.inf), x.new_zeros(len(x), d + 1)
    for chunk in rows.split(max(1, elements // len(x))):
        logits = query @ chunk[:, 1:].T
        higher = torch.maximum(peak, logits.detach().amax(1, keepdim=True))
        # in place: the array is large, and what is slow about it is memory
        sums = sums * (peak - higher).exp() + logits.sub_(higher).exp_() @ chunk[:, : d + 1]
        peak = higher
    if quantity == "log_prob":
        log_density = peak + sums[:, :1].log() - x.square().sum(1, keepdim=True) / (2 * spread)
        return log_density - d / 2 * (spread.log() + _LOG_2PI)
    mean = sums[:, 1:] / sums[:, :1]
    return (mean - x) / spread if quantity == "score" else (t * mean + variance * x) / spread


def isotropic_terms(
    x: torch.Tensor, t: torch.Tensor, means: torch.Tensor, variances: torch.Tensor, quantity: Quantity
) -> tuple[torch.Tensor, Combine]:
    """Log-densities (n, k) of components ``N(mu_j, c_j + t)``, and the sum E1 or E2 for given weights (n, k)."""
    spread = variances + t  # (n, k)
    cross = x @ means.T - (means.square().sum(1) + x.square().sum(1, keepdim=True)) / 2  # - |x - mu|^2 / 2
    log_density = cross / spread - x.shape[1] / 2 * (spread.log() + _LOG_2PI)

    def combine(weight: torch.Tensor) -> torch.Tensor:
        scaled = weight / spread
        pulled = scaled @ means
        if quantity == "score":
            return pulled - x * scaled.sum(1, keepdim=True)
        return t * pulled + x * (variances * scaled).sum(1, keepdim=True)

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
