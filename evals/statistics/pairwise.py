"""One generated set against another of the same class and seeds: pairs (x_i, y_i), no real samples.

With the kernel ``h_ij = |x_i - y_j| + |x_j - y_i| - |x_i - x_j| - |y_i - y_j|`` the energy distance of the two laws is

    D = mean of h_ij over i != j,      reported:  D / (mean of |x_i - x_j|),      x the reference

A sample is never held against its own pair, which the seed makes alike: D is unbiased though the sets are paired.
If a pair's two members can be exchanged, exchanging them changes the sign of row and column i of h, so that the law of
``s' h s`` over random signs s gives the floor and an exact p-value, all of them in one matrix product.

Displacement is how far the class mean was moved, over the reference class's distance from the centre: both squared, no
product of a pair with itself in them, so that noise adds nothing on average (see :mod:`.moments`).

Beside it, as ratios to the reference set's: mean pairwise distance, and Vendi score (Friedman and Dieng, TMLR 2023;
cosines about a centre that both share). Both depend on the number of samples, which is the same for both. Errors are
the delete-a-group jackknife's over pairs (Shao and Wu, Annals of Statistics 17, 1989), Student's quantile has the
degrees of freedom that the kurtosis of its effects leaves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from .diversity import vendi
from .estimate import NAN, Estimate, variance_degrees
from .products import product

__all__ = ["Jackknife", "PairedClass", "compare_pairs", "pooled"]

_GROUPS = 40  # at most so many leave-outs per class


@dataclass(frozen=True)
class Jackknife:
    """A value with its standard error and the degrees of freedom behind it."""

    value: float
    error: float
    degrees: float

    def estimate(self, confidence: float = 0.95) -> Estimate:
        """With Student's interval."""
        if not (math.isfinite(self.value) and math.isfinite(self.error)):
            return Estimate(NAN)
        return Estimate.student(self.value, self.error, self.degrees, confidence)


def pooled(parts: Sequence[Jackknife]) -> Jackknife:
    """The mean over the classes where it is defined; degrees by Welch and Satterthwaite."""
    parts = [part for part in parts if math.isfinite(part.value) and math.isfinite(part.error)]
    if not parts:
        return Jackknife(NAN, NAN, NAN)
    squares = np.square([part.error for part in parts])
    weights = np.square(squares) / [part.degrees for part in parts]
    degrees = squares.sum() ** 2 / weights.sum() if weights.sum() > 0 else float(sum(part.degrees for part in parts))
    error = math.sqrt(squares.sum()) / len(parts)
    return Jackknife(float(np.mean([part.value for part in parts])), error, float(degrees))


@dataclass(frozen=True)
class PairedClass:
    """What :func:`compare_pairs` finds.

    Attributes:
        distance: energy distance, in units of the reference samples' mean distance.
        swapped: (resamples,) what it is with random pairs exchanged.
        log_vendi: log of the ratio of the Vendi scores.
        log_spread: log of the ratio of the mean pairwise distances.
        vendi, vendi_reference: the scores, between 1 and the number of pairs.
        displacement: squared distance of the class means over the reference's from the centre; nan where that is less
            than two standard errors of its square.
        pairs: their number.
    """

    distance: Jackknife
    swapped: np.ndarray
    log_vendi: Jackknife
    log_spread: Jackknife
    vendi: float
    vendi_reference: float
    displacement: Jackknife
    pairs: int


def compare_pairs(
    reference: np.ndarray, own: np.ndarray, centre: np.ndarray, *, resamples: int, generator: np.random.Generator
) -> PairedClass:
    """Compare the samples of one class, pair by pair.

    Args:
        reference: (n, d) samples of the reference set, n at least 3.
        own: (n, d) samples of the other set; row i was drawn from the same seed.
        centre: (d,) the mean of all classes: cosines are taken about it, displacements are in distances from it.
        resamples: exchanges of random pairs; 0 for none.
        generator: draws the signs.

    Returns:
        The numbers; nan where the reference samples are all the same.
    """
    x, y = (samples.astype(np.float64) - centre for samples in (reference, own))
    grams = product(x, x.T), product(y, y.T)
    within, own_within, across = cdist(x, x), cdist(y, y), cdist(x, y)
    kernel = across + across.T - within - own_within
    moved = product(y - x, (y - x).T)
    for products in (kernel, moved):
        np.fill_diagonal(products, 0.0)
    length = grams[0] - np.diag(np.diagonal(grams[0]))

    def numbers(kept: np.ndarray) -> np.ndarray:
        square = np.ix_(kept, kept)
        unit, spread = within[square].sum(), own_within[square].sum()
        scores = [math.log(float(vendi(gram[square]))) for gram in grams]
        with np.errstate(divide="ignore", invalid="ignore"):
            products = length[square].sum()
            gone, away = moved[square].sum() / products, products / (len(kept) * (len(kept) - 1))
            return np.array([kernel[square].sum() / unit, scores[1] - scores[0], np.log(spread / unit), gone, away])

    distance, log_vendi, log_spread, displacement, away = _jackknife(numbers, len(x))
    if not away.value > 2 * away.error:  # the class mean cannot be told from the centre
        displacement = Jackknife(NAN, NAN, NAN)
    signs = generator.choice([-1.0, 1.0], size=(resamples, len(x)))
    with np.errstate(divide="ignore", invalid="ignore"):
        swapped = (product(signs, kernel) * signs).sum(axis=1) / within.sum()
    scores = [float(vendi(gram)) for gram in grams]
    return PairedClass(distance, swapped, log_vendi, log_spread, scores[1], scores[0], displacement, len(x))


def _jackknife(statistic: Callable[[np.ndarray], np.ndarray], count: int) -> list[Jackknife]:
    """``statistic`` of all rows, with errors from leaving out one of at most :data:`_GROUPS` groups at a time."""
    rows = np.arange(count)
    groups = np.array_split(rows, min(count, _GROUPS))
    left_out = np.stack([statistic(np.delete(rows, group)) for group in groups])
    share = (len(groups) - 1) / len(groups)
    with np.errstate(invalid="ignore"):  # logs of 0, where all samples are the same
        errors = np.sqrt(share * np.square(left_out - left_out.mean(axis=0)).sum(axis=0))
        degrees = variance_degrees(left_out)
    parts = zip(statistic(rows), errors, degrees, strict=True)
    return [Jackknife(float(value), float(error), float(degree)) for value, error, degree in parts]
