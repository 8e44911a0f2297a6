"""How far apart the classes are: scatter ratio, classifier, nearest neighbours.

Scatter ratio: ``J = B / W``, ``B = mean_k |m_k - mean_j m_j|^2`` and ``W = mean_k tr S_k``, each class counting the
same. Estimated class means scatter by their own noise too, ``(1 - 1/K) mean_k tr S_k / n_k``, which is subtracted.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from scipy import special, stats

from .estimate import NAN, Estimate, exp
from .products import product
from .workers import Each

__all__ = ["between_scatter", "class_probabilities", "neighbour_accuracies", "proportion", "scatter_ratio"]

_QUERIES_AT_ONCE, _ROWS_AT_ONCE = 2048, 4096  # distances of as many: 32 MB


def scatter_ratio(
    features: np.ndarray, rows: Sequence[np.ndarray], means: np.ndarray, *, confidence: float
) -> tuple[Estimate, np.ndarray]:
    """Between-class over within-class scatter, unbiased in numerator and denominator.

    The interval is the delta method's on the log scale, from the influence of each sample on B and W.

    Args:
        features: (N, d).
        rows: the rows of ``features`` that hold each of the K classes.
        means: (K, d) float64 class means.
        confidence: the confidence of the interval.

    Returns:
        The ratio (nan for a single class or indistinguishable ones), and (K,) the noise ``tr S_k / n_k`` of the means.
    """
    count = len(rows)
    from_centre = means - means.mean(axis=0)
    sizes, traces, effects = np.array([len(index) for index in rows]), np.empty(count), []
    for k, index in enumerate(rows):
        residuals = features[index] - means[k]
        squares = np.einsum("nd,nd->n", residuals, residuals)
        traces[k] = squares.sum() / (len(index) - 1)
        effects.append((2 * (residuals @ from_centre[k]), squares))
    noise, within = traces / sizes, traces.mean()
    between = between_scatter(means, noise)
    if between <= 0 or within <= 0:
        return Estimate(NAN), noise
    variance = sum((b / between - w / within).var(ddof=1) / len(b) for b, w in effects) / count**2
    factor = exp(special.ndtri((1 + confidence) / 2) * math.sqrt(variance))
    ratio = float(between / within)
    return Estimate(ratio, (ratio / factor, ratio * factor)), noise


def between_scatter(means: np.ndarray, noise: np.ndarray) -> float:
    """Unbiased B from (K, d) estimated class means and (K,) their expected squared errors; 0 for one class."""
    count = len(means)
    return float(np.square(means - means.mean(axis=0)).sum() / count - (1 - 1 / count) * noise.mean())


def proportion(hits: int, total: int, *, confidence: float) -> Estimate:
    """A share with Wilson's interval (Wilson, JASA 22, 1927), which stays inside [0, 1]."""
    interval = stats.binomtest(int(hits), int(total)).proportion_ci(confidence, method="wilson")
    return Estimate(hits / total, (interval.low, interval.high))


def class_probabilities(
    name: str, predictions: np.ndarray, labels: np.ndarray, order: Sequence[object]
) -> tuple[np.ndarray, np.ndarray | None]:
    """``(correct, confidence)`` of each sample from a classifier's output.

    Args:
        name: the argument's name, for errors.
        predictions: (N,) predicted labels, or (N, K) probabilities with columns in the order of the sorted labels.
        labels: (N,) the classes that the samples were drawn from.
        order: the K labels, sorted.

    Returns:
        (N,) bool, and (N,) the probability given to the right class (None when only labels were passed).

    Raises:
        ValueError: a shape that fits neither form, or rows that are no probabilities.
    """
    predictions = np.asarray(predictions)
    if predictions.shape == labels.shape:
        return predictions == labels, None
    if predictions.shape != (len(labels), len(order)):
        raise ValueError(
            f"{name} must be predicted labels of shape ({len(labels)},) or probabilities of shape "
            f"({len(labels)}, {len(order)}), columns in the order of the sorted labels; got shape {predictions.shape}"
        )
    total = predictions.sum(axis=1, dtype=np.float64)
    if not (np.isfinite(total).all() and (predictions >= 0).all() and np.allclose(total, 1, atol=1e-3)):
        raise ValueError(
            f"{name} must be probabilities: rows that are >= 0 and sum to 1; apply softmax to logits first"
        )
    column = {label: k for k, label in enumerate(order)}
    own = np.array([column[label] for label in labels.tolist()])
    return predictions.argmax(axis=1) == own, predictions[np.arange(len(own)), own].astype(np.float64)


