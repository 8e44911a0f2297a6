"""What has been measured: one Optuna trial for each schedule on each block of seeds, and the schedules behind."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..schedules import Schedule
from .scores import Columns, Value, join, values

__all__ = ["Candidate", "Record", "identity", "pack", "unpack"]


def pack(columns: Columns) -> dict[str, str]:
    """Columns as text for the study's storage: float32, a few hundred bytes for fifty samples."""
    return {name: base64.b64encode(np.asarray(v, np.float32).tobytes()).decode() for name, v in columns.items()}


def unpack(packed: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The inverse of :func:`pack`, float64."""
    return {name: np.frombuffer(base64.b64decode(v), np.float32).astype(np.float64) for name, v in packed.items()}


def identity(schedule: Schedule, choices: Mapping[str, Any]) -> str:
    """What makes two candidates the same."""
    return json.dumps(
        [
            schedule.to_dict(),
            {name: getattr(choices[name], "__name__", repr(choices[name])) for name in sorted(choices)},
        ]
    )


@dataclass(frozen=True)
class Record:
    """One schedule on one block of seeds."""

    key: str
    block: int
    params: Mapping[str, Any]
    columns: Columns
    calls: int


@dataclass
class Candidate:
    """A schedule with all that was measured of it.

    Attributes:
        schedule: what guided.
        choices: other arguments of ``generate``.
        params: the schedule in the search's own parameters.
        blocks: what was measured, by the number of the block of seeds.
        calls_per_sample: network calls for one sample.
    """

    schedule: Schedule
    choices: Mapping[str, Any]
    params: Mapping[str, Any]
    calls_per_sample: float
    blocks: dict[int, Columns] = field(default_factory=dict)
    _by_block: dict[int, dict[str, Value]] = field(default_factory=dict, repr=False)

    @cached_property
    def key(self) -> str:
        return identity(self.schedule, self.choices)

    @property
    def family(self) -> str:
        return str(self.params.get("family", self.schedule.kind))

    @property
    def samples(self) -> int:
        return sum(len(columns["own"]) for columns in self.blocks.values())

    def of_block(self, block: int) -> dict[str, Value]:
        """Every statistic of one block."""
        if block not in self._by_block:
            self._by_block[block] = values(self.blocks[block])
        return self._by_block[block]

    @cached_property
    def values(self) -> dict[str, Value]:
        """Every statistic over all blocks."""
        return values(join(list(self.blocks.values())))
