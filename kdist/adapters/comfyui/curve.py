"""The node that draws a schedule, as a preview and as an image."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch

import kdist  # absolute: as a custom node this folder is not part of the package
from kdist.schedules.terms import LARGEST_SIGMA, InTerms

from .families import CATEGORY
from .hooks import sigma_of

__all__ = ["ScheduleCurveNode"]


def _bound(default: float, tooltip: str) -> tuple[str, dict[str, Any]]:
    return "FLOAT", {"default": default, "min": 0.0, "max": 1e4, "step": 0.01, "round": 0.0001, "tooltip": tooltip}


class ScheduleCurveNode:
    """Guidance scale against noise level; sampling runs from left to right. With a run's sigmas, its steps too."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "draw"
    CATEGORY = CATEGORY
    OUTPUT_NODE = True
    DESCRIPTION = __doc__

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        size = {"min": 64, "max": 4096, "step": 8}
        return {
            "required": {
                "schedule": ("KDIST_SCHEDULE",),
                "sigma_min": _bound(0.03, "the lowest noise level shown (Stable Diffusion: 0.03)"),
                "sigma_max": _bound(14.6, "the highest noise level shown (Stable Diffusion: 14.6)"),
                "width": ("INT", {"default": 768, **size}),
                "height": ("INT", {"default": 480, **size}),
            },
            "optional": {
                "sigmas": ("SIGMAS", {"tooltip": "of a scheduler node: its steps are marked, its range is shown"}),
                "model": ("MODEL", {"tooltip": "beside sigmas, for flow models, whose noise levels end at 1"}),
            },
        }

    def draw(
        self,
        schedule: kdist.Schedule | InTerms,
        sigma_min: float,
        sigma_max: float,
        width: int,
        height: int,
        sigmas: torch.Tensor | None = None,
        model: Any = None,
    ) -> dict[str, Any]:
        """The picture as ComfyUI's IMAGE: (1, height, width, 3) float32 in [0, 1]."""
        levels: list[float] = []
        if sigmas is not None:
            levels = (sigmas.flatten().float() if model is None else sigma_of(model.model, sigmas)).tolist()
        if isinstance(schedule, InTerms):
            if not levels:
                raise ValueError("a schedule in percent of the steps has no curve without steps: connect sigmas")
            schedule = schedule.on(levels)
        steps = [level for level in levels[:-1] if 0 < level < LARGEST_SIGMA]
        if steps:
            sigma_min, sigma_max = min(steps), max(steps)
        if not 0 < sigma_min < sigma_max:
            raise ValueError(f"sigma_min must be above 0 and below sigma_max; got {sigma_min} and {sigma_max}")
        image = _drawn(schedule, sigma_min, sigma_max, (width, height), steps)
        return {"ui": _preview(image), "result": (image,)}


def _drawn(
    schedule: kdist.Schedule, sigma_min: float, sigma_max: float, size: tuple[int, int], steps: list[float]
) -> torch.Tensor:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("the curve needs matplotlib: python -m pip install matplotlib") from error
    # no pyplot: ComfyUI runs nodes outside the main thread
    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    schedule.plot(sigma_min=sigma_min, sigma_max=sigma_max, ax=axes, linewidth=2)
    axes.plot(steps, [schedule(step) for step in steps], "o", color="0.2", markersize=4)
    axes.set_title(type(schedule).__name__ + (f", {len(steps)} steps" if steps else ""))
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].astype(np.float32) / 255
    return torch.from_numpy(pixels)[None]


def _preview(image: torch.Tensor) -> dict[str, Any]:
    """The picture on the node itself, by ComfyUI's own preview node; nothing outside ComfyUI."""
    preview: Any = getattr(sys.modules.get("nodes"), "PreviewImage", None)
    return {} if preview is None else preview().save_images(image)["ui"]
