"""Loading any checkpoint in k-diffusion's own formats as a denoiser that kdist can guide."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .compat import import_k_diffusion
from .files import read_text

__all__ = ["load_checkpoint", "make_denoiser"]


def load_checkpoint(
    path: str | Path, config: str | Path | Mapping[str, Any] | None = None, *, device: str | torch.device = "cpu"
) -> Any:
    """A k-diffusion denoiser ``model(x, sigma, class_cond=...) -> denoised``, float32, in eval mode, without gradients.

    Args:
        path: a ``.safetensors`` file, or what k-diffusion's training saves (``.pth``, ``.pt``, ``.ckpt``; its averaged
            weights are taken).
        config: k-diffusion's JSON config, as a file or a mapping; None takes the one that the file carries.
        device: where to put it.

    Returns:
        The denoiser, with the completed config as ``model.config``.

    Raises:
        FileNotFoundError: no file at ``path`` or ``config``.
        ValueError: no checkpoint, no config in it and none given, or weights of another network.
        ImportError: k-diffusion or safetensors is missing.

    Examples:
        >>> import kdist
        >>> from kdist import digits
        >>> model = kdist.load_checkpoint(digits.MODEL_PATH)
        >>> model.config["model"]["input_size"]
        [8, 8]
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    weights, carried = _read_safetensors(path) if path.suffix == ".safetensors" else _read_training(path)
    described: Any = carried if config is None else config
    if isinstance(described, (str, Path)):
        described = json.loads(read_text(Path(described)))
    if described is None:
        raise ValueError(f"{path} carries no config; give the JSON that the network was made from as config=")
    model = make_denoiser(described)
    try:
        model.inner_model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split("\n")[1:2]).strip() or str(error)
        raise ValueError(f"{path} holds the weights of another network than the config describes: {reason}") from None
    return model.to(device).eval().requires_grad_(False)


def make_denoiser(config: Mapping[str, Any]) -> Any:
    """The untrained denoiser that ``config`` (k-diffusion's format) describes, completed as ``model.config``."""
    K = import_k_diffusion()
    complete = K.config.load_config(dict(config))
    model = K.config.make_denoiser_wrapper(complete)(K.config.make_model(complete))
    model.config = complete
    return model


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file, or a damaged one ({error})") from None
    return weights, json.loads(metadata["config"]) if "config" in metadata else None


def _read_training(path: Path) -> tuple[dict[str, torch.Tensor], Any]:
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} cannot be read as a checkpoint of weights and plain values ({reason})") from None
    if not isinstance(saved, dict) or "model_ema" not in saved:
        raise ValueError(f"{path} is no training checkpoint of k-diffusion: it holds no model_ema")
    return saved["model_ema"], saved.get("config")
