"""A schedule, a number or a user's function, evaluated for the rows of a batch and looked at on the host."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from .base import Schedule
from .levels import on_edges, readable

__all__ = ["host_values", "readable", "scale_of_rows"]


def scale_of_rows(schedule: Callable[[Any], Any], sigma: torch.Tensor) -> torch.Tensor:
    """The guidance scale of every row: (N,), float32 or float64.

    Args:
        schedule: a :class:`Schedule` or any function of the noise levels.
        sigma: (N,) noise levels; half precision is evaluated in float32.

    Raises:
        ValueError: levels that are no floating-point numbers, or a result that is neither a number nor of shape () or
            (N,), or (on the CPU) not finite.
    """
    if isinstance(schedule, Schedule):
        return schedule.evaluate(sigma)
    work = on_edges(sigma, ())
    try:
        value = schedule(work)
    except (RuntimeError, TypeError, ValueError) as error:
        # a function written for numbers ("4 if sigma > 1 else 0") meets a batch: ask it row by row
        if not any(word in str(error) for word in ("ambiguous", "scalar", "one element")):
            raise
        value = torch.tensor([float(schedule(level)) for level in work.tolist()], dtype=torch.float64)
    scale = torch.as_tensor(value, dtype=work.dtype, device=work.device)
    if scale.ndim and scale.shape != work.shape:
        raise ValueError(
            f"the schedule returned shape {tuple(scale.shape)} for sigma of shape {tuple(work.shape)}; "
            "it must return a number or one scale per row"
        )
    scale = scale.expand(work.shape)
    if scale.device.type == "cpu" and readable(scale) and not scale.isfinite().all():
        bad = work[~scale.isfinite()].tolist()
        raise ValueError(f"the schedule returned a scale that is not finite at sigma={sorted(set(bad), reverse=True)}")
    return scale


def host_values(schedule: Callable[[Any], Any], scale: torch.Tensor) -> list[float] | None:
    """The scales as Python numbers, to see which network passes are needed; None where they should not be read.

    Not read: a schedule that never needs one pass alone (reading would synchronise an accelerator for nothing), and
    tensors inside ``torch.func`` transforms or ``torch.compile``, which have no values to read.

    Raises:
        ValueError: a scale that is not finite.
    """
    if isinstance(schedule, Schedule) and not schedule.can_skip:
        return None
    if not readable(scale):
        return None
    values = scale.tolist()
    if all(map(math.isfinite, values)):
        return values
    missing = [row for row, value in enumerate(values) if math.isnan(value)]
    if missing:  # PerClass on an accelerator, where it does not look at the classes itself
        raise ValueError(
            f"the schedule has no scale for rows {missing}: their class is not listed, and there is no default"
        )
    rows = [row for row, value in enumerate(values) if math.isinf(value)]
    raise ValueError(f"the schedule {schedule} gives an infinite scale in rows {rows}: bound it with clip(maximum=...)")
