"""k-diffusion's samplers by name, under one call, and which noise levels each of them asks the network about."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from .compat import import_k_diffusion

__all__ = ["SOLVERS", "called_sigmas", "get_solver", "karras_sigmas", "sample"]

SOLVERS = (
    "euler",
    "euler_ancestral",
    "heun",
    "dpm_2",
    "dpm_2_ancestral",
    "lms",
    "dpm_fast",
    "dpm_adaptive",
    "dpmpp_2s_ancestral",
    "dpmpp_sde",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_3m_sde",
)
"""k-diffusion's solvers by name, without ``sample_``."""
# these two take (sigma_min, sigma_max[, n]) where the others take the list of sigmas
_BY_RANGE = ("dpm_fast", "dpm_adaptive")


def get_solver(solver: str | Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The function of ``k_diffusion.sampling`` named ``solver``, with or without ``sample_``; callables pass through.

    Raises:
        ValueError: no such solver; the message lists those there are.

    Examples:
        >>> from kdist.solvers import get_solver
        >>> get_solver("dpmpp_2m").__name__
        'sample_dpmpp_2m'
    """
    if callable(solver):
        return solver
    name = solver.removeprefix("sample_")
    if name not in SOLVERS:
        raise ValueError(f"unknown solver {solver!r}; known: {', '.join(SOLVERS)}")
    return getattr(import_k_diffusion().sampling, f"sample_{name}")


def sample(
    solver: str | Callable[..., torch.Tensor],
    model: Callable[..., torch.Tensor],
    x: torch.Tensor,
    sigmas: torch.Tensor,
    *,
    extra_args: Mapping[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    **options: Any,
) -> torch.Tensor:
    """Run any k-diffusion solver over ``sigmas``, those included that take only a range (``dpm_fast``: as many calls
    as there are steps; ``dpm_adaptive``: its own steps).

    Args:
        solver: name or function, see :func:`get_solver`.
        model: a denoiser ``model(x, sigma, **extra_args)``, guided or not.
        x: (N, ...) start, noise of standard deviation ``sigmas[0]``.
        sigmas: (steps + 1,) decreasing noise levels, the last one 0 or not.
        options: the solver's own (``eta``, ``s_churn``, ``noise_sampler``, ...).

    Returns:
        (N, ...) samples.

    Raises:
        ValueError: unknown solver, or an option that it does not have.

    Examples:
        >>> import torch
        >>> from kdist import digits
        >>> from kdist.solvers import sample
        >>> noise = torch.randn(2, 1, 8, 8) * digits.SIGMA_MAX
        >>> model, labels = digits.load_model(), torch.tensor([3, 7])
        >>> sample("euler", model, noise, digits.sigmas(4), extra_args={"class_cond": labels}).shape
        torch.Size([2, 1, 8, 8])
    """
    function = get_solver(solver)
    parameters = inspect.signature(function).parameters
    unknown = sorted(set(options) - set(parameters))
    if unknown and not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        own = [name for name in parameters if name not in _CONTRACT]
        raise ValueError(f"{function.__name__} has no option {', '.join(unknown)}; it has {', '.join(own) or 'none'}")
    shared = {"extra_args": dict(extra_args or {}), "callback": callback, "disable": True, **options}
    if function.__name__.removeprefix("sample_") not in _BY_RANGE:
        return function(model, x, sigmas, **shared)
    positive = sigmas[sigmas > 0]
    levels = [float(positive[-1]), float(positive[0])]
    if "n" in parameters:
        shared.setdefault("n", len(sigmas) - 1)
    return function(model, x, *levels, **shared)


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float, *, rho: float = 7.0) -> torch.Tensor:
    """Karras et al.'s noise levels and 0: (steps + 1,) float64, evenly spaced in ``sigma**(1 / rho)`` (2206.00364).

    Raises:
        ValueError: ``steps`` below 1, or not 0 < sigma_min < sigma_max.

    Examples:
        >>> from kdist.solvers import karras_sigmas
        >>> [round(sigma, 2) for sigma in karras_sigmas(4, 0.02, 20).tolist()]
        [20.0, 3.87, 0.45, 0.02, 0.0]
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1; got {steps}")
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"sigma_min must be positive and below sigma_max; got {sigma_min:g} and {sigma_max:g}")
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    levels = (high + torch.linspace(0, 1, steps, dtype=torch.float64) * (low - high)) ** rho
    return torch.cat([levels, levels.new_zeros(1)])


_CONTRACT = ("model", "x", "sigmas", "sigma_min", "sigma_max", "extra_args", "callback", "disable")


def called_sigmas(
    solver: str | Callable[..., torch.Tensor], sigmas: torch.Tensor | Sequence[float], **options: Any
) -> list[float]:
    """The noise levels at which ``solver`` calls the denoiser in a run over ``sigmas``, in order.

    Found by running the solver on one number, so it is right for mid-step and correction calls of every solver.

    Raises:
        ValueError: ``dpm_adaptive``, whose steps depend on the sample.

    Examples:
        >>> from kdist.solvers import called_sigmas
        >>> called_sigmas("heun", [10.0, 1.0, 0.0])
        [10.0, 1.0, 1.0]
    """
    function = get_solver(solver)
    if function.__name__ == "sample_dpm_adaptive":
        raise ValueError("dpm_adaptive chooses its steps from the sample, so its calls cannot be told beforehand")
    called: list[float] = []

    def record(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        called.append(float(sigma))
        return torch.zeros_like(x)

    if "noise_sampler" in inspect.signature(function).parameters:
        options.setdefault("noise_sampler", lambda *_: torch.zeros(1, dtype=torch.float32))
    with torch.random.fork_rng(devices=[]):  # some solvers draw noise even where they do not use it
        start, levels = torch.ones(1, dtype=torch.float32), torch.as_tensor(sigmas, dtype=torch.float32, device="cpu")
        sample(function, record, start, levels, **options)
    return called
