"""Pictures of schedules (needs matplotlib, imported only here and only when drawing)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PALETTE", "plot_schedule", "sigma_axis"]

# Okabe and Ito's blue, vermilion, green, purple, sky blue, orange and black, which colour-blind readers tell apart;
# without their yellow, too pale for points on white
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")


class Curve(Protocol):
    """A schedule, as far as drawing it goes."""

    @property
    def breakpoints(self) -> tuple[float, ...]: ...
    def __call__(self, sigma: torch.Tensor) -> torch.Tensor: ...


def plot_schedule(
    schedule: Curve, *, sigma_min: float = 0.02, sigma_max: float = 80.0, ax: Axes | None = None, **style: Any
) -> Axes:
    """Draw ``scale`` against ``sigma`` on a log axis that runs as sampling does, high sigma on the left.

    Args:
        schedule: what to draw.
        sigma_min, sigma_max: the range, 0 < sigma_min < sigma_max.
        ax: matplotlib axes to draw on; None makes a figure.
        style: passed to ``Axes.plot`` (``label``, ``color``, ...).

    Raises:
        ImportError: matplotlib is missing.
    """
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"a log axis needs 0 < sigma_min < sigma_max; got {sigma_min}, {sigma_max}")
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'kdist[evals]'") from error
    if ax is None:
        _, ax = plt.subplots(figsize=(5, 3), layout="constrained")
    grid = torch.logspace(math.log10(sigma_max), math.log10(sigma_min), 1200, dtype=torch.float64)
    # both sides of every jump, so that it is drawn upright
    edges = torch.tensor([p * f for p in schedule.breakpoints for f in (1 - 1e-9, 1 + 1e-9)], dtype=torch.float64)
    grid = torch.cat([grid, edges[(edges > sigma_min) & (edges < sigma_max)]]).sort(descending=True).values
    ax.plot(grid.numpy(), schedule(grid).numpy(), **style)
    sigma_axis(ax, sigma_max, sigma_min)
    for level, name in ((1.0, "conditional"), (0.0, "unconditional")):
        ax.axhline(level, color="0.75", linewidth=0.8, zorder=0)
        ax.annotate(
            name, (0.99, level), xycoords=("axes fraction", "data"), fontsize=7, color="0.45", ha="right", va="bottom"
        )
    ax.set_ylabel("guidance scale")
    return ax


def sigma_axis(ax: Axes, sigma_max: float, sigma_min: float) -> None:
    """A log axis of noise levels that runs as sampling does, labelled with plain numbers.

    Matplotlib's own labels are formulas, which show as source where a page draws all text as it stands.
    """
    ax.set_xscale("log")
    ax.set_xlim(sigma_max, sigma_min)
    ax.xaxis.set_major_formatter(lambda sigma, _: f"{sigma:g}")
    ax.set_xlabel("sigma (sampling runs to the right)")
