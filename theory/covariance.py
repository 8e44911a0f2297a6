"""Covariances from few samples: scikit-learn's estimators, all with divisor n - 1."""

from __future__ import annotations

from typing import Literal

import numpy as np

from .integrate import Array

__all__ = ["Shrinkage", "covariance"]

Shrinkage = Literal["ledoit_wolf", "oas"]
_ESTIMATORS = ("ledoit_wolf", "oas")


def covariance(x: Array, shrinkage: Shrinkage | str | float | None = None) -> Array:
    """Covariance (d, d) of the rows of ``x`` (n, d), shrunk towards a multiple of the identity.

    Args:
        shrinkage: None: not at all. ``ledoit_wolf`` (Ledoit & Wolf 2004) or ``oas`` (Chen et al. 2010): as much as
            these find right. A number in [0, 1]: that much. For another target whiten with it
            first (:func:`kdist.theory.gaussian.estimate.class_and_pooled`).

    Raises:
        ValueError: an unknown shrinkage.
        ImportError: scikit-learn is missing.
    """
    plain = np.atleast_2d(np.cov(x, rowvar=False))
    if shrinkage is None:
        return plain
    known = shrinkage in _ESTIMATORS if isinstance(shrinkage, str) else 0 <= shrinkage <= 1
    if not known:
        raise ValueError(
            f"shrinkage must be None, {', '.join(map(repr, _ESTIMATORS))} or a number in [0, 1]; got {shrinkage!r}"
        )
    try:
        import sklearn.covariance
    except ImportError as error:
        raise ImportError("shrinkage needs scikit-learn: pip install 'kdist[evals]', or shrinkage=None") from error
    if isinstance(shrinkage, str):
        # they divide by n
        return getattr(sklearn.covariance, shrinkage)(x)[0] * (len(x) / (len(x) - 1))
    return sklearn.covariance.shrunk_covariance(plain, shrinkage)
