"""A flow-matching network as a k-diffusion denoiser: ``denoiser(x, sigma, encoder_hidden_states=...) -> denoised``.

The network was trained on ``z = (1 - s) x0 + s n`` and predicts the velocity ``v = n - x0``. In k-diffusion's terms

    sigma = s / (1 - s),    x = z / (1 - s) = z (1 + sigma),    denoised = z - s v,

and k-diffusion's Euler step in sigma is the flow's Euler step in s (Lipman et al. 2023, arXiv 2210.02747; Esser et al.
2024, arXiv 2403.03206). A flow starts at s = 1, an infinite sigma: a large one stands for it, and what the start lacks
of the data is of order 1 / sigma.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...schedules.terms import LARGEST_SIGMA, flow_to_sigma
from .levels import flow_levels

__all__ = ["FlowDenoiser"]

# what a network calls s = 1
_TIMESTEP_OF_NOISE = {
    "SD3Transformer2DModel": 1000.0,
    "WanTransformer3DModel": 1000.0,
    "FluxTransformer2DModel": 1.0,
    "QwenImageTransformer2DModel": 1.0,
}


class FlowDenoiser(nn.Module):
    """An SD3-, Flux-, Qwen-Image- or Wan-like transformer of diffusers, for every k-diffusion solver.

        denoiser = FlowDenoiser(pipe.transformer, pipe.scheduler)
        sigmas = denoiser.get_sigmas(28)
        guided = kdist.guide(denoiser, schedule, uncond=uncond)
        x = K.sampling.sample_dpmpp_2m(guided, noise * sigmas[0], sigmas, extra_args=cond)
        latents = x                                             # the last level is 0: x is the sample itself

    Args:
        transformer: called as ``transformer(hidden_states=z, timestep=t, return_dict=False, **extra_args)[0]``.
        scheduler: the pipeline's flow scheduler: its levels and shift.
        timestep_of_noise: what the network is told at s = 1: 1000 (SD3, Wan) or 1 (Flux, Qwen-Image); None knows these
            four.
        distilled: accept a guidance-distilled network (Flux.1 dev), which takes ``guidance`` as a condition and has
            learned one guided prediction: a scale of 1 is what it was made for, others guide it a second time.
        sigma_max: the noise level that stands for s = 1.

    Raises:
        ValueError: a scheduler that is no flow, a guidance-distilled network, or an unknown network without
            ``timestep_of_noise``.

    Examples:
        >>> import kdist, torch
        >>> _ = kdist.compat.repair_torchvision()  # diffusers imports it; a CPU build of torch lacks a part of it
        >>> from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
        >>> from kdist.adapters.diffusers import FlowDenoiser
        >>> sizes = {"sample_size": 4, "patch_size": 2, "num_layers": 1, "attention_head_dim": 8}
        >>> widths = dict.fromkeys(["joint_attention_dim", "caption_projection_dim", "pooled_projection_dim"], 16)
        >>> channels = {"in_channels": 4, "out_channels": 4, "num_attention_heads": 2}
        >>> transformer = SD3Transformer2DModel(**sizes, **widths, **channels)  # of SD3's kind, tiny and untrained
        >>> denoiser = FlowDenoiser(transformer, FlowMatchEulerDiscreteScheduler())
        >>> cond, uncond = (
        ...     {"encoder_hidden_states": torch.randn(2, 5, 16), "pooled_projections": torch.randn(2, 16)} for _ in "cu"
        ... )
        >>> guided = kdist.guide(denoiser, kdist.Interval(4.0, 0.3, 3.0), uncond=uncond)
        >>> guided(torch.randn(2, 4, 4, 4), torch.full((2,), 1.5), **cond).shape
        torch.Size([2, 4, 4, 4])
    """

    def __init__(
        self,
        transformer: Any,
        scheduler: Any,
        *,
        timestep_of_noise: float | None = None,
        distilled: bool = False,
        sigma_max: float = LARGEST_SIGMA,
    ) -> None:
        super().__init__()
        name = type(transformer).__name__
        flow_levels(scheduler, 2, image_seq_len=256)  # says what is wrong with another scheduler
        if getattr(transformer, "config", {}).get("guidance_embeds") and not distilled:
            raise ValueError(
                f"{name} is guidance-distilled: it takes the scale as an input (guidance=) and predicts what guidance "
                "made, so no schedule can take that back; use an undistilled network, or distilled=True to pass "
                "guidance= as a condition and guide what comes out"
            )
        if timestep_of_noise is None:
            if name not in _TIMESTEP_OF_NOISE:
                raise ValueError(
                    f"how does {name} count its timesteps? Give timestep_of_noise=1000 or 1 (known: "
                    f"{', '.join(_TIMESTEP_OF_NOISE)})"
                )
            timestep_of_noise = _TIMESTEP_OF_NOISE[name]
        self.inner_model = transformer
        self.scheduler = scheduler
        self.timestep_of_noise = timestep_of_noise
        self.sigma_max = sigma_max

    def get_sigmas(self, n: int, *, image_seq_len: int | None = None) -> torch.Tensor:
        """The levels of the scheduler's run of ``n`` steps, its shift included: (n + 1,) float32, the last one 0.

        Args:
            n: steps.
            image_seq_len: tokens of the image (Flux, Qwen-Image: height * width / 256 of the picture), by which a
                scheduler with dynamic shifting moves its levels.

        Raises:
            ValueError: a scheduler with dynamic shifting, and no ``image_seq_len``.
        """
        s = flow_levels(self.scheduler, n, image_seq_len=image_seq_len).double()
        return torch.where(s < 1, flow_to_sigma(s), self.sigma_max).float()

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, **extra_args: Any) -> torch.Tensor:
        """The network's estimate of the noise-free latents.

        Args:
            x: (N, ...) noisy latents on the variance-exploding path, in the network's layout (Flux and Qwen-Image:
                packed, (N, L, C)).
            sigma: (N,) noise levels.
            extra_args: the network's conditions by its own names (``encoder_hidden_states``, ``pooled_projections``,
                ``img_ids``, ...).

        Returns:
            (N, ...) denoised, the dtype of ``x``.
        """
        dtype = getattr(self.inner_model, "dtype", x.dtype)
        wide = torch.promote_types(x.dtype, torch.float32)
        level = sigma.to(wide)
        s = torch.where(level >= self.sigma_max, 1.0, level / (1 + level))
        rows = (-1, *(1,) * (x.ndim - 1))
        z = x.to(wide) / (1 + level).view(rows)
        timestep = (s * self.timestep_of_noise).to(torch.float32)
        velocity = self.inner_model(hidden_states=z.to(dtype), timestep=timestep, return_dict=False, **extra_args)[0]
        return (z - s.view(rows) * velocity.to(wide)).to(x.dtype)
