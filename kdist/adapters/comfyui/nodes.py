"""The nodes: each schedule node takes a model and gives it back guided, with the schedule for the curve node."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

try:
    # absolute: as a custom node this folder is not part of the package
    import kdist
except ImportError as error:
    raise ImportError("install kdist for the Python that runs ComfyUI: python -m pip install kdist") from error

from .hooks import apply_schedule

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]

_CATEGORY = "sampling/kdist"


def _scale(default: float, tooltip: str) -> tuple[str, dict[str, Any]]:
    return "FLOAT", {"default": default, "min": -100.0, "max": 100.0, "step": 0.1, "round": 0.001, "tooltip": tooltip}


def _sigma(default: float, tooltip: str) -> tuple[str, dict[str, Any]]:
    return "FLOAT", {"default": default, "min": 0.0, "max": 1e4, "step": 0.01, "round": 0.0001, "tooltip": tooltip}


class _ScheduleNode:
    """What schedule nodes share: their outputs, and how a schedule reaches the model."""

    RETURN_TYPES = ("MODEL", "KDIST_SCHEDULE")
    RETURN_NAMES = ("model", "schedule")
    FUNCTION = "apply"
    CATEGORY = _CATEGORY

    @staticmethod
    def _outputs(model: Any, schedule: kdist.Schedule) -> tuple[Any, kdist.Schedule]:
        return apply_schedule(model, schedule), schedule


class NegativeWindowNode(_ScheduleNode):
    """Strong guidance, a window of weak or no guidance in the middle, guidance again."""

    DESCRIPTION = "Guidance at `scale`, `inside` the window of noise levels, `after` below it. Replaces the cfg."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("MODEL",),
                "scale": _scale(7.5, "guidance above the window (1: conditional, 0: unconditional)"),
                "sigma_lo": _sigma(0.5, "lower edge of the window, a noise level"),
                "sigma_hi": _sigma(2.0, "upper edge of the window, a noise level"),
                "inside": _scale(0.0, "guidance inside the window; 0 and 1 cost one network pass instead of two"),
                "after": _scale(7.5, "guidance below the window, usually the same as scale"),
            }
        }

    def apply(
        self, model: Any, scale: float, sigma_lo: float, sigma_hi: float, inside: float, after: float
    ) -> tuple[Any, kdist.Schedule]:
        return self._outputs(model, kdist.NegativeWindow(scale, sigma_lo, sigma_hi, inside, after))


class LateNegativeNode(_ScheduleNode):
    """Strong guidance, then none: the Stable Diffusion experiment of arXiv 2602.00716."""

    DESCRIPTION = "Guidance at `scale` down to the noise level `sigma_switch`, then `late`. Replaces the cfg."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("MODEL",),
                "scale": _scale(7.5, "guidance above the switch (1: conditional, 0: unconditional)"),
                "sigma_switch": _sigma(1.5, "the noise level of the switch"),
                "late": _scale(0.0, "guidance below the switch; 0 and 1 cost one network pass instead of two"),
            }
        }

    def apply(self, model: Any, scale: float, sigma_switch: float, late: float) -> tuple[Any, kdist.Schedule]:
        return self._outputs(model, kdist.LateNegative(scale, sigma_switch, late))


class EarlyNegativeNode(_ScheduleNode):
    """Without the class at first, then guided strongly: :class:`kdist.EarlyNegative`."""

    DESCRIPTION = "`early` down to the noise level `sigma_switch`, then `scale`, 1 at the end. Replaces the cfg."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "model": ("MODEL",),
                "scale": _scale(4.0, "guidance below the switch (1: conditional, 0: unconditional)"),
                "sigma_switch": _sigma(4.0, "the noise level of the switch"),
                "early": _scale(0.0, "guidance above the switch; 0 and 1 cost one network pass instead of two"),
                "sigma_end": _sigma(0.1, "no guidance from here on; one network pass is enough"),
            }
        }

    def apply(
        self, model: Any, scale: float, sigma_switch: float, early: float, sigma_end: float
    ) -> tuple[Any, kdist.Schedule]:
        return self._outputs(model, kdist.EarlyNegative(scale, sigma_switch, early, sigma_end))


class ScheduleFromTextNode(_ScheduleNode):
    """Any schedule: a designed one from JSON, or one line of text."""

    DESCRIPTION = (
        "A schedule as JSON (`kdist design` writes it; paste it, or give the file's path) or as text such as "
        "`interval:scale=7.5,sigma_lo=0.3,sigma_hi=5`. Replaces the cfg."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"model": ("MODEL",), "schedule": ("STRING", {"multiline": True, "default": ""})}}

    @classmethod
    def VALIDATE_INPUTS(cls, schedule: str | None = None) -> bool | str:
        """True, or what is wrong, shown before anything runs. None: the text comes from another node."""
        try:
            if schedule is not None:
                _read(schedule)
        except (ValueError, OSError) as error:
            return str(error)
        return True

    @classmethod
    def IS_CHANGED(cls, model: Any = None, schedule: str | None = None) -> str:
        """A file's contents count, not its name alone."""
        path = (schedule or "").strip()
        return f"{path}:{os.stat(path).st_mtime_ns}" if path.endswith(".json") and os.path.exists(path) else path

    def apply(self, model: Any, schedule: str) -> tuple[Any, kdist.Schedule]:
        return self._outputs(model, _read(schedule))


