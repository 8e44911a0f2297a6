"""The schedule as one of Forge's conditioning modifiers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

# absolute: as an extension this folder is not part of the package
from kdist.schedules.evaluate import scale_of_rows
from kdist.schedules.terms import flow_to_sigma

__all__ = ["conditioning_modifier", "refuse", "sigma_of"]

Modifier = Callable[..., tuple[Any, ...]]


def conditioning_modifier(
    schedule: Any, levels: Callable[[], Sequence[float] | torch.Tensor] | None = None, needs_uncond: Any = None
) -> Modifier:
    """For ``unet.add_conditioning_modifier``.

    Args:
        schedule: a :class:`kdist.Schedule`, or one in percent of the steps, ``schedule.on(sigmas)``.
        levels: gives the run's noise levels, as the sampler has them; for schedules in percent.
        needs_uncond: whether the sampler itself reads the unconditional prediction (DDIM CFG++), ``() -> bool``.
    """
    placed: list[Any] = []

    def modify(
        model: Any, x: Any, timestep: torch.Tensor, uncond: Any, cond: Any, cond_scale: float, options: Any, seed: Any
    ) -> tuple[Any, ...]:
        if not placed:
            placed.append(_placed(schedule, model, levels))
        sigma = sigma_of(model, timestep)
        values = set(scale_of_rows(placed[0], sigma).tolist())
        if len(values) > 1:
            raise ValueError("kdist: the rows of this batch are at different noise levels, but Forge has one CFG scale")
        (scale,) = values
        if scale != 1 and uncond is None:
            raise ValueError(
                f"kdist: the scale is {scale:g} at sigma {float(sigma[0]):g}, which needs the negative prompt, and at "
                "CFG scale 1 the web UI makes none: set CFG scale to any other value, the schedule replaces it"
            )
        looked_at = any(options.get(f"sampler_{when}_cfg_function") for when in ("pre", "post"))
        # prompts composed with AND have strengths that Forge multiplies the scale by
        whole = sum(entry.get("strength", 1) for entry in cond) == 1
        own = "sampler_cfg_function" in options or (needs_uncond is not None and needs_uncond())
        if looked_at or own or not whole:
            options = {**options, "disable_cfg1_optimization": True}
        elif scale == 0:
            cond = []  # uncond + 0 * (zeros - uncond): the unconditional prediction alone
        return model, x, timestep, uncond, cond, scale, options, seed

    return modify


def refuse(message: str) -> Modifier:
    """A modifier that stops the job with this sentence: the web UI shows it, while it only logs a script's errors."""

    def modify(*_: Any, **__: Any) -> tuple[Any, ...]:
        raise ValueError(message)

    return modify


def _placed(schedule: Any, model: Any, levels: Callable[[], Any] | None) -> Any:
    if not hasattr(schedule, "on"):
        return schedule
    found = None if levels is None else levels()
    if found is None:
        raise ValueError(
            "kdist: this sampler does not say its noise levels: give them in sigma, not in percent of steps"
        )
    return schedule.on(sigma_of(model, torch.as_tensor(found)).tolist())


def sigma_of(model: Any, levels: torch.Tensor) -> torch.Tensor:
    """Forge's noise levels in kdist's terms, float32: sigma = s / (1 - s) for a flow (Flux, SD3)."""
    levels = levels.flatten().float()
    flow = getattr(getattr(model, "predictor", None), "prediction_type", None) == "const"
    return flow_to_sigma(levels) if flow else levels
