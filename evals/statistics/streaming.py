"""Per-class moments in float64 for features that do not fit in memory, mergeable across processes and machines.

Count, mean and summed squared deviation of each class, with the d x d scatter of all samples when asked, updated batch
by batch. Merging is that of Chan, Golub and LeVeque (The American Statistician 37, 1983),

    M = M1 + M2 + n1 n2 / (n1 + n2) |m1 - m2|^2,

so that any split of the data over batches and processes gives the same moments up to rounding.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from .frechet import Frechet, frechet_from_moments
from .inputs import as_features, as_labels
from .moments import overshoot_parts
from .products import scatter_matrix
from .separability import between_scatter

__all__ = ["ClassMoments", "MomentDistortion", "compare_moments"]


class ClassMoments:
    """Streaming moments of K classes of d-dimensional features.

    Attributes:
        counts: (K,) int64.
        means: (K, d) float64; 0 for a class not seen yet.
        deviations: (K,) float64, summed squared distance of a class's samples to their mean.
        total_mean: (d,) float64 mean of all samples, and
        total_scatter: (d, d) float64 their scatter about it; None unless ``covariance=True``.

    Examples:
        >>> import numpy as np
        >>> from kdist.evals import ClassMoments
        >>> rng = np.random.default_rng(0)
        >>> y = np.arange(2).repeat(100)
        >>> real, fake = rng.normal(y[:, None], 1.0, (200, 4)), rng.normal(y[:, None], 0.8, (200, 4))
        >>> moments = ClassMoments(num_classes=2, dimension=4)
        >>> for part in (slice(0, 150), slice(150, 200)):
        ...     moments = moments.update(real[part], y[part])
        >>> moments.counts
        array([100, 100])
    """

    def __init__(self, num_classes: int, dimension: int, *, covariance: bool = False) -> None:
        if num_classes < 1 or dimension < 1:
            raise ValueError(f"num_classes and dimension must be positive; got {num_classes} and {dimension}")
        self.counts = np.zeros(num_classes, dtype=np.int64)
        self.means = np.zeros((num_classes, dimension))
        self.deviations = np.zeros(num_classes)
        self.total_mean = np.zeros(dimension)
        self.total_scatter = np.zeros((dimension, dimension)) if covariance else None

    def update(self, features: Any, labels: Any) -> ClassMoments:
        """Add a batch: (n, d) features and (n,) whole-number labels in 0..K-1. Returns itself.

        Raises:
            ValueError: shapes that do not fit, labels out of range, non-finite features.
        """
        features = as_features("features", features)
        if features.shape[1] != self.means.shape[1]:
            raise ValueError(f"features must have width {self.means.shape[1]}; got {features.shape[1]}")
        labels = as_labels("labels", labels, len(features))
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= len(self.counts):
            raise ValueError(f"labels must be whole numbers in 0..{len(self.counts) - 1}; got {np.unique(labels)[:5]}")
        batch = ClassMoments(*self.means.shape, covariance=self.total_scatter is not None)
        features = features.astype(np.float64)
        for k in np.unique(labels):
            rows = features[labels == k]
            batch.counts[k] = len(rows)
            batch.means[k] = rows.mean(axis=0)
            batch.deviations[k] = np.square(rows - batch.means[k]).sum()
        batch.total_mean = features.mean(axis=0)
        if batch.total_scatter is not None:
            centred = features - batch.total_mean
            batch.total_scatter = scatter_matrix(centred)
        return self.merge(batch)

    def merge(self, other: ClassMoments) -> ClassMoments:
        """Add the samples that ``other`` has seen. Returns itself.

        Raises:
            ValueError: different numbers of classes or widths, or only one of the two keeps covariances.
        """
        if self.means.shape != other.means.shape or (self.total_scatter is None) != (other.total_scatter is None):
            raise ValueError(
                f"moments must be of the same kind; got {self.means.shape} and {other.means.shape}, "
                f"covariance {self.total_scatter is not None} and {other.total_scatter is not None}"
            )
        seen, added = int(self.counts.sum()), int(other.counts.sum())
        if added:
            step = other.total_mean - self.total_mean
            self.total_mean = self.total_mean + step * (added / (seen + added))
            if self.total_scatter is not None and other.total_scatter is not None:
                correction = np.outer(step, step) * (seen * added / (seen + added))
                self.total_scatter = self.total_scatter + other.total_scatter + correction
        counts = self.counts + other.counts
        share = other.counts / np.maximum(counts, 1)
        difference = other.means - self.means
        self.deviations = self.deviations + other.deviations + self.counts * share * np.square(difference).sum(axis=1)
        self.means = self.means + share[:, None] * difference
        self.counts = counts
        return self

    def gather(self) -> ClassMoments:
        """The moments of all processes of the running ``torch.distributed`` group together, the same on each.

        Without a process group it is a copy of these. Merged in the order of the ranks.
        """
        parts: list[Any] = [self.to_dict()]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            parts = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, self.to_dict())
        result = ClassMoments(*self.means.shape, covariance=self.total_scatter is not None)
        for part in parts:
            result.merge(ClassMoments.from_dict(part))
        return result

    def to_dict(self) -> dict[str, np.ndarray]:
        """Arrays by name, as ``np.savez`` takes them."""
        arrays = {
            "counts": self.counts,
            "means": self.means,
            "deviations": self.deviations,
            "total_mean": self.total_mean,
        }
        return arrays if self.total_scatter is None else {**arrays, "total_scatter": self.total_scatter}

    @classmethod
    def from_dict(cls, arrays: dict[str, np.ndarray]) -> ClassMoments:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: unknown or missing names, shapes that do not fit, non-finite values.
        """
        if np.ndim(arrays.get("means", 0)) != 2:
            raise ValueError(f"means must be of shape (classes, dimension); got keys {', '.join(map(str, arrays))}")
        moments = cls(*np.shape(arrays["means"]), covariance="total_scatter" in arrays)
        expected = moments.to_dict()
        unknown, missing = arrays.keys() - expected.keys(), expected.keys() - arrays.keys()
        if unknown or missing:
            raise ValueError(
                f"moments must hold {', '.join(expected)} (total_scatter may be left out); "
                f"unknown: {', '.join(sorted(map(str, unknown))) or 'none'}, "
                f"missing: {', '.join(sorted(missing)) or 'none'}"
            )
        for name, array in arrays.items():
            value = np.array(array)
            if value.shape != expected[name].shape or value.dtype.kind not in "iuf" or not np.isfinite(value).all():
                raise ValueError(
                    f"{name} must be finite numbers of shape {expected[name].shape}; got {value.dtype} {value.shape}"
                )
            setattr(moments, name, value.astype(expected[name].dtype))
        return moments

    @property
    def traces(self) -> np.ndarray:
        """(K,) unbiased traces of the class covariances; nan below two samples."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.counts > 1, self.deviations / (self.counts - 1), np.nan)

    @property
    def covariance(self) -> np.ndarray:
        """(d, d) unbiased covariance of all samples together.

        Raises:
            ValueError: made without ``covariance=True``, or fewer than two samples seen.
        """
        if self.total_scatter is None:
            raise ValueError("these moments keep no covariance; make them with covariance=True")
        if self.counts.sum() < 2:
            raise ValueError(f"a covariance needs at least two samples; got {self.counts.sum()}")
        return self.total_scatter / (self.counts.sum() - 1)


@dataclasses.dataclass(frozen=True)
class MomentDistortion:
    """Point values from moments alone, with the definitions of :func:`~kdist.evals.measure`; arrays are (K,).

    Examples:
        >>> import numpy as np
        >>> from kdist.evals import ClassMoments, compare_moments
        >>> rng = np.random.default_rng(0)
        >>> y = np.arange(2).repeat(100)
        >>> real, fake = rng.normal(y[:, None], 1.0, (200, 4)), rng.normal(y[:, None], 0.8, (200, 4))
        >>> both = [ClassMoments(2, 4).update(x, y) for x in (real, fake)]
        >>> found = compare_moments(*both)
        >>> found.overshoot.shape
        (2,)
    """

    mean_shift: np.ndarray
    overshoot: np.ndarray
    orthogonal_shift: np.ndarray
    displacement: np.ndarray
    trace_ratio: np.ndarray
    separability_real: float
    separability: float
    frechet: Frechet | None


def compare_moments(real: ClassMoments, fake: ClassMoments) -> MomentDistortion:
    """Distortion from streamed moments: the values of :func:`~kdist.evals.measure` without intervals and floors.

    The orthogonal shift lacks the small correction that needs single samples; overshoot is nan only where the
    unbiased squared distance to the global mean is not positive.

    Raises:
        ValueError: different shapes, or a class with fewer than two samples on a side.

    Examples:
        >>> import numpy as np
        >>> from kdist.evals import ClassMoments, compare_moments
        >>> rng = np.random.default_rng(0)
        >>> y = np.arange(2).repeat(100)
        >>> real, fake = rng.normal(y[:, None], 1.0, (200, 4)), rng.normal(y[:, None], 0.8, (200, 4))
        >>> both = [ClassMoments(2, 4).update(x, y) for x in (real, fake)]
        >>> compare_moments(*both).trace_ratio.round(1)
        array([0.6, 0.6])
    """
    if real.means.shape != fake.means.shape:
        raise ValueError(
            f"real and fake must have the same classes and width; got {real.means.shape} and {fake.means.shape}"
        )
    for side, moments in (("real", real), ("fake", fake)):
        few = np.flatnonzero(moments.counts < 2)
        if len(few):
            raise ValueError(
                f"a class's variance needs at least two samples; {side} has {moments.counts[few[0]]} of class {few[0]}"
                + (f" and too few of {len(few) - 1} more" if len(few) > 1 else "")
            )
    real_noise, fake_noise = real.traces / real.counts, fake.traces / fake.counts
    weights = real.counts / real.counts.sum()
    shift, from_global = fake.means - real.means, real.means - weights @ real.means
    shift_squared = np.square(shift).sum(axis=1) - real_noise - fake_noise
    plain = (shift * from_global).sum(axis=1), np.square(from_global).sum(axis=1)
    along, distance = overshoot_parts(*plain, real_noise, weights, float(weights**2 @ real_noise))
    distance = np.where(distance > 0, distance, np.nan)
    overshoot = along / distance
    return MomentDistortion(
        mean_shift=np.sqrt(np.maximum(shift_squared, 0) / real.traces),
        overshoot=overshoot,
        orthogonal_shift=np.sqrt(np.maximum(shift_squared / distance - overshoot**2, 0)),
        displacement=np.sqrt(np.maximum(shift_squared / distance, 0)),
        trace_ratio=fake.traces / real.traces,
        separability_real=_scatter_ratio(real),
        separability=_scatter_ratio(fake),
        frechet=None
        if real.total_scatter is None or fake.total_scatter is None
        else frechet_from_moments(real.total_mean, real.covariance, fake.total_mean, fake.covariance),
    )


def _scatter_ratio(moments: ClassMoments) -> float:
    if len(moments.counts) < 2:
        return float("nan")
    return between_scatter(moments.means, moments.traces / moments.counts) / float(moments.traces.mean())
