"""Guidance for CompVis-style scripts, whose sampler hands both conditions and the scale to every call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .guided import GuidedDenoiser, ScaleLike, as_number
from .schedules import Constant, PerRow, Schedule

__all__ = ["CFGDenoiser"]


class CFGDenoiser(GuidedDenoiser):
    """The class that CompVis-style k-diffusion scripts use: ``forward(x, sigma, uncond, cond, cond_scale)``.

    Without a schedule it is constant guidance at ``cond_scale``. With one, ``cond_scale`` sets its peak,
    ``schedule.with_scale(cond_scale)``; None leaves the schedule as it is.

    Args:
        model: a denoiser that takes its condition as the keyword argument ``key``.
        schedule: A schedule or a scale, as for :func:`guide`. None keeps the classic behaviour.
        key: name of the condition; k-diffusion's Stable Diffusion wrappers call it ``cond``.
        options: ``rule``, ``batched``, ``check_finite`` as in :func:`guide`.

    Examples:
        >>> import kdist, torch
        >>> model = lambda x, sigma, cond: cond  # stands for a network
        >>> guided = kdist.CFGDenoiser(model, kdist.Interval(1, 0.3, 2))
        >>> x, uncond, cond = torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2)
        >>> guided(x, torch.ones(1), uncond=uncond, cond=cond, cond_scale=3.0)
        tensor([[3., 3.]])
    """

    def __init__(
        self,
        model: Callable[..., torch.Tensor],
        schedule: ScaleLike | None = None,
        *,
        key: str = "cond",
        **options: Any,
    ) -> None:
        super().__init__(model, schedule, **options)
        self.key = key

    def forward(  # type: ignore[override]
        self,
        x: torch.Tensor,
        sigma: torch.Tensor,
        uncond: Any,
        cond: Any,
        cond_scale: float | torch.Tensor | None = None,
        **extra_args: Any,
    ) -> torch.Tensor:
        """Guided prediction, (N, ...).

        Args:
            x: (N, ...) noisy samples.
            sigma: (N,) noise levels.
            uncond: the condition of the unconditional pass, a tensor (N, ...) or nested dicts and lists of them.
            cond: the condition of the conditional pass, of the same form.
            cond_scale: k-diffusion's guidance scale: a number, or one per row (a tensor of N numbers, any shape).
            extra_args: passed to both passes.

        Raises:
            ValueError: neither a schedule nor ``cond_scale``, or a ``cond_scale`` that the schedule cannot take.
        """
        schedule = self.schedule
        if cond_scale is not None:
            if schedule is not None and not isinstance(schedule, Schedule):
                raise ValueError("cond_scale sets the peak of a kdist Schedule; a plain function has none: pass None")
            schedule = _with_peak(Constant(1) if schedule is None else schedule, cond_scale, len(x))
        if schedule is None:
            raise ValueError("no guidance scale: pass cond_scale, or build CFGDenoiser with a schedule")
        return self._denoise(x, sigma, schedule, {self.key: cond, **extra_args}, {self.key: uncond, **extra_args})


def _with_peak(schedule: Schedule, cond_scale: Any, batch: int) -> Schedule:
    number = as_number(cond_scale)
    if number is None:
        try:
            peaks = [float(peak) for peak in torch.as_tensor(cond_scale).flatten().tolist()]
            if isinstance(cond_scale, bool):
                raise TypeError("True is no scale")
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"cond_scale must be a number, or one for each row; got {cond_scale!r}") from None
        if len(peaks) not in (1, batch):
            raise ValueError(f"cond_scale must be a number, or {batch}, one for each row; got {len(peaks)}")
        if len(peaks) > 1:
            return PerRow(schedule, peaks)
        number = peaks[0]
    return schedule.with_scale(number)
