"""Where a class's mean went: along the way from the middle of everything to the class."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

from .integrate import Array

__all__ = ["overshoot"]

Vectors = TypeVar("Vectors", Array, torch.Tensor)


def overshoot(mean: Vectors, class_mean: Vectors, centre: Vectors) -> Vectors:
    """The shift of ``mean`` from ``class_mean`` along (class mean - centre), in units of that distance.

    0 is undistorted, -1 the centre. No correction for the sampling error of ``mean`` is made; along one direction it is
    unbiased. nan where class mean and centre are the same point.

    Args:
        mean: (..., d) array or tensor; it broadcasts with the others.
        class_mean: (..., d) the undistorted mean of the class.
        centre: (..., d) the point from which overshoot is measured.

    Returns:
        (...).

    Examples:
        >>> import numpy as np
        >>> from kdist.theory import overshoot
        >>> mean, class_mean, centre = np.array([1.5, 0.0]), np.array([1.0, 0.0]), np.zeros(2)
        >>> float(overshoot(mean, class_mean, centre))
        0.5
    """
    gap = class_mean - centre
    with np.errstate(divide="ignore", invalid="ignore"):
        return ((mean - class_mean) * gap).sum(-1) / (gap * gap).sum(-1)