def neighbour_accuracies(
    sets: Sequence[tuple[np.ndarray, Sequence[np.ndarray]]],
    real: np.ndarray,
    real_rows: Sequence[np.ndarray],
    *,
    neighbours: int,
    most: int,
    confidence: float,
    generator: np.random.Generator,
    each: Each = map,
) -> list[Estimate]:
    """Share of each set's samples whose k nearest real ones are mostly of their own class (ties: the nearer class).

    Each class gives the same number of samples, about ``most`` in all. A sample that is itself a row of ``real``
    (pass the same array twice) does not count as its own neighbour. One pass over the real samples serves all sets.

    Args:
        sets: (M, d) features of each set, and their rows of each class.
        real: (N, d) reference samples.
        real_rows: the rows of ``real`` of each class.
        neighbours: k.
        most: samples of a set in all, bounding the cost.
        confidence: the confidence of Wilson's interval.
        generator: chooses the samples.
        each: ``map``, or that of an executor which works side by side.
    """
    from_each, places = max(1, most // len(real_rows)), np.arange(len(real_rows))
    classes = np.empty(len(real), dtype=np.int64)
    for k, rows in enumerate(real_rows):
        classes[rows] = k
    samples, themselves, own = [], [], []
    for features, by_class in sets:
        chosen = [generator.permutation(rows)[:from_each] for rows in by_class]
        index = np.concatenate(chosen)
        samples.append(features[index])
        themselves.append(index if features is real else np.full(len(index), -1))
        own.append(np.repeat(places, [len(rows) for rows in chosen]))
    k = min(neighbours, len(real) - any(features is real for features, _ in sets))
    found = classes[_nearest(np.concatenate(samples), real, k, np.concatenate(themselves), each)]
    shares = []
    for labels, nearest in zip(own, np.split(found, np.cumsum([len(labels) for labels in own[:-1]])), strict=True):
        # votes; the earlier neighbour weighs slightly more, which only decides ties
        votes = np.zeros((len(labels), len(real_rows)))
        for j, column in enumerate(nearest.T):
            votes[np.arange(len(labels)), column] += 1 - j / (2 * k**2)
        shares.append(proportion(int((votes.argmax(axis=1) == labels).sum()), len(labels), confidence=confidence))
    return shares


def _nearest(queries: np.ndarray, real: np.ndarray, k: int, themselves: np.ndarray, each: Each) -> np.ndarray:
    """(n, k) rows of ``real`` nearest to each query, the nearest first; never the row that a query itself is (or -1).

    In float32 about a common centre: ranks of neighbours need no more.
    """
    centre = real.mean(axis=0, dtype=np.float64).astype(real.dtype)
    points = (queries - centre).astype(np.float32, copy=False)

    def among(some: slice, start: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of a block nearest to some queries, and squares of how far they are, but for the query's length."""
        block = (real[start : start + _ROWS_AT_ONCE] - centre).astype(np.float32, copy=False)
        distances = product(points[some], block.T)
        distances *= -2
        distances += np.einsum("nd,nd->n", block, block)
        own = themselves[some] - start
        here, every = np.flatnonzero((own >= 0) & (own < len(block))), np.arange(len(own))
        distances[here, own[here]] = np.inf
        places = np.empty((len(own), min(k, len(block))), dtype=np.int64)
        lengths = np.empty(places.shape, dtype=np.float32)
        for j in range(places.shape[1]):  # faster than a partition for a few
            places[:, j] = distances.argmin(axis=1)
            lengths[:, j] = distances[every, places[:, j]]
            distances[every, places[:, j]] = np.inf
        return lengths, start + places

    found = []
    for first in range(0, len(points), _QUERIES_AT_ONCE):
        some = slice(first, first + _QUERIES_AT_ONCE)
        parts = each(functools.partial(among, some), range(0, len(real), _ROWS_AT_ONCE))
        lengths, rows = (np.hstack(part) for part in zip(*parts, strict=True))
        found.append(np.take_along_axis(rows, lengths.argsort(axis=1, kind="stable")[:, :k], axis=1))
    return np.concatenate(found)
