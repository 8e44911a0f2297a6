"""A designed schedule of free shape: a curve over log sigma.

For the ODE the log-variance of every direction is linear in the weight, ``log V/c = - int w k dt`` (docs/theory.md,
equation 4), so the free curve is a linear program. Sampling noise, overshoot bounds and real solvers bend it; then the
program is solved again about its last solution until it settles (sequential linear programming).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import linprog

from kdist import Piecewise, Schedule

from ..integrate import Array
from .target import TOLERANCE, Effect, Target

__all__ = ["free"]

KNOTS = 32  # of a free curve
STEEPEST = 4.0  # swings (scale to min_scale) per unit of log sigma
_STEP = 1e-4  # of the finite differences, in scale; the effect is smooth, and its log linear for the ODE
_ROUNDS = 20
_ELASTIC = 20.0  # price of a unit of shortfall: well above what a unit of variance buys, so requirements come first


def free(target: Target, *, smoothness: float = 0.01) -> Schedule:
    """The best curve, linear in log sigma between nodes, that starts at ``scale``.

    Args:
        smoothness: price, in units of overshoot, of a bend whose slope changes by one swing (``scale`` to
            ``min_scale``) per unit of log sigma. Whatever it is, the curve is never steeper than :data:`STEEPEST`.
    """
    program = _Program(target, smoothness)
    scales = np.maximum(program.lower, 1.0)
    effect = target.effect(program.curve(scales))
    radius = math.inf
    for _ in range(_ROUNDS):
        jacobian = program.jacobian(scales, effect)
        while radius > 1e-3:
            trial = program.solve(scales, effect, jacobian, radius)
            answer = target.effect(program.curve(trial))
            reach = float(np.abs(trial - scales).max())
            if target.shortfalls(answer).max() > TOLERANCE / 2:
                # a curved requirement is missed by the straight step: aim again from there with the same slopes
                again = program.solve(trial, answer, jacobian, reach / 4)
                corrected = target.effect(program.curve(again))
                if program.score(again, corrected) > program.score(trial, answer):
                    trial, answer = again, corrected
            gain = program.score(trial, answer) - program.score(scales, effect)
            if gain > 0:
                break
            radius = min(radius, reach) / 2
        else:
            break
        settled = gain < 1e-4 and target.shortfalls(answer).max() <= TOLERANCE / 2
        scales, effect, radius = trial, answer, 2 * radius
        if settled:
            break
    return program.curve(np.round(scales, 6))


class _Program:
    """The linear program of a target about a curve, in its node values and slacks."""

    def __init__(self, target: Target, smoothness: float) -> None:
        low, high = target.range
        own = [s for s in target.sigmas or () if low <= s <= high]
        if target.solver is not None and 3 <= len(own) <= KNOTS:
            self.nodes = np.array(own)  # a solver that calls at few levels cannot tell what is between them
        else:
            self.nodes = np.array([float(f"{s:.4g}") for s in np.geomspace(high, low, KNOTS)])
            if target.hold is not None and low < target.hold < high:
                self.nodes = np.union1d(self.nodes, target.hold)[::-1]
        held = self.nodes >= (self.nodes[0] if target.hold is None else target.hold)
        held[0] = True
        self.target = target
        self.lower = np.where(held, target.scale, target.min_scale)
        self.spacing = -np.diff(np.log(self.nodes))
        swing = target.scale - target.min_scale
        self.slopes = np.diff(np.eye(len(self.nodes)), axis=0) / self.spacing[:, None] / swing
        self.bends = np.diff(self.slopes, axis=0)
        self.smoothness = smoothness

    def curve(self, scales: Array) -> Piecewise:
        return Piecewise(tuple(self.nodes), tuple(scales), "linear")

    def score(self, scales: Array, effect: Effect) -> float:
        """Merit, less the price of bends, and of the worst shortfall so that requirements come first."""
        shortfall = max(0.0, float(self.target.shortfalls(effect).max()))
        roughness = float(np.abs(self.bends @ scales).sum())
        return self.target.merit(effect) - self.smoothness * roughness - _ELASTIC * shortfall

    def jacobian(self, scales: Array, effect: Effect) -> list[Effect]:
        """Change of the effect per unit of scale at each node."""
        changed = [self.target.effect(self.curve(scales + step)) for step in _STEP * np.eye(len(scales))]
        return [
            Effect((r.log_ratio - effect.log_ratio) / _STEP, (r.overshoot - effect.overshoot) / _STEP) for r in changed
        ]

    def solve(self, scales: Array, effect: Effect, jacobian: list[Effect], radius: float) -> Array:
        """The node values that maximise the linearised score within ``radius`` of ``scales``."""
        nodes, bends = len(scales), len(self.bends)
        # merit and shortfalls are affine in the effect, so differences give their slopes
        nothing = Effect(0 * effect.log_ratio, 0 * effect.overshoot)
        gradient = np.array([self.target.merit(column) for column in jacobian])
        base = self.target.shortfalls(nothing)
        slope = np.stack([self.target.shortfalls(column) - base for column in jacobian], 1)
        bound = slope @ scales - self.target.shortfalls(effect)
        # unknowns: node values, one slack for the worst shortfall, one for the size of each bend
        slack, sizes = -np.ones((len(slope), 1)), np.eye(bends)
        matrix = np.block(
            [
                [slope, slack, np.zeros((len(slope), bends))],
                [self.slopes, np.zeros((nodes - 1, 1 + bends))],
                [-self.slopes, np.zeros((nodes - 1, 1 + bends))],
                [self.bends, np.zeros((bends, 1)), -sizes],
                [-self.bends, np.zeros((bends, 1)), -sizes],
            ]
        )
        limits = np.concatenate([bound, np.full(2 * (nodes - 1), STEEPEST), np.zeros(2 * bends)])
        cost = np.concatenate([-gradient, [_ELASTIC], np.full(bends, self.smoothness)])
        low = np.clip(scales - radius, self.lower, self.target.scale)
        high = np.clip(scales + radius, self.lower, self.target.scale)
        bounds = [*zip(low, high, strict=True), *[(0, None)] * (1 + bends)]
        result = linprog(cost, matrix, limits, bounds=bounds, method="highs")
        return scales if result.x is None else result.x[:nodes]
