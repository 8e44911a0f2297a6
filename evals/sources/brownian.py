"""One Brownian path in sigma per sample, drawn where a solver asks for it.

W has independent increments of variance ``|sigma - sigma'|``. Between two known points it is a Brownian bridge,

    W(m) | W(a), W(b) ~ N(W(a) + (m - a) / (b - a) (W(b) - W(a)), (m - a) (b - m) / (b - a)),

beyond them a random walk (Karatzas and Shreve, Brownian Motion and Stochastic Calculus, 5.6.B), so that the
path is exact in law at whatever levels, in whatever order. A point costs one draw of noise; the dyadic tree of
k-diffusion's ``BrownianTreeNoiseSampler`` costs some twenty, for which its path does not depend on the levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

__all__ = ["BrownianPath"]


class BrownianPath:
    """A ``noise_sampler`` for solvers whose steps overlap: normalised increments of one path.

    Solvers go down in sigma, so points above the last asked interval are forgotten: two or three are held in memory.
    The path depends on ``draw`` and on the levels asked for, which are the same whatever the batch.

    Args:
        draw: gives fresh standard normal noise of the samples' shape, row by row from each sample's own generator.

    Raises:
        ValueError: (when called) for a level above those that have been forgotten.

    Examples:
        >>> path = BrownianPath(lambda: torch.randn(4, 1, 8, 8))
        >>> path(3.0, 1.0).shape  # (W(1) - W(3)) / sqrt(2)
        torch.Size([4, 1, 8, 8])
    """

    def __init__(self, draw: Callable[[], torch.Tensor]) -> None:
        self._draw = draw
        self._points: dict[float, torch.Tensor] = {}
        self._ceiling = math.inf

    def __call__(self, sigma: float | torch.Tensor, sigma_next: float | torch.Tensor) -> torch.Tensor:
        start, end = float(sigma), float(sigma_next)
        if max(start, end) > self._ceiling:
            raise ValueError(
                f"sigma must not rise above {self._ceiling:g} again, whose path is forgotten; got {max(start, end):g}: "
                "give the solver a noise_sampler of its own"
            )
        before, after = self._at(start), self._at(end)
        self._ceiling = max(start, end)
        self._points = {level: value for level, value in self._points.items() if level <= self._ceiling}
        return (after - before) / math.sqrt(abs(end - start))

    def _at(self, sigma: float) -> torch.Tensor:
        """W(sigma), float64: near the end a step is far smaller than the path so far."""
        if sigma not in self._points:
            below = max((level for level in self._points if level < sigma), default=None)
            above = min((level for level in self._points if level > sigma), default=None)
            noise = self._draw().double()
            if below is not None and above is not None:
                share = (sigma - below) / (above - below)
                mean = torch.lerp(self._points[below], self._points[above], share)
                value = mean + noise * math.sqrt(share * (above - sigma))
            else:
                known = below if above is None else above  # none at all: the path starts here, at 0
                value = 0 * noise if known is None else self._points[known] + noise * math.sqrt(abs(sigma - known))
            self._points[sigma] = value
        return self._points[sigma]
