"""A diffusers network as a k-diffusion denoiser: ``denoiser(x, sigma, encoder_hidden_states=...) -> denoised``.

The network was trained on the variance-preserving path ``z = x / sqrt(sigma^2 + 1)`` and predicts, at timestep
``t(sigma)``, the noise (epsilon), the velocity or the sample:

    epsilon:       denoised = x - sigma * out
    v_prediction:  denoised = x / (sigma^2 + 1) - sigma / sqrt(sigma^2 + 1) * out      (Salimans & Ho 2022, 2202.00512)
    sample:        denoised = out

``t(sigma)`` is log-linear between the trained levels, as in k-diffusion's own wrappers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .levels import training_sigmas

__all__ = ["DiffusersDenoiser", "encode_prompts"]

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
# solvers reach the ends by powers and exponentials in float32
_SLACK = 1e-3


class DiffusersDenoiser(nn.Module):
    """A diffusers UNet and the scheduler that it was trained with, for every k-diffusion solver.

        denoiser = DiffusersDenoiser(pipe.unet, pipe.scheduler)
        cond, uncond = encode_prompts(pipe, prompts)
        guided = kdist.guide(denoiser, schedule, uncond=uncond)
        latents = K.sampling.sample_euler_ancestral(guided, noise * sigmas[0], sigmas, extra_args=cond)

    Args:
        unet: called as ``unet(z, t, return_dict=False, **extra_args)[0]``: UNet2DConditionModel, UNet2DModel, ...
        scheduler: its noise levels (``alphas_cumprod``) and prediction type; not changed.
        prediction_type: ``epsilon``, ``v_prediction`` or ``sample``; None takes the scheduler's.
        check_range: raise for a sigma that the network was not trained on. That reads two numbers from the device per
            call; False clamps the timestep silently.

    Raises:
        ValueError: unknown prediction type, or a scheduler without ``alphas_cumprod``.

    Examples:
        >>> import kdist, torch
        >>> _ = kdist.compat.repair_torchvision()  # diffusers imports it; a CPU build of torch lacks a part of it
        >>> from diffusers import DDPMScheduler, UNet2DModel
        >>> from kdist.adapters.diffusers import DiffusersDenoiser
        >>> blocks = {"down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"], "block_out_channels": [32]}
        >>> unet = UNet2DModel(8, num_class_embeds=11, layers_per_block=1, **blocks)  # ten classes and none, untrained
        >>> denoiser = DiffusersDenoiser(unet, DDPMScheduler())
        >>> guided = kdist.guide(denoiser, kdist.Interval(3.0, 0.5, 5.0), uncond={"class_labels": 10})
        >>> sigmas = denoiser.get_sigmas(4)
        >>> x = torch.randn(2, 3, 8, 8) * sigmas[0]
        >>> guided(x, sigmas[0].expand(2), class_labels=torch.tensor([3, 7])).shape
        torch.Size([2, 3, 8, 8])
    """

    sigmas: torch.Tensor
    log_sigmas: torch.Tensor

    def __init__(
        self,
        unet: Any,
        scheduler: Any,
        *,
        prediction_type: str | None = None,
        check_range: bool = True,
    ) -> None:
        super().__init__()
        if prediction_type is None:
            prediction_type = scheduler.config.get("prediction_type", "epsilon")
        if prediction_type not in PREDICTION_TYPES:
            raise ValueError(
                f"prediction_type must be one of {', '.join(PREDICTION_TYPES)}; got {prediction_type!r} "
                "(flow-matching networks are not variance preserving: use FlowDenoiser)"
            )
        self.inner_model = unet
        self.prediction_type = prediction_type
        self.check_range = check_range
        sigmas = training_sigmas(scheduler)
        self.register_buffer("sigmas", sigmas.float(), persistent=False)
        self.register_buffer("log_sigmas", sigmas.log().float(), persistent=False)

    def _apply(self, fn: Any, recurse: bool = True) -> DiffusersDenoiser:
        levels = {name: getattr(self, name) for name in ("sigmas", "log_sigmas")}
        super()._apply(fn, recurse)
        for name, exact in levels.items():  # .half() is meant for the network: timesteps need float32
            setattr(self, name, exact.to(getattr(self, name).device))
        return self

    @property
    def sigma_min(self) -> float:
        """The lowest trained noise level."""
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        """The highest trained noise level; sampling starts from noise of this standard deviation."""
        return float(self.sigmas[-1])

    def sigma_to_t(self, sigma: torch.Tensor) -> torch.Tensor:
        """Fractional timesteps of the noise levels, the shape of ``sigma``; clamped to the trained range."""
        log_sigma = sigma.float().log()
        high = torch.searchsorted(self.log_sigmas, log_sigma.contiguous()).clamp(1, len(self.log_sigmas) - 1)
        low_level, high_level = self.log_sigmas[high - 1], self.log_sigmas[high]
        part = ((log_sigma - low_level) / (high_level - low_level)).clamp(0, 1)
        return high - 1 + part

    def t_to_sigma(self, t: torch.Tensor) -> torch.Tensor:
        """Noise levels of (fractional) timesteps, the shape of ``t``."""
        t = t.float().clamp(0, len(self.log_sigmas) - 1)
        low = t.floor().long()
        high = t.ceil().long()
        return torch.lerp(self.log_sigmas[low], self.log_sigmas[high], t - low).exp()

    def get_sigmas(self, n: int) -> torch.Tensor:
        """Noise levels of ``n`` steps, evenly spaced in the timestep: (n + 1,), the last one 0.

        :func:`~kdist.adapters.diffusers.scheduler_sigmas` gives a scheduler's own spacing.
        """
        t = torch.linspace(len(self.sigmas) - 1, 0, n, dtype=torch.float32, device=self.sigmas.device)
        return torch.cat([self.t_to_sigma(t), self.sigmas.new_zeros(1)])

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, **extra_args: Any) -> torch.Tensor:
        """The network's estimate of the noise-free latents.

        Args:
            x: (N, C, H, W) noisy latents on the variance-exploding path.
            sigma: (N,) noise levels.
            extra_args: the network's conditions by its own names: ``encoder_hidden_states`` (N, L, D),
                ``added_cond_kwargs`` (SDXL: ``text_embeds`` (N, D), ``time_ids`` (N, 6)), ``class_labels``, ...

        Returns:
            (N, C, H, W) denoised, the dtype of ``x``.

        Raises:
            ValueError: a sigma outside the trained range, conditions whose rows are not N, missing SDXL conditions,
                latents with the wrong number of channels.
        """
        self._check(x, sigma, extra_args)
        dtype = getattr(self.inner_model, "dtype", x.dtype)
        # float32: sigma^2 of a zero-SNR scheduler (sigma up to 4096) is infinite in half precision
        wide = torch.promote_types(x.dtype, torch.float32)
        level, z = sigma.view(-1, *(1,) * (x.ndim - 1)).to(wide), x.to(wide)
        norm = (level**2 + 1).sqrt()
        out = self.inner_model((z / norm).to(dtype), self.sigma_to_t(sigma), return_dict=False, **extra_args)[0]
        out = out[:, : x.shape[1]].to(wide)  # networks that also predict a variance put it after the mean
        if self.prediction_type == "epsilon":
            out = z - level * out
        elif self.prediction_type == "v_prediction":
            out = z / norm**2 - level / norm * out
        return out.to(x.dtype)

    def _check(self, x: torch.Tensor, sigma: torch.Tensor, extra_args: Mapping[str, Any]) -> None:
        for name, value in _tensors(extra_args):
            if value.ndim and value.shape[0] != len(x):
                raise ValueError(
                    f"{name} has {value.shape[0]} rows, the batch has {len(x)}: repeat it to one row per sample"
                )
        config = getattr(self.inner_model, "config", {})
        channels = config.get("in_channels", x.shape[1])
        if x.shape[1] != channels:
            raise ValueError(
                f"x has {x.shape[1]} channels, the network takes {channels}"
                + (" (an inpainting network? its mask and image are not supported here)" if channels == 9 else "")
            )
        if config.get("addition_embed_type") == "text_time":
            added = extra_args.get("added_cond_kwargs") or {}
            missing = [name for name in ("text_embeds", "time_ids") if name not in added]
            if missing:
                raise ValueError(
                    f"this network (SDXL) needs added_cond_kwargs with text_embeds and time_ids; {', '.join(missing)} "
                    "missing: kdist.adapters.diffusers.encode_prompts gives them"
                )
        if self.check_range and not torch.compiler.is_compiling():
            lowest, highest = sigma.amin().item(), sigma.amax().item()
            slack = max(_SLACK, torch.finfo(sigma.dtype).eps)
            if not (highest <= self.sigma_max * (1 + slack) and lowest >= self.sigma_min * (1 - slack)):
                raise ValueError(
                    f"sigma {highest:.6g} to {lowest:.6g} is outside the scheduler's range {self.sigma_max:.6g} to "
                    f"{self.sigma_min:.6g}: take the levels from denoiser.get_sigmas or scheduler_sigmas"
                )


def encode_prompts(
    pipe: Any,
    prompts: str | Sequence[str],
    *,
    negative_prompt: str | Sequence[str] | None = None,
    zeros: bool | None = None,
    height: int | None = None,
    width: int | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Conditions of a Stable Diffusion or SDXL pipeline for :class:`DiffusersDenoiser`, as the pipeline makes them.

    Args:
        pipe: StableDiffusionPipeline or StableDiffusionXLPipeline.
        prompts: N texts, or one.
        negative_prompt: the text of the unconditional pass, or N of them. None is plain guidance: the empty text, or
            zeros for pipelines that say so (SDXL's ``force_zeros_for_empty_prompt``); ``""`` is the empty text.
        zeros: True makes the unconditional embeddings zeros, False the text's; None is the pipeline's way.
        height: image height in pixels (SDXL is told it); None is the pipeline's native size.
        width: image width in pixels, likewise.

    Returns:
        ``(cond, uncond)``: ``extra_args`` for the sampler and ``uncond`` for :func:`kdist.guide`, both with N rows.

    Raises:
        ValueError: another number of negative prompts than of prompts, or zeros together with a negative prompt.

    Examples:
        >>> import types, torch
        >>> from kdist.adapters.diffusers import encode_prompts
        >>> class Pipe(types.SimpleNamespace):  # stands for a StableDiffusionPipeline with its weights
        ...     def encode_prompt(self, prompt, **options):
        ...         return torch.ones(len(prompt), 77, 768), torch.zeros(len(prompt), 77, 768)
        >>> cond, uncond = encode_prompts(Pipe(_execution_device="cpu"), ["a cat", "a dog"], negative_prompt="blurry")
        >>> {name: tuple(value.shape) for name, value in cond.items()}
        {'encoder_hidden_states': (2, 77, 768)}
    """
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    given = negative_prompt or ""
    negative = [given] * len(texts) if isinstance(given, str) else list(given)
    if len(negative) != len(texts):
        raise ValueError(f"negative_prompt must be one text or {len(texts)}, as there are prompts; got {len(negative)}")
    if zeros and any(negative):
        raise ValueError("zeros=True takes the place of the negative prompt: give one of the two")
    if zeros is None:
        config = getattr(pipe, "config", {})
        zeros = negative_prompt is None and bool(config.get("force_zeros_for_empty_prompt", False))
    shared = {
        "prompt": texts,
        "device": pipe._execution_device,
        "num_images_per_prompt": 1,
        "do_classifier_free_guidance": True,
        "negative_prompt": negative,
    }
    with torch.no_grad():
        embeds = pipe.encode_prompt(**shared)
    # tokens, negative tokens, and for SDXL pooled, negative pooled
    embeds = [torch.zeros_like(e) if zeros and place % 2 else e for place, e in enumerate(embeds)]
    if len(embeds) == 2:
        return {"encoder_hidden_states": embeds[0]}, {"encoder_hidden_states": embeds[1]}
    cond, uncond, cond_pooled, uncond_pooled = embeds
    native = pipe.default_sample_size * pipe.vae_scale_factor
    size = (height or native, width or native)
    time_ids = torch.tensor([[*size, 0, 0, *size]], dtype=cond.dtype, device=cond.device).repeat(len(texts), 1)

    def with_pooled(tokens: torch.Tensor, pooled: torch.Tensor) -> dict[str, Any]:
        added = {"text_embeds": pooled, "time_ids": time_ids}
        return {"encoder_hidden_states": tokens, "added_cond_kwargs": added}

    return with_pooled(cond, cond_pooled), with_pooled(uncond, uncond_pooled)


def _tensors(args: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in args.items():
        if isinstance(value, torch.Tensor):
            yield prefix + name, value
        elif isinstance(value, Mapping):
            yield from _tensors(value, f"{prefix}{name}.")
