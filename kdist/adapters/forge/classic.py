"""The classic web UI (AUTOMATIC1111): its ``CFGDenoiser`` is told the scale by keyword in every call.

There the schedule's scale is put in; both passes are always run. Samplers of timesteps (DDIM, PLMS, UniPC) call it with
a timestep where the others say sigma.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

# absolute: as an extension this folder is not part of the package
from kdist.schedules.evaluate import scale_of_rows

__all__ = ["schedule_denoiser"]


def schedule_denoiser(denoiser: Any, schedule: Any, levels: Callable[[], Any] | None = None) -> None:
    """Have the web UI's denoiser follow a schedule, until it is made anew for the next job.

    Args:
        denoiser: ``p.sampler.model_wrap_cfg``, called as ``denoiser(x, sigma, uncond=..., cond=..., cond_scale=...)``.
        schedule: a :class:`kdist.Schedule`, or one in percent of the steps, ``schedule.on(sigmas)``.
        levels: gives the run's noise levels, for schedules in percent.
    """
    placed: list[Any] = []
    original = getattr(denoiser.forward, "kdist_replaces", denoiser.forward)

    @functools.wraps(original)
    def forward(x: torch.Tensor, sigma: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if "cond_scale" not in kwargs:
            raise ValueError("kdist: this web UI's sampler does not name its CFG scale, so no schedule can set it")
        if not placed:
            found = levels() if levels is not None and hasattr(schedule, "on") else None
            if hasattr(schedule, "on") and found is None:
                raise ValueError(
                    "kdist: this sampler does not say its noise levels: give them in sigma, not in percent"
                )
            placed.append(schedule.on(found) if hasattr(schedule, "on") else schedule)
        scales = set(scale_of_rows(placed[0], _sigma(denoiser, sigma)).tolist())
        if len(scales) > 1:
            raise ValueError("kdist: the rows of this batch are at different noise levels, but there is one CFG scale")
        return original(x, sigma, *args, **{**kwargs, "cond_scale": scales.pop()})

    forward.kdist_replaces = original  # type: ignore[attr-defined]
    denoiser.forward = forward


def _sigma(denoiser: Any, level: torch.Tensor) -> torch.Tensor:
    if "Timesteps" not in type(denoiser).__name__:
        return level.flatten().float()
    alphas = denoiser.inner_model.inner_model.alphas_cumprod.float()
    alpha = alphas[level.flatten().round().long().clamp(0, len(alphas) - 1).to(alphas.device)]
    return ((1 - alpha) / alpha).sqrt()
