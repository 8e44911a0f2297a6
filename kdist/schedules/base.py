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
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

import torch

from ..files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Schedule", "from_dict", "from_json", "scale_to_weight", "weight_to_scale"]

FORMAT_VERSION = 1  # of the JSON form; a file of a newer version is refused

S = TypeVar("S", bound="Schedule")
_REGISTRY: dict[str, type[Schedule]] = {}


def scale_to_weight(scale: float) -> float:
    """k-diffusion's ``scale`` as the papers' ``w``: 0 conditional, -1 unconditional."""
    return scale - 1


def weight_to_scale(weight: float) -> float:
    """The papers' ``w`` as k-diffusion's ``scale``."""
    return weight + 1


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Base of all schedules. Subclasses are frozen dataclasses that define :meth:`_scale`.

    Call it with a noise level to get the guidance scale there: a float gives a float, a tensor a tensor of the same
    shape, device and dtype. Nothing is remembered between calls, so a schedule is right for every solver, whichever
    sigmas it visits and in whichever order.
    """

    kind: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__name__.startswith("_"):
            return
        cls.kind = re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()
        _REGISTRY[cls.kind] = cls

    def _scale(self, sigma: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not define _scale")

    @overload
    def __call__(self, sigma: float) -> float: ...
    @overload
    def __call__(self, sigma: torch.Tensor) -> torch.Tensor: ...
    def __call__(self, sigma: float | torch.Tensor) -> float | torch.Tensor:
        """The guidance scale at ``sigma`` (k-diffusion's convention, 1 = conditional).

        Raises:
            ValueError: a negative or non-finite ``sigma`` (tensors on an accelerator are not looked at: that would
                cost a synchronisation per network call).
            TypeError: ``sigma`` is neither a number nor a tensor.
        """
        if isinstance(sigma, torch.Tensor):
            # half precision cannot hold the arithmetic of a schedule; its values, cast back, are fine
            work = sigma if sigma.dtype in (torch.float32, torch.float64) else sigma.float()
            return self._scale(work).to(sigma.dtype)
        try:
            value = float(sigma)
        except (TypeError, ValueError):
            raise TypeError(f"sigma must be a number or a torch tensor; got {type(sigma).__name__}") from None
        if not 0 <= value < math.inf:
            raise ValueError(f"sigma must be finite and not negative; got {value}")
        return float(self._scale(torch.tensor(value, dtype=torch.float64)))

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
        from .compose import Sum

        return Sum(self, as_schedule(other))

    __radd__ = __add__

    def __mul__(self, other: Schedule | float) -> Schedule:
        from .compose import Product

        return Product(self, as_schedule(other))

    __rmul__ = __mul__

    def clip(self, minimum: float | None = None, maximum: float | None = None) -> Schedule:
        """The same schedule kept inside ``[minimum, maximum]``; None leaves a side open."""
        from .compose import Clip

        return Clip(self, minimum, maximum)

    def then(self, later: Schedule | float, *, at: float) -> Schedule:
        """This schedule above ``sigma = at``, ``later`` at and below it (sampling runs from high sigma to low)."""
        from .compose import Then

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
        from ..solvers import called_sigmas

        called = (
            [float(s) for s in sigmas if s > 0] if solver is None else called_sigmas(solver, sigmas, **solver_options)
        )
        if not self.can_skip:
            return 2 * len(called)
        # in float32, as the solvers hold them: a level that sits on a window's edge must fall on the same side
        scales = self(torch.tensor(called, dtype=torch.float32))
        return int((2 - (scales == 0).int() - (scales == 1).int()).sum())

    def describe_on(self, sigmas: torch.Tensor | Sequence[float]) -> str:
        """Which steps of a run over ``sigmas`` get which scale, to print; warns where a part catches fewer than two
        levels. See :func:`kdist.schedules.describe_on`."""
        from .on_levels import describe_on

        return describe_on(self, sigmas)

    def plot(self, *, sigma_min: float = 0.02, sigma_max: float = 80.0, ax: Axes | None = None, **style: Any) -> Axes:
        """Draw scale against sigma (log axis, sampling from left to right); returns the matplotlib axes."""
        from ..plotting import plot_schedule

        return plot_schedule(self, sigma_min=sigma_min, sigma_max=sigma_max, ax=ax, **style)

    # Serialisation

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping; :func:`from_dict` gives the schedule back."""
        values: dict[str, Any] = {"type": self.kind}
        for field in dataclasses.fields(self):
            values[field.name] = _plain(getattr(self, field.name))
        return values

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Schedule:
        """See :func:`kdist.schedules.from_dict`."""
        return from_dict(values)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The schedule as JSON text, also written to ``path`` (whole or not at all) when one is given."""
        text = json.dumps({"kdist_schedule": FORMAT_VERSION, **self.to_dict()}, indent=1)
        if path is not None:
            write_atomically(Path(path), text + "\n")
        return text

    @staticmethod
    def from_json(source: str | os.PathLike[str]) -> Schedule:
        """See :func:`kdist.schedules.from_json`."""
        return from_json(source)

    def __str__(self) -> str:
        """The form that :func:`kdist.parse` reads, where there is one (compositions have only JSON)."""
        return f"{self.kind}:{','.join(self._spec_fields())}"

    def _spec_fields(self) -> Iterator[str]:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                yield f"{field.name}={_spec_value(value)}"


def _spec_value(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_spec_value, value))
    if isinstance(value, Schedule):
        return f"({value})"
    return "none" if value is None else f"{value!r}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, Schedule):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _revive(value: Any) -> Any:
    """The inverse of :func:`_plain`."""
    if isinstance(value, Mapping):
        return from_dict(value)
    if isinstance(value, list):
        return tuple(_revive(item) for item in value)
    return value


def as_schedule(value: Schedule | float) -> Schedule:
    """A number as a constant schedule; schedules as they are."""
    if isinstance(value, Schedule):
        return value
    from .constant import Constant

    return Constant(value)


def finite(owner: Schedule, *names: str, optional: bool = False) -> None:
    """Store the named fields as floats; raise ValueError where one is not a finite number."""
    for name in names:
        value = getattr(owner, name)
        if value is None and optional:
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ValueError(f"{owner.kind}: {name} must be a number; got {value!r}") from None
        if not math.isfinite(number):
            raise ValueError(f"{owner.kind}: {name} must be finite; got {number}")
        object.__setattr__(owner, name, number)


def merged_breakpoints(*schedules: Schedule) -> tuple[float, ...]:
    """Those of all of them, increasing."""
    return tuple(sorted({point for schedule in schedules for point in schedule.breakpoints}))


def readable(tensor: torch.Tensor) -> bool:
    """Whether a tensor has values to look at: not inside ``torch.func`` transforms or ``torch.compile``."""
    if torch.compiler.is_compiling():
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def ordered_sigmas(owner: Schedule, low: str = "sigma_lo", high: str = "sigma_hi") -> None:
    """Raise ValueError unless 0 <= low < high."""
    finite(owner, low, high)
    lo, hi = getattr(owner, low), getattr(owner, high)
    if lo < 0:
        raise ValueError(f"{owner.kind}: {low} is a noise level and cannot be negative; got {lo}")
    if not lo < hi:
        raise ValueError(f"{owner.kind}: {low} must be below {high}; got {low}={lo}, {high}={hi} (swap them?)")


def registry() -> dict[str, type[Schedule]]:
    """Every known schedule by its name in :func:`kdist.parse` and JSON."""
    return dict(sorted(_REGISTRY.items()))


def build(kind: str, values: Mapping[str, Any]) -> Schedule:
    """The schedule of that name with those fields; unknown names and fields fail with what is known."""
    if kind not in _REGISTRY:
        raise ValueError(f"unknown schedule {kind!r}; known: {', '.join(registry())}")
    cls = _REGISTRY[kind]
    fields = {field.name: field for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ValueError(f"{kind} has no {', '.join(map(repr, unknown))}; it takes {', '.join(fields)}")
    missing = [
        name
        for name, field in fields.items()
        if name not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"{kind} needs {', '.join(missing)}; it takes {', '.join(fields)}")
    return cls(**values)


def from_dict(values: Mapping[str, Any]) -> Schedule:
    """The schedule that :meth:`Schedule.to_dict` described.

    Raises:
        ValueError: an unknown type or field, a missing field, or a newer format version.
    """
    fields = dict(values)
    version = fields.pop("kdist_schedule", FORMAT_VERSION)
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise ValueError(
            f"this schedule is in format {version}, this kdist reads up to {FORMAT_VERSION}: upgrade kdist"
        )
    kind = fields.pop("type", None)
    if kind is None:
        raise ValueError("not a schedule: no 'type' in it")
    return build(kind, {name: _revive(value) for name, value in fields.items()})


def from_json(source: str | os.PathLike[str]) -> Schedule:
    """Read a schedule from JSON text (starting with ``{``) or from a file."""
    text = str(source)
    if not text.lstrip().startswith("{"):
        text = Path(source).read_text()
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    return from_dict(values)
