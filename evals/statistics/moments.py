"""Shift of a class's mean, and what part of it overshoots, with their errors, from its Gram matrix.

Notation: real class mean ``m``, generated class mean ``m'``, global mean ``g`` (the Gram matrix's origin), within-class
covariances ``S``, ``S'``; ``u = m - g``, ``D = m' - m``. Estimated means are noisy and their squares therefore too
long, ``E|m_hat|^2 = |m|^2 + tr S / n``; each square below has its noise subtracted:

    mean shift = sqrt(|D|^2 / tr S)             overshoot = <D, u> / |u|^2
    displacement = |D| / |u|                    orthogonal shift = |D - overshoot * u| / |u|

so that displacement^2 = overshoot^2 + orthogonal shift^2 but for noise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from .discrepancy import discrepancy, variance_of_mean
from .estimate import NAN, Estimates, variance_degrees
from .gram import Draws, SplitMeans, draw, squared_residuals
from .resampling import Finding, Null, Splits

__all__ = ["overshoot_parts", "shift_findings"]


class Direction(NamedTuple):
    """The way from the global to the class mean, as far as it is known, of K classes.

    Attributes:
        weight: the share of a class's real mean in the global mean.
        along: (K,) unbiased ``<D, u>``; nan where u cannot be told from 0.
        squared: (K,) unbiased ``|u|^2``; nan likewise.
        effect: (K, n_real) influence of each real sample on ``squared``.
        to_fake, to_real: (K, N) inner products of each sample with ``m' - g`` and ``m - g``.
    """

    weight: float
    along: np.ndarray
    squared: np.ndarray
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
    grams: np.ndarray, splits: Splits, *, weight: float = 0.0, others_noise: float = 0.0
) -> dict[str, Finding]:
    """``mean_shift``, ``displacement``, ``overshoot`` and ``orthogonal_shift`` of K classes.

    Args:
        grams: (K, N, N) inner products about the global mean, generated samples first.
        splits: every split of the samples, :class:`Splits`.
        weight: weight of a class's real mean within the global mean (0 when that was given).
        others_noise: expected squared error of the global mean, ``sum_k w_k^2 tr S_k / n_k``.
    """
    real = slice(splits.n_fake, None)
    to_real = grams[:, :, real].mean(axis=2)
    draws = draw(grams, splits, anchor=(weight, to_real))
    direction = _direction(grams, draws, splits, to_real, weight, others_noise)
    units = {
        "mean_shift": (draws.observed.trace_b, squared_residuals(grams[:, real, real])),
        "displacement": (direction.squared, direction.effect),
    }
    found = {
        name: discrepancy(
            grams, draws, splits, unit=unit, unit_effect=effect, units_alike=name == "mean_shift", studentised=True,
            scale="square",
        )
        for name, (unit, effect) in units.items()
    }  # fmt: skip
    return found | _overshoot(draws, splits, direction)


def _direction(
    grams: np.ndarray, draws: Draws, splits: Splits, to_real: np.ndarray, weight: float, others_noise: float
) -> Direction:
    n_fake, n_real = splits.n_fake, splits.n_real
    to_fake = grams[:, :, :n_fake].mean(axis=2)
    plain = to_real[:, n_fake:].mean(axis=1)
    noise = draws.observed.trace_b / n_real
    along, squared = overshoot_parts(to_real[:, :n_fake].mean(axis=1) - plain, plain, noise, weight, others_noise)
    effect = 2 * (1 - weight) * to_real[:, n_fake:]
    squares = 2 * draws.real_squares / n_real**2
    error = np.sqrt(4 * variance_of_mean(to_real[:, n_fake:]) + np.maximum(squares, 0.0))
    known = squared > 2 * error  # else the class mean cannot be told from the global mean
    return Direction(weight, np.where(known, along, NAN), np.where(known, squared, NAN), effect, to_fake, to_real)


def _overshoot(draws: Draws, splits: Splits, direction: Direction) -> dict[str, Finding]:
    """Overshoot and the squared rest of the shift, in units of ``|u|`` and ``|u|^2``."""
    n_fake, confidence = splits.n_fake, splits.confidence
    to_fake, to_real, squared = direction.to_fake, direction.to_real, direction.squared
    overshoot, keep = direction.along / squared, 1 - direction.weight
    # influence of each sample on <D, u> and, for the real ones, on overshoot = <D, u> / |u|^2
    of_fake = variance_of_mean(to_real[:, :n_fake])
    of_real = (keep * (to_fake - to_real) - to_real)[:, n_fake:]
    along_noise = of_fake + variance_of_mean(of_real)
    effect = of_real - overshoot[:, None] * direction.effect
    error = np.sqrt(of_fake + variance_of_mean(effect)) / squared
    skewness = (_third_of_mean(to_real[:, :n_fake]) + _third_of_mean(effect)) / (error * squared) ** 3
    over = Estimates.without_skewness(overshoot, error, skewness, splits.degrees, confidence)

    across = to_fake - to_real - overshoot[:, None] * to_real
    spread = variance_of_mean(across[:, :n_fake]) + variance_of_mean(across[:, n_fake:])
    rest_error = np.sqrt(4 * spread + 2 * draws.noise_squares) / squared
    # <D, u>^2 is too large by its variance on average
    rest = (draws.observed.squared - (direction.along**2 - along_noise) / squared) / squared
    orthogonal = Estimates.student(rest, rest_error, splits.degrees, confidence)
    nulls: tuple[Null | None, Null | None] = (None, None)
    if draws.permuted is not None:
        nulls = _nulls(draws, draws.permuted, splits, direction)
    return {
        "overshoot": Finding(over, error, nulls[0], splits.degrees),
        "orthogonal_shift": Finding(orthogonal, rest_error, nulls[1], splits.degrees, scale="square"),
    }


def _third_of_mean(values: np.ndarray) -> np.ndarray:
    """(K,) estimated third central moment of the mean of (K, n) independent values; 0 below three."""
    n = values.shape[1]
    if n < 3:
        return np.zeros(len(values))
    centred = values - values.mean(axis=1, keepdims=True)
    return (centred**3).sum(axis=1) / (n * (n - 1) * (n - 2))


def _floor_widening(along: np.ndarray, splits: Splits) -> np.ndarray:
    """(K,) by how much wider a floor of means along a direction must be than Student's quantile for normal samples.

    Degrees of freedom as the kurtosis of the real samples leaves them, and Hall's (The Bootstrap and Edgeworth
    Expansion, 1992) second-order term of the skewness g that the mean and its own estimated error share,
    ``z (z^4 + 2 z^2 - 3) / 18 * g^2 / n``, times the real samples' part in the variance of the difference.

    Args:
        along: (K, n_real) the real samples' components.
        splits: every split of the samples, :class:`Splits`.
    """
    n_fake, n_real = splits.n_fake, splits.n_real
    level = (1 + splits.confidence) / 2
    z = special.ndtri(level)
    with np.errstate(divide="ignore", invalid="ignore"):
        squared_skewness = _third_of_mean(along) ** 2 / variance_of_mean(along) ** 3 * n_fake / (n_fake + n_real)
    term = max(z * (z**4 + 2 * z**2 - 3) / 18, 0.0) * np.nan_to_num(squared_skewness)
    wide = special.stdtrit(variance_degrees(along, axis=1), level) + term
    return wide / special.stdtrit(n_real - 1, level)


def _nulls(draws: Draws, permuted: SplitMeans, splits: Splits, direction: Direction) -> tuple[Null, Null]:
    """Nulls of overshoot and squared orthogonal shift; the global mean moves with the permuted real samples in it.

    The test statistics are scaled by their noise, so that unequal variances of the two sets are not taken for a shift.
    """
    squared = direction.squared
    undefined = np.where(squared > 0, 1.0, NAN)

    def scaled(means: SplitMeans) -> tuple[np.ndarray, np.ndarray]:
        noise = means.trace_a / splits.n_fake + means.trace_b / splits.n_real
        return means.along / means.along_error, _across(means, means.length) / noise

    floors: list[np.ndarray | None] = [None, None]
    if draws.parts is not None:
        unit, wide = squared[:, None], _floor_widening(direction.to_real[:, splits.n_fake :], splits)
        floors = [
            draws.parts.along * (splits.widening * wide[:, None]) / unit,
            _across(draws.parts, unit) * splits.widening**2 / unit,
        ]
    with np.errstate(divide="ignore", invalid="ignore"):  # no spread on one side: nan, not counted
        found, drawn = scaled(draws.observed), scaled(permuted)
    return (
        splits.null(found[0] * undefined, drawn[0], floors[0]),
        splits.null(found[1] * undefined, drawn[1], floors[1], two_sided=False),
    )


def _across(means: SplitMeans, squared: np.ndarray) -> np.ndarray:
    """Unbiased square of the shift's part across ``mean_b - origin``."""
    return means.squared - (means.along**2 - means.along_error**2) / squared
