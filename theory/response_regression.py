"""Regression of a response on schedules: linear for small weights, bending for large ones, smooth in log sigma.

A schedule is the vector of weights ``w_i = scale_i - 1`` at the solver's calls. With importances ``q_i`` and a
correlation length ``l`` in log sigma,

    <w, v> = sum_ij q_i w_i  exp(-(log sigma_i - log sigma_j)**2 / (2 l**2))  q_j v_j                         (1)

is the covariance of two responses ``int w k dL`` and ``int v k dL`` whose kernel ``k`` is a smooth random function.
Bending enters through the covariance of an infinite one-layer network of sigmoid units on top of these (Williams,
*Computing with infinite networks*, 1997), which saturates:

    a(w, v) = (2 / pi) arcsin( 2 (1 + g <w, v>) / sqrt((3 + 2 g <w, w>) (3 + 2 g <v, v>)) )                    (2)
    covariance(w, v) = a(w, v) - a(w, 0) - a(0, v) + a(0, 0)                                                   (3)

(3) is that of the difference to no guidance, so a prediction at ``w = 0`` is exactly 0. For small ``g`` it is linear,
proportional to (1). ``l``, ``g`` and the runs' error variance minimise the leave-one-out error over the given runs.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from .integrate import Array

__all__ = ["CurvedRegression"]

LENGTHS = (0.4, 0.7, 1.2, 2.0, 4.0)  # in log sigma
BENDS = (1e-4, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # times <w, w> of a weight of 1 everywhere
ERRORS = tuple(10.0**k for k in (-9, -5, -4, -3, -2.5, -2, -1.5, -1, -0.5, 0, 0.5, 1))  # over the signal's variance


@dataclass(frozen=True, eq=False)
class CurvedRegression:
    """A fitted regression.

    Args:
        log_sigmas: (C,) of the solver's calls.
        importance: (C,) ``q`` of equation (1), in any unit.
        runs: (P, C) weights of the runs.
        coefficients: (P, ...) of the covariances with each run.
        length, bend: what was chosen.
        error_variance: Variance of a run's own sampling error over the signal's variance, as chosen.
        explained: part of the runs' mean square that was predicted when each run was left out in turn; 1 is all.
    """

    log_sigmas: Array
    importance: Array
    runs: Array
    coefficients: Array
    length: float
    bend: float
    error_variance: float
    explained: float

    @classmethod
    def fit(cls, log_sigmas: Array, importance: Array, runs: Array, values: Array) -> CurvedRegression:
        """Choose the smoothness, the bend and the error variance by leave-one-out, and fit.

        Args:
            values: (P, K) responses of the runs, relative to no guidance; all columns share the choice.
        """
        count = len(runs)
        best: tuple[float, float, float, float, Array] | None = None
        for length, bend in itertools.product(LENGTHS, BENDS):
            covariance = _covariance(runs, runs, log_sigmas, importance, length, bend)
            signal = float(np.trace(covariance)) / count
            spectrum, vectors = np.linalg.eigh(covariance)
            turned = vectors.T @ values
            for error_variance in ERRORS:
                shrunk = 1 / (np.maximum(spectrum, 0) + error_variance * signal)
                coefficients = np.asarray(vectors @ (shrunk[:, None] * turned), dtype=np.float64)
                # leave-one-out residuals in closed form (Rasmussen and Williams 2006, eq. 5.12)
                left_out = coefficients / (np.square(vectors) @ shrunk)[:, None]
                error = float(np.mean(np.square(left_out)))
                if best is None or error < best[0]:
                    best = (error, length, bend, error_variance, coefficients)
        assert best is not None
        error, length, bend, error_variance, coefficients = best
        total = float(np.mean(np.square(values)))
        explained = 1 - error / total if total else 1.0
        return cls(log_sigmas, importance, runs, coefficients, length, bend, error_variance, explained)

    def predict(self, weights: Array) -> Array:
        """(S, K) responses to schedules with these (S, C) weights at the calls."""
        pieces = (self.log_sigmas, self.importance, self.length, self.bend)
        return _covariance(weights, self.runs, *pieces) @ self.coefficients


def _covariance(a: Array, b: Array, log_sigmas: Array, importance: Array, length: float, bend: float) -> Array:
    """Equation (3) between the rows of a (A, C) and of b (B, C)."""
    smooth = np.exp(-np.square(np.subtract.outer(log_sigmas, log_sigmas)) / (2 * length**2))
    metric = importance[:, None] * smooth * importance
    metric = metric / metric.sum()  # <1, 1> = 1: one unit of weight at every call
    cross = bend * (a @ metric @ b.T)
    own_a = bend * np.einsum("ij,jk,ik->i", a, metric, a)[:, None]
    own_b = bend * np.einsum("ij,jk,ik->i", b, metric, b)[None]
    zero = np.zeros(1)
    parts = _angle(cross, own_a, own_b) - _angle(zero, own_a, zero) - _angle(zero, zero, own_b)
    return (parts + _angle(zero, zero, zero)) / bend


def _angle(cross: Array, own_a: Array, own_b: Array) -> Array:
    return 2 / np.pi * np.arcsin(2 * (1 + cross) / np.sqrt((3 + 2 * own_a) * (3 + 2 * own_b)))
