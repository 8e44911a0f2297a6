"""Conditioning arguments: the unconditional counterpart of ``extra_args``, and its rows.

k-diffusion hands a model its conditions as keyword arguments, tensors whose first dimension is the batch (N, ...), or
nested dicts, lists and tuples of them. Anything else in there (numbers, None, tensors of another length) is shared by
all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch

__all__ = ["Uncond", "Unjoinable", "join", "take_rows", "unconditional_args"]

Uncond: TypeAlias = "Mapping[str, Any] | Callable[[dict[str, Any]], Mapping[str, Any]]"


class Unjoinable(ValueError):
    """Two conditions that cannot share one batch, e.g. prompts of different lengths."""


def unconditional_args(extra_args: Mapping[str, Any], uncond: Uncond | None, batch: int) -> dict[str, Any]:
    """``extra_args`` with the conditions replaced by their unconditional values.

    Args:
        extra_args: what the sampler passes to the model.
        uncond: overrides by name. A number fills a tensor like the conditional one, a tensor of batch 1 is expanded,
            one of batch N is taken as it is. Or a function of (a copy of) ``extra_args``. None changes nothing.
        batch: N.

    Raises:
        ValueError: a name that ``extra_args`` lacks, or a tensor that does not fit the batch.
        TypeError: the function returned something that is no mapping.
    """
    if uncond is None:
        return dict(extra_args)
    if callable(uncond):
        result = uncond(dict(extra_args))
        if not isinstance(result, Mapping):
            raise TypeError(f"uncond, as a function, must return the keyword arguments; got {type(result).__name__}")
        return dict(result)
    missing = sorted(set(uncond) - set(extra_args))
    if missing:
        raise ValueError(
            f"uncond overrides {', '.join(map(repr, missing))}, but extra_args has "
            f"{', '.join(map(repr, extra_args)) or 'no arguments'}: misspelt, or extra_args not passed to the sampler?"
        )
    return {**extra_args, **{name: _fill(name, value, extra_args[name], batch) for name, value in uncond.items()}}


def _fill(name: str, value: Any, cond: Any, batch: int) -> Any:
    if isinstance(value, torch.Tensor) and value.ndim:
        if isinstance(cond, torch.Tensor):
            value = value.to(cond.device)
        if value.shape[0] == batch:
            return value
        if value.shape[0] == 1:
            return value.expand(batch, *value.shape[1:])
        raise ValueError(
            f"uncond[{name!r}] has {value.shape[0]} rows, the batch has {batch}: give 1 row, {batch} rows or a number"
        )
    if isinstance(cond, torch.Tensor) and isinstance(value, (bool, int, float)):
        return torch.full_like(cond, value)
    return value


def take_rows(value: Any, rows: torch.Tensor, batch: int) -> Any:
    """The given rows (an index tensor) of every (N, ...) tensor in a nested condition; the rest as it is."""
    if isinstance(value, torch.Tensor):
        return value[rows.to(value.device)] if value.ndim and value.shape[0] == batch else value
    if isinstance(value, Mapping):
        return {name: take_rows(item, rows, batch) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(take_rows(item, rows, batch) for item in value)
    return value


def join(first: Any, second: Any, sizes: tuple[int, int]) -> Any:
    """Two nested conditions of ``sizes`` rows as one, first before second.

    Raises:
        Unjoinable: they differ in more than their rows.
    """
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        if first.ndim and second.ndim and (first.shape[0], second.shape[0]) == sizes:
            if (first.shape[1:], first.dtype) != (second.shape[1:], second.dtype):  # joining would convert one
                raise Unjoinable(f"{first.dtype} {tuple(first.shape)} and {second.dtype} {tuple(second.shape)}")
            return torch.cat([first, second])
        if first is second or (first.shape == second.shape and torch.equal(first, second)):
            return first
        raise Unjoinable(f"shared tensors of shapes {tuple(first.shape)} and {tuple(second.shape)} differ")
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        if first.keys() != second.keys():
            raise Unjoinable(f"keys {sorted(first)} and {sorted(second)}")
        return {name: join(item, second[name], sizes) for name, item in first.items()}
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        if len(first) != len(second):
            raise Unjoinable(f"lengths {len(first)} and {len(second)}")
        return type(first)(join(a, b, sizes) for a, b in zip(first, second, strict=True))
    if type(first) is type(second) and first == second:
        return first
    raise Unjoinable(f"values {first!r} and {second!r}")
