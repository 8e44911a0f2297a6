"""Guided moments at finite steps, through the real k-diffusion solver, without Monte Carlo.

The denoiser of a Gaussian pair is affine in ``x``, and k-diffusion's solvers combine its outputs linearly, so the end
of a run is affine in the start and in each injected noise: ``x_end = f + R_0 z_0 + sum_k R_k z_k``. One run over a
batch of a zero row, a unit start and one unit impulse per noise gives every ``R`` exactly (docs/theory.md, section 4).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from kdist.solvers import get_solver, sample

from ..integrate import Array, ScheduleLike, scale_function
from .pair import Moments, Pair
from .summary import Distortion, compare, distortion

__all__ = ["SolverShare", "affine_denoiser", "solver_moments", "solver_noise", "solver_share"]

Solver = str | Callable[..., torch.Tensor]
Denoiser = Callable[..., torch.Tensor]

_AFFINE_TO = 1e-6  # relative mismatch of the check row (rounding leaves about 1e-12)
_MONTE_CARLO_BLOCK = 2**21  # numbers per batch of a Monte Carlo run
_LAM_IS_ETA_SQUARED = ("euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde", "dpm_fast")
_LAM_IS_ETA = ("dpmpp_2m_sde", "dpmpp_3m_sde")


def affine_denoiser(pair: Pair, schedule: ScheduleLike) -> Denoiser:
    """The guided exact denoiser of ``pair`` as a k-diffusion model: ``model(x, sigma)``, x (N, d), sigma (N,) equal.

    Examples:
        >>> import torch
        >>> from kdist.theory import GaussianPair, affine_denoiser
        >>> pair = GaussianPair([1.0, 0.5], [0.3, 0.6], 0.0, 1.0)  # two directions
        >>> affine_denoiser(pair, 2.0)(torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, dtype=torch.float64)).shape
        torch.Size([1, 2])
    """
    scale = scale_function(schedule)
    if not isinstance(pair, Pair):
        raise TypeError(f"pair must be a GaussianPair or a FullGaussianPair; got {type(pair).__name__}")
    laws = [[None if part is None else torch.from_numpy(part) for part in law] for law in pair.laws()]

    def denoise(x: torch.Tensor, sigma: torch.Tensor, **_: Any) -> torch.Tensor:
        level = float(sigma.flatten()[0])
        cond, uncond = (_posterior_mean(x, level**2, *law) for law in laws)  # type: ignore[arg-type]
        return uncond + float(scale(np.array([level]))[0]) * (cond - uncond)

    return denoise


def _posterior_mean(
    x: torch.Tensor, t: float, mean: torch.Tensor, var: torch.Tensor, vectors: torch.Tensor | None
) -> torch.Tensor:
    keep = var / (var + t)
    if vectors is None:
        return mean + (x - mean) * keep
    return mean + (((x - mean) @ vectors) * keep) @ vectors.T


def solver_moments(
    pair: Pair,
    schedule: ScheduleLike,
    solver: Solver,
    sigmas: Sequence[float] | torch.Tensor,
    *,
    method: Literal["impulse", "monte_carlo"] = "impulse",
    samples: int = 100_000,
    seed: int = 0,
    **solver_options: Any,
) -> Moments:
    """Mean and variance of guided samples of ``pair`` that a k-diffusion solver draws over ``sigmas``.

    Args:
        pair: a :class:`GaussianPair`, or a :class:`FullGaussianPair` (then the answer is :class:`FullMoments`).
        schedule: a :class:`kdist.Schedule`, a scale, or any callable ``sigma -> scale``.
        solver: a function of ``k_diffusion.sampling``, its name (with or without ``sample_``), or one's own with the
            same signature, provided its noise comes through ``noise_sampler``.
        sigmas: (steps + 1,) decreasing noise levels; the start is ``x ~ N(0, sigmas[0]**2)``.
        method: ``impulse`` is exact. ``monte_carlo`` draws samples, for what is not affine (``dpm_adaptive``, whose
            steps depend on the samples; they are then shared by a batch) or hides its noise (``s_churn``). Its
            standard errors are ``sqrt(var / samples)`` for the mean and ``var * sqrt(2 / samples)`` for the variance.
        samples: Number of samples of the Monte Carlo run.
        seed: Seed of the Monte Carlo run.
        solver_options: the solver's own (``eta``, ``s_noise``, ...).

    Noise over overlapping intervals of sigma (``dpmpp_sde`` draws it twice per step) is taken as increments of one
    Brownian path in sigma, as k-diffusion's ``BrownianTreeNoiseSampler`` draws it.

    Raises:
        ValueError: an unknown solver or option; a solver that is not affine or hides noise, with ``impulse``; sigmas
            that do not decrease.

    Examples:
        >>> from kdist import digits
        >>> from kdist.theory import GaussianPair, solver_moments
        >>> pair = GaussianPair([1.0, 0.5], [0.3, 0.6], 0.0, 1.0)  # two directions
        >>> solver_moments(pair, 2.0, "heun", digits.sigmas(20)).var.round(2)
        array([0.1 , 0.37])
    """
    levels = _levels(sigmas)
    model = affine_denoiser(pair, schedule)
    if method == "monte_carlo":
        law = _monte_carlo(pair, model, solver, levels, samples, seed, solver_options)
    elif method == "impulse":
        law = _impulse(pair, model, solver, levels, solver_options)
    else:
        raise ValueError(f"method must be 'impulse' or 'monte_carlo'; got {method!r}")
    if not (np.isfinite(law.mean).all() and np.isfinite(law.var).all()):
        raise ValueError(f"{_name(solver)} over {len(levels) - 1} steps overflows on this pair and schedule")
    return law


def _levels(sigmas: Sequence[float] | torch.Tensor) -> torch.Tensor:
    levels = torch.as_tensor(sigmas, dtype=torch.float64, device="cpu").flatten()
    if len(levels) < 2 or not bool((levels[1:] < levels[:-1]).all()) or float(levels[-1]) < 0:
        raise ValueError("sigmas must be at least two noise levels, strictly decreasing and not negative")
    if not math.isfinite(float(levels[0])):
        raise ValueError("sigmas must be finite: a solver starts at a real noise level")
    return levels


def _name(solver: Solver) -> str:
    name = solver if isinstance(solver, str) else getattr(solver, "__name__", repr(solver))
    return name.removeprefix("sample_")


def _impulse(pair: Pair, model: Denoiser, solver: Solver, sigmas: torch.Tensor, options: dict[str, Any]) -> Moments:
    name, parameters = _name(solver), inspect.signature(get_solver(solver)).parameters
    remedy = "use method='monte_carlo'"
    if name == "dpm_adaptive":
        raise ValueError(f"dpm_adaptive chooses its steps from the sample, so it is not affine: {remedy}")
    if options.get("s_churn"):
        raise ValueError(f"s_churn > 0 draws noise inside {name}, where it cannot be followed: {remedy} or s_churn=0")
    if "noise_sampler" in options:
        raise ValueError("noise_sampler is what solver_moments uses to follow the noise; leave it out")

    def run(
        start: torch.Tensor, noise: Callable[[int], torch.Tensor]
    ) -> tuple[torch.Tensor, list[tuple[float, float]]]:
        intervals: list[tuple[float, float]] = []

        def noise_sampler(sigma: Any, sigma_next: Any) -> torch.Tensor:
            intervals.append((float(sigma), float(sigma_next)))
            return noise(len(intervals) - 1)

        extra: dict[str, Any] = {"noise_sampler": noise_sampler} if "noise_sampler" in parameters else {}
        with torch.random.fork_rng(devices=[]):  # some solvers draw noise even where they do not use it
            return sample(solver, model, start, sigmas, **options, **extra), intervals

    d = len(pair.cond_mean)
    # directions that do not mix share one row; a full covariance needs a row for each
    units = torch.eye(d).double() if pair.mixes else torch.ones(1, d).double()
    nothing = torch.zeros(1, d).double()
    # a rehearsal tells where noise is drawn; a solver that takes no sampler of it draws none that can be followed
    intervals = run(nothing, lambda _: nothing)[1] if "noise_sampler" in parameters else []

    # rows: zero, unit starts, unit impulses of each noise, and one check: all of them at once with other sizes
    count, size = len(intervals), len(units)
    check = (-1.0) ** torch.arange(1 + count) * -2  # any factors other than 1, both signs: -2, 2, -2, ...
    start = torch.zeros(2 + size * (1 + count), d).double()
    start[1 : 1 + size] = float(sigmas[0]) * units
    start[-1] = float(check[0]) * float(sigmas[0]) * units.sum(0)

    def impulse(k: int) -> torch.Tensor:
        noise = torch.zeros_like(start)
        first = 1 + size * (1 + k)
        noise[first : first + size] = units
        noise[-1] = float(check[1 + k]) * units.sum(0)
        return noise

    end, _ = run(start, impulse)
    offset = end[0]
    response = (end[1:-1] - offset).reshape(1 + count, size, d)
    predicted = offset + torch.einsum("k,kud->d", check.double(), response)
    error = float((end[-1] - predicted).abs().max()) if bool(torch.isfinite(end).all()) else 0.0
    if error > _AFFINE_TO * float(end.abs().max()):
        raise ValueError(f"{name} is not affine in x, or draws noise that does not come from noise_sampler: {remedy}")

    share = torch.eye(1 + count).double()
    share[1:, 1:] = torch.from_numpy(_correlation(intervals))
    spread = "jk,jua,kub->ab" if pair.mixes else "jk,jud,kud->d"
    return pair.moments(offset.numpy(), torch.einsum(spread, share, response, response).numpy())


def _correlation(intervals: list[tuple[float, float]]) -> Array:
    """Correlations (K, K) of a Brownian path's normalised increments over ``intervals`` of sigma."""
    low, high = (np.array([pick(pair) for pair in intervals], dtype=np.float64) for pick in (min, max))
    overlap = np.minimum.outer(high, high) - np.maximum.outer(low, low)
    length = np.sqrt(high - low)
    return overlap.clip(0) / np.outer(length, length)


