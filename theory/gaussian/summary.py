"""How far a guided law is from the class it should sample: one summary for every predictor.

*Overshoot* is the mean's shift along (class mean - global mean), in units of that distance; ratios compare the
generated variance with the class's own. No distortion: shift and overshoot 0, ratios 1, log-ratio 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..integrate import Array, ScheduleLike
from ..mean_shift import overshoot
from .pair import Moments, Pair, moments

__all__ = ["Distortion", "compare", "distortion"]


@dataclass(frozen=True)
class Distortion(Moments):
    """Guided moments beside the class's own.

    Args:
        mean: (d,) guided mean per direction.
        var: (d,) guided variance per direction.
        overshoot: shift of the mean along (class mean - global mean), in units of that distance; nan where the two
            means are equal.
        mean_shift: Euclidean distance of guided and class mean, in the data's units.
        trace_ratio: total guided variance over total class variance.
        log_det_ratio: log-determinant of the guided covariance minus the class's, natural log, summed over directions.
        variance_ratio: (d,) guided over class variance per direction; for covariances that do not commute the
            eigenvalues of ``C^-1 S``, increasing.

    Examples:
        >>> from kdist.theory import GaussianPair, distortion
        >>> pair = GaussianPair([1.0, 0.5], [0.3, 0.6], 0.0, 1.0)  # two directions
        >>> found = distortion(pair, 2.0, sigma_max=80)
        >>> print(round(found.trace_ratio, 2), round(found.overshoot, 2))
        0.5 0.48
    """

    overshoot: float
    mean_shift: float
    trace_ratio: float
    log_det_ratio: float
    variance_ratio: Array = field(repr=False)

    def __str__(self) -> str:
        ratio = np.sort(self.variance_ratio)
        return (
            f"trace ratio {self.trace_ratio:.3f}, overshoot {self.overshoot:+.3f}, "
            f"log-det ratio {self.log_det_ratio:+.3f} ({self.log_det_ratio / len(ratio):+.3f} per direction), "
            f"variance ratio {ratio[0]:.3f} to {ratio[-1]:.3f} (median {np.median(ratio):.3f}) over {len(ratio)} "
            "directions"
        )


def distortion(
    pair: Pair,
    schedule: ScheduleLike,
    *,
    sigma_max: float,
    sigma_min: float = 0.0,
    noise: float = 0.0,
) -> Distortion:
    """What ``schedule`` does to the class: :func:`moments` compared with the class's own law.

    With ``sigma_min > 0`` the noise that is left counts as part of the generated variance.

    Args and errors: as for :func:`kdist.theory.moments`.

    Examples:
        >>> from kdist.theory import GaussianPair, distortion
        >>> pair = GaussianPair([1.0, 0.5], [0.3, 0.6], 0.0, 1.0)  # two directions
        >>> print(round(distortion(pair, 2.0, sigma_max=80).trace_ratio, 2))
        0.5
    """
    return compare(pair, moments(pair, schedule, sigma_max=sigma_max, sigma_min=sigma_min, noise=noise))


def compare(pair: Pair, law: Moments) -> Distortion:
    """Any predicted or measured ``law`` of ``pair``'s class beside the class itself.

    Examples:
        >>> from kdist.theory import GaussianPair, compare, moments
        >>> pair = GaussianPair([1.0, 0.5], [0.3, 0.6], 0.0, 1.0)  # two directions
        >>> print(round(compare(pair, moments(pair, 2.0, sigma_max=80)).overshoot, 2))
        0.48
    """
    ratio = pair.variance_ratio(law)
    return Distortion(
        law.mean,
        law.var,
        float(overshoot(law.mean, pair.cond_mean, pair.uncond_mean)),
        float(np.linalg.norm(law.mean - pair.cond_mean)),
        float(law.var.sum()) / pair.total_variance,
        float(np.log(ratio).sum()),
        ratio,
    )
