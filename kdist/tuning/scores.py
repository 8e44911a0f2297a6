"""What is measured on samples of a candidate: per sample, so that blocks of samples can be joined and paired.

For sample ``x_i`` of a class with real samples ``y`` (mean ``m``, total variance ``v``, mean distance ``u`` of two):

    to_real_i = mean_j |x_i - y_j| / u            own_i    = mean_{j != i} |x_i - x_j| / u
    shift_i   = mean_{j != i} (x_i - m).(x_j - m) / v      spread_i = mean_{j != i} |x_i - x_j|^2 / 2v

with j over the samples of the same class and block. Their means are unbiased: ``2 to_real - own - 1`` is the energy
distance of :func:`kdist.evals.statistics.energy.energy_distance`, ``shift`` the squared displacement of the class mean,
``spread`` the variance kept; all three in units of the real class, classes counting the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist

__all__ = ["Columns", "Reference", "Value", "correctness", "influence", "join", "pixels", "values"]

Columns = Mapping[str, np.ndarray]  # (n,) float64 each
_COLUMNS = ("to_real", "own", "effect", "excess", "shift", "spread", "near", "far", "within")


@dataclass(frozen=True)
class Value:
    """A mean over samples and its standard error."""

    value: float
    error: float

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """The normal 95 % interval."""
        return self.value - z * self.error, self.value + z * self.error


class Reference:
    """What samples are compared with: the features of each class's real samples.

    Args:
        features: (N, d) float64.
        labels: N labels.
        classes: the labels to compare, each with at least two samples.

    Raises:
        ValueError: a class without two different samples.
    """

    def __init__(self, features: np.ndarray, labels: Sequence[Any], classes: Sequence[Any]) -> None:
        from kdist.evals.statistics.energy import distance_sums

        labels_ = np.asarray(labels)
        self.residuals: dict[Any, np.ndarray] = {}
        self._mean: dict[Any, np.ndarray] = {}
        self._variance: dict[Any, float] = {}
        self._distance: dict[Any, float] = {}
        self.centre = features.mean(axis=0)
        for class_ in classes:
            own = features[labels_ == class_]
            if len(own) < 2:
                raise ValueError(f"real: class {class_!r} has {len(own)} samples; at least 2 are needed")
            self._mean[class_] = own.mean(axis=0)
            self.residuals[class_] = own = own - self._mean[class_]
            self._variance[class_] = float(own.var(axis=0, ddof=1).sum())
            self._distance[class_] = float(distance_sums(own, own)[0].sum() / (len(own) * (len(own) - 1)))
            if not self._distance[class_] > 1e-7 * np.linalg.norm(self._mean[class_]):  # the rounding of float32
                raise ValueError(f"real: all samples of class {class_!r} are the same")

    def columns(self, features: np.ndarray, labels: Sequence[Any]) -> dict[str, np.ndarray]:
        """The per-sample numbers of one block: (n,) ``to_real``, ``own``, ``shift``, ``spread``, ``near``, ``far``,
        ``within``, and ``class``, the class's number.

        ``near`` and ``far`` are products with samples of the same and of the other classes, about the real centre:
        their means give the scatter between classes; ``within`` is ``spread`` in units of the features.
        """
        from kdist.evals.statistics.energy import distance_sums

        labels_ = np.asarray(labels)
        result = {name: np.zeros(len(features)) for name in ("class", *_COLUMNS)}
        products = (features - self.centre) @ (features - self.centre).T
        for number, (class_, real) in enumerate(self.residuals.items()):
            rows = np.flatnonzero(labels_ == class_)
            result["class"][rows] = number
            n, x, own = len(rows), features[rows], products[np.ix_(rows, rows)]
            distances, squares = cdist(x, x), np.diag(own)[:, None] + np.diag(own)[None] - 2 * own
            from_mean = x - self._mean[class_]
            shift = (from_mean @ from_mean.sum(axis=0) - np.einsum("nd,nd->n", from_mean, from_mean)) / (n - 1)
            result["to_real"][rows] = distance_sums(from_mean, real)[0] / len(real) / self._distance[class_]
            result["own"][rows] = distances.sum(axis=1) / (n - 1) / self._distance[class_]
            result["effect"][rows], result["excess"][rows] = _effect(
                result["to_real"][rows], distances / self._distance[class_]
            )
            # the real mean's own scatter, 1 / n in units of the variance, is no displacement
            result["shift"][rows] = shift / self._variance[class_] - 1 / len(real)
            result["within"][rows] = squares.sum(axis=1) / (2 * (n - 1))
            result["spread"][rows] = result["within"][rows] / self._variance[class_]
            result["near"][rows] = (own.sum(axis=1) - np.diag(own)) / (n - 1)
            if n < len(features):
                result["far"][rows] = (products[rows].sum(axis=1) - own.sum(axis=1)) / (len(features) - n)
        return result


def _effect(to_real: np.ndarray, distances: np.ndarray) -> tuple[np.ndarray, float]:
    """How much each of n samples moves the energy distance, such that the mean square over n is its variance, and what
    to subtract from that mean square.

    A distance of two is ``m + g_i + g_j + e_ij``. The ``g`` are known from the rows' means; what the ``e`` add to the
    rows' scatter is more than what they add to the mean of all, ``2 Var(e) / n(n-1)`` (Hoeffding, 1948), and at five
    samples close to the real ones they are all there is.
    """
    n = len(distances)
    own = distances.sum(axis=1) / (n - 1)
    g = own - own.mean()
    if n < 4:  # too few to tell them apart
        return 2 * (to_real - to_real.mean() - g), 0.0
    g *= (n - 1) / (n - 2)
    rest = distances - own.mean() - g[:, None] - g[None]
    np.fill_diagonal(rest, 0)
    squares = np.square(rest).sum() / (n * (n - 3))
    effect = 2 * (to_real - to_real.mean() - g) * math.sqrt(n / (n - 1))
    return effect, float(2 * n * squares / ((n - 1) * (n - 2)))


def correctness(judged: Any, labels: Sequence[Any], classes: Sequence[Any]) -> np.ndarray:
    """(n,) 1 where the judge names the label asked for, else 0.

    Args:
        judged: (n,) labels, or (n, K) scores or probabilities with columns in the order of ``classes``.

    Raises:
        ValueError: another shape.
    """
    judged = judged.detach().cpu().numpy() if isinstance(judged, torch.Tensor) else np.asarray(judged)
    if judged.ndim == 2 and judged.shape == (len(labels), len(classes)):
        judged = np.array(list(classes))[judged.argmax(axis=1)]
    if judged.shape != (len(labels),):
        raise ValueError(
            f"judge must give labels of shape ({len(labels)},) or probabilities of shape ({len(labels)}, "
            f"{len(classes)}), columns in the order of labels; got {judged.shape}"
        )
    return (judged == np.asarray(list(labels))).astype(np.float64)


def join(blocks: Sequence[Columns]) -> dict[str, np.ndarray]:
    """Blocks of one candidate as one."""
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def values(columns: Columns) -> dict[str, Value]:
    """Every statistic of a candidate with its standard error; ``class`` numbers the classes, which are fixed strata."""
    effects = influence(columns)
    found = {
        "distance": _distance(columns),
        "displacement": _mean(columns["shift"], 2 * within_class(columns, "shift")),
        "variance": _mean(columns["spread"], 2 * within_class(columns, "spread")),
        "separability": _separability(columns),
    }
    for name in ("accuracy", "alignment"):
        if name in columns:
            found[name] = _mean(columns[name], effects[name])
    return found


def influence(columns: Columns) -> dict[str, np.ndarray]:
    """How much each sample moves a mean, about its class: what paired comparisons subtract sample by sample."""
    found = {name: within_class(columns, name) for name in ("accuracy", "alignment") if name in columns}
    return {"distance": columns["effect"], **found}


def within_class(columns: Columns, name: str) -> np.ndarray:
    """A column without its classes' means."""
    number = columns["class"].astype(int)
    sums = np.bincount(number, columns[name])
    return columns[name] - (sums / np.maximum(np.bincount(number), 1))[number]


