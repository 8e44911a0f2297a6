"""Design for classes that can be told apart: begin without the class, on an exact model of the data.

One Gaussian pair per class (:mod:`kdist.theory.design`) has no class that takes over at some noise level. A mixture of
classes has one. There :class:`kdist.EarlyNegative` can keep the total variance of a class (docs/results.md, F5), which
says nothing about the rest of the law. Nothing is linear, so candidates are sampled from the exact mixture, which needs
no network, and judged against its known class laws. A network's own distortion without guidance is taken to multiply
(variance) and to add (overshoot): one unguided run of it, measured, is all that the design has to know. It need not be
enough: :func:`kdist.theory.verify_design` holds the design against a short run.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from kdist import Constant, EarlyNegative, Schedule, guide
from kdist.solvers import sample

from ..gaussian.finite_steps import solver_noise
from ..mean_shift import overshoot
from ..mixture import GaussianMixtureDenoiser
from .overlapping import InfeasibleDesign

__all__ = ["MixtureDesign", "design_on_mixture", "total_distortion"]

SCALES, EARLY = (2.0, 3.0, 4.0, 5.0, 6.0), (0.0, 0.25, 0.5)
SWITCHES = (0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6)  # of the distance between neighbouring class means
END, BLUR = 0.02, 0.5  # likewise: where guidance ends, and how blurred the classes are told apart


@dataclass(frozen=True)
class MixtureDesign:
    """A schedule, and what it is predicted to do to the classes, averaged over them.

    Attributes:
        schedule: the design.
        trace_ratio: total variance of a class over the real one.
        overshoot: How far class means lie away from the mean of everything, in units of their distance.
        accuracy: share of the mixture's own samples that are most likely in their class.
        accuracy_unguided: the same at scale 1.

    Examples:
        >>> from kdist import digits
        >>> from kdist.theory import GaussianMixtureDenoiser, design_on_mixture
        >>> mixture = GaussianMixtureDenoiser(means=[[-1.0, 0.0], [1.0, 0.0]], covariances=0.2)
        >>> grid = {"scales": [2], "switches": [0.5], "early": [0.5], "accuracy_loss": 0.1}  # one candidate, for speed
        >>> found = design_on_mixture(mixture, digits.sigmas(10), **grid)
        >>> print(round(found.trace_ratio, 1), round(found.accuracy, 1))
        0.8 1.0
    """

    schedule: Schedule
    trace_ratio: float
    overshoot: float
    accuracy: float
    accuracy_unguided: float

    @property
    def distortion(self) -> float:
        """What is made small, see :func:`total_distortion`."""
        return total_distortion(self.trace_ratio, self.overshoot)


def total_distortion(trace_ratio: float, overshoot: float) -> float:
    """Both in one number: a variance too wide is as wrong as one too narrow by the same factor, 0 is right."""
    return abs(math.log(trace_ratio)) + abs(overshoot)


def design_on_mixture(
    mixture: GaussianMixtureDenoiser,
    sigmas: torch.Tensor,
    *,
    unguided: tuple[float, float] = (1.0, 0.0),
    solver: str = "dpmpp_2m",
    scales: Sequence[float] = SCALES,
    switches: Sequence[float] | None = None,
    early: Sequence[float] = EARLY,
    accuracy_loss: float = 0.005,
    per_class: int = 60,
    seed: int = 0,
    on_run: Callable[[int, int], None] | None = None,
) -> MixtureDesign:
    """The :class:`kdist.EarlyNegative` schedule that distorts the classes least.

    Args:
        mixture: exact model of the data, such as ``GaussianMixtureDenoiser.fit(x, y)``.
        sigmas: (steps + 1,) noise levels of the run that is designed for.
        unguided: (trace ratio, overshoot) of your network at scale 1 with this solver, as ``kdist measure`` gives
            them; (1, 0) for a perfect one.
        solver: a k-diffusion solver without noise of its own.
        scales: Candidates for ``scale``.
        early: Candidates for ``early``.
        switches: candidates for ``sigma_switch``; None: parts of the median distance of a class mean to the next.
        accuracy_loss: how much lower than without guidance the accuracy among the mixture's samples may be.
        per_class: samples of each class for every candidate.
        seed: Seed of the noise, which is the same for all candidates.
        on_run: called with (candidates done, candidates).

    Raises:
        InfeasibleDesign: every candidate loses more samples to other classes.
        ValueError: an option out of range, an unknown solver or one with noise.

    Examples:
        >>> from kdist import digits
        >>> from kdist.theory import GaussianMixtureDenoiser, design_on_mixture
        >>> mixture = GaussianMixtureDenoiser(means=[[-1.0, 0.0], [1.0, 0.0]], covariances=0.2)
        >>> grid = {"scales": [2], "switches": [0.5], "early": [0.5], "accuracy_loss": 0.1}  # one candidate, for speed
        >>> found = design_on_mixture(mixture, digits.sigmas(10), **grid)
        >>> print(found.schedule)
        early-negative:scale=2.0,sigma_switch=0.5,early=0.5,sigma_end=0.04
    """
    _check_options(per_class, unguided, solver)
    law = _Law(mixture)
    if switches is None:
        switches = [_three_digits(part * law.gap) for part in SWITCHES]
    end = _three_digits(END * law.gap)
    place = mixture.means.device
    classes = torch.arange(mixture.num_classes, device=place).repeat_interleave(per_class)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(classes), *mixture.sample_shape, generator=generator, dtype=torch.float64)
    sigmas = sigmas.to(place)
    noise = noise.to(place) * sigmas[0]

    @torch.no_grad()
    def run(schedule: Schedule) -> tuple[float, float, float]:
        guided = guide(mixture, schedule, uncond={"class_cond": mixture.num_classes})
        return law.measure(sample(solver, guided, noise, sigmas, extra_args={"class_cond": classes}), classes)

    plain = run(Constant(1.0))
    candidates = [EarlyNegative(*numbers, sigma_end=end) for numbers in itertools.product(scales, switches, early)]
    designs = []
    for done, schedule in enumerate(candidates, 1):
        ratio, overshoot, accuracy = run(schedule)
        ratio, overshoot = unguided[0] * ratio / plain[0], unguided[1] + overshoot - plain[1]
        designs.append(MixtureDesign(schedule, ratio, overshoot, accuracy, plain[2]))
        if on_run is not None:
            on_run(done, len(candidates))
    kept = [design for design in designs if design.accuracy >= plain[2] - accuracy_loss]
    if not kept:
        most = max(designs, key=lambda design: design.accuracy)
        raise InfeasibleDesign(
            f"no candidate keeps the accuracy of {plain[2]:.3f} within {accuracy_loss}: {most.schedule} comes to "
            f"{most.accuracy:.3f}. Allow higher sigma_switch, or a larger accuracy_loss",
            most.trace_ratio,
        )
    return min(kept, key=lambda design: design.distortion)


def _check_options(per_class: int, unguided: tuple[float, float], solver: str) -> None:
    if per_class < 2:
        raise ValueError(f"a variance needs at least 2 samples per class; got per_class={per_class}")
    if not unguided[0] > 0:
        raise ValueError(f"unguided is (trace ratio, overshoot), the first above 0; got {unguided}")
    if solver_noise(solver):
        raise ValueError(
            f"{solver} draws noise of its own, and candidates are compared from the same: take an ODE solver"
        )


class _Law:
    """The mixture's own class laws: what its samples are judged against."""

    def __init__(self, mixture: GaussianMixtureDenoiser) -> None:
        self.mixture = mixture
        spread = mixture.variances.expand(mixture.means.shape).sum(1)  # trace of each component
        means, traces, masses = [], [], []
        for c in range(mixture.num_classes):
            own = slice(int(mixture.offsets[c]), int(mixture.offsets[c + 1]))
            weights = mixture.log_weights[own].exp()
            mean = weights @ mixture.means[own] / weights.sum()
            inside = spread[own] + (mixture.means[own] - mean).square().sum(1)
            means.append(mean)
            traces.append(weights @ inside / weights.sum())
            masses.append(weights.sum())
        self.means, self.traces = torch.stack(means), torch.stack(traces)
        self.centre = torch.stack(masses) @ self.means
        distances = torch.cdist(self.means, self.means).fill_diagonal_(math.inf)
        self.gap = float(distances.min(1).values.median())

    def measure(self, x: torch.Tensor, classes: torch.Tensor) -> tuple[float, float, float]:
        """Trace ratio and overshoot, averaged over classes, and the share of ``x`` that is likeliest in its class."""
        levels = torch.full((len(x),), BLUR * self.gap, dtype=x.dtype)
        likely = torch.stack([self.mixture.log_prob(x, levels, c) for c in range(len(self.means))], 1)
        accuracy = float((likely.argmax(1) == classes).double().mean())
        ratios, overshoots = [], []
        for c, (mean, trace) in enumerate(zip(self.means, self.traces, strict=True)):
            own = x[classes == c].flatten(1)
            ratios.append(own.var(0).sum() / trace)
            overshoots.append(overshoot(own.mean(0), mean, self.centre))
        return float(torch.stack(ratios).mean()), float(torch.stack(overshoots).mean()), accuracy


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")
