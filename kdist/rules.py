"""Guidance rules: how the conditional and the unconditional prediction become one.

A rule is a function ``rule(cond, uncond, scale, x, sigma) -> denoised``: ``cond``, ``uncond`` and ``x`` are (N, ...)
tensors, ``scale`` (k-diffusion's convention, float32 or float64) and ``sigma`` have shape (N, 1, ...), ready to
broadcast; the result has the shape and dtype of ``cond``.

Decorated with :func:`reduces_at`, a rule says at which scales it equals one prediction alone: there the other network
pass is not run. An undecorated rule always gets both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import torch

__all__ = ["Rule", "linear", "reduces_at"]

Rule: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
R = TypeVar("R", bound=Rule)


def reduces_at(*, cond: bool, uncond: bool) -> Callable[[R], R]:
    """Mark a rule: ``cond``, at scale 1 it returns ``cond``; ``uncond``, at scale 0 it returns ``uncond``."""

    def mark(rule: R) -> R:
        rule.reduces_to_cond, rule.reduces_to_uncond = cond, uncond  # type: ignore[attr-defined]
        return rule

    return mark


@reduces_at(cond=True, uncond=True)
def linear(
    cond: torch.Tensor, uncond: torch.Tensor, scale: torch.Tensor, x: torch.Tensor, sigma: torch.Tensor
) -> torch.Tensor:
    """``uncond + scale * (cond - uncond)`` (Ho & Salimans 2022, arXiv 2207.12598)."""
    return (uncond + (cond - uncond) * scale).to(cond.dtype)
