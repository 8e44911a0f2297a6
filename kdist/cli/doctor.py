"""``kdist doctor``: what a bug report needs to say about the machine, in one paste. Works with the core alone."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from .. import __file__ as package
from .. import __version__
from ..files import cache_folder, versions

__all__ = ["doctor", "findings"]

PACKAGES = (
    "torch", "torchvision", "numpy", "scipy", "k-diffusion", "dctorch", "clip-anytorch", "setuptools", "clean-fid",
    "scikit-learn", "matplotlib", "typer", "rich", "safetensors", "diffusers", "transformers", "accelerate", "optuna",
    "imagecodecs",
)  # fmt: skip
WEIGHTS = (".pt", ".pth", ".safetensors", ".npz")


def doctor() -> None:
    """Versions, devices, k-diffusion, caches and weights of this machine, to paste into a report of an error.

    Example:  kdist doctor
    """
    for topic, text in findings():
        print(f"{topic:<12} {text}", flush=True)


def findings() -> Iterator[tuple[str, str]]:
    """(topic, what was found), one after the other: a topic that takes long or breaks does not hide the others."""
    home = str(Path.home())
    yield "kdist", f"{__version__} in {Path(package).parent}".replace(home, "~")
    yield "python", f"{platform.python_version()} in {sys.prefix}, {platform.platform()}".replace(home, "~")
    found = versions(PACKAGES)
    yield "packages", ", ".join(f"{name} {found[name]}" for name in PACKAGES if name in found)
    yield "missing", ", ".join(name for name in PACKAGES if name not in found) or "nothing"
    yield "devices", _devices()
    yield "k-diffusion", _k_diffusion()
    cache = cache_folder()
    why = next((name for name in ("KDIST_CACHE", "XDG_CACHE_HOME") if os.environ.get(name)), "the default place")
    yield "cache", f"{cache} ({why}): {_state(cache)}".replace(home, "~")
    yield "features", _content(cache / "features")
    yield "weights", _content(cache / "weights", names=True)
    for variable in ("HF_HOME", "TORCH_HOME", "CUDA_VISIBLE_DEVICES", "RANK", "WORLD_SIZE", "PYTHONPATH"):
        if variable in os.environ:
            yield "environment", f"{variable}={os.environ[variable]}".replace(home, "~")


def _devices() -> str:
    try:
        import torch
    except Exception as error:  # whatever a broken installation raises is what is asked for
        return f"torch does not import: {_line(error)}"
    names = [f"cpu ({torch.get_num_threads()} threads)"]
    names += [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return f"{', '.join(names)}; torch was built for CUDA {torch.version.cuda}"


def _k_diffusion() -> str:
    try:
        from ..compat import import_k_diffusion, repair_torchvision

        repaired = repair_torchvision()
        import_k_diffusion()
    except Exception as error:
        return f"does not import: {_line(error)}"
    return "imports" + (", after torchvision's missing operators were declared" if repaired else "")


def _state(folder: Path) -> str:
    if not folder.exists():
        return "not there yet"
    return "can be written" if os.access(folder, os.W_OK | os.X_OK) else "CANNOT be written"


def _content(folder: Path, *, names: bool = False) -> str:
    """How many files lie there and how large they are together; with their names where ``names``."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    text = f"{len(files)} files, {size:.1f} MB"
    listed = [f"{path.name} ({path.stat().st_size} bytes)" for path in files if path.suffix in WEIGHTS]
    return text + (f": {', '.join(listed)}" if names and listed else "")


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
