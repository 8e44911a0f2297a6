"""Noise levels as schedules take them: in at least float32, and on an edge where only rounding keeps them off it.

Edges are written in Python's float64. Solvers hold their levels in float32 and call the model with them in the
precision of the samples, ``sigmas[i] * x.new_ones(N)``. The rule, the same for every schedule and dtype: a level is on
an edge where the edge rounds to it, in float32 or in the level's own precision; and, as solvers lose a few units where
they compute levels by logarithms, where the two differ by less than eight units of float32 or float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["at_or_below", "held", "on_edges", "readable"]

_WIDE = (torch.float32, torch.float64)


def readable(tensor: torch.Tensor) -> bool:
    """Whether a tensor has values to look at: not inside ``torch.func`` transforms or ``torch.compile``."""
    if torch.compiler.is_compiling():
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def at_or_below(sigma: torch.Tensor, edges: float | torch.Tensor) -> torch.Tensor:
    """Where float32 or float64 levels have reached an edge from above.

    Args:
        sigma: levels, of any shape.
        edges: a number, or a tensor of the dtype of ``sigma`` that broadcasts with it.
    """
    reached = sigma <= edges * (1 + 8 * torch.finfo(sigma.dtype).eps)
    if sigma.dtype == torch.float64:  # a solver's float32 level, made float64 by the samples
        rounded = edges.float() if isinstance(edges, torch.Tensor) else torch.tensor(edges, dtype=torch.float32)
        reached = reached | (sigma == rounded)
    return reached


def held(sigma: torch.Tensor, first: float, *changes: tuple[float, float]) -> torch.Tensor:
    """``first``, and from each ``(edge, scale)`` of ``changes`` downwards that scale; edges decrease."""
    scale = torch.full_like(sigma, first)
    for edge, value in changes:
        scale.masked_fill_(at_or_below(sigma, edge), value)
    return scale


def on_edges(sigma: torch.Tensor, edges: Sequence[float]) -> torch.Tensor:
    """Levels in at least float32; those of half precision that an edge rounds to become that edge.

    Raises:
        ValueError: ``sigma`` is not a tensor of floating-point numbers.
    """
    if sigma.dtype in _WIDE:
        return sigma
    if not sigma.is_floating_point():
        raise ValueError(f"sigma must hold floating-point numbers; got {sigma.dtype}: convert it with sigma.float()")
    levels = sigma.float()
    if not edges:
        return levels
    # copied without waiting for the device
    points = torch.tensor(edges, dtype=torch.float32).to(sigma.device, non_blocking=True)
    index = (levels.unsqueeze(-1) - points).abs().argmin(-1)
    return torch.where(points.to(sigma.dtype)[index] == sigma, points[index], levels)
