"""Options that commands share: their types, their defaults, their texts, and what is made of them.

Typer reads options from a function's signature. Options that several commands take stand here once, as a dataclass;
:func:`grouped` shows typer the fields of such a parameter in its place and hands the command the filled dataclass.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import typing
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..files import prepare_file

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "AllowUnknownWeights",
    "Device",
    "MaxBad",
    "Schedules",
    "Seed",
    "Weights",
    "first_process",
    "grouped",
    "json_file",
    "terminal",
    "value_limits",
]


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with each parameter that is a dataclass replaced by that class's fields, for typer to read."""
    # not typing.get_type_hints, which on Python 3.10 hides the option of a default None in an Optional around it
    signature = inspect.signature(command, eval_str=True)
    parameters: dict[str, inspect.Parameter] = {}
    groups: dict[str, Any] = {}
    for name, parameter in signature.parameters.items():
        if not dataclasses.is_dataclass(parameter.annotation):
            parameters[name] = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            continue
        groups[name] = parameter.annotation
        field_hints = typing.get_type_hints(groups[name], include_extras=True)
        for field in dataclasses.fields(groups[name]):
            parameters[field.name] = inspect.Parameter(
                field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field_hints[field.name]
            )

    @functools.wraps(command)
    def filled(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in dataclasses.fields(group)})
        command(**given)

    filled.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    filled.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    return filled


Schedules = Annotated[
    list[str] | None,
    typer.Option("--schedule", "-s", help="repeatable: a scale, 'late-negative:scale=3,sigma_switch=1', a .json file"),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Seed = Annotated[int, typer.Option(help="decides everything that is drawn at random", min=0)]
Weights = Annotated[str | None, typer.Option(help="weight file of the extractor; folder or hub name for dinov2")]
AllowUnknownWeights = Annotated[
    bool, typer.Option("--allow-unknown-weights", help="accept weights with another SHA-256 than the published")
]
Size = Annotated[
    int | None, typer.Option(help="resize images first; for pixels, TorchScript and module:name", min=1, max=8192)
]
MaxBad = Annotated[int, typer.Option(help="unreadable images that are set aside before the run stops", min=0)]


def json_file(out: Path) -> Path:
    """The path of a schedule's file, in a folder that can be written.

    Raises:
        ValueError: it does not end in .json.
        OSError: its folder cannot be written.
    """
    if out.suffix != ".json":
        raise ValueError(f"--out must be a .json file, which kdist reads as a schedule; got {out}")
    return prepare_file(out)


def value_limits(text: str | None) -> tuple[float, float] | None:
    """``"-1,1"``, the value of ``--value-range``, as (-1.0, 1.0).

    Raises:
        ValueError: not two numbers.
    """
    if text is None:
        return None
    try:
        lo, hi = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"--value-range must be two numbers, black,white (for example -1,1); got {text!r}") from error
    return lo, hi


def first_process() -> bool:
    """Whether this process writes the result: with ``accelerate launch`` all work and one writes."""
    from kdist.evals.features.extraction import world_size

    return world_size() < 2 or os.environ.get("RANK", "0") == "0"


def terminal(*, stderr: bool = False) -> Console:
    """Where commands print: text as it stands, since names of files and classes may look like markup."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False)
