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
import math
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import torch

from .schedules.levels import readable

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
"""The type of a rule: ``(cond, uncond, scale, x, sigma) -> denoised``."""
R = TypeVar("R", bound=Callable[..., torch.Tensor])


def reduces_at(*, cond: bool, uncond: bool) -> Callable[[R], R]:
    """Mark a rule: ``cond``, at scale 1 it returns ``cond``; ``uncond``, at scale 0 it returns ``uncond``.

    Examples:
        >>> from kdist.rules import reduces_at, reductions
        >>> @reduces_at(cond=True, uncond=False)
        ... def halved(cond, uncond, scale, x, sigma):
        ...     return cond + (scale - 1) / 2 * (cond - uncond)
        >>> reductions(halved)  # the unconditional pass is left out at scale 1
        (True, False)
    """

    def mark(rule: R) -> R:
        rule.reduces_to_cond, rule.reduces_to_uncond = cond, uncond  # type: ignore[attr-defined]
        return rule

    return mark


def reductions(rule: Callable[..., Any]) -> tuple[bool, bool]:
    """The marks of :func:`reduces_at`, (False, False) without.

    Seen through :func:`functools.partial`: with a ``rule`` inside, only what both of them promise.

    Examples:
        >>> from kdist.rules import linear, projected, reductions
        >>> reductions(linear), reductions(projected)
        ((True, True), (True, False))
    """
    if isinstance(rule, functools.partial):
        outer, inner = reductions(rule.func), reductions(rule.keywords.get("rule", linear))
        return outer[0] and inner[0], outer[1] and inner[1]
    return getattr(rule, "reduces_to_cond", False), getattr(rule, "reduces_to_uncond", False)


def serves(*, minimum: float = -math.inf, maximum: float = math.inf) -> Callable[[R], R]:
    """Mark a rule that is right only for some scales; where a schedule leaves them it raises ValueError.

    Checking reads the scales, so on an accelerator a rule with this mark costs one synchronisation per network call.
    The rules here serve every scale and do without.

    Examples:
        >>> import kdist, torch
        >>> @kdist.rules.serves(minimum=1.0)
        ... def at_least_one(cond, uncond, scale, x, sigma):
        ...     return kdist.rules.linear(cond, uncond, scale, x, sigma)
        >>> model = lambda x, sigma, class_cond: x
        >>> guided = kdist.guide(model, 0.5, uncond={"class_cond": 0}, rule=at_least_one)
        >>> try:
        ...     guided(torch.zeros(1, 2), torch.ones(1), class_cond=torch.tensor([1]))
        ... except ValueError as error:
        ...     print(str(error).split(";")[0])
        the rule at_least_one serves scales from 1 to inf
    """

    def mark(rule: R) -> R:
        @functools.wraps(rule)
        def checked(cond: torch.Tensor, uncond: torch.Tensor, scale: torch.Tensor, x: torch.Tensor, sigma: torch.Tensor,
                    **options: Any) -> torch.Tensor:  # fmt: skip
            outside = (scale < minimum) | (scale > maximum)
            if readable(outside) and outside.any():
                level, where = scale[outside][0].item(), sigma[outside][0].item()
                raise ValueError(
                    f"the rule {rule.__name__} serves scales from {minimum:g} to {maximum:g}; the schedule gives "
                    f"{level:g} at sigma={where:g}: use another rule, or clip the schedule"
                )
            return rule(cond, uncond, scale, x, sigma, **options)

        return checked  # type: ignore[return-value]

    return mark


@reduces_at(cond=True, uncond=True)
def linear(
    cond: torch.Tensor, uncond: torch.Tensor, scale: torch.Tensor, x: torch.Tensor, sigma: torch.Tensor
) -> torch.Tensor:
    """``uncond + scale * (cond - uncond)`` (Ho & Salimans 2022, arXiv 2207.12598).

    Examples:
        >>> import torch
        >>> from kdist.rules import linear
        >>> cond, uncond = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 1.0]])
        >>> scale, x, sigma = torch.tensor([[3.0]]), torch.zeros(1, 2), torch.ones(1)
        >>> linear(cond, uncond, scale, x, sigma)
        tensor([[ 4., -2.]])
    """
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

    Examples:
        >>> import torch
        >>> from kdist.rules import rescaled
        >>> cond, uncond = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 1.0]])
        >>> scale, x, sigma = torch.tensor([[3.0]]), torch.zeros(1, 2), torch.ones(1)
        >>> rescaled(cond, uncond, scale, x, sigma)
        tensor([[ 2.1333, -1.0667]])
    """
    if not 0 <= phi <= 1:
        raise ValueError(f"rescaled: phi is a share, 0 to 1; got {phi}")
    guided = rule(wide(cond), wide(uncond), scale, wide(x), sigma)  # half precision would round away small contrast
    wanted, spread = (flat(prediction).std(1, correction=0) for prediction in (cond, guided))
    # a prediction without any contrast has none to rescale, and no gradient of it
    some = spread > 0
    ratio = torch.where(some, wanted / torch.where(some, spread, 1), 1).view_as(scale)
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

    Examples:
        >>> import torch
        >>> from kdist.rules import projected
        >>> cond, uncond = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 1.0]])
        >>> scale, x, sigma = torch.tensor([[3.0]]), torch.zeros(1, 2), torch.ones(1)
        >>> projected(cond, uncond, scale, x, sigma)
        tensor([[ 2., -2.]])
    """
    onto, difference = flat(cond), flat(cond) - flat(uncond)
    if not math.isfinite(eta):
        raise ValueError(f"projected: eta must be finite; got {eta}")
    if norm_threshold is not None:
        if not 0 < norm_threshold < math.inf:
            raise ValueError(
                f"projected: norm_threshold must be above 0 and finite, or None for no limit; got {norm_threshold}"
            )
        length = torch.linalg.vector_norm(difference, dim=1, keepdim=True)
        difference = difference * (norm_threshold / length.clamp_min(norm_threshold))
    update = difference - (1 - eta) * along(difference, onto)
    return (cond + (scale - 1) * update.view_as(cond)).to(cond.dtype)


