"""Noise levels in the user's terms: percent of the steps, a flow's ``s``, log-SNR; and schedules given in them.

    percent    100 * progress through the run's steps (0 start, 100 end); needs the run's levels
    s          flow matching's x = (1 - s) x0 + s n:    sigma = s / (1 - s)
    log_snr    log(1 / sigma^2):                        sigma = exp(-log_snr / 2)
    sigma      k-diffusion's, what every schedule is a function of

A percentage is of one sampler's steps: with other steps or another scheduler the same percentage is another sigma, so
converting it needs the levels, and the schedule that comes out belongs to them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .base import Schedule, registry
from .progress import progress_to_sigma, sigma_to_progress

__all__ = ["LARGEST_SIGMA", "TERMS", "InTerms", "flow_to_sigma", "from_sigma", "in_terms_of", "to_sigma"]

TERMS = ("sigma", "percent", "s", "log_snr")
LARGEST_SIGMA = 1e4  # a flow starts at an infinite sigma; this stands for it
_RANGES = (("sigma_lo", "sigma_hi"), ("sigma_min", "sigma_max"), ("sigma_end", "sigma_switch"))


def flow_to_sigma(s: torch.Tensor) -> torch.Tensor:
    """``sigma = s / (1 - s)`` of a flow's noise levels, kept finite: at most :data:`LARGEST_SIGMA`."""
    return (s / (1 - s).clamp_min(1e-12)).clamp_max(LARGEST_SIGMA)


def to_sigma(value: float, term: str, sigmas: Sequence[float] | torch.Tensor | None = None) -> float:
    """A noise level given in one of :data:`TERMS`, as sigma.

    Args:
        value: e.g. 60 for ``percent``, 0.7 for ``s``.
        sigmas: (steps + 1,) the run's levels, decreasing; for ``percent`` only.

    Raises:
        ValueError: unknown term, a value outside its range, or ``percent`` without levels.

    Examples:
        >>> from kdist.schedules import to_sigma
        >>> to_sigma(0.5, "s")
        1.0
    """
    value = float(value)
    if term == "percent":
        if not 0 <= value <= 100:
            raise ValueError(f"percent of the steps is 0 (start) to 100 (end); got {value:g}")
        return progress_to_sigma(value / 100, _levels(sigmas))
    if term == "s":
        if not 0 <= value <= 1:
            raise ValueError(f"s, a flow's share of noise, is 0 (data) to 1 (noise); got {value:g}")
        return float(flow_to_sigma(torch.tensor(value, dtype=torch.float64)))
    if term == "log_snr":
        return min(math.exp(-value / 2), LARGEST_SIGMA)
    if term != "sigma":
        raise ValueError(f"unknown term {term!r} for a noise level; known: {', '.join(TERMS)}")
    return value


def from_sigma(sigma: float, term: str, sigmas: Sequence[float] | torch.Tensor | None = None) -> float:
    """The inverse of :func:`to_sigma`.

    Examples:
        >>> from kdist.schedules import from_sigma
        >>> from_sigma(1.0, "s")
        0.5
    """
    if term == "percent":
        return 100 * sigma_to_progress(sigma, _levels(sigmas))
    if term == "s":
        return sigma / (1 + sigma)
    if term == "log_snr":
        return -2 * math.log(sigma) if sigma else math.inf
    return to_sigma(sigma, term)


def in_terms_of(
    term: str, schedule: type[Schedule] | str, *, sigmas: Sequence[float] | torch.Tensor | None = None, **fields: Any
) -> Schedule:
    """A schedule whose noise levels are given in the user's terms.

        sigmas = K.sampling.get_sigmas_karras(20, 0.03, 14.6)
        in_terms_of("percent", kdist.LateNegative, sigmas=sigmas, scale=7.5, sigma_switch=60)
        in_terms_of("s", kdist.Interval, scale=4, sigma_lo=0.2, sigma_hi=0.7)

    Args:
        term: ``percent``, ``s``, ``log_snr`` or ``sigma``.
        schedule: its class, or its name in :func:`kdist.parse`.
        sigmas: the run's levels, for ``percent``.
        fields: the class's own fields; those named ``sigma...`` are in ``term``. The two edges of a window may be given
            in the order of ``term``, which falls in percent and log-SNR where sigma rises.

    Raises:
        ValueError: what :func:`to_sigma` refuses, or the class itself.

    Examples:
        >>> import kdist
        >>> from kdist.schedules import in_terms_of
        >>> in_terms_of("s", kdist.LateNegative, scale=4, sigma_switch=0.5)
        LateNegative(scale=4.0, sigma_switch=1.0, late=0.0)
    """
    return InTerms(term, schedule, fields).on(sigmas)


@dataclass(frozen=True)
class InTerms:
    """A schedule in the user's terms that waits for a run's levels: ``on(sigmas)`` is the schedule there.

    Examples:
        >>> import kdist
        >>> from kdist import digits
        >>> from kdist.schedules import InTerms
        >>> waiting = InTerms("percent", kdist.LateNegative, {"scale": 4, "sigma_switch": 60})
        >>> waiting.on(digits.sigmas(20))
        LateNegative(scale=4.0, sigma_switch=0.5854954719543457, late=0.0)
    """

    term: str
    schedule: type[Schedule] | str
    fields: dict[str, Any]

    def on(self, sigmas: Sequence[float] | torch.Tensor | None) -> Schedule:
        """The schedule in sigma, for a run over these levels, (steps + 1,) decreasing."""
        kinds = registry()
        if isinstance(self.schedule, str) and self.schedule not in kinds:
            raise ValueError(f"unknown schedule {self.schedule!r}; known: {', '.join(kinds)}")
        cls = kinds[self.schedule] if isinstance(self.schedule, str) else self.schedule
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(self.fields) - set(known))
        if unknown:
            raise ValueError(f"{cls.kind} has no {', '.join(map(repr, unknown))}; it takes {', '.join(known)}")
        fields = dict(self.fields)
        for name, value in fields.items():
            if name.startswith("sigma") and value is not None:
                many = isinstance(value, (tuple, list))
                levels = tuple(to_sigma(v, self.term, sigmas) for v in (value if many else [value]))
                fields[name] = levels if many else levels[0]
        for low, high in _RANGES:
            if self.term != "sigma" and {low, high} <= set(self.fields) and fields[low] > fields[high]:
                fields[low], fields[high] = fields[high], fields[low]
        return cls(**fields)


def _levels(sigmas: Sequence[float] | torch.Tensor | None) -> Sequence[float] | torch.Tensor:
    if sigmas is None:
        raise ValueError("a percentage of the steps is a noise level only on a run's levels: give sigmas=")
    return sigmas
