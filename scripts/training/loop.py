"""What training scripts share: the learning rate's course, files that are never half written, resumable state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from kdist.files import written_atomically

__all__ = ["append_record", "load_state", "save_state", "trapezoid"]


def trapezoid(step: int, *, warmup: int, steps: int, cooldown: float = 0.3) -> float:
    """Share of the learning rate at ``step``: linear warm-up, constant, linear fall over the last ``cooldown`` of it.

    Unlike a cosine it does not depend on ``steps`` until the fall begins, so a run may be made longer or shorter on
    the way (A. Hägele et al., Scaling laws and compute-optimal training beyond fixed training durations, 2024).
    """
    fall = max(1.0, cooldown * steps)
    return max(0.0, min(1.0, (step + 1) / warmup, (steps - step) / fall))


def append_record(path: Path, record: dict[str, Any]) -> None:
    """One line of JSON more."""
    with path.open("a") as log:
        log.write(json.dumps(record) + "\n")


def save_state(path: Path, step: int, **parts: Any) -> None:
    """The state of everything with a ``state_dict``, and the step."""
    state = {name: part.state_dict() for name, part in parts.items()} | {"step": step}
    written_atomically(path, lambda partial: torch.save(state, partial))


def load_state(path: Path, **parts: Any) -> int:
    """Put back what :func:`save_state` wrote; the step, 0 where there is no file yet.

    Raises:
        ValueError: a file that is damaged or of another network.
    """
    if not path.exists():
        return 0
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        for name, part in parts.items():
            part.load_state_dict(state[name])
        return int(state["step"])
    except (RuntimeError, KeyError, EOFError, OSError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be resumed ({str(error).splitlines()[0]}): damaged, or of another network; "
            "nothing was changed. Move it away to start anew"
        ) from error
