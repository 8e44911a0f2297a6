"""What a diffusers network predicts, as a denoised sample and back: affine in the prediction at each noise level.

denoised = a z + b prediction,      z the network's input

variance preserving, z = x / n, n = sqrt(sigma^2 + 1):   epsilon  a = n,    b = -sigma
                                                         velocity a = 1/n,  b = -sigma / n
                                                         sample   a = 0,    b = 1
flow, z = x / (1 + sigma), s = sigma / (1 + sigma):      velocity a = 1,    b = -s
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from .levels import is_flow

__all__ = ["Prediction"]


@dataclass(frozen=True)
class Prediction:
    """The conversion at one noise level: ``x`` is the sample in kdist's terms, x0 + sigma n."""

    z: torch.Tensor
    x: torch.Tensor
    a: float
    b: float

    @classmethod
    def of(cls, scheduler: Any, sigma: float, z: torch.Tensor | None, like: torch.Tensor) -> Prediction:
        """For the network's input ``z`` and predictions shaped like ``like``.

        Raises:
            ValueError: an input that is not known or not the sample, or a scheduler of another kind.
        """
        if z is None:
            raise ValueError("this pipeline does not announce its network to the guider, so only the linear rule works")
        # a picture and a mask beside the sample (inpainting networks) come after its channels
        z = z[:, : like.shape[1]].float()
        if z.shape != like.shape:
            raise ValueError(
                f"the network's input {tuple(z.shape)} and its prediction {tuple(like.shape)} differ in shape, so the "
                "denoised sample is not known here: use the linear rule"
            )
        if is_flow(scheduler):
            return cls(z, z * (1 + sigma), 1.0, -sigma / (1 + sigma))
        if getattr(scheduler, "alphas_cumprod", None) is None:
            raise ValueError(
                f"{type(scheduler).__name__} is neither variance preserving nor a flow: use the linear rule"
            )
        n, kind = math.hypot(sigma, 1), scheduler.config.get("prediction_type", "epsilon")
        known = {"epsilon": (n, -sigma), "v_prediction": (1 / n, -sigma / n), "sample": (0.0, 1.0)}
        if kind not in known:
            raise ValueError(f"prediction_type must be one of {', '.join(known)}; got {kind!r}")
        return cls(z, z * n, *known[kind])

    def denoised(self, prediction: torch.Tensor) -> torch.Tensor:
        """(N, ...) float32."""
        return self.a * self.z + self.b * prediction.float()

    def prediction(self, denoised: torch.Tensor) -> torch.Tensor:
        """The inverse of :meth:`denoised`."""
        return (denoised - self.a * self.z) / self.b
