"""Several conditions at once, each with its weight.

    denoised = uncond + scale * (sum_i weight_i * cond_i - uncond),        sum_i weight_i = 1

Composition of diffusion models by conjunction (Liu et al. 2022, arXiv 2206.01714): the scores of the conditions are
added with weights, here with weights that sum to 1, so that the schedule alone sets the strength and its scales mean
what they mean for one condition. A negative weight steers away from a condition.

A *negative prompt* is less than this: it takes the place of the unconditional prediction, so it is an override,
``kdist.guide(model, schedule, uncond={"cond": negative})``, and costs nothing extra.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from .conditioning import Uncond, unconditional_args
from .guided import GuidedDenoiser, ScaleLike, _Call

__all__ = ["ComposedDenoiser"]


class ComposedDenoiser(GuidedDenoiser):
    """A guided model whose condition ``key`` is a sequence of conditions.

        guided = ComposedDenoiser(model, 4.0, weights=(0.7, 0.3), key="class_cond", uncond={"class_cond": 10})
        sampler(guided, noise, sigmas, extra_args={"class_cond": (y_first, y_second)})

    Every condition is one conditional pass, and :attr:`nfe` counts them: 1 + len(weights) per guided call, where
    ``schedule.nfe`` counts one condition. Skipping works as ever, row by row.

    Args:
        model, schedule, uncond, options: see :func:`kdist.guide`.
        weights: one for each condition, of sum 1.
        key: the condition in ``extra_args``, a sequence as long as ``weights``.

    Raises:
        ValueError: weights that do not sum to 1.
    """

    def __init__(
        self,
        model: Callable[..., torch.Tensor],
        schedule: ScaleLike,
        *,
        weights: Sequence[float],
        uncond: Uncond,
        key: str = "class_cond",
        **options: Any,
    ) -> None:
        super().__init__(model, schedule, uncond=uncond, **options)
        self.weights = tuple(float(weight) for weight in weights)
        self.key = key
        # math.isclose: thirds and tenths do not sum to 1 exactly
        if not math.isclose(sum(self.weights), 1, abs_tol=1e-6):
            raise ValueError(f"weights must sum to 1, the schedule sets the strength; got {self.weights}")

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, **extra_args: Any) -> torch.Tensor:
        """Guided prediction, (N, ...); see :meth:`GuidedDenoiser.forward`.

        Raises:
            ValueError: ``extra_args[key]`` is not a sequence with one condition per weight.
        """
        assert self.schedule is not None
        conditions = extra_args.get(self.key)
        if not isinstance(conditions, (list, tuple)) or len(conditions) != len(self.weights):
            found = f"{len(conditions)}" if isinstance(conditions, (list, tuple)) else type(conditions).__name__
            raise ValueError(f"{self.key} must be a sequence of {len(self.weights)} conditions; got {found}")
        uncond_args = unconditional_args({**extra_args, self.key: conditions[0]}, self.uncond, len(x))
        return self._denoise(x, sigma, self.schedule, extra_args, uncond_args)

    def _predict(
        self, x: torch.Tensor, call: _Call, cond_rows: list[int], uncond_rows: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The weighted sum of the conditional predictions; the unconditional one comes with the first of them."""
        variants = [
            (weight, call._replace(cond_args={**call.cond_args, self.key: condition}))
            for weight, condition in zip(self.weights, call.cond_args[self.key], strict=True)
        ]
        weight, first = variants[0]
        cond, uncond = super()._predict(x, first, cond_rows, uncond_rows)
        total = weight * cond
        for weight, variant in variants[1:] if cond_rows else []:
            total = total + weight * super()._predict(x, variant, cond_rows, [])[0]
        return total, uncond
