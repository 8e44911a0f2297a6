"""How far apart the classes are: scatter ratio, classifier, nearest neighbours.

Scatter ratio: ``J = B / W``, ``B = mean_k |m_k - mean_j m_j|^2`` and ``W = mean_k tr S_k``, each class counting the
same. Estimated class means scatter by their own noise too, ``(1 - 1/K) mean_k tr S_k / n_k``, which is subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from .estimates import NAN, Estimate

__all__ = ["class_probabilities", "proportion", "scatter_ratio"]


def scatter_ratio(
    features: np.ndarray, rows: Sequence[np.ndarray], means: np.ndarray, *, confidence: float
) -> Estimate:
    """Between-class over within-class scatter, unbiased in numerator and denominator.

    The interval is the delta method's on the log scale, from the influence of each sample on B and W.

    Args:
        features: (N, d).
        rows: for each of the K classes, the rows of ``features`` that hold it.
        means: (K, d) float64 class means.
        confidence: of the interval.
    """
    if len(rows) < 2:
        return Estimate(NAN)
    count = len(rows)
    centre = means.mean(axis=0)
    traces, noise, effects = np.empty(count), np.empty(count), []
    for k, index in enumerate(rows):
        residuals = features[index] - means[k]
        squares = np.einsum("nd,nd->n", residuals, residuals)
        traces[k] = squares.sum() / (len(index) - 1)
        noise[k] = traces[k] / len(index)
        effects.append((2 * (residuals @ (means[k] - centre)), squares - squares.mean()))
    between = ((means - centre) ** 2).sum() / count - (1 - 1 / count) * noise.mean()
    within = traces.mean()
    if between <= 0 or within <= 0:
        return Estimate(NAN)
    variance = sum((b / between - w / within).var(ddof=1) / len(b) for b, w in effects) / count**2
    factor = math.exp(stats.norm.ppf((1 + confidence) / 2) * math.sqrt(variance))
    ratio = between / within
    return Estimate(ratio, (ratio / factor, ratio * factor))


def proportion(hits: int, total: int, *, confidence: float) -> Estimate:
    """A share with Wilson's interval (Wilson, JASA 22, 1927), which stays inside [0, 1]."""
    interval = stats.binomtest(int(hits), int(total)).proportion_ci(confidence, method="wilson")
    return Estimate(hits / total, (interval.low, interval.high))


def class_probabilities(
    name: str, predictions: np.ndarray, labels: np.ndarray, order: Sequence[object]
) -> tuple[np.ndarray, np.ndarray | None]:
    """``(correct, confidence)`` of each sample from a classifier's output.

    Args:
        name: of the argument, for errors.
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
