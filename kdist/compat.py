"""Importing k-diffusion where its dependencies disagree; the device by name.

k-diffusion imports torchvision, and torchvision refuses to load beside a torch build that its binary was not
compiled for (typically torch's CPU build with the registry's torchvision): ``operator torchvision::nms does not
exist``. Neither k-diffusion's samplers nor its models use those operators, so declaring them is enough.
"""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from types import ModuleType

import torch

__all__ = ["import_k_diffusion", "pick_device", "repair_torchvision"]

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_library: torch.library.Library | None = None  # the declarations live as long as this object


def repair_torchvision() -> bool:
    """Make ``import torchvision`` work beside a torch build that it was not compiled for.

    Only declares the operators (``nms``, ``qnms``) that torchvision's Python code registers itself against; calling
    them still fails. Does nothing where torchvision imports as it is.

    Returns:
        True if the operators had to be declared, False if torchvision was fine.

    Raises:
        ImportError: torchvision is not installed.

    Examples:
        >>> from kdist.compat import repair_torchvision
        >>> needed = repair_torchvision()  # before the first import of torchvision, diffusers or k_diffusion
        >>> import torchvision
    """
    global _library
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return False
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # a half-imported package would be taken as whole
    _library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        _library.define(operator + _SCHEMA)
    import torchvision  # noqa: F401

    return True


def import_k_diffusion(*, repair: bool = True) -> ModuleType:
    """Import k-diffusion, first mending torchvision (:func:`repair_torchvision`) unless ``repair`` is False.

    k-diffusion compiles small functions of its transformers at their first use. Where there is no C++ compiler, that
    is switched off (``K_DIFFUSION_USE_COMPILE=0``, unless the variable is set): it would fall back after a page of
    warnings.

    Raises:
        ImportError: k-diffusion, or something it needs, is missing; the message says which extra brings it.

    Examples:
        >>> import kdist
        >>> K = kdist.import_k_diffusion()
        >>> K.sampling.sample_heun.__name__
        'sample_heun'
    """
    try:
        if repair:
            repair_torchvision()
        compilers = (os.environ.get("CXX", "g++"), "clang++", "cl")
        if not any(map(shutil.which, compilers)) and not torch.cuda.is_available():
            os.environ.setdefault("K_DIFFUSION_USE_COMPILE", "0")
        with warnings.catch_warnings():  # clip-anytorch still imports pkg_resources; its warning is not the user's
            warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
            import k_diffusion
    except ImportError as error:
        raise ImportError(
            f"k-diffusion could not be imported ({error}); install it with its pins: pip install 'kdist[k-diffusion]'"
        ) from error
    return k_diffusion


def pick_device(device: str) -> str:
    """``auto`` as what there is; another name checked.

    Raises:
        ValueError: the device is not there.

    Examples:
        >>> from kdist.compat import pick_device
        >>> pick_device("cpu")
        'cpu'
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {device} is not available here ({reason}); use --device auto") from None
    return device
