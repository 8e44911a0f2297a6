"""What is known of every schedule from the blocks of samples drawn so far: a Gaussian process over schedules.

A schedule is a point: its weight in each band of noise levels (compressed, so that 5 and 6 are closer than 1 and 2)
and its choices. A measurement ``y`` of schedule ``c`` on block ``k`` of seeds is

    y = f(c) + g_k(c) + own(c) + noise,

``f`` what is wanted, ``g_k`` what the block's seeds add. Paired seeds make ``g_k`` a smooth function too: two schedules
that do nearly the same on the same seeds give nearly the same images, and their difference hardly any noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import linalg, optimize

__all__ = ["FIRST_THETA", "Surrogate"]

FIRST_THETA = np.log([1.0, 1.0, 3.0])  # amplitude in spreads of y, length, odds of paired against single noise


class Surrogate:
    """Fitted to measurements of one statistic.

    Args:
        points: (n, p) schedules.
        candidate: (n,) which measurements are of the same schedule.
        block: (n,) the block of seeds.
        y: (n,) measurements.
        errors: (n,) their standard errors.
        paired: whether the same seeds give the same noise.
        theta: hyperparameters that were found before, to go on with; None finds them.
    """

    def __init__(
        self,
        points: np.ndarray,
        candidate: Sequence[int],
        block: Sequence[int],
        y: np.ndarray,
        errors: np.ndarray,
        *,
        paired: bool = True,
        theta: np.ndarray | None = None,
    ) -> None:
        self._points, self._y, self._candidate = points, y, np.asarray(candidate)
        self._errors = np.maximum(errors, 1e-3 * (np.std(y) + 1e-9))
        self._same_candidate = np.equal.outer(candidate, candidate)
        self._same_block = np.equal.outer(block, block)
        self._distance, self._product = _distances(points, points), points @ points.T
        self._paired = paired
        self._spread = max(float(np.std(y)), float(np.median(self._errors)), 1e-9)
        start = FIRST_THETA if theta is None else theta
        if len(y) > 4 and theta is None:
            start = optimize.minimize(
                self._loss, start, method="Nelder-Mead", options={"maxfev": 80, "xatol": 0.05, "fatol": 0.05}
            ).x
        self.theta = start
        self._amplitude, self._length, self._share = self._unpack(start)
        self._factor = linalg.cho_factor(self._covariance(*self._unpack(start)), lower=True)
        self._mean = self._level(self._factor)
        self._solved = linalg.cho_solve(self._factor, y - self._mean)

    def _unpack(self, theta: np.ndarray) -> tuple[float, float, float]:
        amplitude, length, share = np.exp(np.clip(theta, -4, 4))
        return self._spread * amplitude, length, 0.95 * share / (1 + share)

    def _covariance(self, amplitude: float, length: float, share: float) -> np.ndarray:
        smooth = _matern(self._distance / length)
        noise = np.outer(self._errors, self._errors)
        paired = share if self._paired else 0.0
        own = (0.1 * amplitude) ** 2 * self._same_candidate
        return (
            amplitude**2 * (smooth + self._product) + own + paired * noise * smooth * self._same_block
            + np.diag((1 - paired) * self._errors**2)
        )  # fmt: skip

    def _kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Smooth, about a trend that is linear in the weights."""
        return _matern(_distances(a, b) / self._length) + a @ b.T

    def _level(self, factor: tuple[np.ndarray, bool]) -> float:
        ones = linalg.cho_solve(factor, np.ones(len(self._y)))
        return float(ones @ self._y / ones.sum())

    def _loss(self, theta: np.ndarray) -> float:
        """Minus the log posterior of the hyperparameters (a wide prior keeps them in reason)."""
        try:
            factor = linalg.cho_factor(self._covariance(*self._unpack(theta)), lower=True)
        except linalg.LinAlgError:
            return 1e10
        rest = self._y - self._level(factor)
        fit = rest @ linalg.cho_solve(factor, rest) / 2 + np.log(np.diag(factor[0])).sum()
        return float(fit + (np.square(theta) / 2).sum())

    def posterior(self, points: np.ndarray, candidate: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean (m,) and covariance (m, m) of ``f`` with what is each schedule's own; -1 for schedules not measured."""
        number = np.asarray(candidate)
        own = (0.1 * self._amplitude) ** 2
        cross = self._amplitude**2 * self._kernel(points, self._points)
        cross = cross + own * np.equal.outer(number, self._candidate)
        prior = self._amplitude**2 * self._kernel(points, points)
        prior = prior + own * (np.equal.outer(number, number) & (number >= 0)[:, None]) + own * np.diag(number < 0)
        mean = self._mean + cross @ self._solved
        return mean, prior - cross @ linalg.cho_solve(self._factor, cross.T)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0))


def _matern(r: np.ndarray) -> np.ndarray:
    """Smoothness 5/2."""
    s = np.sqrt(5) * r
    return (1 + s + s**2 / 3) * np.exp(-s)
