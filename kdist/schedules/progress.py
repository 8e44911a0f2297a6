"""Fractions of a run and the noise levels that they mean, for a given grid of sigmas.

Papers and other tools place guidance "after 60 % of the steps"; schedules here live in sigma, which is right for
every solver and step count. These two convert, exactly at the grid's nodes and log-linearly in between.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch

__all__ = ["progress_to_sigma", "sigma_to_progress"]


def _levels(sigmas: Sequence[float] | torch.Tensor) -> list[float]:
    levels = [float(s) for s in sigmas]
    if len(levels) < 2 or any(low >= high for high, low in itertools.pairwise(levels)) or levels[-1] < 0:
        raise ValueError("sigmas must be at least two noise levels, strictly decreasing and not negative")
    return levels


def progress_to_sigma(progress: float, sigmas: Sequence[float] | torch.Tensor) -> float:
    """The noise level after the fraction ``progress`` (0 start, 1 end) of the steps over ``sigmas``.

    Raises:
        ValueError: ``progress`` outside [0, 1], or sigmas that do not decrease.

    Examples:
        >>> import kdist
        >>> from kdist import digits
        >>> round(kdist.progress_to_sigma(0.6, digits.sigmas(20)), 2)
        0.59
    """
    levels = _levels(sigmas)
    if not 0 <= progress <= 1:
        raise ValueError(f"progress is a fraction of the run, 0 to 1; got {progress}")
    position = progress * (len(levels) - 1)
    index = min(int(position), len(levels) - 2)
    part, high, low = position - index, levels[index], levels[index + 1]
    if part == 0 or part == 1:
        return low if part else high
    if low == 0:  # the last step ends at no noise at all: no logarithm there
        return high * (1 - part)
    return math.exp((1 - part) * math.log(high) + part * math.log(low))


def sigma_to_progress(sigma: float, sigmas: Sequence[float] | torch.Tensor) -> float:
    """The fraction of the steps after which a run over ``sigmas`` is at ``sigma`` (0 above the grid, 1 below).

    Examples:
        >>> import kdist
        >>> from kdist import digits
        >>> round(kdist.sigma_to_progress(1.0, digits.sigmas(20)), 2)
        0.53
    """
    levels = _levels(sigmas)
    if not 0 <= sigma < math.inf:
        raise ValueError(f"sigma must be finite and not negative; got {sigma}")
    if sigma >= levels[0]:
        return 0.0
    steps = len(levels) - 1
    for index, (high, low) in enumerate(itertools.pairwise(levels)):
        if sigma >= low:
            part = (high - sigma) / (high - low) if low == 0 else math.log(high / sigma) / math.log(high / low)
            return (index + part) / steps
    return 1.0
