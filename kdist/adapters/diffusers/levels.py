"""Noise levels of a diffusers scheduler in k-diffusion's convention.

diffusers numbers noise levels by timesteps; schedules here live in ``sigma`` of the variance-exploding path
``x = x0 + sigma n``. A variance-preserving network sees ``x / sqrt(sigma^2 + 1)`` with
``sigma_t^2 = (1 - abar_t) / abar_t``, ``abar`` being the scheduler's ``alphas_cumprod``. A flow-matching network sees
``(1 - s) x0 + s n``, that is ``x / (sigma + 1)`` with ``sigma = s / (1 - s)``.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import torch

from ...schedules.terms import to_sigma

__all__ = ["flow_levels", "is_flow", "scheduler_sigmas", "sigma_of_timestep", "training_sigmas"]

# zero-terminal-SNR schedulers end at abar = 0, sigma = infinity; EulerDiscreteScheduler's own floor: sigma = 4096
_SMALLEST_ALPHA = 2.0**-24


def training_sigmas(scheduler: Any) -> torch.Tensor:
    """The noise levels that the network was trained on: (num_train_timesteps,) float64, increasing with the timestep.

    Raises:
        ValueError: the scheduler has no ``alphas_cumprod`` (flow matching, EDM).

    Examples:
        >>> from diffusers import DDPMScheduler
        >>> from kdist.adapters.diffusers import training_sigmas
        >>> [round(float(sigma), 2) for sigma in training_sigmas(DDPMScheduler())[[0, 999]]]
        [0.01, 157.41]
    """
    alphas = getattr(scheduler, "alphas_cumprod", None)
    if alphas is None:
        raise ValueError(
            f"{type(scheduler).__name__} has no alphas_cumprod, so its timesteps are no noise levels of a "
            "variance-preserving network; use the scheduler that the network was trained with (DDPM, DDIM, Euler, ...)"
        )
    alphas = alphas.double().cpu().clamp_min(_SMALLEST_ALPHA)
    return ((1 - alphas) / alphas).sqrt()


def scheduler_sigmas(scheduler: Any, steps: int) -> torch.Tensor:
    """The noise levels of a run of this scheduler, for k-diffusion's solvers: (steps + 1,) float32, the last one 0.

    The scheduler itself is left as it is. Second-order schedulers give each level once.

    Args:
        scheduler: any diffusers scheduler with ``timesteps``.
        steps: Number of steps, as for ``set_timesteps``.

    Examples:
        >>> from diffusers import EulerDiscreteScheduler
        >>> from kdist.adapters.diffusers import scheduler_sigmas
        >>> [round(float(sigma), 2) for sigma in scheduler_sigmas(EulerDiscreteScheduler(), 4)]
        [157.41, 9.49, 1.46, 0.01, 0.0]
    """
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(steps)
    levels = [sigma_of_timestep(scheduler, t, step) for step, t in enumerate(scheduler.timesteps)]
    if getattr(scheduler, "order", 1) == 2:
        levels = levels[::2]
    # PNDM asks twice at one level while it gathers its first predictions
    return torch.tensor([*(level for level, _ in itertools.groupby(levels)), 0.0], dtype=torch.float32)


def sigma_of_timestep(scheduler: Any, timestep: Any, step: int | None = None) -> float:
    """The noise level of the network call that a pipeline makes at ``timestep``, mid-step and correction calls too.

    Args:
        scheduler: the pipeline's scheduler, after ``set_timesteps``.
        timestep: one of ``scheduler.timesteps``.
        step: index of the loop, to tell equal timesteps apart (rounding makes them with Karras levels).

    Raises:
        ValueError: a timestep that this run of the scheduler does not have.

    Examples:
        >>> from diffusers import EulerDiscreteScheduler
        >>> from kdist.adapters.diffusers import sigma_of_timestep
        >>> scheduler = EulerDiscreteScheduler()
        >>> scheduler.set_timesteps(4)
        >>> [round(sigma_of_timestep(scheduler, t), 2) for t in scheduler.timesteps]
        [157.41, 9.49, 1.46, 0.01]
    """
    index = _index(scheduler, float(timestep), step)
    sigmas = getattr(scheduler, "sigmas", None)
    own = None if sigmas is None or len(sigmas) <= index else float(sigmas[index])
    config = scheduler.config
    if own is not None and is_flow(scheduler):
        return to_sigma(own, "s")
    if own is not None and (
        getattr(scheduler, "alphas_cumprod", None) is None or config.get("timestep_type") == "continuous"
    ):
        return own
    # the timestep always says where the network is asked; the listed level is more exact (timesteps are rounded), but
    # at the mid-step calls of DPM-2 and DPM-SDE it is that of the step
    table = training_sigmas(scheduler).log().numpy()
    if own is not None and own > 0:
        listed = np.interp(np.log(own), table, np.arange(len(table)))
        if abs(listed - float(timestep)) <= 1:
            return own
    return float(np.exp(np.interp(float(timestep), np.arange(len(table)), table)))


def _index(scheduler: Any, timestep: float, step: int | None) -> int:
    timesteps = getattr(scheduler, "timesteps", None)
    matches = [] if timesteps is None else (timesteps == timestep).nonzero().flatten().tolist()
    if not matches:
        raise ValueError(
            f"timestep {timestep:g} is none of this run of {type(scheduler).__name__}: is it the pipeline's scheduler, "
            "and was set_timesteps called?"
        )
    begin = getattr(scheduler, "begin_index", None) or 0
    for guess in (getattr(scheduler, "step_index", None), None if step is None else begin + step):
        if guess is not None and guess in matches:
            return guess
    return matches[0]


def flow_levels(scheduler: Any, steps: int, *, image_seq_len: int | None = None) -> torch.Tensor:
    """The levels s of a flow scheduler's run, in [0, 1]: (steps + 1,), the last one 0. The scheduler is left as it is.

    With dynamic shifting the run is that of the pipelines that have it (Flux, Qwen-Image): evenly spaced levels from 1
    to 1 / steps, shifted by an amount that is linear in the number of image tokens.

    Raises:
        ValueError: a scheduler that is no flow, or dynamic shifting without ``image_seq_len``.
    """
    if not is_flow(scheduler):
        raise ValueError(f"{type(scheduler).__name__} is no flow-matching scheduler: use DiffusersDenoiser")
    scheduler, config = copy.deepcopy(scheduler), scheduler.config
    if not config.get("use_dynamic_shifting"):
        scheduler.set_timesteps(steps)
        return scheduler.sigmas.cpu()
    if image_seq_len is None:
        raise ValueError(
            "this scheduler shifts its levels by the size of the image: give image_seq_len, the number of image tokens"
        )
    tokens = [config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)]
    shifts = [config.get("base_shift", 0.5), config.get("max_shift", 1.15)]
    mu = shifts[0] + (shifts[1] - shifts[0]) * (image_seq_len - tokens[0]) / (tokens[1] - tokens[0])
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps).tolist(), mu=mu)
    return scheduler.sigmas.cpu()


def is_flow(scheduler: Any) -> bool:
    config = scheduler.config
    return (
        bool(config.get("use_flow_sigmas"))
        or config.get("prediction_type") == "flow_prediction"
        or "FlowMatch" in type(scheduler).__name__
    )
