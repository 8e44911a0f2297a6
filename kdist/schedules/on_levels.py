"""A schedule on the levels of one run: which steps get which scale, and what falls between two steps."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from .base import Schedule

__all__ = ["describe_on"]


def describe_on(schedule: Schedule, sigmas: Sequence[float] | torch.Tensor) -> str:
    """Which steps of a run get which scale, as text to print.

        print(kdist.NegativeWindow(7.5, 0.5, 2.0).describe_on(sigmas))

    Args:
        schedule: one that is a function of sigma alone.
        sigmas: (steps + 1,) the run's noise levels, decreasing, the last one 0 or not.

    Returns:
        One line for each stretch of steps with equal scale (or of a curve), and the number of network passes of
        solvers with one call per step.

    Warns:
        UserWarning: a part of the schedule that catches fewer than two of the levels: a window between two steps, a
            switch that the run never reaches.

    Raises:
        ValueError: fewer than two levels.

    Examples:
        >>> import kdist
        >>> from kdist import digits
        >>> print(kdist.Interval(4, 0.3, 2).describe_on(digits.sigmas(8)))
        4 for sigma 0.3 to 2, else 1, on 8 steps from sigma 20 to 0.02
        steps 1-4  sigma 20 to 2.235  scale 1, conditional only
        steps 5-6  sigma 0.8949 to 0.3122  scale 4
        steps 7-8  sigma 0.09035 to 0.02  scale 1, conditional only
        10 network passes per sample with one call per step, 16 without a schedule
    """
    levels = [float(s) for s in sigmas]
    if len(levels) < 2:
        raise ValueError(f"sigmas must be the run's levels, at least two; got {len(levels)}")
    levels = levels[:-1]  # nothing is predicted at the last one
    # in float32, as solvers hold them: a level on an edge must fall on the same side
    scales = schedule(torch.tensor(levels, dtype=torch.float32)).tolist()
    lines = [f"{schedule.in_words()}, on {len(levels)} steps from sigma {levels[0]:.4g} to {levels[-1]:.4g}"]
    for scale, steps in itertools.groupby(range(len(levels)), key=lambda step: scales[step]):
        first, *_, last = (*steps,) * 2
        alone = {1.0: ", conditional only", 0.0: ", unconditional only"}.get(scale, "")
        lines.append(f"{_steps(first, last)}  sigma {_range(levels[first], levels[last])}  scale {scale:.4g}{alone}")
    passes = sum(2 - (scale in (0, 1)) for scale in scales)
    lines.append(f"{passes} network passes per sample with one call per step, {2 * len(levels)} without a schedule")
    for problem in _thin_parts(schedule, levels):
        warnings.warn(problem, UserWarning, stacklevel=3)
        lines.append(f"warning: {problem}")
    return "\n".join(lines)


def _thin_parts(schedule: Schedule, levels: list[float]) -> list[str]:
    """What is wrong with the parts between jumps, each of which should catch two levels of the run."""
    edges = [0.0, *_jumps(schedule), float("inf")]
    problems = []
    for low, high in itertools.pairwise(edges):
        caught = sum(low < level <= high for level in levels)
        # an outer edge beyond the run says "no limit"; a single switch there says nothing
        unlimited = not caught and len(edges) > 3 and (low == 0 or high == edges[-1])
        if len(edges) == 2 or caught >= schedule.least_levels or unlimited:
            continue
        part = f"sigma {low:.4g} to {high:.4g}" if high < edges[-1] else f"sigma above {low:.4g}"
        count = "no level" if not caught else f"only {caught} level"
        problems.append(f"{part} catches {count} of this run: move the edge, or take more steps there")
    return problems


def _jumps(schedule: Schedule) -> list[float]:
    """Breakpoints where the scale jumps, increasing; of a window with soft edges their middles."""
    low, high = (getattr(schedule, name, None) for name in ("sigma_lo", "sigma_hi"))
    if low is not None and high is not None:
        return [edge for edge in (low, high) if edge]
    near = 1e-6
    return [p for p in schedule.breakpoints if p and abs(schedule(p * (1 - near)) - schedule(p * (1 + near))) > 1e-3]


def _steps(first: int, last: int) -> str:
    return f"step {first + 1}" if first == last else f"steps {first + 1}-{last + 1}"


def _range(high: float, low: float) -> str:
    return f"{high:.4g}" if high == low else f"{high:.4g} to {low:.4g}"
