"""What every guidance schedule is: a frozen dataclass and a pure function of the noise level.

Notation: ``sigma`` is k-diffusion's noise level; ``scale`` is its ``cond_scale``: 1 conditional, 0 unconditional,
``denoised = uncond + scale * (cond - uncond)``; ``weight = scale - 1`` is the papers' ``w``.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

import torch

from ..files import write_atomically
from ..plotting import plot_schedule
from ..solvers import called_sigmas
from .fields import as_json, as_text, finite, merged_breakpoints
from .levels import at_or_below, on_edges, readable
from .on_levels import describe_on

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Clip", "Constant", "Product", "Schedule", "Sum", "Then", "registry"]

FORMAT_VERSION = 1  # of the JSON form; a file of a newer version is refused

S = TypeVar("S", bound="Schedule")
_REGISTRY: dict[str, type[Schedule]] = {}


@dataclass(frozen=True)
class Schedule:
    """Base of all schedules. Subclasses are frozen dataclasses that define :meth:`_scale`.

    Call it with a noise level to get the guidance scale there: a float gives a float, a tensor a tensor of the same
    shape, device and dtype. Nothing is remembered between calls, so a schedule is right for every solver, whichever
    sigmas it visits and in whichever order.

    Examples:
        >>> import kdist, torch
        >>> schedule = kdist.Interval(4, sigma_lo=0.3, sigma_hi=2)
        >>> schedule(1.0), schedule(torch.tensor([5.0, 1.0]))
        (4.0, tensor([1., 4.]))
        >>> schedule.with_scale(6)
        Interval(scale=6.0, sigma_lo=0.3, sigma_hi=2.0, outside=1.0)
    """

    kind: ClassVar[str] = ""
    least_levels: ClassVar[int] = 2  # of a run, that a part between two jumps should catch

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__name__.startswith("_"):
            return
        cls.kind = re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()
        _REGISTRY[cls.kind] = cls

    def _scale(self, sigma: torch.Tensor) -> torch.Tensor:
        """The scale at float32 or float64 levels, in their dtype."""
        raise NotImplementedError(f"{type(self).__name__} does not define _scale")  # a shape of the reader's own

    def evaluate(self, sigma: torch.Tensor) -> torch.Tensor:
        """The scale at noise levels of any shape, in at least float32; nothing is read from the device.

        A level is on an edge where the edge rounds to it in its own precision (:mod:`kdist.schedules.levels`).

        Raises:
            ValueError: ``sigma`` holds no floating-point numbers.
        """
        wide = sigma.dtype in (torch.float32, torch.float64)
        return self._scale(sigma if wide else on_edges(sigma, self.breakpoints))

    @overload
    def __call__(self, sigma: float) -> float: ...
    @overload
    def __call__(self, sigma: torch.Tensor) -> torch.Tensor: ...
    def __call__(self, sigma: float | torch.Tensor) -> float | torch.Tensor:
        """The guidance scale at ``sigma`` (k-diffusion's convention, 1 = conditional).

        Raises:
            ValueError: a negative or non-finite ``sigma``, one that holds no floating-point numbers, or a scale that
                its dtype cannot hold (tensors on an accelerator are not looked at: that would cost a synchronisation).
            TypeError: ``sigma`` is neither a number nor a tensor.
        """
        if isinstance(sigma, torch.Tensor):
            scale = self.evaluate(sigma).to(sigma.dtype)
            if scale.device.type == "cpu" and readable(scale):
                self._check(sigma, scale)
            return scale
        try:
            value = float(sigma)
        except (TypeError, ValueError):
            raise TypeError(f"sigma must be a number or a torch tensor; got {type(sigma).__name__}") from None
        level = torch.tensor(value, dtype=torch.float64)
        scale = self.evaluate(level)
        number = float(scale)
        if not (0 <= value < math.inf and math.isfinite(number)):
            self._check(level, scale)
        return number

    def _check(self, sigma: torch.Tensor, scale: torch.Tensor) -> None:
        """Raise ValueError where a level or its scale makes no sense."""
        if sigma.numel() and sigma.min().item() >= 0 and math.isfinite((sigma.sum() + scale.sum()).item()):
            return  # what is usual, in a third of the time of looking at each
        if (wrong := (sigma < 0) | ~sigma.isfinite()).any():
            raise ValueError(f"sigma must be finite and not negative; got {sigma[wrong].flatten()[0].item()}")
        if (wrong := ~scale.isfinite()).any():
            raise ValueError(
                f"{self.kind}: the scale at sigma={sigma[wrong].flatten()[0].item():g} is not finite in {scale.dtype}: "
                "bound it, e.g. with clip(maximum=...)"
            )

    @property
    def breakpoints(self) -> tuple[float, ...]:
        """Sigmas, increasing, where the schedule jumps or has a kink; integrators split there."""
        return ()

    @property
    def can_skip(self) -> bool:
        """Whether the scale can be exactly 0 or 1 somewhere, so that one of the two network passes is not needed.

        True is always safe; False spares a device synchronisation per network call.
        """
        return True

    def with_scale(self: S, scale: float) -> S:
        """The same shape with another peak (what ``cond_scale`` sets in :class:`kdist.CFGDenoiser`)."""
        if "scale" not in {field.name for field in dataclasses.fields(self)}:
            raise ValueError(f"{self.kind} has no single peak to set; build it with the scales you want")
        return dataclasses.replace(self, scale=scale)  # type: ignore[call-arg]

    def bind(self, extra_args: Mapping[str, Any], batch: int) -> Schedule:
        """The schedule for a batch of ``batch`` rows with these conditions.

        Itself, except for schedules that differ between rows (:class:`kdist.schedules.PerClass`, ``PerRow``) and what
        is composed of them.
        """
        return self

    # Composition

    def __add__(self, other: Schedule | float) -> Schedule:
        return Sum(self, as_schedule(other))

    __radd__ = __add__

    def __mul__(self, other: Schedule | float) -> Schedule:
        return Product(self, as_schedule(other))

    __rmul__ = __mul__

    def clip(self, minimum: float | None = None, maximum: float | None = None) -> Schedule:
        """The same schedule kept inside ``[minimum, maximum]``; None leaves a side open."""
        return Clip(self, minimum, maximum)

    def then(self, later: Schedule | float, *, at: float) -> Schedule:
        """This schedule above ``sigma = at``, ``later`` at and below it (sampling runs from high sigma to low)."""
        return Then(self, as_schedule(later), at)

    # Counting and looking

    def nfe(self, sigmas: torch.Tensor | Sequence[float], solver: str | None = None, **solver_options: Any) -> float:
        """Network evaluations per sample that a run over ``sigmas`` will make with the linear rule.

        A whole number, except for schedules bound to a batch whose rows differ.

        Args:
            sigmas: (steps + 1,) decreasing noise levels, as k-diffusion's solvers take them.
            solver: a name in :data:`kdist.solvers.SOLVERS`; None counts one guided call per positive sigma (true for
                every one-call-per-step solver, and needs no k-diffusion).
            solver_options: passed to the solver, e.g. ``eta=0``.
        """
        called = (
            [float(s) for s in sigmas if s > 0] if solver is None else called_sigmas(solver, sigmas, **solver_options)
        )
        if not self.can_skip:
            return 2 * len(called)
        scales = self.evaluate(torch.tensor(called, dtype=torch.float32))  # as the solvers hold them
        return int((2 - (scales == 0).int() - (scales == 1).int()).sum())

    def describe_on(self, sigmas: torch.Tensor | Sequence[float]) -> str:
        """Which steps of a run over ``sigmas`` get which scale, to print; warns where a part catches fewer than two
        levels. See :func:`kdist.schedules.describe_on`."""
        return describe_on(self, sigmas)

    def plot(self, *, sigma_min: float = 0.02, sigma_max: float = 80.0, ax: Axes | None = None, **style: Any) -> Axes:
        """Draw scale against sigma (log axis, sampling from left to right); returns the matplotlib axes."""
        return plot_schedule(self, sigma_min=sigma_min, sigma_max=sigma_max, ax=ax, **style)

    # Serialisation

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping; :func:`kdist.from_dict` gives the schedule back."""
        values: dict[str, Any] = {"type": self.kind}
        for field in dataclasses.fields(self):
            values[field.name] = as_json(getattr(self, field.name))
        return values

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The schedule as JSON text, also written to ``path`` (whole or not at all) when one is given."""
        text = json.dumps({"kdist_schedule": FORMAT_VERSION, **self.to_dict()}, indent=1)
        if path is not None:
            write_atomically(Path(path), text + "\n")
        return text

    def __str__(self) -> str:
        """The form that :func:`kdist.parse` reads."""
        return f"{self.kind}:{','.join(self._text_fields())}"

    def in_words(self) -> str:
        """See :func:`kdist.schedules.describe`; subclasses that have a short description give it here."""
        return str(self)

    def _text_fields(self) -> Iterator[str]:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                yield f"{field.name}={as_text(value)}"


def registry() -> dict[str, type[Schedule]]:
    """Every known schedule by its name in :func:`kdist.parse` and JSON.

    Examples:
        >>> from kdist.schedules import registry
        >>> registry()["interval"].__name__
        'Interval'
    """
    return dict(sorted(_REGISTRY.items()))


def as_schedule(value: Schedule | float) -> Schedule:
    """A number as a constant schedule; schedules as they are."""
    return value if isinstance(value, Schedule) else Constant(value)


@dataclass(frozen=True)
class Constant(Schedule):
    """``scale`` at every noise level (Ho & Salimans 2022, arXiv 2207.12598).

    Examples:
        >>> import kdist
        >>> kdist.Constant(4)(0.5)
        4.0
    """

    scale: float

    def __post_init__(self) -> None:
        finite(self, "scale")

    def _scale(self, sigma: torch.Tensor) -> torch.Tensor:
        return torch.full_like(sigma, self.scale)

    def in_words(self) -> str:
        return "no guidance" if self.scale == 1 else f"constant {self.scale:g}"

    @property
    def can_skip(self) -> bool:
        return self.scale in (0, 1)


# Schedules made of schedules


class _Composed(Schedule):
    """Fields that are schedules follow the batch, and each is asked at the levels as they came."""

    def bind(self, extra_args: Mapping[str, Any], batch: int) -> Schedule:
        parts = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        bound = {name: part.bind(extra_args, batch) for name, part in parts.items() if isinstance(part, Schedule)}
        return dataclasses.replace(self, **bound)


class _Pair(_Composed):
    first: Schedule
    second: Schedule

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", as_schedule(self.first))
        object.__setattr__(self, "second", as_schedule(self.second))

    @property
    def breakpoints(self) -> tuple[float, ...]:
        return merged_breakpoints(self.first, self.second)


@dataclass(frozen=True)
class Sum(_Pair):
    """``first(sigma) + second(sigma)``.

    Examples:
        >>> import kdist
        >>> (kdist.Constant(1) + kdist.Interval(4, 0.3, 2, outside=0))(5.0)
        1.0
    """

    first: Schedule
    second: Schedule

    def evaluate(self, sigma: torch.Tensor) -> torch.Tensor:
        return self.first.evaluate(sigma) + self.second.evaluate(sigma)


@dataclass(frozen=True)
class Product(_Pair):
    """``first(sigma) * second(sigma)``.

    Examples:
        >>> import kdist
        >>> (0.5 * kdist.Interval(4, 0.3, 2))(1.0)
        2.0
    """

    first: Schedule
    second: Schedule

    def evaluate(self, sigma: torch.Tensor) -> torch.Tensor:
        return self.first.evaluate(sigma) * self.second.evaluate(sigma)


@dataclass(frozen=True)
class Clip(_Composed):
    """``schedule(sigma)`` kept inside ``[minimum, maximum]``; its kinks at the limits are not listed as breakpoints.

    Examples:
        >>> import kdist
        >>> kdist.Constant(4).clip(0, 2)(0.5)
        2.0
    """

    schedule: Schedule
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", as_schedule(self.schedule))
        finite(self, "minimum", "maximum", optional=True)
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"clip: minimum={self.minimum} is above maximum={self.maximum}")

    def evaluate(self, sigma: torch.Tensor) -> torch.Tensor:
        scale = self.schedule.evaluate(sigma)
        if self.minimum is None and self.maximum is None:
            return scale
        return scale.clamp(self.minimum, self.maximum)

    def with_scale(self, scale: float) -> Clip:
        return Clip(self.schedule.with_scale(scale), self.minimum, self.maximum)

    @property
    def breakpoints(self) -> tuple[float, ...]:
        return self.schedule.breakpoints


@dataclass(frozen=True)
class Then(_Composed):
    """``earlier`` above ``sigma = at``, ``later`` at and below it.

    Examples:
        >>> import kdist
        >>> kdist.Constant(4).then(1, at=0.5)(0.5)
        1.0
    """

    earlier: Schedule
    later: Schedule
    at: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "earlier", as_schedule(self.earlier))
        object.__setattr__(self, "later", as_schedule(self.later))
        finite(self, "at")
        if self.at < 0:
            raise ValueError(f"then: at is a noise level and cannot be negative; got {self.at}")

    def evaluate(self, sigma: torch.Tensor) -> torch.Tensor:
        reached = at_or_below(on_edges(sigma, (self.at,)), self.at)
        return torch.where(reached, self.later.evaluate(sigma), self.earlier.evaluate(sigma))

    def with_scale(self, scale: float) -> Then:
        return Then(self.earlier.with_scale(scale), self.later.with_scale(scale), self.at)

    @property
    def breakpoints(self) -> tuple[float, ...]:
        early = [point for point in self.earlier.breakpoints if point > self.at]
        late = [point for point in self.later.breakpoints if point < self.at]
        return tuple(sorted({*early, self.at, *late}))

    @property
    def can_skip(self) -> bool:
        return self.earlier.can_skip or self.later.can_skip