def _distance(columns: Columns) -> Value:
    squares = np.square(columns["effect"])
    variance = max(float((squares - columns["excess"]).mean()), 0.1 * float(squares.mean()))
    return Value(float((2 * columns["to_real"] - columns["own"] - 1).mean()), math.sqrt(variance / len(squares)))


def _separability(columns: Columns) -> Value:
    """Scatter between the classes over scatter within (``evals.statistics.separability``), by the delta method."""
    classes = len(np.unique(columns["class"]))
    if classes < 2:
        return Value(math.nan, math.nan)
    factor = 1 - 1 / classes
    between, within = factor * (columns["near"].mean() - columns["far"].mean()), columns["within"].mean()
    effect = 2 * factor * (within_class(columns, "near") - within_class(columns, "far")) / within
    return Value(
        float(between / within), _mean(effect, effect - 2 * between / within**2 * within_class(columns, "within")).error
    )


def _mean(sample: np.ndarray, effect: np.ndarray) -> Value:
    return Value(float(sample.mean()), float(effect.std(ddof=1) / math.sqrt(len(effect))))


def pixels(real: torch.Tensor, components: int = 40) -> Callable[[torch.Tensor], np.ndarray]:
    """Images as numbers: as they are up to 64, else their first principal components among the real images."""
    flat = real.flatten(1).double().numpy()
    if flat.shape[1] <= 64:
        return lambda images: images.flatten(1).double().numpy()
    centre = flat.mean(axis=0)
    _, vectors = np.linalg.eigh((flat - centre).T @ (flat - centre))
    axes = vectors[:, ::-1][:, :components]
    return lambda images: (images.flatten(1).double().numpy() - centre) @ axes
