"""Conditioning arguments: the unconditional counterpart of ``extra_args``, and its rows.

k-diffusion hands a model its conditions as keyword arguments: arrays whose first dimension is the batch (N, ...), lists
of N prompts, or nested dicts, lists, tuples and dataclasses of them. One rule, :func:`per_row`, says what differs from
row to row, whether rows are filled, taken or joined; anything else is shared by all rows.
"""

from __future__ import annotations

import copy
import dataclasses
import numbers
from collections.abc import Callable, Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any, TypeAlias

import torch

__all__ = ["Uncond", "Unjoinable", "join", "per_row", "take_rows", "unconditional_args"]

Uncond: TypeAlias = "Mapping[str, Any] | Callable[[dict[str, Any]], Mapping[str, Any]]"


class Unjoinable(ValueError):
    """Two conditions that cannot share one batch, e.g. prompts of different lengths."""


def per_row(value: Any, batch: int) -> bool:
    """Whether ``value`` has one entry for each of the ``batch`` rows.

    Tensors and NumPy arrays: the first dimension is N. Lists, tuples and other sequences: N items (texts, numbers,
    images, ...), unless they hold arrays of N rows (then they are containers), or are a tuple of numbers (a size) or a
    named tuple.
    """
    if _is_array(value):
        return value.ndim > 0 and value.shape[0] == batch
    if not _is_list(value) or hasattr(value, "_fields") or len(value) != batch:
        return False
    if isinstance(value, tuple) and all(isinstance(item, numbers.Number) for item in value):
        return False
    return not any(_holds_rows(item, batch) for item in value)


def unconditional_args(extra_args: Mapping[str, Any], uncond: Uncond | None, batch: int) -> dict[str, Any]:
    """``extra_args`` with the conditions replaced by their unconditional values.

    Args:
        extra_args: what the sampler passes to the model.
        uncond: overrides by name. A number fills an array like the conditional one (a class number only an array of
            numbers, not one-hot rows), a text a list of texts; an array of one row is expanded, one of N rows is taken
            as it is. Or a function of (a copy of) ``extra_args``. None changes nothing.
        batch: N.

    Raises:
        ValueError: a name that ``extra_args`` lacks, an array that does not fit the batch, or a number that does not
            fit the conditional array.
        TypeError: the function returned something that is no mapping.
    """
    if uncond is None:
        return dict(extra_args)
    if callable(uncond):
        result = uncond(dict(extra_args))
        if not isinstance(result, Mapping):
            raise TypeError(f"uncond, as a function, must return the keyword arguments; got {type(result).__name__}")
        return dict(result)
    if not uncond.keys() <= extra_args.keys():
        missing = sorted(uncond.keys() - extra_args.keys())
        raise ValueError(
            f"uncond overrides {', '.join(map(repr, missing))}, but extra_args has "
            f"{', '.join(map(repr, extra_args)) or 'no arguments'}: misspelt, or extra_args not passed to the sampler?"
        )
    return {**extra_args, **{name: _fill(name, value, extra_args[name], batch) for name, value in uncond.items()}}


def take_rows(value: Any, rows: Sequence[int] | None, batch: int) -> Any:
    """The given rows (None: all) of all that is :func:`per_row` in a nested condition; the rest as it is."""
    if rows is None or per_row(value, batch):
        return _take(value, rows)
    children = _children(value)
    return value if children is None else _rebuild(value, {k: take_rows(v, rows, batch) for k, v in children.items()})


def join(
    first: Any,
    second: Any,
    sizes: tuple[int, int],
    rows: tuple[Sequence[int] | None, Sequence[int] | None] = (None,) * 2,
) -> Any:
    """Two nested conditions of batches of ``sizes`` rows as one, first before second.

    Args:
        first, second: the conditions.
        sizes: the rows of each.
        rows: which of them to take; None is all.

    Raises:
        Unjoinable: they differ in more than their rows.
    """
    if type(first) is type(second) is dict and first.keys() == second.keys():  # the usual case, at every network call
        return {name: join(item, second[name], sizes, rows) for name, item in first.items()}
    by_row = per_row(first, sizes[0])
    if by_row != per_row(second, sizes[1]):
        raise Unjoinable("one of them differs from row to row, the other does not")
    if by_row:
        return _concatenate(_take(first, rows[0]), _take(second, rows[1]))
    if _is_array(first) and first is second:
        return first
    if _is_array(first) and _is_array(second):
        if type(first) is type(second) and first.shape == second.shape and bool((first == second).all()):
            return first
        raise Unjoinable(f"shared arrays of shapes {tuple(first.shape)} and {tuple(second.shape)} differ")
    ours, theirs = _children(first), _children(second)
    if ours is not None and theirs is not None:
        if type(first) is not type(second) or ours.keys() != theirs.keys():
            raise Unjoinable(f"{type(first).__name__} of {list(ours)} and {type(second).__name__} of {list(theirs)}")
        return _rebuild(first, {name: join(item, theirs[name], sizes, rows) for name, item in ours.items()})
    if type(first) is type(second) and not _is_array(first) and first == second:
        return first
    raise Unjoinable(f"values {first!r} and {second!r}")


