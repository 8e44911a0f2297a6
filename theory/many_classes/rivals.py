"""The two rivals inside the score of a mixture of exponentially many classes, and the potential they make.

``P = exp(alpha d)`` centres ``N(0, I_d)``, classes ``N(centre, c I)``, noised: ``Delta = c + sigma**2``. A sample with
overlap ``m`` with its centre and variance ``q`` per other dimension has ``r = m**2 + q``. Per dimension its log-density
under its own class and under all others (the bulk) is, up to a common constant,

    own  = - [(1 - m)^2 + q] / (2 Delta)                                                                        (M1)
    bulk = alpha + log(y)/2 - r / (2 (1 + Delta)),        y = Delta / (1 + Delta)         while KL(y) <= alpha  (M2)
    KL(y) = [y + r (1 - y)^2 - 1 - log y] / 2                                                                   (M3)
    bulk = - [r y^2 + y] / (2 Delta),                     KL(y) = alpha                   otherwise: frozen     (M4)

and in both cases the bulk's score is ``- x y / Delta``. Derivations: docs/theory_mixtures.md.

Source: Ventura, Achilli, Ambrogioni, Lucibello, arXiv 2602.00716 (2026), after the random energy model (Derrida 1981)
and Lucibello and Mézard (2024) for exponentially many patterns; the potential goes beyond them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Bulk", "bulk_entropy_cost", "bulk_ratio", "bulk_state", "own_log_density", "potential"]

Array = npt.NDArray[np.float64]
Real = float | Array


class Bulk(NamedTuple):
    """Log-density of the bulk per dimension, and ``y``: its score is ``- x y / Delta``."""

    log_density: Array
    ratio: Array


def own_log_density(overlap: Real, variance: Real, delta: Real) -> Array:
    """Equation M1: log-density per dimension under the own class, without ``log(2 pi Delta) / 2``."""
    return -((1 - np.asarray(overlap)) ** 2 + variance) / (2 * delta)


def bulk_state(overlap: Real, variance: Real, delta: Real, alpha: Real) -> Bulk:
    """Equations M2 to M4 (same constant left out as in M1); arguments broadcast.

    One formula for both cases: the logarithm of how many centres matter, and the log-density under one of them. At the
    free ``y`` it is M2; frozen, a few centres are left, whose logarithm per dimension is 0 (M4).
    """
    r = np.square(overlap) + variance
    y = bulk_ratio(r, delta, alpha)
    log_number = np.maximum(alpha - bulk_entropy_cost(y, r), 0)
    return Bulk(log_number - (r * y**2 + y) / (2 * delta), y)


def bulk_ratio(r: Array, delta: Real, alpha: Real) -> Array:
    """``y`` of M2 to M4 from the squared length ``r``; in the shape of ``delta`` where nothing is frozen."""
    free = np.asarray(delta / (1 + delta), dtype=np.float64)
    frozen = bulk_entropy_cost(free, r) > alpha
    if not frozen.any():
        return free
    ratio = np.broadcast_to(free, np.shape(frozen)).copy()
    r, limit, y = (np.broadcast_to(values, ratio.shape)[frozen] for values in (r, alpha, ratio))
    for _ in range(60):  # KL falls and is convex in y, so Newton's steps from the left never pass the root
        step = (bulk_entropy_cost(y, r) - limit) / ((1 - y) * (1 / y + 2 * r) / 2)
        y = y + step
        if (step <= 1e-8 * y).all():  # the next one is about its square
            break
    ratio[frozen] = y
    return ratio


def bulk_entropy_cost(y: Array, r: Array) -> Array:
    """Equation M3: what part of ``alpha`` it costs that the centres that matter are not typical ones."""
    return (y + r * (1 - y) ** 2 - 1 - np.log(y)) / 2


def potential(
    overlap: Real, sigma: Real, *, alpha: float, scale: float, within_var: float, variance: Real | None = None
) -> Array:
    """The potential per dimension in which guidance moves the overlap ``m`` (goes beyond the paper).

        V(m) = - scale * own(m) + (scale - 1) * max(own(m), bulk(m))                                             (M9)

    As time runs (``t`` falls by ``dtau``), ``dm/dtau = - (1 + noise)/2 dV/dm``. For ``scale >= 1`` it has one minimum,
    above 1 while the bulk rules and at 1 once the class does; for ``scale < 1`` it can have two, one for each ruler.

    Args:
        overlap: ``m``, any shape.
        sigma: noise level, broadcasts with ``overlap``.
        alpha: log of the number of classes per dimension.
        scale: guidance scale at ``sigma``.
        within_var: variance ``c`` of each class per dimension.
        variance: ``q``; None for that of the undistorted noised class, ``c + sigma**2``.

    Returns:
        V, in the broadcast shape.

    Raises:
        ValueError: ``alpha``, ``within_var`` or ``variance`` not positive, ``sigma`` negative, anything not finite.

    Examples:
        >>> import numpy as np
        >>> from kdist.theory import potential
        >>> potential(np.array([0.5, 1.0, 1.5]), 1.0, alpha=0.3, scale=2.0, within_var=0.1).round(2)
        array([0.88, 0.5 , 0.61])
    """
    positive("alpha", alpha)
    positive("within_var", within_var)
    m, level = np.asarray(overlap, dtype=np.float64), np.asarray(sigma, dtype=np.float64)
    if not (np.isfinite(m).all() and np.isfinite(level).all() and math.isfinite(scale)):
        raise ValueError("overlap, sigma and scale must be finite")
    if (level < 0).any():
        raise ValueError(f"sigma must not be negative; got {level.min():.4g}")
    delta = within_var + level**2
    q = delta if variance is None else np.asarray(variance, dtype=np.float64)
    if not (np.isfinite(q) & (q > 0)).all():
        raise ValueError(f"variance must be positive and finite; got {variance}")
    own = own_log_density(m, q, delta)
    return -scale * own + (scale - 1) * np.maximum(own, bulk_state(m, q, delta, alpha).log_density)


def positive(name: str, value: float, *, finite: bool = True) -> float:
    """``value`` as a float; ValueError unless positive (and finite, unless ``finite`` is False)."""
    number = float(value)
    if not number > 0 or (finite and math.isinf(number)):
        raise ValueError(f"{name} must be positive{' and finite' if finite else ''}; got {value}")
    return number
