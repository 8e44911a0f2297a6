"""Schedules whose weight goes negative (``scale < 1``): the ones that can give variance back.

Source: Ventura, Achilli, Ambrogioni, Lucibello, *Emergence of Distortions in High-Dimensional Guided Diffusion
Models*, arXiv 2602.00716 (2026). There ``w = scale - 1 >= -1``; a scale below 0 is allowed here and goes beyond it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .base import Schedule
from .fields import finite, ordered_sigmas
from .levels import at_or_below, held

__all__ = ["EarlyNegative", "LateNegative", "LinearInVariance", "NegativeWindow"]


@dataclass(frozen=True)
class NegativeWindow(Schedule):
    """``scale`` above the window, ``inside`` for ``sigma_lo < sigma <= sigma_hi``, ``after`` at and below ``sigma_lo``.

    A window in the middle of sampling. With a return to guidance it is not the shape of arXiv 2602.00716, whose
    ``w(t) = w0 + omega t`` never returns. ``after=None`` means ``scale`` again. With ``inside=0`` the conditional pass
    is not run inside the window.

    ``ramp`` softens both edges: the scale moves from one level to the other along a half cosine over ``ramp`` units of
    natural log sigma, centred at the edge (0: a jump). Edges must not overlap: ``ramp <= log(sigma_hi / sigma_lo)``.

    Examples:
        >>> import kdist
        >>> schedule = kdist.NegativeWindow(4, sigma_lo=0.3, sigma_hi=1.0)
        >>> [schedule(sigma) for sigma in (5.0, 0.5, 0.1)]
        [4.0, 0.0, 4.0]
    """

    scale: float
    sigma_lo: float
    sigma_hi: float
    inside: float = 0.0
    after: float | None = None
    ramp: float = 0.0

    def __post_init__(self) -> None:
        finite(self, "scale", "inside", "ramp")
        finite(self, "after", optional=True)
        ordered_sigmas(self)
        if self.ramp < 0:
            raise ValueError(f"{self.kind}: ramp is a width in log sigma and cannot be negative; got {self.ramp}")
        if self.ramp and self.sigma_lo > 0 and self.ramp > math.log(self.sigma_hi / self.sigma_lo):
            raise ValueError(
                f"{self.kind}: ramp={self.ramp} is wider than the window, log(sigma_hi / sigma_lo) = "
                f"{math.log(self.sigma_hi / self.sigma_lo):.3g}; make it smaller"
            )

    def _scale(self, sigma: torch.Tensor) -> torch.Tensor:
        last = self.scale if self.after is None else self.after
        if not self.ramp:
            return held(sigma, self.scale, (self.sigma_hi, self.inside), (self.sigma_lo, last))
        below = self._step(sigma, self.sigma_hi)
        after = self._step(sigma, self.sigma_lo)
        # exactly one of the three is 1 away from the ramps, so that levels 0 and 1 come out exact
        return (1 - below) * self.scale + (below - after) * self.inside + after * last

    def _step(self, sigma: torch.Tensor, edge: float) -> torch.Tensor:
        """0 well above ``edge``, 1 well below it, a half cosine in log sigma in between."""
        if not edge:
            return at_or_below(sigma, edge).to(sigma.dtype)
        offset = (math.log(edge) - sigma.clamp_min(torch.finfo(sigma.dtype).tiny).log()) / self.ramp
        return 0.5 - 0.5 * torch.cos(math.pi * (offset + 0.5).clamp(0, 1))

    def in_words(self) -> str:
        if self.ramp:
            return str(self)
        after = self.scale if self.after is None else self.after
        window = f"{self.inside:g} for sigma {self.sigma_lo:g} to {self.sigma_hi:g}"
        return f"{self.scale:g}, {window}, then {after:g}"

    @property
    def breakpoints(self) -> tuple[float, ...]:
        half = math.exp(self.ramp / 2)
        edges = (edge * factor for edge in (self.sigma_lo, self.sigma_hi) for factor in (1 / half, half))
        return tuple(sorted(set(edges)))

    @property
    def can_skip(self) -> bool:
        return bool(self.ramp) or not {self.scale, self.inside, self.after}.isdisjoint({0, 1})


@dataclass(frozen=True)
class LateNegative(Schedule):
    """``scale`` above ``sigma_switch``, ``late`` at and below it (arXiv 2602.00716, the Stable Diffusion experiment).

    There the switch comes after 50-70 % of the steps and ``late = 0`` (``w = -1``);
    :func:`kdist.progress_to_sigma` gives the sigma of a fraction of the steps.

    Examples:
        >>> import kdist
        >>> schedule = kdist.LateNegative(4, sigma_switch=1.0)
        >>> [schedule(sigma) for sigma in (5.0, 1.0)]
        [4.0, 0.0]
    """

    scale: float
    sigma_switch: float
    late: float = 0.0

    def __post_init__(self) -> None:
        finite(self, "scale", "late", "sigma_switch")
        if self.sigma_switch < 0:
            raise ValueError(
                f"{self.kind}: sigma_switch is a noise level and cannot be negative; got {self.sigma_switch}"
            )

    def _scale(self, sigma: torch.Tensor) -> torch.Tensor:
        return held(sigma, self.scale, (self.sigma_switch, self.late))

    def in_words(self) -> str:
        return f"{self.scale:g}, then {self.late:g} below sigma {self.sigma_switch:g}"

    @property
    def breakpoints(self) -> tuple[float, ...]:
        return (self.sigma_switch,)

    @property
    def can_skip(self) -> bool:
        return not {self.scale, self.late}.isdisjoint({0, 1})


@dataclass(frozen=True)
class EarlyNegative(Schedule):
    """``early`` above ``sigma_switch``, ``scale`` at and below it, and 1 at and below ``sigma_end``.

    The mirror image of :class:`LateNegative`. Sampling begins without the class: ``early = 0`` is the unconditional
    model and needs no conditional pass. Strong guidance then carries the layout over to the class within a few steps.

    On the digits network it keeps the total variance, and displaces the class means sideways (docs/choosing.md).
    ``sigma_switch`` differs from network to network: the 1.2 of the digits is far too low on a Fashion-MNIST network.
    Where it is too low, samples stay what they began to be. ``kdist tune`` finds it.

    Forerunners are opposite guidance and zero guidance early (Jain et al., arXiv 2411.16738), and the dynamic guidance
    of CADS, which begins at scale 0 (Sadat et al., arXiv 2310.17347). arXiv 2602.00716 has the opposite order, which
    comfy-cfg-megapack offers as late unconditional.

    Examples:
        >>> import kdist
        >>> schedule = kdist.EarlyNegative(4, sigma_switch=1.2, sigma_end=0.1)
        >>> [schedule(sigma) for sigma in (5.0, 1.0, 0.1)]
        [0.0, 4.0, 1.0]
    """

    scale: float
    sigma_switch: float
    early: float = 0.0
    sigma_end: float = 0.0

    def __post_init__(self) -> None:
        finite(self, "scale", "early")
        ordered_sigmas(self, "sigma_end", "sigma_switch")

    def _scale(self, sigma: torch.Tensor) -> torch.Tensor:
        return held(sigma, self.early, (self.sigma_switch, self.scale), (self.sigma_end, 1.0))

    def in_words(self) -> str:
        tail = f", 1 below {self.sigma_end:g}" if self.sigma_end else ""
        return f"{self.early:g}, then {self.scale:g} below sigma {self.sigma_switch:g}{tail}"

    @property
    def breakpoints(self) -> tuple[float, ...]:
        return tuple(edge for edge in (self.sigma_end, self.sigma_switch) if edge)

    @property
    def can_skip(self) -> bool:
        return bool(self.sigma_end) or not {self.scale, self.early}.isdisjoint({0, 1})


@dataclass(frozen=True)
class LinearInVariance(Schedule):
    """``scale = 1 + w0 + omega * sigma**2``, clipped to ``[min_scale, max_scale]`` (arXiv 2602.00716: w0 + omega t).

    Weight linear in the variance ``t = sigma**2`` of the noise: positive early, and negative late when ``w0 < 0``.
    ``max_scale=None`` leaves the top open, as in the paper; in practice set it, sigma**2 is large.

    Examples:
        >>> import kdist
        >>> schedule = kdist.LinearInVariance(w0=-1, omega=0.5, max_scale=3)
        >>> [schedule(sigma) for sigma in (5.0, 1.0, 0.0)]
        [3.0, 0.5, 0.0]
    """

    w0: float
    omega: float
    min_scale: float = 0.0
    max_scale: float | None = None

    def __post_init__(self) -> None:
        finite(self, "w0", "omega", "min_scale")
        finite(self, "max_scale", optional=True)
        if self.max_scale is not None and self.max_scale < self.min_scale:
            raise ValueError(f"{self.kind}: max_scale={self.max_scale} is below min_scale={self.min_scale}")

    def _scale(self, sigma: torch.Tensor) -> torch.Tensor:
        return (1 + self.w0 + self.omega * sigma**2).clamp(self.min_scale, self.max_scale)

    def with_scale(self, scale: float) -> LinearInVariance:
        """The same line clipped at ``max_scale = scale``."""
        return LinearInVariance(self.w0, self.omega, self.min_scale, scale)

    @property
    def breakpoints(self) -> tuple[float, ...]:
        if not self.omega:
            return ()
        levels = [self.min_scale] if self.max_scale is None else [self.min_scale, self.max_scale]
        variances = [(level - 1 - self.w0) / self.omega for level in levels]
        return tuple(sorted(math.sqrt(t) for t in variances if t > 0))
