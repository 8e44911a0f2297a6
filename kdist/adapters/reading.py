"""A schedule as a host's user types it: one line of text, JSON, or the path of a ``.json`` file."""

from __future__ import annotations

import os
from typing import Any

from ..schedules import Schedule, parse

__all__ = ["check_rows", "read_schedule"]


def read_schedule(text: str) -> Schedule:
    """The schedule that ``text`` says.

    Raises:
        ValueError: a file that cannot be read, text that is no schedule, or a schedule for class labels.
    """
    text = text.strip()
    try:
        schedule = parse(text)
    except OSError as error:
        raise ValueError(
            f"the schedule's file {text!r} cannot be read from {os.getcwd()} ({error.strerror}): give its whole path, "
            "or paste its JSON here"
        ) from error
    check_rows(schedule)
    return schedule


def check_rows(schedule: Any) -> None:
    """A ``ValueError`` for schedules that differ between the rows of a batch, also inside a sum or product."""
    if not isinstance(schedule, Schedule):
        return
    try:
        schedule(1.0)
    except ValueError as error:
        raise ValueError(
            f"the schedule {type(schedule).__name__} differs between the rows of a batch, and prompts number no "
            "classes: use one schedule, in one job per class"
        ) from error
