"""A design checked against the network it was made for: one short guided run, and a refusal where they disagree.

A design from an exact model of the data knows the network by two numbers only. Whether these were enough shows in a run
of some twenty samples per class: its trace ratio and overshoot, averaged over classes, against the promised ones, with
standard errors by resampling the samples within their classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..gaussian.estimate import labelled
from ..integrate import Array
from ..mean_shift import overshoot
from .separated import MixtureDesign

__all__ = ["DesignMismatch", "VerifiedDesign", "verify_design"]

_RESAMPLES = 200


class DesignMismatch(ValueError):
    """The network does not do what a design promised; the message has both.

    Examples:
        >>> import torch
        >>> from kdist import digits
        >>> from kdist.theory import DesignMismatch, GaussianMixtureDenoiser, design_on_mixture, verify_design
        >>> _ = torch.manual_seed(0)
        >>> mixture = GaussianMixtureDenoiser(means=[[-1.0, 0.0], [1.0, 0.0]], covariances=0.2)
        >>> grid = {"scales": [2], "switches": [0.5], "early": [0.5], "accuracy_loss": 0.1}  # one candidate, for speed
        >>> found = design_on_mixture(mixture, digits.sigmas(10), **grid)
        >>> y = torch.arange(2).repeat(200)
        >>> real = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])[y] + 0.2**0.5 * torch.randn(400, 2)
        >>> try:
        ...     verify_design(found, real / 10, y, real, y)  # samples that have shrunk
        ... except DesignMismatch as error:
        ...     print("not what was promised")
        not what was promised
    """


@dataclass(frozen=True)
class VerifiedDesign:
    """What the network did under a design, averaged over classes.

    Attributes:
        trace_ratio, overshoot: total variance over the real one (geometric mean), and of the class means.
        log_trace_error, overshoot_error: standard errors of the log of the one and of the other.

    Examples:
        >>> from kdist.theory import VerifiedDesign
        >>> found = VerifiedDesign(trace_ratio=0.98, overshoot=0.03, log_trace_error=0.02, overshoot_error=0.01)
        >>> found.trace_ratio  # verify_design makes it
        0.98
    """

    trace_ratio: float
    overshoot: float
    log_trace_error: float
    overshoot_error: float


def verify_design(
    design: MixtureDesign,
    samples: Any,
    labels: Any,
    real: Any,
    real_labels: Any,
    *,
    tolerance: float = 0.1,
    seed: int = 0,
) -> VerifiedDesign:
    """Hold a guided run of the network against what ``design`` promised.

    Args:
        design: The design, as :func:`kdist.theory.design_on_mixture` gave it.
        samples: (N, ...) the network's samples under ``design.schedule``, 20 of each class or more.
        labels: (N,) their classes, every one of ``real_labels``.
        real: (M, ...) the data that the design was made from.
        real_labels: (M,) their classes.
        tolerance: Largest miss of log trace ratio and overshoot that passes, beside two standard errors.
        seed: Seed of the resampling.

    Raises:
        DesignMismatch: they miss by more.
        ValueError: arrays that do not fit, a class with fewer than 4 samples.

    Examples:
        >>> import torch
        >>> from kdist import digits, guide
        >>> from kdist.solvers import sample
        >>> from kdist.theory import GaussianMixtureDenoiser, design_on_mixture, verify_design
        >>> _ = torch.manual_seed(0)
        >>> mixture = GaussianMixtureDenoiser(means=[[-1.0, 0.0], [1.0, 0.0]], covariances=0.2)
        >>> grid = {"scales": [2], "switches": [0.5], "early": [0.5], "accuracy_loss": 0.1}  # one candidate, for speed
        >>> found = design_on_mixture(mixture, digits.sigmas(10), **grid)
        >>> y = torch.arange(2).repeat(200)
        >>> real = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])[y] + 0.2**0.5 * torch.randn(400, 2)
        >>> guided = guide(mixture, found.schedule, uncond={"class_cond": 2})
        >>> x = sample("dpmpp_2m", guided, torch.randn(400, 2) * 20, digits.sigmas(10), extra_args={"class_cond": y})
        >>> print(round(verify_design(found, x, y, real, y).trace_ratio, 1))
        0.9
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance is a distance and cannot be negative; got {tolerance}")
    x, y = labelled(samples, labels)
    data, classes = labelled(real, real_labels)
    if x.shape[1] != data.shape[1]:
        raise ValueError(f"samples have {x.shape[1]} numbers each, the real data {data.shape[1]}")
    names = np.unique(classes)
    few = [name for name in names if (y == name).sum() < 4]
    if few or not np.isin(y, names).all():
        wrong = few or sorted(set(y.tolist()) - set(names.tolist()))
        raise ValueError(
            f"samples must hold at least 4 of every real class and of no other; look at class {wrong[0]!r}"
        )
    groups, laws = [x[y == name] for name in names], [data[classes == name] for name in names]
    rng = np.random.default_rng(seed)
    value = _moments(groups, laws, data.mean(0))
    resampled = [
        _moments([own[rng.integers(len(own), size=len(own))] for own in groups], laws, data.mean(0))
        for _ in range(_RESAMPLES)
    ]
    error = np.std(resampled, axis=0, ddof=1)
    found = VerifiedDesign(math.exp(value[0]), float(value[1]), float(error[0]), float(error[1]))
    missed = np.abs(value - [math.log(design.trace_ratio), design.overshoot])
    if (missed > tolerance + 2 * error).any():
        raise DesignMismatch(
            f"the design does not hold on this network: promised variance {design.trace_ratio:.2f} of real and "
            f"overshoot {design.overshoot:+.2f}, measured {found.trace_ratio:.2f} and {found.overshoot:+.2f} (standard "
            f"errors {found.trace_ratio * found.log_trace_error:.2f} and {found.overshoot_error:.2f}). Search on the "
            "network itself: kdist tune"
        )
    return found


def _moments(groups: list[Array], laws: list[Array], centre: Array) -> Array:
    """Mean log trace ratio and overshoot."""
    pairs = [
        (math.log(own.var(0, ddof=1).sum() / law.var(0, ddof=1).sum()), overshoot(own.mean(0), law.mean(0), centre))
        for own, law in zip(groups, laws, strict=True)
    ]
    return np.mean(pairs, axis=0)
