"""Shift of one class's mean, and what part of it overshoots, with their errors, from its Gram matrix.

Notation: real class mean ``m``, generated class mean ``m'``, global mean ``g`` (the Gram matrix's origin), within-class
covariances ``S``, ``S'``; ``u = m - g``, ``D = m' - m``. Estimated means are noisy and their squares therefore too
long, ``E|m_hat|^2 = |m|^2 + tr S / n``; each square below has its noise subtracted:

    mean shift = sqrt(|D|^2 / tr S)             overshoot = <D, u> / |u|^2
    displacement = |D| / |u|                    orthogonal shift = |D - overshoot * u| / |u|

so that displacement^2 = overshoot^2 + orthogonal shift^2 but for noise.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .discrepancy import discrepancy, variance_of_mean
from .estimate import NAN, Estimate
from .gram import Draws, SplitMeans, draw, squared_residuals
from .resampling import Finding, Null, Splits

__all__ = ["overshoot_parts", "shift_findings"]


class Direction(NamedTuple):
    """The way from the global to the class mean, as far as it is known.

    Attributes:
        weight: the share of this class's real mean in the global mean.
        along: unbiased ``<D, u>``; nan where u cannot be told from 0.
        squared: unbiased ``|u|^2``; nan likewise.
        effect: (n_real,) influence of each real sample on ``squared``.
        to_fake, to_real: (N,) inner products of each sample with ``m' - g`` and ``m - g``.
    """

    weight: float
    along: float
    squared: float
    effect: np.ndarray
    to_fake: np.ndarray
    to_real: np.ndarray


def overshoot_parts(
    along: np.ndarray | float, squared: np.ndarray | float, noise: np.ndarray | float, weight: np.ndarray | float,
    others_noise: float,
) -> tuple[np.ndarray | float, np.ndarray | float]:  # fmt: skip
    """Unbiased ``<D, u>`` and ``|u|^2`` from the plain ones; overshoot is their ratio.

    Args:
        along, squared: ``<m' - m, m - g>`` and ``|m - g|^2`` of estimated means.
        noise: ``tr S / n`` of the class's real samples.
        weight: the class's share in the global mean g, 0 where g was given: numerator and denominator then share less
            noise than they seem to.
        others_noise: expected squared error of g, ``sum_k w_k^2 tr S_k / n_k``.
    """
    return along + (1 - weight) * noise, squared - (1 - 2 * weight) * noise - others_noise


def shift_findings(
    gram: np.ndarray, splits: Splits, *, weight: float = 0.0, others_noise: float = 0.0
) -> dict[str, Finding]:
    """``mean_shift``, ``displacement``, ``overshoot`` and ``orthogonal_shift`` of one class.

    Args:
        gram: (N, N) inner products about the global mean, generated samples first.
        splits: split halves of the real samples, :class:`Splits`.
        weight: weight of this class's real mean within the global mean (0 when that was given).
        others_noise: expected squared error of the global mean, ``sum_k w_k^2 tr S_k / n_k``.
    """
    n_fake = splits.n_fake
    to_real = gram[:, n_fake:].mean(axis=1)
    draws = draw(gram, splits, anchor=(weight, to_real))
    direction = _direction(gram, draws, splits, to_real, weight, others_noise)
    trace = float(draws.observed.trace_b[0])
    units = {
        "mean_shift": (trace, squared_residuals(gram[n_fake:, n_fake:])),
        "displacement": (direction.squared, direction.effect),
    }
    found = {
        name: discrepancy(gram, draws, splits, unit=unit, unit_effect=effect, studentised=True, scale="square")
        for name, (unit, effect) in units.items()
    }
    return found | _overshoot(gram, draws, splits, direction)


def _direction(
    gram: np.ndarray, draws: Draws, splits: Splits, to_real: np.ndarray, weight: float, others_noise: float
) -> Direction:
    n_fake, n_real = splits.n_fake, splits.n_real
    to_fake = gram[:, :n_fake].mean(axis=1)
    noise = float(draws.observed.trace_b[0]) / n_real
    plain = float(to_real[n_fake:].mean())
    along, squared = overshoot_parts(float(to_real[:n_fake].mean()) - plain, plain, noise, weight, others_noise)
    effect = 2 * (1 - weight) * to_real[n_fake:]
    squares = 2 * draws.real_squares / n_real**2
    error = math.sqrt(4 * variance_of_mean(to_real[n_fake:]) + max(squares, 0.0))
    if not squared > 2 * error:  # the class mean cannot be told from the global mean
        along = squared = NAN
    return Direction(weight, float(along), float(squared), effect, to_fake, to_real)


def _overshoot(gram: np.ndarray, draws: Draws, splits: Splits, direction: Direction) -> dict[str, Finding]:
    """Overshoot and the squared rest of the shift, in units of ``|u|`` and ``|u|^2``."""
    n_fake, confidence = splits.n_fake, splits.confidence
    to_fake, to_real, squared = direction.to_fake, direction.to_real, direction.squared
    overshoot, keep = direction.along / squared, 1 - direction.weight
    # influence of each sample on <D, u> and, for the real ones, on overshoot = <D, u> / |u|^2
    of_fake = variance_of_mean(to_real[:n_fake])
    of_real = (keep * (to_fake - to_real) - to_real)[n_fake:]
    along_noise = of_fake + variance_of_mean(of_real)
    error = math.sqrt(of_fake + variance_of_mean(of_real - overshoot * direction.effect)) / squared
    over = Estimate.student(overshoot, error, splits.degrees, confidence)

    across = to_fake - to_real - overshoot * to_real
    spread = variance_of_mean(across[:n_fake]) + variance_of_mean(across[n_fake:])
    rest_error = math.sqrt(4 * spread + 2 * draws.noise_squares) / squared
    # <D, u>^2 is too large by its variance on average
    rest = (float(draws.observed.squared[0]) - (direction.along**2 - along_noise) / squared) / squared
    orthogonal = Estimate.student(rest, rest_error, splits.degrees, confidence)
    nulls: list[Null | None] = [None, None]
    if draws.permuted is not None:
        nulls = list(_nulls(draws, splits, squared))
    return {
        "overshoot": Finding(over, error, nulls[0], splits.degrees),
        "orthogonal_shift": Finding(orthogonal, rest_error, nulls[1], splits.degrees, scale="square"),
    }


def _nulls(draws: Draws, splits: Splits, squared: float) -> tuple[Null, Null]:
    """Nulls of overshoot and squared orthogonal shift; the global mean moves with the permuted real samples in it.

    The test statistics are scaled by their noise, so that unequal variances of the two sets are not taken for a shift.
    """
    assert draws.permuted is not None
    undefined = 1.0 if squared > 0 else NAN

    def scaled(means: SplitMeans) -> tuple[np.ndarray, np.ndarray]:
        noise = means.trace_a / splits.n_fake + means.trace_b / splits.n_real
        return means.along / means.along_error * undefined, _across(means, means.length) / noise * undefined

    floors: list[np.ndarray | None] = [None, None]
    if draws.parts is not None and squared > 0:
        floors = [
            draws.parts.along * splits.widening / squared,
            _across(draws.parts, squared) * splits.widening**2 / squared,
        ]
    with np.errstate(divide="ignore", invalid="ignore"):  # no spread on one side: nan, not counted
        found, drawn = scaled(draws.observed), scaled(draws.permuted)
    return (
        Null(float(found[0][0]), drawn[0], floors[0]),
        Null(float(found[1][0]), drawn[1], floors[1], two_sided=False),
    )


def _across(means: SplitMeans, squared: float | np.ndarray) -> np.ndarray:
    """Unbiased square of the shift's part across ``mean_b - origin``."""
    return means.squared - (means.along**2 - means.along_error**2) / squared
