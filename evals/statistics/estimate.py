"""A number with what is needed to believe it: confidence interval, floor, p-value.

:class:`Estimate` is a ``float`` (it can be compared, averaged, formatted and plotted as one) that carries its interval,
the same statistic of real against real (``floor``), and the p-value of "generated and real follow the same law",
alone and after control of the false discovery rate over classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special, stats

__all__ = ["Estimate", "Estimates", "exp", "variance_degrees", "with_q_values"]

NAN = float("nan")


def exp(value: float) -> float:
    """``math.exp``, infinite where that overflows: an interval on the log scale may have any width."""
    return math.exp(value) if value < 709 else value * math.inf


class Estimate(float):
    """A float with ``interval`` (low, high), ``floor``, ``p_value`` and ``q_value``.

    Attributes:
        interval: the confidence interval; (nan, nan) where there are too few samples for one.
        floor: the statistic of real against real at matched n, itself an Estimate whose interval holds the central
            part (at the report's confidence) of its law; None when no resamples were drawn.
        p_value: two-sided permutation p-value; nan when no resamples were drawn.
        q_value: ``p_value`` after Benjamini-Hochberg over the classes; nan outside a report's classes.

    Examples:
        >>> from kdist.evals import Estimate
        >>> ratio = Estimate(0.64, (0.55, 0.74), p_value=0.01)
        >>> ratio < 1, ratio.interval
        (True, (0.55, 0.74))
    """

    __slots__ = ("floor", "interval", "p_value", "q_value")

    interval: tuple[float, float]
    floor: Estimate | None
    p_value: float
    q_value: float

    def __new__(
        cls,
        value: float,
        interval: tuple[float, float] = (NAN, NAN),
        *,
        floor: Estimate | None = None,
        p_value: float = NAN,
        q_value: float = NAN,
    ) -> Estimate:
        self = super().__new__(cls, value)
        self.interval = (float(interval[0]), float(interval[1]))
        self.floor = floor
        self.p_value = float(p_value)
        self.q_value = float(q_value)
        return self

    @classmethod
    def student(cls, value: float, error: float, degrees: float, confidence: float) -> Estimate:
        """A value with Student's interval from its standard error; ``degrees`` may be infinite (normal)."""
        half = float(special.stdtrit(min(degrees, 1e9), (1 + confidence) / 2)) * error
        return cls(value, (value - half, value + half))

    def map(self, function: Callable[[float], float]) -> Estimate:
        """An increasing function of it: value, interval and floor go along, the p-value stays."""
        floor = None if self.floor is None else self.floor.map(function)
        interval = function(self.lo), function(self.hi)
        return Estimate(function(float(self)), interval, floor=floor, p_value=self.p_value, q_value=self.q_value)

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (float(self), self.interval), {"floor": self.floor, "p_value": self.p_value, "q_value": self.q_value}

    def __deepcopy__(self, memo: dict[int, Any]) -> Estimate:
        return self  # nothing in it is meant to change; dataclasses.asdict keeps the whole estimate

    @property
    def lo(self) -> float:
        """Lower end of the interval."""
        return self.interval[0]

    @property
    def hi(self) -> float:
        """Upper end of the interval."""
        return self.interval[1]

    @property
    def half_width(self) -> float:
        """Half the length of the interval."""
        return (self.interval[1] - self.interval[0]) / 2

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        text = f"{float(self):.3g}"
        return text if math.isnan(self.lo) else f"{text} [{self.lo:.3g}, {self.hi:.3g}]"

    def to_dict(self) -> dict[str, Any]:
        """JSON form; what is not defined (nan) becomes None."""

        def finite(value: float) -> float | None:
            return float(value) if math.isfinite(value) else None

        interval = None if math.isnan(self.lo) else [finite(self.lo), finite(self.hi)]
        if self.floor is None:
            floor = None
        else:
            floor = {name: value for name, value in self.floor.to_dict().items() if name in ("value", "interval")}
        return {
            "value": finite(self),
            "interval": interval,
            "floor": floor,
            "p_value": finite(self.p_value),
            "q_value": finite(self.q_value),
        }


class Estimates(NamedTuple):
    """One statistic of K classes with its intervals: three (K,) arrays."""

    value: np.ndarray
    lo: np.ndarray
    hi: np.ndarray

    @classmethod
    def student(cls, value: np.ndarray, error: np.ndarray, degrees: np.ndarray | float, confidence: float) -> Estimates:
        """Values with Student's intervals from their standard errors; ``degrees`` may be infinite (normal)."""
        half = special.stdtrit(np.minimum(degrees, 1e9), (1 + confidence) / 2) * error
        return cls(value, value - half, value + half)

    @classmethod
    def without_skewness(
        cls, value: np.ndarray, error: np.ndarray, skewness: np.ndarray, degrees: float, confidence: float
    ) -> Estimates:
        """Student's interval of Hall's transformation, for a mean of few samples of a skewed law.

        With T the error of the value over its standard error, and l the skewness of the value itself,
        ``T + l T^2 / 3 + l^2 T^3 / 27 + l / 6`` is free of skewness to first order, and can be inverted (Hall, Journal
        of the Royal Statistical Society B 54, 1992).
        """
        third = np.where(np.abs(skewness) > 1e-6, skewness, 1e-6) / 3
        quantile = special.stdtrit(degrees, (1 + confidence) / 2)
        ends = [(np.cbrt(1 + 3 * third * (y - third / 2)) - 1) / third for y in (quantile, -quantile)]
        return cls(value, value - ends[0] * error, value - ends[1] * error)

    @classmethod
    def undefined(cls, count: int) -> Estimates:
        """Of so many classes."""
        return cls(*np.full((3, count), NAN))

    def map(self, function: Callable[[np.ndarray], np.ndarray]) -> Estimates:
        """An increasing function of them; infinite where that overflows."""
        with np.errstate(over="ignore"):
            return Estimates(*(function(part) for part in self))


def with_q_values(estimates: Sequence[Estimate]) -> list[Estimate]:
    """The same estimates with ``q_value``: Benjamini and Hochberg (1995) over those that have a p-value."""
    p_values = np.array([e.p_value for e in estimates])
    defined = np.isfinite(p_values)
    q_values = np.full(len(p_values), NAN)
    if defined.any():
        q_values[defined] = np.minimum(stats.false_discovery_control(p_values[defined]), 1.0)
    return [
        Estimate(e, e.interval, floor=e.floor, p_value=e.p_value, q_value=q)
        for e, q in zip(estimates, q_values, strict=True)
    ]


def variance_degrees(effects: np.ndarray, *, axis: int = 0) -> np.ndarray:
    """Degrees of freedom of the variance of n values as their kurtosis leaves them: n - 1 or fewer.

    A sample variance varies by ``s^4 (k - (n - 3) / (n - 1)) / n``, and ``s^2 chi^2_v / v`` by ``2 s^4 / v``.

    Args:
        effects: the values, n of them along ``axis``.
    """
    n = effects.shape[axis]
    squares = np.square(effects - effects.mean(axis=axis, keepdims=True))
    second = squares.mean(axis=axis)
    with np.errstate(divide="ignore", invalid="ignore"):
        kurtosis = np.where(second > 0, np.square(squares).mean(axis=axis) / second**2, 3.0)
    return np.minimum(2 * n / np.maximum(kurtosis - (n - 3) / (n - 1), 1e-3), n - 1)
