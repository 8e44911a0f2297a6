"""Schedules given as numbers: per-step lists, curves drawn by hand, and what :func:`kdist.theory.design` returns."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .base import Schedule
from .levels import at_or_below

__all__ = ["Piecewise"]


@dataclass(frozen=True)
class Piecewise(Schedule):
    """``scales[i]`` at ``sigmas[i]``, and in between by ``interpolation``.

    Args:
        sigmas: strictly decreasing noise levels, at least one (sampling order).
        scales: one scale for each.
        interpolation: ``previous`` holds a scale until the next listed sigma is reached (``scales[i]`` for
            ``sigmas[i] >= sigma > sigmas[i + 1]``); ``linear`` interpolates in log sigma (a last sigma of 0 is taken
            as the limit: the last positive level's segment holds ``previous``).

    Outside the listed range the end values are held.

    Examples:
        >>> import kdist
        >>> schedule = kdist.Piecewise(sigmas=(20, 4, 1), scales=(1, 3, 1.5))
        >>> [schedule(sigma) for sigma in (20.0, 4.0, 2.0, 0.5)]
        [1.0, 3.0, 3.0, 1.5]
    """

    least_levels = 1  # a node for each step is what per-step lists are made of

    sigmas: tuple[float, ...]
    scales: tuple[float, ...]
    interpolation: str = "previous"

    def __post_init__(self) -> None:
        for name in ("sigmas", "scales"):
            given = getattr(self, name)
            try:
                # one number is a list of one; text would be taken apart into digits
                values = (
                    (float(given),) if isinstance(given, (int, float, str, bytes)) else tuple(float(v) for v in given)
                )
            except (TypeError, ValueError, OverflowError):
                raise ValueError(f"piecewise: {name} must be a sequence of numbers; got {given!r}") from None
            if not all(abs(value) <= torch.finfo(torch.float32).max for value in values):
                raise ValueError(f"piecewise: {name} must be finite, in float32 too; got {values}")
            object.__setattr__(self, name, values)
        if len(self.sigmas) != len(self.scales) or not self.sigmas:
            raise ValueError(
                f"piecewise: one scale for each sigma, at least one; got {len(self.sigmas)} sigmas and "
                f"{len(self.scales)} scales"
            )
        if any(low >= high for high, low in itertools.pairwise(self.sigmas)) or self.sigmas[-1] < 0:
            raise ValueError(f"piecewise: sigmas must decrease strictly and not be negative; got {self.sigmas}")
        if self.interpolation not in ("previous", "linear"):
            raise ValueError(f"piecewise: interpolation must be 'previous' or 'linear'; got {self.interpolation!r}")

    @classmethod
    def from_steps(cls, scales: Sequence[float], sigmas: Sequence[float] | torch.Tensor) -> Piecewise:
        """A per-step list: step ``i`` of a run over ``sigmas`` gets ``scales[i]``, mid-step calls included.

        Args:
            scales: (steps,) one scale per step.
            sigmas: (steps + 1,) the sampler's noise levels, ending in 0 or not.

        Raises:
            ValueError: the two lengths do not fit.
        """
        levels = [float(s) for s in sigmas]
        if len(scales) != len(levels) - 1:
            raise ValueError(
                f"{len(levels)} sigmas make {len(levels) - 1} steps, so {len(levels) - 1} scales are needed; "
                f"got {len(scales)}"
            )
        return cls(tuple(levels[:-1]), tuple(float(s) for s in scales))

    def _scale(self, sigma: torch.Tensor) -> torch.Tensor:
        # copied without waiting for the device
        nodes, scales = (
            torch.tensor(values, dtype=sigma.dtype).to(sigma.device, non_blocking=True)
            for values in (self.sigmas, self.scales)
        )
        # number of nodes at or above sigma; a node itself belongs to its own piece
        above = at_or_below(sigma.unsqueeze(-1), nodes).sum(-1)
        left = (above - 1).clamp(0, len(self.sigmas) - 1)
        if self.interpolation == "previous" or len(self.sigmas) == 1:
            return scales[left]
        right = above.clamp(0, len(self.sigmas) - 1)
        tiny = torch.finfo(sigma.dtype).tiny
        log_left, log_right = nodes[left].clamp_min(tiny).log(), nodes[right].clamp_min(tiny).log()
        span = (log_left - log_right).clamp_min(tiny)
        part = ((log_left - sigma.clamp_min(tiny).log()) / span).clamp(0, 1)
        part = torch.where((nodes[right] > 0) & (left != right), part, torch.zeros_like(part))
        return scales[left] + part * (scales[right] - scales[left])

    def with_scale(self, scale: float) -> Piecewise:
        """Scales stretched about 1 (weights multiplied) so that the largest becomes ``scale``."""
        peak = max(self.scales)
        if peak == 1:
            raise ValueError("piecewise: its peak is 1 (no guidance), so there is nothing to stretch")
        factor = (scale - 1) / (peak - 1)
        return Piecewise(self.sigmas, tuple(1 + factor * (s - 1) for s in self.scales), self.interpolation)

    @property
    def breakpoints(self) -> tuple[float, ...]:
        return tuple(s for s in reversed(self.sigmas) if s > 0)

    @property
    def can_skip(self) -> bool:
        return self.interpolation == "linear" or not set(self.scales).isdisjoint({0, 1})
