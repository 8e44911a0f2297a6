"""All nodes of the pack: schedule families, any schedule as text, rules, the curve."""

from __future__ import annotations

import functools
import os
from typing import Any

try:
    # absolute: as a custom node this folder is not part of the package
    import kdist
except ImportError as error:
    raise ImportError(
        "install kdist for the Python that runs ComfyUI: "
        'python -m pip install "kdist @ git+https://github.com/kdist/kdist"'
    ) from error

from kdist import rules
from kdist.adapters.reading import read_schedule

from .curve import ScheduleCurveNode
from .families import CATEGORY, FAMILIES, GUIDANCE_INPUTS
from .hooks import apply_schedule

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]


class ScheduleFromTextNode:
    """Any schedule: a designed one from JSON, or one line of text."""

    RETURN_TYPES = ("MODEL", "KDIST_SCHEDULE")
    RETURN_NAMES = ("model", "schedule")
    FUNCTION = "apply"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "A schedule as JSON (`kdist design` writes it; paste it, or give the file's path) or as text such as "
        "`interval:scale=7.5,sigma_lo=0.3,sigma_hi=5`. Replaces the cfg."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        text = ("STRING", {"multiline": True, "default": ""})
        return {"required": {"model": ("MODEL",), "schedule": text}, "optional": dict(GUIDANCE_INPUTS)}

    @classmethod
    def VALIDATE_INPUTS(cls, schedule: str | None = None) -> bool | str:
        """True, or what is wrong, shown before anything runs. None: the text comes from another node."""
        try:
            if schedule is not None:
                read_schedule(schedule)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def IS_CHANGED(cls, model: Any = None, schedule: str | None = None, **others: Any) -> str:
        """A file's contents count, not its name alone."""
        path = (schedule or "").strip()
        return f"{path}:{os.stat(path).st_mtime_ns}" if path.endswith(".json") and os.path.exists(path) else path

    def apply(self, model: Any, schedule: str, rule: Any = None, weak_model: Any = None) -> tuple[Any, kdist.Schedule]:
        read = read_schedule(schedule)
        return apply_schedule(model, read, rule=rule, weak_model=weak_model), read


class RuleNode:
    """How the two predictions become one, for the `rule` input of a schedule node."""

    RETURN_TYPES = ("KDIST_RULE",)
    RETURN_NAMES = ("rule",)
    FUNCTION = "make"
    CATEGORY = CATEGORY
    DESCRIPTION = (
        "linear: usual guidance. rescaled: with the conditional prediction's contrast. projected: without the part "
        "that saturates (APG). zero_star: CFG-Zero*. thresholded: values kept in range, for models of pixels."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        def share(default: float, tooltip: str, most: float = 1.0) -> tuple[str, dict[str, Any]]:
            return "FLOAT", {"default": default, "min": 0.0, "max": most, "step": 0.01, "tooltip": tooltip}

        return {
            "required": {
                "rule": (["linear", "rescaled", "projected", "zero_star", "thresholded"], {}),
                "phi": share(0.7, "rescaled: how much of it"),
                "eta": share(0.0, "projected: share of the parallel part that stays"),
                "norm_threshold": share(0.0, "projected: longest difference, 0 for no limit", 1e4),
                "quantile": share(0.995, "thresholded: of the absolute values"),
                "on_noise": (
                    "BOOLEAN",
                    {"default": False, "tooltip": "apply it to the noise predictions, as other tools"},
                ),
            }
        }

    def make(
        self, rule: str, phi: float, eta: float, norm_threshold: float, quantile: float, on_noise: bool
    ) -> tuple[rules.Rule]:
        options: dict[str, dict[str, Any]] = {
            "rescaled": {"phi": phi},
            "projected": {"eta": eta, "norm_threshold": norm_threshold or None},
            "thresholded": {"quantile": quantile},
        }
        made = functools.partial(getattr(rules, rule), **options.get(rule, {}))
        return (functools.partial(rules.on_noise, rule=made) if on_noise else made,)


NODE_CLASS_MAPPINGS: dict[str, type] = {
    **{name: node for name, (node, _) in FAMILIES.items()},
    "KdistSchedule": ScheduleFromTextNode,
    "KdistRule": RuleNode,
    "KdistScheduleCurve": ScheduleCurveNode,
}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {
    **{name: f"Guidance: {title} (kdist)" for name, (_, title) in FAMILIES.items()},
    "KdistSchedule": "Guidance: schedule from JSON or text (kdist)",
    "KdistRule": "Guidance rule (kdist)",
    "KdistScheduleCurve": "Guidance curve (kdist)",
}
