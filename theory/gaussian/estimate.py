"""Class and pooled covariance from labelled features, fit for few samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..covariance import covariance
from ..integrate import Array

__all__ = ["ClassLaw", "class_and_pooled", "labelled"]

_QUIET = 1e-3  # of the largest standard deviation: features below are taken as this wide


@dataclass(frozen=True)
class ClassLaw:
    """Mean (D,) and covariance (D, D) of a class and of all data."""

    cond_mean: Array
    cond_cov: Array
    uncond_mean: Array
    uncond_cov: Array


def labelled(features: Any, labels: Any) -> tuple[Array, Any]:
    """``features`` as (N, D) float64 and ``labels`` as (N,).

    Raises:
        ValueError: lengths that differ, no samples, or values that are not finite.
    """
    x, y = np.asarray(features, dtype=np.float64), np.asarray(labels)
    if x.ndim < 2 or not x.size:
        raise ValueError(f"features must be (N, ...) with N and D at least 1; got shape {x.shape}")
    if y.shape != (len(x),):
        raise ValueError(f"labels must be ({len(x)},), one for each row of features; got shape {y.shape}")
    x = x.reshape(len(x), -1)
    if not np.isfinite(x).all():
        rows = np.flatnonzero(~np.isfinite(x).all(1))
        raise ValueError(f"features must be finite; {len(rows)} rows are not, the first is row {rows[0]}")
    return x, y


def class_and_pooled(features: Any, labels: Any, class_: Any, *, shrinkage: str | None = "ledoit_wolf") -> ClassLaw:
    """Mean and covariance of class ``class_`` and of all data together.

    Shrinkage is scikit-learn's, but not towards the identity: the pooled covariance ``U`` is shrunk as a correlation
    matrix (features in units of their standard deviation), then the class is whitened with ``U`` and shrunk there,
    so that it moves towards a multiple of ``U``. Shrunk towards the identity, a class of few samples would come out
    wider than the whole in the quiet directions of the data, where it is not. A feature that hardly varies counts as
    having 1/1000 of the largest standard deviation.

    Args:
        features: (N, ...), flattened to (N, D).
        labels: (N,).
        class_: a value in ``labels``.
        shrinkage: ``ledoit_wolf`` (Ledoit & Wolf 2004), ``oas`` (Chen et al. 2010), or None: sample covariances with
            divisor ``n - 1``.

    Raises:
        ValueError: bad arrays, an unknown class or one with a single sample, an unknown shrinkage.
        ImportError: scikit-learn is missing.
    """
    x, y = labelled(features, labels)
    own = x[y == class_]
    if not len(own):
        known = ", ".join(map(str, np.unique(y)[:20]))
        raise ValueError(f"class {class_!r} is empty: no label equals it; there are {known}")
    if len(own) == 1:
        raise ValueError(f"class {class_!r} has one sample; a variance needs at least 2")
    if shrinkage is None:
        return ClassLaw(own.mean(0), covariance(own), x.mean(0), covariance(x))
    spread = x.std(0)
    if not spread.max() > 0:
        raise ValueError("features never vary: all rows are equal")
    spread = np.maximum(spread, _QUIET * spread.max())
    pooled = covariance(x / spread, shrinkage) * np.outer(spread, spread)
    variances, vectors = np.linalg.eigh(pooled)
    root = vectors * np.sqrt(variances)
    cond = covariance(own @ (vectors / np.sqrt(variances)), shrinkage)
    return ClassLaw(own.mean(0), root @ cond @ root.T, x.mean(0), pooled)
