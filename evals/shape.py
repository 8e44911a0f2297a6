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
from scipy import linalg, stats

from .diversity import coverage, recall, squared_distances, vendi
from .estimates import NAN, Estimate
from .gram import participation, random_splits
from .resampling import Null, Resampling

__all__ = ["SHAPE_STATISTICS", "ShapeEstimates", "shape_estimates"]

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
    values, floors = np.empty((splits, len(SHAPE_STATISTICS))), np.empty((splits, len(SHAPE_STATISTICS)))
    for i in range(splits):
        generated = generator.permutation(n_fake)[:size]
        real = n_fake + generator.permutation(n_real)[: 2 * size]
        for table, group in ((values, generated), (floors, real[size:])):
            index = np.concatenate([group, real[:size]])
            table[i] = _statistics(gram[np.ix_(index, index)], size, neighbours)
    centre, floor_centre = values.mean(axis=0), floors.mean(axis=0)
    corrected = SHAPE_STATISTICS.index("participation_ratio")  # needs no matching: all samples can be used
    centre[corrected] = participation(gram[:n_fake, :n_fake]) / participation(gram[n_fake:, n_fake:])
    quantile = stats.t.ppf((1 + confidence) / 2, splits - 1)
    errors = values.std(axis=0, ddof=1) * math.sqrt(1 + 1 / splits)
    spread = floors.std(axis=0, ddof=1) * math.sqrt(1 + 1 / splits)
    nulls = {}
    if permutations:
        observed = _statistics(gram, n_fake, neighbours)
        members = random_splits(len(gram), n_fake, permutations, generator).astype(bool)
        order = [np.concatenate([np.flatnonzero(row), np.flatnonzero(~row)]) for row in members]
        permuted = np.array([_statistics(gram[np.ix_(index, index)], n_fake, neighbours) for index in order])
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


def _statistics(gram: np.ndarray, n_first: int, neighbours: int) -> np.ndarray:
    """The statistics of the first group against the second, in the order of :data:`SHAPE_STATISTICS`."""
    first, second = gram[:n_first, :n_first], gram[n_first:, n_first:]
    cross = gram[:n_first, n_first:]
    mean = first.mean() + second.mean() - 2 * cross.mean()
    centred = cross - cross.mean(axis=0)
    centred -= centred.mean(axis=1, keepdims=True)
    degrees = len(first) - 1, len(second) - 1
    traces = [
        (np.trace(block) - block.sum() / len(block)) / nu for block, nu in zip((first, second), degrees, strict=True)
    ]
    nuclear = linalg.svdvals(centred, check_finite=False).sum() / math.sqrt(degrees[0] * degrees[1])
    recalled = covered = NAN
    if min(len(first), len(second)) > neighbours:
        distances = squared_distances(gram)
        recalled = recall(distances, n_first, neighbours=neighbours)
        covered = coverage(distances, n_first, neighbours=neighbours)
    ratio = participation(first) / participation(second)
    return np.array([mean, sum(traces) - 2 * nuclear, vendi(first), recalled, covered, ratio])
