"""The folder of a training run: settings that may not change, resumable state, averaged weights, the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from kdist.files import written_atomically

__all__ = ["append_record", "check_settings", "export", "load_state", "save_state", "save_weights"]


def check_settings(out: Path, config: dict[str, Any]) -> None:
    """Refuse to go on with a run that was begun with another config.

    Raises:
        ValueError: ``out`` holds such a run.
    """
    file = out / "config.json"
    if file.exists() and json.loads(file.read_text()) != config:
        raise ValueError(
            f"{out} holds a run with other settings (network, data or optimizer, see {file}); choose another folder, "
            "or the same settings to resume it"
        )


def save_weights(model: Any, config: dict[str, Any], path: Path) -> None:
    """The network's weights, with the config in the metadata, as k-diffusion's tools expect it."""
    weights = {name: tensor.cpu().contiguous() for name, tensor in model.inner_model.state_dict().items()}
    written_atomically(path, lambda partial: save_file(weights, partial, metadata={"config": json.dumps(config)}))


def export(run: Path, target: Path, step: int | None = None) -> str:
    """The averaged weights of ``run`` in float16 (of ``step``, or the last) as ``target``; says what was written.

    Raises:
        ValueError: no such weights in ``run``.
    """
    source = run / ("ema.safetensors" if step is None else f"ema-{step:06d}.safetensors")
    if not source.is_file():
        kept = ", ".join(sorted(path.stem.removeprefix("ema-") for path in run.glob("ema-*.safetensors")))
        raise ValueError(f"{run} holds no trained weights {source.name}; steps kept there: {kept or 'none'}")
    weights = {name: tensor.half().contiguous() for name, tensor in load_file(source).items()}
    config = json.dumps(json.loads((run / "config.json").read_text()))
    written_atomically(target, lambda path: save_file(weights, path, metadata={"config": config}))
    return f"{target}: {target.stat().st_size / 1e6:.2f} MB"


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
