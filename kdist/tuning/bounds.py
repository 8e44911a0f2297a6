"""Conditions on a schedule, and what is minimised, each on the scale where its noise is even."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from .scores import Value

FEWEST = 1e-3  # share of errors, below which accuracies are not told apart

__all__ = ["Bound", "make_bounds", "straight", "straight_limit", "told"]


@dataclass(frozen=True)
class Bound:
    """``name`` at least (``sign`` 1) or at most (-1) ``limit``."""

    name: str
    limit: float
    sign: int

    def __str__(self) -> str:
        return f"{self.name} {'at least' if self.sign > 0 else 'at most'} {self.limit:g}"

    def holds(self, value: float) -> bool:
        """Whether a number meets it."""
        return self.sign * (value - self.limit) >= 0


def make_bounds(limits: Mapping[str, float | None]) -> list[Bound]:
    """Bounds by name; None is no bound. ``displacement`` is a length, measured squared.

    Raises:
        ValueError: a limit out of range.
    """
    bounds = []
    for name, limit in limits.items():
        if limit is None:
            continue
        if not math.isfinite(limit):
            raise ValueError(f"{name} must be a finite number; got {limit}")
        if name == "accuracy" and not 0 < limit <= 1:
            raise ValueError(f"accuracy is a share, above 0 and at most 1; got {limit}")
        if name in ("displacement", "separability", "calls_per_sample") and limit <= 0:
            raise ValueError(f"{name} must be above 0; got {limit}")
        bounds.append(Bound(name, limit, -1 if name in ("displacement", "calls_per_sample") else 1))
    return bounds


def straight(name: str, value: Value, samples: float, scale: float) -> tuple[float, float]:
    """A measured statistic and its error where they can be modelled as Gaussian.

    Distances by ``asinh(value / scale)``, linear where noise rules and logarithmic above. Accuracy by ``-log`` of
    the share of errors, which falls in proportion to guidance; ``scale`` is the share that is expected, about which
    the count of errors is linearised (iterated, that is Poisson regression): the measured share of a block itself would
    call lucky blocks certain, and so believe the lucky.
    """
    if name == "accuracy":
        wrong = 1 - value.value
        return -math.log(scale) - (wrong - scale) / scale, 1 / math.sqrt(samples * scale)
    if name in ("distance", "displacement"):
        x = value.value / scale
        return math.asinh(x), value.error / scale / math.sqrt(1 + x * x)
    return value.value, value.error


def told(samples: float) -> float:
    """The share of errors of which that many samples show none in one of two cases: fewer errors are not told."""
    return max(1 - 0.5 ** (1 / max(samples, 1)), FEWEST)


def straight_limit(name: str, limit: float, scale: float, fewest: float = FEWEST) -> float:
    """A bound's limit on the same scale; of accuracy, no share of errors below ``fewest`` is asked for."""
    if name == "accuracy":
        return -math.log(max(1 - limit, fewest))
    return math.asinh(limit**2 / scale) if name == "displacement" else limit
