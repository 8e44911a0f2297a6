"""Schedules that differ from row to row of a batch: by the row's class, or by its place.

They need to see the batch, so they have no value of their own: :func:`kdist.guide` binds them to the conditions of
every call, ``schedule.bind(extra_args, batch)``, and rows that need one network pass only get one pass only. Binding
by hand gives a schedule for one batch, e.g. to count: ``per_class.bind({"class_cond": y}, len(y)).nfe(sigmas)``.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .base import Schedule, as_schedule
from .fields import merged_breakpoints
from .levels import on_edges, readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PerClass", "PerRow"]


@dataclass(frozen=True)
class _ByRow(Schedule):
    """Several schedules, one of which holds for each row."""

    @property
    def _members(self) -> tuple[Schedule, ...]:
        # every kind of rows defines it
        raise NotImplementedError(f"{type(self).__name__} does not define _members")

    def _scale(self, sigma: torch.Tensor) -> torch.Tensor:
        raise ValueError(
            f"{self.kind}: the scale depends on the row: pass the schedule to kdist.guide, or bind it to a batch "
            "first, schedule.bind(extra_args, batch)"
        )

    @property
    def breakpoints(self) -> tuple[float, ...]:
        return merged_breakpoints(*self._members)

    @property
    def can_skip(self) -> bool:
        return any(member.can_skip for member in self._members)


@dataclass(frozen=True, eq=False)
class _Bound(_ByRow):
    """``choices[index[i]]`` for row ``i``; an index of -1 has no schedule: its scale is NaN."""

    choices: tuple[Schedule, ...]
    index: torch.Tensor

    @property
    def _members(self) -> tuple[Schedule, ...]:
        return self.choices

    def evaluate(self, sigma: torch.Tensor) -> torch.Tensor:
        index = self.index.to(sigma.device, non_blocking=True)  # copied without waiting for the device
        scale = torch.full_like(on_edges(sigma, ()), torch.nan)
        for number, choice in enumerate(self.choices):
            scale = torch.where(index == number, choice.evaluate(sigma), scale)
        return scale

    def nfe(self, sigmas: torch.Tensor | Sequence[float], solver: str | None = None, **solver_options: Any) -> float:
        """Network evaluations per sample, the mean over the rows; see :meth:`Schedule.nfe`."""
        calls = [choice.nfe(sigmas, solver, **solver_options) for choice in self.choices]
        mean = sum(calls[number] for number in self.index.tolist()) / len(self.index)
        return int(mean) if mean == int(mean) else mean


@dataclass(frozen=True)
class PerClass(_ByRow):
    """A schedule for each class: ``PerClass({0: 4.0, 7: NegativeWindow(...)}, default=2.0)``.

    Args:
        schedules: A mapping from class number to schedule (or number, a constant scale); kept as sorted pairs.
        key: the condition that holds the class numbers, (N,) integers in ``extra_args``.
        default: The schedule of classes that are not listed; None makes them an error.

    Classes without a schedule are found on the CPU, and on an accelerator where scales are read to skip passes
    anyway; elsewhere such rows become NaN, as looking would cost a synchronisation per call.

    Examples:
        >>> import kdist, torch
        >>> schedule = kdist.PerClass({7: 4.0}, default=1.5)
        >>> schedule.bind({"class_cond": torch.tensor([7, 3])}, 2)(torch.ones(2))
        tensor([4.0000, 1.5000])
    """

    schedules: Mapping[int, Schedule | float] | tuple[tuple[int, Schedule], ...]
    key: str = "class_cond"
    default: Schedule | float | None = None

    def __post_init__(self) -> None:
        given = self.schedules.items() if isinstance(self.schedules, Mapping) else self.schedules
        try:
            pairs = [(_class_number(class_), as_schedule(schedule)) for class_, schedule in given]
        except (TypeError, ValueError) as error:
            raise ValueError(f"per-class: schedules must map class numbers to schedules or numbers ({error})") from None
        if not pairs:
            raise ValueError("per-class: schedules is empty; for one schedule for all, use it as it is")
        listed = [class_ for class_, _ in pairs]
        twice = sorted({class_ for class_ in listed if listed.count(class_) > 1})
        if twice:
            raise ValueError(f"per-class: class {', '.join(map(str, twice))} is given twice in schedules")
        object.__setattr__(self, "schedules", tuple(sorted(pairs, key=lambda pair: pair[0])))
        if self.default is not None:
            object.__setattr__(self, "default", as_schedule(self.default))

    @property
    def _listed(self) -> dict[int, Schedule]:
        return dict(self.schedules)  # type: ignore[arg-type]  # __post_init__ made schedules of all

    @property
    def _members(self) -> tuple[Schedule, ...]:
        listed = tuple(self._listed.values())
        return listed if self.default is None else (*listed, as_schedule(self.default))

    def bind(self, extra_args: Mapping[str, Any], batch: int) -> Schedule:
        """The schedule of a batch whose classes are ``extra_args[key]``.

        Raises:
            ValueError: no such condition, not one class number per row, or a class without a schedule.
        """
        if self.key not in extra_args:
            raise ValueError(
                f"per-class: no condition {self.key!r} to tell the class; there is {', '.join(extra_args) or 'none'} "
                "(set key=)"
            )
        classes = extra_args[self.key]
        if not isinstance(classes, torch.Tensor) or classes.shape != (batch,) or not _counts(classes.dtype):
            found = f"{classes.dtype} {tuple(classes.shape)}" if isinstance(classes, torch.Tensor) else type(classes)
            raise ValueError(f"per-class: {self.key} must be {batch} class numbers, integers, one per row; got {found}")
        listed = list(self._listed)
        index = torch.full_like(classes, -1 if self.default is None else len(listed), dtype=torch.int64)
        for number, class_ in enumerate(listed):
            index = index.masked_fill(classes == class_, number)
        if index.device.type == "cpu" and readable(index) and (index < 0).any():
            missing = sorted(set(classes[index < 0].tolist()))
            raise ValueError(
                f"per-class: no schedule for class {', '.join(map(str, missing))}; there is one for "
                f"{', '.join(map(str, listed))}: add it, or set default="
            )
        return _Bound(self._members, index)

    def plot(self, *, sigma_min: float = 0.02, sigma_max: float = 80.0, ax: Axes | None = None, **style: Any) -> Axes:
        """One labelled line per class; see :meth:`Schedule.plot`."""
        names = [*(f"class {class_}" for class_ in self._listed), "other classes"]
        for name, member in zip(names, self._members, strict=False):
            ax = member.plot(sigma_min=sigma_min, sigma_max=sigma_max, ax=ax, **{"label": name, **style})
        assert ax is not None
        return ax


def _class_number(class_: Any) -> int:
    if isinstance(class_, float) and class_.is_integer():
        return int(class_)  # text has no other numbers
    return operator.index(class_)


def _counts(dtype: torch.dtype) -> bool:
    return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)


@dataclass(frozen=True)
class PerRow(_ByRow):
    """One shape, a peak for each row: row ``i`` gets ``schedule.with_scale(scales[i])``.

    Args:
        schedule: the shape, e.g. ``NegativeWindow(4, 0.3, 1)``; a number is a constant scale.
        scales: (N,) peaks, a tensor or a sequence; N is the batch that it fits.

    Examples:
        >>> import kdist, torch
        >>> schedule = kdist.PerRow(kdist.Interval(1, 0.3, 2), scales=[2, 3])
        >>> schedule.bind({}, 2)(torch.ones(2))
        tensor([2., 3.])
    """

    schedule: Schedule | float
    scales: Sequence[float] | torch.Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", as_schedule(self.schedule))
        try:
            if isinstance(self.scales, (str, bytes)):
                raise TypeError("text would be taken apart into digits")
            object.__setattr__(self, "scales", tuple(float(scale) for scale in self.scales))
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"per-row: scales must be one number per row; got {self.scales!r}") from None
        _ = self._members  # raises here where a peak does not suit the schedule

    @property
    def _members(self) -> tuple[Schedule, ...]:
        return tuple(as_schedule(self.schedule).with_scale(float(peak)) for peak in dict.fromkeys(self.scales))

    def bind(self, extra_args: Mapping[str, Any], batch: int) -> Schedule:
        """The schedule of a batch of as many rows as there are scales.

        Raises:
            ValueError: another batch size.
        """
        if len(self.scales) != batch:
            raise ValueError(f"per-row: there are scales for {len(self.scales)} rows, the batch has {batch}")
        number = {peak: position for position, peak in enumerate(dict.fromkeys(self.scales))}
        return _Bound(self._members, torch.tensor([number[peak] for peak in self.scales]))