def _fill(name: str, value: Any, cond: Any, batch: int) -> Any:
    """The unconditional counterpart of ``cond`` that the override ``value`` means."""
    if _is_array(cond) and hasattr(value, "like"):
        return value.like(cond)  # a class number that knows the other encodings
    if _is_array(value) and value.ndim:
        if isinstance(value, torch.Tensor) and isinstance(cond, torch.Tensor):
            value = value.to(cond.device)
        if value.shape[0] == batch or (_is_array(cond) and not per_row(cond, batch)):
            return value
        if value.shape[0] == 1:
            return value.expand(batch, *value.shape[1:]) if isinstance(value, torch.Tensor) else value.repeat(batch, 0)
        raise ValueError(
            f"uncond[{name!r}] has {value.shape[0]} rows, the batch has {batch}: give 1 row, {batch} rows or a number"
        )
    if _is_array(value):
        value = value.item()
    if _is_array(cond) and isinstance(value, (bool, numbers.Real)):
        return _filled(name, value, cond)
    if _is_array(cond) and isinstance(value, str):
        import numpy as np

        return np.full(cond.shape, value)
    if _is_list(cond) and isinstance(value, (str, numbers.Real)) and per_row(cond, batch):
        return _listed(cond, [value] * batch)
    return value


def _filled(name: str, value: Any, cond: Any) -> Any:
    tensor = cond if isinstance(cond, torch.Tensor) else torch.as_tensor(cond)
    fractions = tensor.is_floating_point() or tensor.is_complex()
    whole = tensor.ndim > 1 and isinstance(value, numbers.Integral) and not isinstance(value, bool) and value != 0
    if whole and (fractions or (tensor.ndim == 2 and tensor.shape[1] in (value, value + 1))):
        raise ValueError(
            f"uncond[{name!r}] is the class number {value}, but the condition is {tensor.dtype} of shape "
            f"{tuple(tensor.shape)}, not class numbers: give the unconditional row in that encoding, e.g. "
            f"torch.zeros(1, {', '.join(map(str, tensor.shape[1:]))}), or {float(value)} to fill it with that value"
        )
    if not fractions:
        lowest, highest = (0, 1) if tensor.dtype == torch.bool else _limits(tensor.dtype)
        if not float(value).is_integer() or not lowest <= value <= highest:
            raise ValueError(f"uncond[{name!r}] is {value}, which the condition's {tensor.dtype} cannot hold")
    filled = torch.full_like(tensor, value)
    return filled if isinstance(cond, torch.Tensor) else filled.numpy()


def _limits(dtype: torch.dtype) -> tuple[int, int]:
    return torch.iinfo(dtype).min, torch.iinfo(dtype).max


# Nested conditions


def _is_array(value: Any) -> bool:
    """Tensors, NumPy arrays and NumPy's numbers, without importing NumPy."""
    return isinstance(value, torch.Tensor) or (hasattr(value, "__array__") and hasattr(value, "ndim"))


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray, memoryview))


def _listed(value: Any, items: Iterable[Any]) -> Any:
    """A sequence of the kind of ``value``, where that can hold anything (a range cannot)."""
    kind: Any = type(value)
    return kind(items) if isinstance(value, (list, tuple, MutableSequence)) else list(items)


def _holds_rows(value: Any, batch: int) -> bool:
    """Whether there is an array of ``batch`` rows in it."""
    if _is_array(value):
        return per_row(value, batch)
    return any(_holds_rows(child, batch) for child in (_children(value) or {}).values())


def _children(value: Any) -> dict[Any, Any] | None:
    """What a container holds, by name or place; None if it is none."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):  # model outputs are mappings as well
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    if isinstance(value, Mapping):
        return dict(value)
    return dict(enumerate(value)) if _is_list(value) else None


def _rebuild(value: Any, children: dict[Any, Any]) -> Any:
    """A container like ``value`` with other children."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **children)
    if isinstance(value, MutableMapping) and type(value) is not dict:
        value = copy.copy(value)
        value.update(children)
        return value
    if isinstance(value, Mapping):
        return children
    return type(value)(*children.values()) if hasattr(value, "_fields") else _listed(value, children.values())


def _take(value: Any, rows: Sequence[int] | None) -> Any:
    if rows is None:
        return value
    if isinstance(value, torch.Tensor):
        return value[torch.tensor(rows, dtype=torch.int64).to(value.device, non_blocking=True)]
    if _is_array(value):
        return getattr(value, "iloc", value)[list(rows)]  # pandas would look the numbers up in its own index
    return _listed(value, [value[row] for row in rows])


def _concatenate(first: Any, second: Any) -> Any:
    if type(first) is not type(second):
        raise Unjoinable(f"{type(first).__name__} and {type(second).__name__}")
    if not _is_array(first):
        return _listed(first, [*first, *second])
    if (first.shape[1:], first.dtype) != (second.shape[1:], second.dtype):  # joining would convert one
        raise Unjoinable(f"{first.dtype} {tuple(first.shape)} and {second.dtype} {tuple(second.shape)}")
    if isinstance(first, torch.Tensor):
        return torch.cat([first, second])
    import numpy as np

    return np.concatenate([first, second])
