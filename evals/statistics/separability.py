"""How far apart the classes are: scatter ratio, classifier, nearest neighbours.

Scatter ratio: ``J = B / W``, ``B = mean_k |m_k - mean_j m_j|^2`` and ``W = mean_k tr S_k``, each class counting the
same. Estimated class means scatter by their own noise too, ``(1 - 1/K) mean_k tr S_k / n_k``, which is subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy import special, stats

from .estimate import NAN, Estimate, exp

__all__ = ["between_scatter", "class_probabilities", "neighbour_accuracies", "proportion", "scatter_ratio"]

_DISTANCES_AT_ONCE = 1 << 24  # 64 MB in float32


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
    """
    each, places = max(1, most // len(real_rows)), torch.arange(len(real_rows))
    classes = torch.empty(len(real), dtype=torch.int64)
    for k, rows in enumerate(real_rows):
        classes[torch.from_numpy(rows)] = k
    samples, themselves, own = [], [], []
    for features, by_class in sets:
        chosen = [generator.permutation(rows)[:each] for rows in by_class]
        index = np.concatenate(chosen)
        samples.append(features[index])
        themselves.append(index if features is real else np.full(len(index), -1))
        own.append(places.repeat_interleave(torch.tensor([len(rows) for rows in chosen])))
    k = min(neighbours, len(real) - any(features is real for features, _ in sets))
    found = classes[_nearest(np.concatenate(samples), real, k, np.concatenate(themselves))]
    # votes; the earlier neighbour weighs slightly more, which only decides ties
    weights = 1 - torch.arange(k, dtype=torch.float64) / (2 * k**2)
    shares = []
    for labels, nearest in zip(own, found.split([len(labels) for labels in own]), strict=True):
        votes = torch.zeros(len(labels), len(real_rows), dtype=torch.float64)
        votes.scatter_add_(1, nearest, weights.expand(len(nearest), k))
        shares.append(proportion(int((votes.argmax(dim=1) == labels).sum()), len(labels), confidence=confidence))
    return shares


def _nearest(queries: np.ndarray, real: np.ndarray, k: int, themselves: np.ndarray) -> torch.Tensor:
    """(n, k) rows of ``real`` nearest to each query, the nearest first; never the row that a query itself is (or -1).

    In float32 about a common centre: ranks of neighbours need no more.
    """
    centre = real.mean(axis=0, dtype=np.float64).astype(real.dtype)
    points = torch.from_numpy(queries - centre).float()
    lengths, found = torch.full((len(points), 0), torch.inf), torch.zeros(len(points), 0, dtype=torch.int64)
    step = max(k, _DISTANCES_AT_ONCE // len(points))
    for start in range(0, len(real), step):
        block = torch.from_numpy(real[start : start + step] - centre).float()
        distances = torch.addmm(block.square().sum(dim=1), points, block.T, alpha=-2)  # but for the query's length
        here = np.flatnonzero((themselves >= start) & (themselves < start + len(block)))
        distances[torch.from_numpy(here), torch.from_numpy(themselves[here] - start)] = torch.inf
        near, places = distances.topk(min(k, len(block)), dim=1, largest=False)
        lengths, found = torch.cat([lengths, near], dim=1), torch.cat([found, start + places], dim=1)
        lengths, order = lengths.topk(min(k, lengths.shape[1]), dim=1, largest=False)
        found = found.gather(1, order)
    return found
