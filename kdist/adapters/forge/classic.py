"""The classic web UI (AUTOMATIC1111): its ``CFGDenoiser`` is told the scale by keyword in every call.

There the schedule's scale is put in; both passes are always run. Samplers of timesteps (DDIM, PLMS, UniPC) call it with
a timestep where the others say sigma, and Stable Diffusion 3 with a flow's ``s``.

The trap: where the web UI leaves out the negative prompt's pass by itself, it computes with scale 1, whatever it was
told. "Negative Guidance minimum sigma" comes as an argument and is taken away; "Ignore negative prompt during early
sampling" is an option that is read inside, and is refused.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

# absolute: as an extension this folder is not part of the package
from kdist.schedules.evaluate import scale_of_rows
from kdist.schedules.terms import flow_to_sigma

__all__ = ["schedule_denoiser"]


def schedule_denoiser(
    denoiser: Any,
    schedule: Any,
    levels: Callable[[], Any] | None = None,
    *,
    flow: bool = False,
    options: Any = None,
) -> None:
    """Have the web UI's denoiser follow a schedule, until it is made anew for the next job.

    Args:
        denoiser: ``p.sampler.model_wrap_cfg``, called as ``denoiser(x, sigma, uncond=..., cond=..., cond_scale=...)``.
        schedule: a :class:`kdist.Schedule`, or one in percent of the steps, ``schedule.on(sigmas)``.
        levels: gives the run's noise levels, for schedules in percent.
        flow: the levels are a flow's ``s`` (Stable Diffusion 3).
        options: ``modules.shared.opts``.

    Raises:
        ValueError: raised by the first call: no levels for a schedule in percent, or the option that leaves
            out early negative prompts.
    """
    placed: list[Any] = []
    original = getattr(denoiser.forward, "kdist_replaces", denoiser.forward)

    @functools.wraps(original)
    def forward(x: torch.Tensor, sigma: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if "cond_scale" not in kwargs:
            raise ValueError("kdist: this web UI's sampler does not name its CFG scale, so no schedule can set it")
        if getattr(options, "skip_early_cond", 0):
            raise ValueError(
                'kdist: the option "Ignore negative prompt during early sampling" leaves out passes that the schedule '
                "needs: set it to 0"
            )
        if not placed:
            placed.append(_placed(schedule, levels, flow))
        scales = set(scale_of_rows(placed[0], _sigma(denoiser, sigma, flow)).tolist())
        if len(scales) > 1:
            raise ValueError("kdist: the rows of this batch are at different noise levels, but there is one CFG scale")
        told = {"cond_scale": scales.pop(), **({"s_min_uncond": 0.0} if "s_min_uncond" in kwargs else {})}
        return original(x, sigma, *args, **{**kwargs, **told})

    forward.kdist_replaces = original  # type: ignore[attr-defined]
    denoiser.forward = forward


def _placed(schedule: Any, levels: Callable[[], Any] | None, flow: bool) -> Any:
    if not hasattr(schedule, "on"):
        return schedule
    found = None if levels is None else levels()
    if found is None:
        raise ValueError("kdist: this sampler does not say its noise levels: give them in sigma, not in percent")
    return schedule.on(flow_to_sigma(torch.as_tensor(found)).tolist() if flow else found)


def _sigma(denoiser: Any, level: torch.Tensor, flow: bool) -> torch.Tensor:
    level = level.flatten().float()
    if "Timesteps" not in type(denoiser).__name__:
        return flow_to_sigma(level) if flow else level
    alphas = denoiser.inner_model.inner_model.alphas_cumprod.float().to(level.device)
    log_sigmas = ((1 - alphas) / alphas).log() / 2
    level = level.clamp(0, len(alphas) - 1)
    before = level.long()  # UniPC is between two timesteps
    after = (before + 1).clamp_max(len(alphas) - 1)
    return torch.lerp(log_sigmas[before], log_sigmas[after], level - before).exp()
