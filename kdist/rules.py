"""Guidance rules: how the conditional and the unconditional prediction become one.

A rule is a function ``rule(cond, uncond, scale, x, sigma) -> denoised``: ``cond``, ``uncond`` and ``x`` are (N, ...)
tensors, ``scale`` (k-diffusion's convention, float32 or float64) and ``sigma`` have shape (N, 1, ...), ready to
broadcast; the result has the shape and dtype of ``cond``. Every rule is a pure function, row by row, so any schedule
works with any rule and any solver.

Options are set with :func:`functools.partial`, and rules that take a ``rule`` build on another one:

    kdist.guide(model, schedule, uncond=..., rule=partial(kdist.rules.rescaled, phi=0.5))
    partial(kdist.rules.rescaled, rule=kdist.rules.projected)
    partial(kdist.rules.on_noise, rule=kdist.rules.zero_star)

Decorated with :func:`reduces_at`, a rule says at which scales it equals one prediction alone: there the other network
pass is not run. An undecorated rule always gets both. :func:`serves` declares the scales that a rule can handle.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import torch

from .schedules.base import readable

__all__ = [
    "Rule",
    "linear",
    "on_noise",
    "projected",
    "reduces_at",
    "reductions",
    "rescaled",
    "serves",
    "thresholded",
    "zero_star",
]

Rule: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
R = TypeVar("R", bound=Callable[..., torch.Tensor])


def reduces_at(*, cond: bool, uncond: bool) -> Callable[[R], R]:
    """Mark a rule: ``cond``, at scale 1 it returns ``cond``; ``uncond``, at scale 0 it returns ``uncond``."""

    def mark(rule: R) -> R:
        rule.reduces_to_cond, rule.reduces_to_uncond = cond, uncond  # type: ignore[attr-defined]
        return rule

    return mark


def reductions(rule: Callable[..., Any]) -> tuple[bool, bool]:
    """The marks of :func:`reduces_at`, (False, False) without.

    Seen through :func:`functools.partial`: with a ``rule`` inside, only what both of them promise.
    """
    if isinstance(rule, functools.partial):
        outer, inner = reductions(rule.func), reductions(rule.keywords.get("rule", linear))
        return outer[0] and inner[0], outer[1] and inner[1]
    return getattr(rule, "reduces_to_cond", False), getattr(rule, "reduces_to_uncond", False)


def serves(*, minimum: float | None = None, maximum: float | None = None) -> Callable[[R], R]:
    """Mark a rule that is right only for some scales; a schedule that leaves them then fails at that noise level.

    Checking reads the scales, so on an accelerator a rule with this mark costs one synchronisation per network call.
    The rules here serve every scale and do without.
    """

    def mark(rule: R) -> R:
        rule.serves = (minimum, maximum)  # type: ignore[attr-defined]
        return rule

    return mark


def check_scales(rule: Callable[..., Any], scale: torch.Tensor, sigma: torch.Tensor, schedule: Any) -> None:
    """Raise ValueError where ``scale`` leaves what :func:`serves` declared, naming rule, schedule and noise level."""
    while isinstance(rule, functools.partial):
        rule = rule.func
    minimum, maximum = getattr(rule, "serves", (None, None))
    if (minimum is None and maximum is None) or not readable(scale):
        return
    outside = scale.clamp(minimum, maximum) != scale
    if outside.any():
        limits = [f"from {minimum}"] * (minimum is not None) + [f"up to {maximum}"] * (maximum is not None)
        level, where = scale[outside][0].item(), sigma[outside][0].item()
        raise ValueError(
            f"the rule {rule.__name__} serves scales {' '.join(limits)}; the schedule {schedule} gives {level:g} at "
            f"sigma={where:g}: use another rule, or clip the schedule"
        )


@reduces_at(cond=True, uncond=True)
def linear(
    cond: torch.Tensor, uncond: torch.Tensor, scale: torch.Tensor, x: torch.Tensor, sigma: torch.Tensor
) -> torch.Tensor:
    """``uncond + scale * (cond - uncond)`` (Ho & Salimans 2022, arXiv 2207.12598)."""
    return (uncond + (cond - uncond) * scale).to(cond.dtype)


@reduces_at(cond=True, uncond=False)
def rescaled(
    cond: torch.Tensor,
    uncond: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    sigma: torch.Tensor,
    *,
    phi: float = 0.7,
    rule: Rule = linear,
) -> torch.Tensor:
    """The guided prediction with the standard deviation of the conditional one (Lin et al. 2024, arXiv 2305.08891).

    ``phi * guided * std(cond) / std(guided) + (1 - phi) * guided``, standard deviations over each sample's elements.
    Below scale 1 it works the other way too: it takes back contrast that a negative window gives.

    Args:
        phi: how much of the rescaling, 0 none, 1 all; the paper's 0.7.
        rule: makes the guided prediction.
    """
    guided = rule(cond, uncond, scale, x, sigma)
    wanted, spread = (flat(prediction).std(1, correction=0) for prediction in (cond, guided))
    # a prediction without any contrast has none to rescale
    ratio = torch.where(spread > 0, wanted / spread, 1).view_as(scale)
    return (guided * (1 + phi * (ratio - 1))).to(cond.dtype)


@reduces_at(cond=True, uncond=False)
def projected(
    cond: torch.Tensor,
    uncond: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    sigma: torch.Tensor,
    *,
    eta: float = 0.0,
    norm_threshold: float | None = None,
) -> torch.Tensor:
    """Adaptive projected guidance (APG, Sadat et al. 2025, arXiv 2410.02416), for less saturation at high scales.

    ``cond + (scale - 1) * (orthogonal + eta * parallel)``: the parts of ``cond - uncond`` orthogonal and parallel to
    ``cond``, per sample. Below scale 1 the same direction is taken backwards. The paper's momentum over steps is left
    out: it would make the prediction depend on the solver's history, and mid-steps and corrections would go wrong.

    Args:
        eta: share of the parallel part that stays; 1 without a threshold is the linear rule.
        norm_threshold: ``cond - uncond`` is shortened to this L2 norm per sample (in units of the data); None leaves
            it as it is.
    """
    onto, difference = flat(cond), flat(cond) - flat(uncond)
    if norm_threshold is not None:
        if norm_threshold <= 0:
            raise ValueError(f"projected: norm_threshold must be above 0, or None for no limit; got {norm_threshold}")
        length = torch.linalg.vector_norm(difference, dim=1, keepdim=True)
        difference = difference * (norm_threshold / length).clamp_max(1)  # a length of 0 divides to infinity, then 1
    update = difference - (1 - eta) * _along(difference, onto)
    return (cond + (scale - 1) * update.view_as(cond)).to(cond.dtype)


@reduces_at(cond=True, uncond=False)
def zero_star(
    cond: torch.Tensor, uncond: torch.Tensor, scale: torch.Tensor, x: torch.Tensor, sigma: torch.Tensor
) -> torch.Tensor:
    """CFG-Zero* (Fan et al. 2025, arXiv 2503.18886): the linear rule with the best multiple of ``uncond``.

    ``uncond`` becomes ``alpha * uncond``, ``alpha = <cond, uncond> / |uncond|**2`` per sample (0 where ``uncond`` is
    0). The paper projects velocities: ``partial(on_noise, rule=zero_star)``. The prediction that it sets to zero in
    the first steps is left out, as that depends on a step count.
    """
    multiple = _along(flat(cond), flat(uncond)).view_as(cond)
    return linear(cond, multiple, scale, x, sigma)


@reduces_at(cond=False, uncond=False)
def thresholded(
    cond: torch.Tensor,
    uncond: torch.Tensor,
    scale: torch.Tensor,
    x: torch.Tensor,
    sigma: torch.Tensor,
    *,
    quantile: float = 0.995,
    limit: float = 1.0,
    rule: Rule = linear,
) -> torch.Tensor:
    """Dynamic thresholding (Saharia et al. 2022, arXiv 2205.11487): guided values kept inside ``[-limit, limit]``.

    Per sample, ``s = max(limit, quantile of |guided|)``; values are clipped to ``[-s, s]`` and multiplied by
    ``limit / s``. For models of pixels, whose range is known. It changes a single prediction too, so no pass is ever
    left out.

    Args:
        quantile: of the absolute values, in [0, 1].
        limit: largest absolute value of the data.
        rule: makes the guided prediction.
    """
    guided = flat(rule(cond, uncond, scale, x, sigma))
    size = guided.abs().quantile(quantile, dim=1, keepdim=True).clamp_min(limit)
    return (guided.clamp(-size, size) * (limit / size)).view_as(cond).to(cond.dtype)


@reduces_at(cond=True, uncond=True)
def on_noise(
    cond: torch.Tensor, uncond: torch.Tensor, scale: torch.Tensor, x: torch.Tensor, sigma: torch.Tensor, *, rule: Rule
) -> torch.Tensor:
    """``rule`` applied to the noise predictions ``x - denoised``, sigma times epsilon, where many tools apply theirs.

    :func:`linear` is the same there; :func:`rescaled`, :func:`projected` and :func:`zero_star` depend on what they
    look at. The factor sigma makes no difference to them, except to ``norm_threshold``, which stays in units of the
    data.
    """
    return (x - rule(x - cond, x - uncond, scale, x, sigma)).to(cond.dtype)


def flat(prediction: torch.Tensor) -> torch.Tensor:
    """(N, elements of a sample), at least float32: sums over a sample overflow in half precision."""
    wide = prediction if prediction.dtype in (torch.float32, torch.float64) else prediction.float()
    return wide.unsqueeze(-1).flatten(1)  # a sample may be one number, a batch may be empty


def _along(vectors: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """The part of each vector along its direction, (N, D); none where the direction is zero."""
    unit = torch.nn.functional.normalize(directions, dim=1)
    return (vectors * unit).sum(1, keepdim=True) * unit
