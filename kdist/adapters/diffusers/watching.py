"""A network that is called by someone else: what it was given, and another one in its place."""

from __future__ import annotations

import functools
from typing import Any

import torch

__all__ = ["NetworkInput", "argument", "forward_of"]


def argument(args: tuple[Any, ...], kwargs: dict[str, Any], names: tuple[str, ...], place: int) -> Any:
    """An argument of a network's call: the first of the names that is there, else the one at that place, or None."""
    for name in names:
        if name in kwargs:
            return kwargs[name]
    return args[place] if len(args) > place else None


class NetworkInput:
    """The sample that a network was last called with, between :meth:`watch` and :meth:`stop`."""

    def __init__(self) -> None:
        self.tensor: torch.Tensor | None = None
        self._handle: Any = None

    def watch(self, network: torch.nn.Module) -> None:
        self.stop()

        def note(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.tensor = argument(args, kwargs, ("sample", "hidden_states"), 0)

        self._handle = network.register_forward_pre_hook(note, with_kwargs=True)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None


def forward_of(other: Any, network: torch.nn.Module) -> Any:
    """A ``forward`` that calls ``other`` in place of ``network``; it remembers what it replaces."""

    @functools.wraps(network.forward)
    def forward(*args: Any, **kwargs: Any) -> Any:
        return other(*args, **kwargs)

    forward.kdist_replaces = network.forward  # type: ignore[attr-defined]
    forward.kdist_was_in_class = "forward" not in vars(network)  # type: ignore[attr-defined]
    return forward
