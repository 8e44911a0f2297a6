"""A schedule in ComfyUI's sampling: the guider's own cfg, set anew for every call of the network.

A ``PREDICT_NOISE`` wrapper stands around every call that a sampler makes. It sets the guider's scale there (as core's
CFGOverride node does), so whatever reads the scale later gets the schedule's: other guidance nodes (CFGZeroStar, APG,
RescaleCFG, TCFG), other guiders, CFG++ samplers.

The trap: ComfyUI hands over *zeros* for a pass that was not run (its own shortcut at cfg 1, a condition outside its
range of steps, another node's doing), and guidance with zeros is wrong without any error. So its shortcut is switched
off, passes are left out here, only where nobody else looks at them, and a missing prediction is replaced by the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

# absolute: as a custom node this folder is not part of the package
from kdist import Schedule, rules
from kdist.adapters.reading import check_rows
from kdist.schedules.evaluate import scale_of_rows
from kdist.schedules.terms import flow_to_sigma

from .weak import attach_weak_model, predict_weakly

__all__ = ["apply_schedule"]

KEY = "kdist"


def apply_schedule(
    model: Any,
    schedule: Any,
    *,
    rule: rules.Rule | None = None,
    weak_model: Any = None,
) -> Any:
    """A copy of the model (a ComfyUI ``ModelPatcher``) that is guided by ``schedule`` instead of the sampler's cfg.

    Args:
        model: also one that has been here before: the last schedule holds.
        schedule: a :class:`kdist.Schedule`, or one in other terms than sigma that is placed on the levels of each run,
            ``schedule.on(sigmas)``.
        rule: A rule of :mod:`kdist.rules`; None leaves the combination to ComfyUI and to nodes that change it.
        weak_model: a ``ModelPatcher`` that predicts instead of the negative prompt, from the positive one
            (autoguidance, arXiv 2406.02507).

    Raises:
        ValueError: a schedule for class labels, or a weak model that does not fit.
    """
    check_rows(schedule)
    model = model.clone()
    if not hasattr(model, "add_wrapper_with_key"):
        raise RuntimeError("this ComfyUI has no wrappers around its samplers (0.3.13 or newer is needed): update it")
    model.remove_wrappers_with_key("predict_noise", KEY)
    model.add_wrapper_with_key("predict_noise", KEY, _Guidance(schedule, rule, weak_model is not None))
    if weak_model is not None:
        attach_weak_model(model, weak_model)
    return model


@dataclass(frozen=True)
class _Guidance:
    """The wrapper: ``guidance(executor, x, timestep, model_options, seed)`` as ComfyUI calls it."""

    schedule: Any
    rule: rules.Rule | None
    has_weak_model: bool

    def __call__(
        self,
        executor: Any,
        x: torch.Tensor,
        timestep: torch.Tensor,
        model_options: Any = None,
        *rest: Any,
        **named: Any,
    ) -> torch.Tensor:
        guider, options = executor.class_obj, dict(model_options or {})
        sigma = sigma_of(guider.inner_model, timestep)
        scale = scale_of_rows(self._schedule_of_run(guider, options), sigma)
        values = scale.tolist()
        self._check(guider, options, values, float(timestep.flatten()[0]))
        if _is_pair(guider):
            options |= self._options_of_call(guider, options, scale, values, sigma)
        with _scale_of(guider, values[0]):
            denoised = executor(x, timestep, options, *rest, **named)
        if values[0] == 0 and options.get("sampler_pre_cfg_function") and not denoised.isfinite().all():
            raise ValueError(
                f"at sigma={float(sigma[0]):g} the schedule's scale is 0, by which another node divides (APG does): "
                "use the rule 'projected' of kdist instead, or a schedule without 0"
            )
        return denoised

    def _schedule_of_run(self, guider: Any, options: dict[str, Any]) -> Schedule:
        if not hasattr(self.schedule, "on"):
            return self.schedule
        levels = options.get("transformer_options", {}).get("sample_sigmas")
        if levels is None:
            raise ValueError("this sampler does not say its noise levels: give the schedule in sigma, not in steps")
        return self.schedule.on(sigma_of(guider.inner_model, levels).tolist())

    def _check(self, guider: Any, options: dict[str, Any], values: list[float], level: float) -> None:
        name = type(guider).__name__.replace("_", " ")
        if not hasattr(guider, "cfg") and not hasattr(guider, "cfg1"):
            raise ValueError(f"{name} has no cfg that a schedule could set: use KSampler or CFGGuider")
        if self.rule is not None and "sampler_cfg_function" in options:
            raise ValueError(
                "two nodes combine the predictions, kdist's rule and another (RescaleCFG?): take one of them out"
            )
        if _is_pair(guider):
            return
        if self.rule is not None or self.has_weak_model:
            raise ValueError(
                f"{name} combines its predictions itself: rules and weak models need KSampler or CFGGuider"
            )
        if len(set(values)) > 1:
            raise ValueError(f"{name} has one cfg for the batch, but its rows are at different noise levels")
        missing = [prompt for prompt, conds in guider.conds.items() if conds and not covers(conds, level)]
        if missing:
            raise ValueError(
                f"the {missing[0]} prompt is limited to a range of steps and says nothing at {level:g}; {name} would "
                "compute with zeros there: use KSampler or CFGGuider, or take the range away"
            )
        # 1 when the run began: the second model was not loaded
        if hasattr(guider, "uncond_inner") and guider.uncond_inner is None and values[0] != 1:
            raise ValueError(
                "with cfg 1 DualModelGuider leaves its negative model unloaded: set its cfg to another value"
            )

    def _options_of_call(
        self, guider: Any, options: dict[str, Any], scale: torch.Tensor, values: list[float], sigma: torch.Tensor
    ) -> dict[str, Any]:
        rule = rules.linear if self.rule is None else self.rule
        # whoever is called before or after the combination may look at both predictions (CFG++ samplers do)
        unseen = not options.get("sampler_pre_cfg_function") and not options.get("sampler_post_cfg_function")
        alone = rules.reductions(rule) if unseen and "sampler_cfg_function" not in options else (False, False)
        wanted = (set(values) != {0.0} or not alone[1], set(values) != {1.0} or not alone[0])
        weak = guider.model_patcher if self.has_weak_model else None
        changed = {
            "disable_cfg1_optimization": True,
            "sampler_calc_cond_batch_function": _pass_runner(
                wanted, options.get("sampler_calc_cond_batch_function"), weak
            ),
        }
        if self.rule is not None or (len(set(values)) > 1 and "sampler_cfg_function" not in options):
            changed["sampler_cfg_function"] = _combiner(rule, scale, sigma, is_flow(guider.inner_model))
        return changed


def _pass_runner(
    wanted: tuple[bool, bool], earlier: Callable[[dict[str, Any]], Any] | None, weak: Any
) -> Callable[[dict[str, Any]], Any]:
    """``earlier`` is the hook of another node, asked for the predictions instead of ComfyUI itself."""

    def run(args: dict[str, Any], conds: list[Any]) -> list[torch.Tensor]:
        if earlier is not None:
            return list(earlier({**args, "conds": conds}))
        import comfy.samplers  # there only inside ComfyUI

        return comfy.samplers.calc_cond_batch(args["model"], conds, args["input"], args["sigma"], args["model_options"])

    def run_passes(args: dict[str, Any]) -> list[torch.Tensor]:
        conds, level = list(args["conds"]), float(args["sigma"].flatten()[0])
        if len(conds) != 2:
            return run(args, conds)  # a sampler with more conditions combines them itself
        if weak is not None:
            conds[1] = conds[0]
        if wanted[1] and not conds[1]:
            raise ValueError(
                "this schedule needs an unconditional prediction, but the sampler has no negative condition: use "
                "KSampler or CFGGuider with a negative prompt (BasicGuider has none)"
            )
        there = [covers(entries, level) for entries in conds]
        if not any(there):
            raise ValueError(f"no prompt says anything at noise level {level:g}: all are limited to other steps")
        runs = [want and has for want, has in zip(wanted, there, strict=True)]
        runs = runs if any(runs) else there
        found: list[torch.Tensor | None] = [None, None]
        if weak is None:
            found = [*run(args, [entries if use else None for entries, use in zip(conds, runs, strict=True)])]
        else:
            found[0] = run(args, [conds[0], None])[0] if runs[0] else None
            found[1] = predict_weakly(weak, conds[1], args) if runs[1] else None
        cond, uncond = (prediction if use else None for prediction, use in zip(found, runs, strict=True))
        return [_unless_zero(cond, uncond), _unless_zero(uncond, cond)]

    return run_passes


def _combiner(
    rule: rules.Rule, scale: torch.Tensor, sigma: torch.Tensor, flow: bool
) -> Callable[[dict[str, Any]], torch.Tensor]:
    def combine(args: dict[str, Any]) -> torch.Tensor:
        x = args["input"]
        per_row = (-1, *(1,) * (x.ndim - 1))
        level = sigma.view(per_row)
        exploding = x * (1 + level).to(x.dtype) if flow else x
        guided = rule(args["cond_denoised"], args["uncond_denoised"], scale.view(per_row), exploding, level)
        return x - guided

    return combine


def covers(entries: Any, level: float) -> bool:
    """Whether a condition (ComfyUI's list of entries) predicts anything at this noise level of the sampler."""

    def outside(entry: dict[str, Any]) -> bool:
        start, end = entry.get("timestep_start"), entry.get("timestep_end")
        return (start is not None and level > start) or (end is not None and level < end)

    return any(not outside(entry) for entry in entries or [])


def _is_pair(guider: Any) -> bool:
    """Whether the guider combines one positive and one negative prediction by ComfyUI's own function."""
    return not any(hasattr(guider, own) for own in ("neg_scale", "cfg1", "uncond_model_patcher"))


@contextlib.contextmanager
def _scale_of(guider: Any, scale: float) -> Iterator[None]:
    """The guider at this scale. Of DualCFGGuider's two the first (between its two prompts) is the schedule's."""
    name = "cfg1" if hasattr(guider, "cfg1") else "cfg"
    before = getattr(guider, name)
    setattr(guider, name, scale)
    try:
        yield
    finally:
        setattr(guider, name, before)


def _unless_zero(denoised: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor:
    """``denoised``, or ``other`` where that pass was not run; decided on the device, without waiting for it."""
    if denoised is None or other is None:
        return other if denoised is None else denoised  # type: ignore[return-value]
    return torch.where(denoised.any(), denoised, other)


def is_flow(network: Any) -> bool:
    """Whether the model counts noise from 0 to 1 (SD3, Flux, Wan, ...)."""
    return any(base.__name__ == "CONST" for base in type(getattr(network, "model_sampling", None)).__mro__)


def sigma_of(network: Any, levels: torch.Tensor) -> torch.Tensor:
    """The sampler's noise levels in kdist's terms, float32: sigma = s / (1 - s) for a flow."""
    levels = levels.flatten().float()
    return flow_to_sigma(levels) if is_flow(network) else levels
