"""A schedule in ComfyUI's sampling, through two of its model options.

``sampler_calc_cond_batch_function`` runs the passes: there the ones that the scale does not need are left out.
``sampler_cfg_function`` combines them: it gets the noise level, and differences ``input - denoised``, and returns one.

The trap: ComfyUI hands over *zeros* for a pass that was not run (its own shortcut at cfg 1, a condition that is not
there or outside its step range, another node's doing), and guidance with zeros is wrong without any error. So the
shortcut is switched off, and a prediction that was left out is replaced by the other one, with which every formula that
is linear in the two gives that one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

# absolute: as a custom node this folder is not part of the package
from kdist import Schedule
from kdist.schedules.evaluate import host_values, scale_of_rows

__all__ = ["apply_schedule"]

_LARGEST_SIGMA = 1e4  # a flow starts at an infinite sigma; this stands for it


def apply_schedule(model: Any, schedule: Schedule) -> Any:
    """A copy of the model (a ComfyUI ``ModelPatcher``) that is guided by ``schedule`` instead of the sampler's cfg."""
    model = model.clone()
    earlier = model.model_options.get("sampler_calc_cond_batch_function")
    model.set_model_sampler_calc_cond_batch_function(_pass_runner(schedule, earlier))
    model.set_model_sampler_cfg_function(_combiner(schedule), disable_cfg1_optimization=True)
    return model


def _pass_runner(
    schedule: Schedule, earlier: Callable[[dict[str, Any]], Any] | None
) -> Callable[[dict[str, Any]], Any]:
    """``earlier`` is the hook of a node before this one, asked for the predictions instead of ComfyUI itself."""

    def run(args: dict[str, Any], conds: list[Any]) -> Any:
        if earlier is not None:
            return earlier({**args, "conds": conds})
        import comfy.samplers  # there only inside ComfyUI

        return comfy.samplers.calc_cond_batch(args["model"], conds, args["input"], args["sigma"], args["model_options"])

    def run_passes(args: dict[str, Any]) -> Any:
        conds = args["conds"]
        if len(conds) != 2:
            return run(args, conds)  # a sampler with more conditions combines them itself
        cond, uncond = conds
        values = host_values(schedule, _scales(schedule, args))
        # a batch shares its noise level in ComfyUI; where it should not, both passes are run
        if values is not None and set(values) == {1.0}:
            denoised = run(args, [cond, None])[0]
            return [denoised, denoised]
        if uncond is None:
            raise ValueError(
                "this schedule needs an unconditional prediction, but the sampler has no negative condition: use "
                "KSampler or CFGGuider with a negative prompt (BasicGuider has none)"
            )
        if values is not None and set(values) == {0.0}:
            denoised = run(args, [None, uncond])[1]
            return [denoised, denoised]
        return run(args, conds)

    return run_passes


def _combiner(schedule: Schedule) -> Callable[[dict[str, Any]], torch.Tensor]:
    def combine(args: dict[str, Any]) -> torch.Tensor:
        cond, uncond = args["cond_denoised"], args["uncond_denoised"]
        cond, uncond = _unless_zero(cond, uncond), _unless_zero(uncond, cond)
        x = args["input"]
        scale = _scales(schedule, args).to(x.dtype).view(-1, *(1,) * (x.ndim - 1))
        return x - (uncond + scale * (cond - uncond))

    return combine


def _unless_zero(denoised: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor:
    """``denoised``, or ``other`` where that pass was not run; decided on the device, without waiting for it."""
    if denoised is None or other is None:
        return other if denoised is None else denoised  # type: ignore[return-value]
    return torch.where(denoised.any(), denoised, other)


def _scales(schedule: Schedule, args: dict[str, Any]) -> torch.Tensor:
    """The scale of every row. Flow models (SD3, Flux) count noise from 0 to 1: sigma = s / (1 - s) in kdist's terms."""
    sigma = args["sigma"].flatten().float()
    sampling = getattr(args["model"], "model_sampling", None)
    if any(base.__name__ == "CONST" for base in type(sampling).__mro__):
        sigma = (sigma / (1 - sigma).clamp_min(1e-12)).clamp_max(_LARGEST_SIGMA)
    return scale_of_rows(schedule, sigma)
