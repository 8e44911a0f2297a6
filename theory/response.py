"""A model's own response to guidance: measured in a few probe runs, then predicted for any schedule.

The exact models of this package know the data, not the network's errors, and its errors are part of what guidance acts
on. What carries over is the form: for Gaussians the log-variance ratio is linear in the schedule,
``-int w k dt`` (docs/theory.md, section 2), so a model's kernel ``k`` can be *measured*. A probe runs the model under
a schedule with a random scale in each of a few bands of noise levels; all probes start from the same noise, so their
differences carry little sampling error. :mod:`kdist.theory.response_regression` fits the response to the schedule, with
the bend that strong guidance shows: once for the average over classes, once for each class's deviation from it.
Deviations that belong to the few samples drawn, not to the class, are told by comparing two halves of the samples,
and shrunk.

Everything is guidance's own part: relative to scale 1 with the same model, solver, noise levels and noise.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kdist import Piecewise, Schedule, guide
from kdist.conditioning import Uncond

from .integrate import Array, ScheduleLike, scale_function
from .response_regression import CurvedRegression
from .response_runs import ClassMoments, Contrast, Counted, Model, drawn

__all__ = ["BeyondProbesWarning", "EarlyNegativeWarning", "PredictedResponse", "Response", "probe_schedules"]

_LEAD = 0.05  # of all importance: what makes guidance below 1 at the start count
_NEGLIGIBLE = 0.01  # of the largest importance: there no scale is too far from the probes


class BeyondProbesWarning(UserWarning):
    """A schedule has scales that no probe had; the prediction extrapolates.

    Examples:
        >>> import warnings
        >>> from kdist.theory import BeyondProbesWarning
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", BeyondProbesWarning)  # such a prediction is an error in here
    """


class EarlyNegativeWarning(UserWarning):
    """A schedule starts below scale 1 and goes above it later; predictions of that kind have been worse.

    Examples:
        >>> import warnings
        >>> from kdist.theory import EarlyNegativeWarning
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", EarlyNegativeWarning)  # such a prediction is an error in here
    """


@dataclass(frozen=True)
class PredictedResponse:
    """What a schedule is predicted to do to each class, relative to scale 1.

    Args:
        classes: K labels.
        log_trace_ratio: (K,) log of the total variance over that at scale 1.
        overshoot: (K,) shift of the class mean from that at scale 1, along (class mean - centre), in units of that
            distance.

    Examples:
        >>> import torch
        >>> from kdist.solvers import karras_sigmas
        >>> from kdist.theory import GaussianMixtureDenoiser, Response
        >>> model = GaussianMixtureDenoiser(means=[[-1.0, 0.0], [1.0, 0.0]], covariances=0.2)
        >>> noise = 20 * torch.randn(80, 2, generator=torch.Generator().manual_seed(0))
        >>> labels, sigmas = torch.arange(80) % 2, karras_sigmas(8, 0.05, 20)
        >>> response = Response.measure(model, noise, labels, sigmas, uncond={"class_cond": 2})
        >>> response.predict(2.0).overshoot.shape
        (2,)
    """

    classes: tuple[int, ...]
    log_trace_ratio: Array
    overshoot: Array

    @property
    def trace_ratio(self) -> Array:
        """(K,) total variance over that at scale 1."""
        return np.exp(self.log_trace_ratio)


@dataclass(frozen=True, eq=False)
class Response:
    """Probe runs of one model, solver and list of noise levels; :meth:`measure` makes them.

    Args:
        classes: K labels.
        sigmas: (C,) noise levels at which the solver calls the model, decreasing.
        importance: (C,) how far a unit of weight there moves a sample, in units of the spread of the samples there.
        weights: (P, C) ``scale - 1`` of each probe at these levels.
        log_trace: (2, P, K) log of the total variance over that at scale 1, in each half of the samples.
        overshoot: (2, P, K) likewise, the shift along (class mean - centre) in units of that distance.
        calls: network evaluations of all probes, over all samples.

    Raises:
        ValueError: arrays whose shapes do not fit or that are not finite.

    Examples:
        >>> import torch
        >>> from kdist.solvers import karras_sigmas
        >>> from kdist.theory import GaussianMixtureDenoiser, Response
        >>> model = GaussianMixtureDenoiser(means=[[-1.0, 0.0], [1.0, 0.0]], covariances=0.2)
        >>> noise = 20 * torch.randn(80, 2, generator=torch.Generator().manual_seed(0))
        >>> labels, sigmas = torch.arange(80) % 2, karras_sigmas(8, 0.05, 20)
        >>> response = Response.measure(model, noise, labels, sigmas, uncond={"class_cond": 2})
        >>> response.predict(2.0).trace_ratio.shape
        (2,)
    """

    classes: tuple[int, ...]
    sigmas: Array
    importance: Array
    weights: Array
    log_trace: Array
    overshoot: Array
    calls: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(int(c) for c in self.classes))
        for name in ("sigmas", "importance", "weights", "log_trace", "overshoot"):
            value = np.asarray(getattr(self, name), dtype=np.float64)
            if not np.isfinite(value).all():
                raise ValueError(f"{name} must be finite")
            object.__setattr__(self, name, value)
        shape = {
            "importance": self.sigmas.shape,
            "weights": (len(self.weights), len(self.sigmas)),
            "log_trace": (2, len(self.weights), len(self.classes)),
            "overshoot": (2, len(self.weights), len(self.classes)),
        }
        for name, expected in shape.items():
            if getattr(self, name).shape != expected:
                raise ValueError(f"{name} must have shape {expected}; got {getattr(self, name).shape}")

    @classmethod
    def measure(
        cls,
        model: Model,
        start: torch.Tensor,
        class_cond: torch.Tensor,
        sigmas: torch.Tensor,
        *,
        uncond: Uncond | None = None,
        weak_model: Model | None = None,
        solver: str | Callable[..., torch.Tensor] = "dpmpp_2m",
        probes: int = 24,
        bands: int = 6,
        scales: tuple[float, float] = (0.0, 4.0),
        class_means: Array | torch.Tensor | None = None,
        centre: Array | torch.Tensor | None = None,
        batch: int = 256,
        seed: int = 0,
        on_run: Callable[[int, int], None] | None = None,
        **solver_options: Any,
    ) -> Response:
        """Run the probes.

        Args:
            model: any k-diffusion denoiser ``model(x, sigma, class_cond=...)``.
            start: (N, ...) noise that every run starts from, of standard deviation ``sigmas[0]``; N / K of 20 or more.
            class_cond: (N,) classes, at least four samples of each.
            sigmas: (steps + 1,) noise levels, as for the runs that will be predicted.
            uncond: Conditions of the second prediction, as for :func:`kdist.guide`.
            weak_model: The network of the second prediction, as for :func:`kdist.guide`.
            solver: name or function; its random numbers are the same in every run.
            probes: number of runs besides that at scale 1.
            bands: Number of bands of noise levels. A probe gives each a scale of its own; they matter alike.
            scales: (lowest, highest) of the probes; schedules between them are predicted without extrapolation.
            class_means: (K, ...) true class means in the order of the sorted labels, from which overshoot is measured;
                None takes those of the run at scale 1.
            centre: (...) the point that overshoot points away from; None takes the average of ``class_means``.
            batch: rows in one run of the solver.
            seed: Seed of the probes' scales and of the solver's noise.
            on_run: called with (runs done, runs in all), for progress bars.
            solver_options: the solver's own.

        Raises:
            ValueError: shapes that do not fit, fewer than four samples of a class, no second prediction, too few
                probes or bands, an unknown solver or option, samples that are not finite or do not vary.
        """
        labels = _labels(start, class_cond)
        _check_design(probes, bands, scales, batch)
        counted = Counted(model)
        weak = None if weak_model is None else Counted(weak_model)

        def guided(schedule: Schedule | float) -> Model:
            return guide(counted, schedule, uncond=uncond, weak_model=weak)

        def run(denoiser: Model) -> Array:
            parts = zip(start.split(batch), class_cond.split(batch), strict=True)
            return drawn(solver, denoiser, parts, sigmas, seed, solver_options)

        contrast = Contrast(guided(1.0), guided(0.0))
        base = run(contrast)
        levels, importance = contrast.importance()
        schedules = probe_schedules(levels, importance, probes=probes, bands=bands, scales=scales, seed=seed)
        moments_of = ClassMoments(base, labels, class_means, centre)
        zero = moments_of(base)
        found = []
        for done, schedule in enumerate(schedules):
            found.append(moments_of(run(guided(schedule))) - zero)
            if on_run is not None:
                on_run(done + 1, probes)
        responses = np.stack(found, axis=2)  # (quantity, half, probe, class)
        if not np.isfinite(responses).all():
            raise ValueError("a class does not vary, or its mean is the centre: it has no trace ratio or no overshoot")
        weights = np.stack([scale_function(s)(levels) - 1 for s in schedules])
        calls = counted.rows + (0 if weak is None else weak.rows)
        return cls(tuple(np.unique(labels)), levels, importance, weights, responses[0], responses[1], calls)

    def predict(self, schedule: ScheduleLike) -> PredictedResponse:
        """What ``schedule`` does to each class, relative to scale 1.

        Args:
            schedule: a :class:`kdist.Schedule`, a scale, or any callable ``sigma -> scale``.

        Warns:
            BeyondProbesWarning: scales outside those of the probes, where they matter.
            EarlyNegativeWarning: the schedule is below scale 1 at the start and above it later.

        Raises:
            ValueError: the schedule is not finite somewhere; TypeError: it is no schedule.
        """
        weights = scale_function(schedule)(self.sigmas) - 1
        matter = self.importance > _NEGLIGIBLE * self.importance.max()
        low, high = self.weights.min(), self.weights.max()
        slack = 0.1 * (high - low)  # the probes fill their range, but not to its last corner
        if (weights[matter] < low - slack).any() or (weights[matter] > high + slack).any():
            warnings.warn(
                f"the schedule has scales from {weights[matter].min() + 1:.3g} to {weights[matter].max() + 1:.3g}, the "
                f"probes had {low + 1:.3g} to {high + 1:.3g}: measure again with wider scales=",
                BeyondProbesWarning,
                stacklevel=2,
            )
        if self._starts_negative(weights):
            warnings.warn(
                "the schedule starts below scale 1 and goes above it later (early negative guidance): samples then "
                "find their layout without the class, which the probes hardly show. Such predictions have been less "
                "accurate than others (correlation .89 with them, .97 without, on one network): verify with a run",
                EarlyNegativeWarning,
                stacklevel=2,
            )
        values = [self._fits[name].predict(weights[None]) for name in ("log_trace", "overshoot")]
        return PredictedResponse(self.classes, *values)

    def _starts_negative(self, weights: Array) -> bool:
        """Whether weights below 0 come first and matter, and positive ones follow."""
        positive = np.flatnonzero(weights > 0)
        if not len(positive):
            return False
        lead = slice(0, positive[0])
        below = self.importance[lead] * (weights[lead] < 0)
        return bool(below.sum() > _LEAD * self.importance.sum())

    @property
    def quality(self) -> dict[str, dict[str, float]]:
        """For ``log_trace`` and ``overshoot``, from the probes alone: the part of the mean square ``explained`` when
        each probe is left out in turn, for the average over classes (``pooled``) and the deviations of the classes
        (``classes``), and how much of these deviations the two halves of the samples share (``reliability``)."""
        return {name: fit.quality for name, fit in self._fits.items()}

    @cached_property
    def _fits(self) -> dict[str, _TwoLevels]:
        return {
            name: _TwoLevels(np.log(self.sigmas), self.importance, self.weights, getattr(self, name))
            for name in ("log_trace", "overshoot")
        }

    def to_dict(self, digits: int = 5) -> dict[str, Any]:
        """As JSON numbers and lists, rounded to ``digits`` decimals (the importances and levels not)."""
        rounded = ("weights", "log_trace", "overshoot")
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        lists = {n: (v.round(digits) if n in rounded else v).tolist() for n, v in values.items() if n in _ARRAYS}
        return {**values, "classes": list(self.classes), **lists}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Response:
        """What :meth:`to_dict` gave.

        Raises:
            ValueError: keys that are missing or unknown.
        """
        names = {f.name for f in fields(cls)}
        if set(values) != names:
            raise ValueError(f"a response has the keys {', '.join(sorted(names))}; got {', '.join(sorted(values))}")
        return cls(**values)


_ARRAYS = ("sigmas", "importance", "weights", "log_trace", "overshoot")


def probe_schedules(
    sigmas: Array,
    importance: Array,
    *,
    probes: int,
    bands: int,
    scales: tuple[float, float],
    seed: int = 0,
) -> list[Schedule]:
    """``probes`` schedules with an independent scale in each band, spread evenly over all combinations (Sobol points).

    Args:
        sigmas: (C,) noise levels, decreasing.
        importance: (C,) of these; every band gets about the same share.
        bands: how many, no more than there are levels.
        scales: lowest and highest.
        seed: Seed of the scrambling.
    """
    from scipy.stats import qmc

    share = np.cumsum(importance) / np.sum(importance)
    cuts = np.unique([int(np.abs(share - k / bands).argmin()) for k in range(1, bands)])
    cuts = cuts[cuts < len(sigmas) - 1]
    edges = [float(sigmas[0]), *(float(np.sqrt(sigmas[k] * sigmas[k + 1])) for k in cuts)]
    points = qmc.Sobol(len(edges), seed=seed).random_base2(max(1, math.ceil(math.log2(probes))))[:probes]
    low, high = scales
    return [Piecewise(tuple(edges), tuple(low + (high - low) * point)) for point in points]


class _TwoLevels:
    """The average over classes and the deviations from it, each with a regression of its own."""

    def __init__(self, log_sigmas: Array, importance: Array, weights: Array, halves: Array) -> None:
        values = halves.mean(0)
        pooled = values.mean(1, keepdims=True)
        self.pooled = CurvedRegression.fit(log_sigmas, importance, weights, pooled)
        self.classes = CurvedRegression.fit(log_sigmas, importance, weights, values - pooled)
        first, second = halves - halves.mean(2, keepdims=True)
        total = float(np.mean(np.square(first + second))) / 4
        # the best multiple of the measured deviation as a guess of that of other samples
        self.reliability = float(np.clip(np.mean(first * second) / total, 0, 1)) if total else 0.0

    def predict(self, weights: Array) -> Array:
        """(K,) for one schedule's (1, C) weights."""
        return (self.pooled.predict(weights) + self.reliability * self.classes.predict(weights))[0]

    @property
    def quality(self) -> dict[str, float]:
        return {
            "pooled": self.pooled.explained,
            "classes": self.classes.explained,
            "reliability": self.reliability,
        }


def _labels(start: torch.Tensor, class_cond: torch.Tensor) -> npt.NDArray[np.int64]:
    if class_cond.shape != (len(start),) or class_cond.is_floating_point():
        raise ValueError(
            f"class_cond must be ({len(start)},) whole numbers, one for each row of start; got "
            f"{tuple(class_cond.shape)} {class_cond.dtype}"
        )
    labels = class_cond.cpu().numpy()
    names, counts = np.unique(labels, return_counts=True)
    if not len(names) or counts.min() < 4:
        few = f"class {names[counts.argmin()]} has {counts.min()}" if len(names) else "there are none"
        raise ValueError(f"each class needs at least 4 samples, two for each half; {few}")
    return labels


def _check_design(probes: int, bands: int, scales: tuple[float, float], batch: int) -> None:
    if bands < 1 or batch < 1:
        raise ValueError(f"bands and batch must be at least 1; got {bands} and {batch}")
    if probes < 4:
        raise ValueError(f"probes must be at least 4 (some 24 for six bands); got {probes}")
    if len(scales) != 2 or not -math.inf < scales[0] < scales[1] < math.inf:
        raise ValueError(f"scales must be (lowest, highest), finite; got {scales}")
