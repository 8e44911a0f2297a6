"""Energy distance of a Gaussian class under guidance from the true class, in closed form (F3, F4).

The guided class is ``N(mu + delta s, r s**2)`` and the true one ``N(mu, s**2)``: ``delta`` is the displacement of the
mean in standard deviations of the class, ``r`` the variance ratio. As in :func:`kdist.evals.energy_distance` the
distance ``2 E|X - Y| - E|X - X'| - E|Y - Y'|`` is divided by ``E|Y - Y'|`` of the true class.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import erf

__all__ = ["in_many_dimensions", "in_one_dimension"]


def in_one_dimension(delta: Any, ratio: Any) -> Any:
    """One direction: ``E|Z|`` of a Gaussian is ``sd sqrt(2/pi) exp(-mean^2 / 2 sd^2) + mean erf(mean / sd sqrt 2)``."""
    delta, ratio = np.asarray(delta, float), np.asarray(ratio, float)
    spread = np.sqrt(1 + ratio)
    apart = delta / spread / math.sqrt(2)
    between = spread * math.sqrt(2 / math.pi) * np.exp(-(apart**2)) + delta * erf(apart)
    return between * math.sqrt(math.pi) - np.sqrt(ratio) - 1


def in_many_dimensions(delta: Any, ratio: Any) -> Any:
    """The limit of many equal directions, ``delta`` the displacement of each: all distances are their root mean square,
    ``E|X - Y| = sqrt(d) s sqrt(delta^2 + r + 1)``."""
    delta, ratio = np.asarray(delta, float), np.asarray(ratio, float)
    return np.sqrt(2 * (delta**2 + ratio + 1)) - np.sqrt(ratio) - 1