@reduces_at(cond=True, uncond=False)
def zero_star(
    cond: torch.Tensor, uncond: torch.Tensor, scale: torch.Tensor, x: torch.Tensor, sigma: torch.Tensor
) -> torch.Tensor:
    """CFG-Zero* (Fan et al. 2025, arXiv 2503.18886): the linear rule with the best multiple of ``uncond``.

    ``uncond`` becomes ``alpha * uncond``, ``alpha = <cond, uncond> / |uncond|**2`` per sample (0 where ``uncond`` is
    0). The paper projects velocities: ``partial(on_noise, rule=zero_star)``. The prediction that it sets to zero in
    the first steps is left out, as that depends on a step count.

    Examples:
        >>> import torch
        >>> from kdist.rules import zero_star
        >>> cond, uncond = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 1.0]])
        >>> scale, x, sigma = torch.tensor([[3.0]]), torch.zeros(1, 2), torch.ones(1)
        >>> zero_star(cond, uncond, scale, x, sigma)
        tensor([[ 4.0000, -2.0000]])
    """
    multiple = along(flat(cond), flat(uncond)).view_as(cond)
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
        quantile: Which quantile of the absolute values, in [0, 1]; linear between them.
        limit: largest absolute value of the data, above 0.
        rule: makes the guided prediction.

    Examples:
        >>> import torch
        >>> from kdist.rules import thresholded
        >>> cond, uncond = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 1.0]])
        >>> scale, x, sigma = torch.tensor([[3.0]]), torch.zeros(1, 2), torch.ones(1)
        >>> thresholded(cond, uncond, scale, x, sigma)
        tensor([[ 1.0000, -0.5013]])
    """
    if not 0 <= quantile <= 1:
        raise ValueError(f"thresholded: quantile is a share, 0 to 1; got {quantile}")
    if not 0 < limit < math.inf:
        raise ValueError(f"thresholded: limit must be above 0 and finite; got {limit}")
    guided = flat(rule(wide(cond), wide(uncond), scale, wide(x), sigma))
    if not guided.numel():
        return cond
    # torch.quantile refuses more than 16 million elements
    place = quantile * (guided.shape[1] - 1)
    low, high = (guided.abs().kthvalue(1 + end, dim=1).values for end in (math.floor(place), math.ceil(place)))
    size = torch.lerp(low, high, place - math.floor(place)).clamp_min(limit).unsqueeze(1)
    return (guided.clamp(-size, size) * (limit / size)).view_as(cond).to(cond.dtype)


@reduces_at(cond=True, uncond=True)
def on_noise(
    cond: torch.Tensor, uncond: torch.Tensor, scale: torch.Tensor, x: torch.Tensor, sigma: torch.Tensor, *, rule: Rule
) -> torch.Tensor:
    """``rule`` applied to the noise predictions ``x - denoised``, sigma times epsilon, where many tools apply theirs.

    :func:`linear` is the same there; :func:`rescaled`, :func:`projected` and :func:`zero_star` depend on what they
    look at. The factor sigma makes no difference to them, except to ``norm_threshold``, which stays in units of the
    data.

    Examples:
        >>> import torch
        >>> from kdist.rules import on_noise, projected
        >>> cond, uncond = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 1.0]])
        >>> scale, x, sigma = torch.tensor([[3.0]]), torch.zeros(1, 2), torch.ones(1)
        >>> on_noise(cond, uncond, scale, x, sigma, rule=projected)
        tensor([[ 2., -2.]])
    """
    x = wide(x)  # at high sigma, half precision would round the data away
    return (x - rule(x - cond, x - uncond, scale, x, sigma)).to(cond.dtype)


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in float32 at least."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def flat(prediction: torch.Tensor) -> torch.Tensor:
    """(N, elements of a sample), at least float32: sums over a sample overflow in half precision."""
    rows = wide(prediction)
    return rows.reshape(len(rows), math.prod(rows.shape[1:]))  # a sample may be one number, a batch may be empty


def along(vectors: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """The part of each vector along its direction, (N, D); none where the direction is zero."""
    unit = torch.nn.functional.normalize(directions, dim=1)
    return (vectors * unit).sum(1, keepdim=True) * unit
