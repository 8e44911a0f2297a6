"""Several conditions at once, each with its weight: a denoiser around a denoiser.

    denoised = uncond + scale * (sum_i weight_i * cond_i - uncond),        sum_i weight_i = 1

Composition of diffusion models by conjunction (Liu et al. 2022, arXiv 2206.01714): the scores of the conditions are
added with weights, here with weights that sum to 1, so that the schedule alone sets the strength and its scales mean
what they mean for one condition. A negative weight steers away from a condition.

:class:`Conjunction` makes the weighted sum, and :class:`ComposedDenoiser` guides it as any other denoiser.

A *negative prompt* is less than this: it takes the place of the unconditional prediction, so it is an override,
``kdist.guide(model, schedule, uncond={"cond": negative})``, and costs nothing extra.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from .conditioning import Uncond, Unjoinable, join, unconditional_args
from .guided import GuidedDenoiser, ScaleLike
from .wrapper import Wrapper

__all__ = ["ComposedDenoiser", "Conditions", "Conjunction"]


class Conditions(dict[int, Any]):
    """The conditions of one :class:`Conjunction`, by their place: ``Conditions(enumerate((first, second)))``."""


class Conjunction(Wrapper):
    """``sum_i weight_i * model(x, sigma, key=condition_i)`` where the condition is :class:`Conditions`.

    A single condition goes to the model as it is.

    Args:
        model: a denoiser.
        weights: one for each condition, of sum 1.
        key: the condition that is composed.
        batched: all conditions in one network call where they can share a batch.

    Raises:
        ValueError: weights that do not sum to 1.
    """

    def __init__(
        self,
        model: Callable[..., torch.Tensor],
        weights: Sequence[float],
        *,
        key: str = "class_cond",
        batched: bool = True,
    ) -> None:
        super().__init__(model)
        self.weights = tuple(float(weight) for weight in weights)
        self.key = key
        self.batched = batched
        # math.isclose: thirds and tenths do not sum to 1 exactly
        if not math.isclose(sum(self.weights), 1, abs_tol=1e-6):
            raise ValueError(f"weights must sum to 1, the schedule sets the strength; got {self.weights}")

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, **extra_args: Any) -> torch.Tensor:
        """The weighted sum of the predictions, (N, ...)."""
        conditions = extra_args.get(self.key)
        if not isinstance(conditions, Conditions):
            return self.inner_model(x, sigma, **extra_args)
        each = [{**extra_args, self.key: condition} for condition in conditions.values()]
        predictions = self._together(x, sigma, each) if self.batched else None
        if predictions is None:
            predictions = [self.inner_model(x, sigma, **args) for args in each]
        return sum(weight * denoised for weight, denoised in zip(self.weights, predictions, strict=True))  # type: ignore[return-value]

    def _together(
        self, x: torch.Tensor, sigma: torch.Tensor, each: list[dict[str, Any]]
    ) -> Sequence[torch.Tensor] | None:
        """One network call for all conditions; None where they cannot share a batch."""
        args = each[0]
        try:
            for number, more in enumerate(each[1:], start=1):
                args = join(args, more, (number * len(x), len(x)))
        except Unjoinable:
            return None
        count = len(each)
        return self.inner_model(torch.cat([x] * count), torch.cat([sigma] * count), **args).chunk(count)


class ComposedDenoiser(GuidedDenoiser):
    """A guided model whose condition ``key`` is a sequence of conditions.

        guided = ComposedDenoiser(model, 4.0, weights=(0.7, 0.3), key="class_cond", uncond={"class_cond": 10})
        sampler(guided, noise, sigmas, extra_args={"class_cond": (y_first, y_second)})

    Every condition is one conditional pass, and :attr:`nfe` counts them: 1 + len(weights) per guided call, where
    ``schedule.nfe`` counts one condition. Skipping works as ever, row by row.

    Args:
        model: The denoiser, as in :func:`kdist.guide`.
        schedule: A schedule or a constant scale, as there.
        uncond: The conditions of the unconditional pass, as there.
        options: The other options of :func:`kdist.guide`.
        weights: one for each condition, of sum 1.
        key: the condition in ``extra_args``, a sequence as long as ``weights``.

    Raises:
        ValueError: weights that do not sum to 1.

    Examples:
        >>> import kdist, torch
        >>> model = lambda x, sigma, class_cond: class_cond[:, None].float()  # stands for a network
        >>> guided = kdist.ComposedDenoiser(model, 2.0, weights=(0.75, 0.25), uncond={"class_cond": 0})
        >>> guided(torch.zeros(1, 1), torch.ones(1), class_cond=(torch.tensor([4]), torch.tensor([8])))
        tensor([[10.]])
    """

    def __init__(
        self,
        model: Callable[..., torch.Tensor],
        schedule: ScaleLike,
        *,
        weights: Sequence[float],
        uncond: Uncond,
        key: str = "class_cond",
        batched: bool = True,
        **options: Any,
    ) -> None:
        if not callable(model):
            raise TypeError(f"model must be callable; got {type(model).__name__}")
        composed = Conjunction(model, weights, key=key, batched=batched)
        super().__init__(composed, schedule, uncond=uncond, batched=batched, **options)

    def conditions(self, extra_args: Mapping[str, Any], batch: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """All conditions for the conditional pass; what is unconditional is told from the first of them.

        Raises:
            ValueError: ``extra_args[key]`` is not a sequence with one condition per weight.
        """
        given = extra_args.get(self.key)
        if not isinstance(given, (list, tuple)) or len(given) != len(self.weights):
            found = f"{len(given)}" if isinstance(given, (list, tuple)) else type(given).__name__
            raise ValueError(f"{self.key} must be a sequence of {len(self.weights)} conditions; got {found}")
        uncond_args = unconditional_args({**extra_args, self.key: given[0]}, self.uncond, batch)
        return {**extra_args, self.key: Conditions(enumerate(given))}, uncond_args

    def passes(self, args: Mapping[str, Any]) -> int:
        """One per condition."""
        return len(self.weights) if isinstance(args[self.key], Conditions) else 1