class ScheduleCurveNode:
    """A picture of a schedule, for a preview or save node."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "draw"
    CATEGORY = _CATEGORY
    DESCRIPTION = "Draws guidance scale against noise level; sampling runs from left to right."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        size = {"min": 64, "max": 4096, "step": 8}
        return {
            "required": {
                "schedule": ("KDIST_SCHEDULE",),
                "sigma_min": _sigma(0.03, "the lowest noise level shown (Stable Diffusion: 0.03)"),
                "sigma_max": _sigma(14.6, "the highest noise level shown (Stable Diffusion: 14.6)"),
                "width": ("INT", {"default": 768, **size}),
                "height": ("INT", {"default": 480, **size}),
            }
        }

    def draw(
        self, schedule: kdist.Schedule, sigma_min: float, sigma_max: float, width: int, height: int
    ) -> tuple[torch.Tensor]:
        """The picture as ComfyUI's IMAGE: (1, height, width, 3) float32 in [0, 1]."""
        if not 0 < sigma_min < sigma_max:
            raise ValueError(f"sigma_min must be above 0 and below sigma_max; got {sigma_min} and {sigma_max}")
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("the curve needs matplotlib: python -m pip install matplotlib") from error
        # no pyplot: ComfyUI runs nodes outside the main thread
        figure = Figure(figsize=(width / 100, height / 100), dpi=100, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        schedule.plot(sigma_min=sigma_min, sigma_max=sigma_max, ax=axes, linewidth=2)
        axes.set_title(type(schedule).__name__)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(np.float32) / 255
        return (torch.from_numpy(pixels)[None],)


def _read(text: str) -> kdist.Schedule:
    text = text.strip()
    return kdist.from_json(text) if text.startswith("{") else kdist.parse(text)


NODE_CLASS_MAPPINGS: dict[str, type] = {
    "KdistNegativeWindow": NegativeWindowNode,
    "KdistLateNegative": LateNegativeNode,
    "KdistEarlyNegative": EarlyNegativeNode,
    "KdistSchedule": ScheduleFromTextNode,
    "KdistScheduleCurve": ScheduleCurveNode,
}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {
    "KdistNegativeWindow": "Guidance: negative window (kdist)",
    "KdistLateNegative": "Guidance: late negative (kdist)",
    "KdistEarlyNegative": "Guidance: early negative (kdist)",
    "KdistSchedule": "Guidance: schedule from JSON or text (kdist)",
    "KdistScheduleCurve": "Guidance curve (kdist)",
}
