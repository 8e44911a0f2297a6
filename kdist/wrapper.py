"""What denoisers around denoisers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

__all__ = ["Wrapper"]


class Wrapper(nn.Module):
    """A denoiser around a denoiser: attributes of the inner one (``sigma_min``, ``get_sigmas``, ...) stay reachable."""

    def __init__(self, model: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.inner_model = model

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # "inner_model" itself is missing while a copy or an unpickled object is being built
            if name == "inner_model" or name.startswith("__"):
                raise
            return getattr(self.inner_model, name)