def _monte_carlo(
    pair: Pair,
    model: Denoiser,
    solver: Solver,
    sigmas: torch.Tensor,
    samples: int,
    seed: int,
    options: dict[str, Any],
) -> Moments:
    if samples < 2:
        raise ValueError(f"samples must be at least 2 for a variance; got {samples}")
    d = len(pair.cond_mean)
    block = max(2, _MONTE_CARLO_BLOCK // d)
    centre = torch.from_numpy(pair.cond_mean)  # sums about a point nearby lose no digits
    first, second = torch.zeros(d).double(), torch.zeros((d, d) if pair.mixes else (d,)).double()
    with torch.random.fork_rng(devices=[]):  # the solvers draw from the global generator
        torch.manual_seed(seed)
        for done in range(0, samples, block):
            start = torch.randn(min(block, samples - done), d, dtype=torch.float64) * sigmas[0]
            x = sample(solver, model, start, sigmas, **options) - centre
            first += x.sum(0)
            second += x.T @ x if pair.mixes else (x**2).sum(0)
    mean = first / samples
    spread = (second - samples * (torch.outer(mean, mean) if pair.mixes else mean**2)) / (samples - 1)
    return pair.moments((centre + mean).numpy(), spread.numpy())


def solver_noise(solver: Solver, **solver_options: Any) -> float:
    """The sampling noise ``lam`` that a k-diffusion solver has as its steps grow fine (0: ODE, 1: reverse SDE).

    ``eta**2`` for ancestral steps and ``dpmpp_sde``, ``eta`` for ``dpmpp_2m_sde`` and ``dpmpp_3m_sde``, else 0.

    Raises:
        ValueError: ``s_churn`` or ``s_noise`` that no ``lam`` stands for.

    Examples:
        >>> from kdist.theory import solver_noise
        >>> solver_noise("heun"), solver_noise("euler_ancestral")
        (0.0, 1.0)
    """
    if solver_options.get("s_churn") or solver_options.get("s_noise", 1) != 1:
        raise ValueError("s_churn > 0 and s_noise other than 1 leave the family that noise (lam) describes")
    name = _name(solver)
    if name not in _LAM_IS_ETA_SQUARED + _LAM_IS_ETA:
        return 0.0
    default = inspect.signature(get_solver(solver)).parameters["eta"].default
    eta = float(solver_options.get("eta", default))
    return eta if name in _LAM_IS_ETA else eta**2


@dataclass(frozen=True)
class SolverShare:
    """A class's variance ratio split into what guidance does and what the solver adds.

    Args:
        solver: Name of the run's solver.
        steps: Number of its steps.
        total: distortion at these finite steps.
        exact: distortion at infinitely many steps of the same noise: guidance's part.
        unguided: the same run at scale 1: what the solver does without guidance.

    Examples:
        >>> from kdist import digits
        >>> from kdist.theory import GaussianPair, solver_share
        >>> pair = GaussianPair([1.0, 0.5], [0.3, 0.6], 0.0, 1.0)  # two directions
        >>> found = solver_share(pair, 1.5, "euler", digits.sigmas(20))
        >>> print(round(found.total.trace_ratio, 2), round(found.exact.trace_ratio, 2))
        0.57 0.7
    """

    solver: str
    steps: int
    total: Distortion
    exact: Distortion
    unguided: Distortion

    @property
    def solver_part(self) -> float:
        """Trace ratio at these steps minus the trace ratio at infinitely many."""
        return self.total.trace_ratio - self.exact.trace_ratio

    def __str__(self) -> str:
        return (
            f"at {self.steps} steps of {self.solver} your variance ratio is {self.total.trace_ratio:.2f}, of which "
            f"{self.solver_part:+.2f} is the solver's (exact {self.exact.trace_ratio:.2f}; the solver without guidance "
            f"{self.unguided.trace_ratio:.2f})"
        )


def solver_share(
    pair: Pair,
    schedule: ScheduleLike,
    solver: Solver,
    sigmas: Sequence[float] | torch.Tensor,
    *,
    noise: float | None = None,
    **solver_options: Any,
) -> SolverShare:
    """How much of the distortion at finite steps is guidance's and how much is the solver's.

    Args:
        noise: ``lam`` of the exact run; None takes the solver's (:func:`solver_noise`).
        solver_options: The solver's own (``eta``, ``s_noise``, ...).

    The other arguments are those of :func:`solver_moments`.

    Raises:
        ValueError: what :func:`solver_moments` refuses, or a schedule undefined in between the solver's noise levels.

    Examples:
        >>> from kdist import digits
        >>> from kdist.theory import GaussianPair, solver_share
        >>> pair = GaussianPair([1.0, 0.5], [0.3, 0.6], 0.0, 1.0)  # two directions
        >>> print(str(solver_share(pair, 1.5, "dpmpp_2m", digits.sigmas(20))).split(" (")[0])
        at 20 steps of dpmpp_2m your variance ratio is 0.73, of which +0.03 is the solver's
    """
    levels = _levels(sigmas)
    lam = solver_noise(solver, **solver_options) if noise is None else noise
    end = levels[levels > 0][-1] if _name(solver) == "dpm_fast" else levels[-1]  # it never takes the step to 0
    return SolverShare(
        _name(solver),
        len(levels) - 1,
        compare(pair, solver_moments(pair, schedule, solver, levels, **solver_options)),
        distortion(pair, schedule, sigma_max=float(levels[0]), sigma_min=float(end), noise=lam),
        compare(pair, solver_moments(pair, 1.0, solver, levels, **solver_options)),
    )
