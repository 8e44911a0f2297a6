"""Statistics that depend on how many samples there are, always compared at the same number.

Fréchet parts, Vendi score, recall and coverage of a perfect generator are not 0 or 1 but change with n. So each is
computed between half of the generated samples and half of the real ones, ``m = min(n_real, n_fake) // 2`` of each,
and its floor between those real samples and m *other* real ones; both are averaged over random splits. The spread over
the splits gives the interval: by the delete-half jackknife (Shao and Wu, Annals of Statistics 17, 1989) the variance
over random halves is the variance of the statistic of the whole.

The participation ratio ``(tr S)^2 / tr S^2`` (effective number of directions) is corrected for n instead, by unbiased
estimates of its parts (Himeno and Yamada, Journal of Multivariate Analysis 130, 2014).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from scipy import special

from .diversity import coverage, recall, squared_distances, vendi
from .estimate import NAN, Estimate
from .gram import double_centre, participation
from .resampling import Null, Resampling

__all__ = ["SHAPE_STATISTICS", "ShapeEstimates", "shape_estimates"]

_CHUNK = 1 << 21  # inner products handled in one go: 16 MB

SHAPE_STATISTICS = ("frechet_mean", "frechet_covariance", "vendi", "recall", "coverage", "participation_ratio")


@dataclasses.dataclass(frozen=True)
class ShapeEstimates:
    """One estimate, standard error and null per name in :data:`SHAPE_STATISTICS`, and the n of either side."""

    estimates: dict[str, Estimate]
    errors: dict[str, float]
    nulls: dict[str, Null]
    matched_n: int


def shape_estimates(
    gram: np.ndarray, n_fake: int, resampling: Resampling, *, splits: int, permutations: int, neighbours: int
) -> ShapeEstimates:
    """The n-dependent statistics of one class.

    Args:
        gram: (N, N) inner products about the global mean, generated samples first.
        n_fake: how many of the N are generated.
        resampling: confidence and generator.
        splits: how many random halves; at least 3.
        permutations: for the p-values, of all samples; 0 for none. Each costs O(N^3).
        neighbours: k of recall and coverage.
    """
    n_real = len(gram) - n_fake
    size = min(n_real, n_fake) // 2
    if size < 2:
        nothing = dict.fromkeys(SHAPE_STATISTICS, NAN)
        return ShapeEstimates({name: Estimate(NAN) for name in nothing}, nothing, {}, size)
    generator, confidence = resampling.generator, resampling.confidence
    generated = np.stack([generator.permutation(n_fake)[:size] for _ in range(splits)])
    real = n_fake + np.stack([generator.permutation(n_real)[: 2 * size] for _ in range(splits)])
    reference, other = real[:, :size], real[:, size:]
    values = _statistics(gram, np.concatenate([generated, reference], axis=1), size, neighbours)
    floors = _statistics(gram, np.concatenate([other, reference], axis=1), size, neighbours)
    centre, floor_centre = values.mean(axis=0), floors.mean(axis=0)
    corrected = SHAPE_STATISTICS.index("participation_ratio")  # needs no matching: all samples can be used
    centre[corrected] = participation(gram[:n_fake, :n_fake]) / participation(gram[n_fake:, n_fake:])
    quantile = float(special.stdtrit(splits - 1, (1 + confidence) / 2))
    errors = values.std(axis=0, ddof=1) * math.sqrt(1 + 1 / splits)
    spread = floors.std(axis=0, ddof=1) * math.sqrt(1 + 1 / splits)
    nulls = {}
    if permutations:
        everyone = np.arange(len(gram))
        observed = _statistics(gram, everyone[None], n_fake, neighbours)[0]
        orders = generator.permuted(np.tile(everyone, (permutations, 1)), axis=1)
        permuted = _statistics(gram, orders, n_fake, neighbours)
        nulls = {name: Null(float(observed[j]), permuted[:, j]) for j, name in enumerate(SHAPE_STATISTICS)}
    estimates = {}
    for j, name in enumerate(SHAPE_STATISTICS):
        floor = Estimate(
            floor_centre[j], (floor_centre[j] - quantile * spread[j], floor_centre[j] + quantile * spread[j])
        )
        interval = (centre[j] - quantile * errors[j], centre[j] + quantile * errors[j])
        p_value = nulls[name].p_value() if nulls else NAN
        estimates[name] = Estimate(centre[j], interval, floor=floor, p_value=p_value)
    return ShapeEstimates(estimates, dict(zip(SHAPE_STATISTICS, errors.tolist(), strict=True)), nulls, size)


def _statistics(gram: np.ndarray, orders: np.ndarray, n_first: int, neighbours: int) -> np.ndarray:
    """(B, 6) statistics of B pairs of groups, in the order of :data:`SHAPE_STATISTICS`.

    Args:
        gram: inner products of all samples.
        orders: (B, n) samples of either group, the first group's first.
        n_first: size of the first group, which plays the generated one.
        neighbours: k of recall and coverage.
    """
    at_once = max(1, _CHUNK // orders.shape[1] ** 2)
    parts = [orders[start : start + at_once] for start in range(0, len(orders), at_once)]
    return np.concatenate(
        [_batch_statistics(gram[part[:, :, None], part[:, None, :]], n_first, neighbours) for part in parts]
    )


def _batch_statistics(gram: np.ndarray, n_first: int, neighbours: int) -> np.ndarray:
    first, second, cross = gram[:, :n_first, :n_first], gram[:, n_first:, n_first:], gram[:, :n_first, n_first:]
    mean = first.mean(axis=(1, 2)) + second.mean(axis=(1, 2)) - 2 * cross.mean(axis=(1, 2))
    traces = np.zeros(len(gram))
    for block in (first, second):
        n = block.shape[-1]
        traces += (np.trace(block, axis1=1, axis2=2) - block.sum(axis=(1, 2)) / n) / (n - 1)
    nuclear = np.linalg.svd(double_centre(cross), compute_uv=False).sum(axis=1)
    nuclear /= math.sqrt((first.shape[-1] - 1) * (second.shape[-1] - 1))
    recalled = covered = np.full(len(gram), NAN)
    if min(first.shape[-1], second.shape[-1]) > neighbours:
        distances = squared_distances(gram)
        recalled = recall(distances, n_first, neighbours=neighbours)
        covered = coverage(distances, n_first, neighbours=neighbours)
    ratio = participation(first) / participation(second)
    return np.stack([mean, traces - 2 * nuclear, vendi(first), recalled, covered, ratio], axis=1)
