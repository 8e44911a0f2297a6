"""Guidance schedules in diffusers' classic pipelines, which know no guider and take one number for the whole run.

A classic pipeline computes ``uncond + guidance_scale * (cond - uncond)`` after every call of its network, with whatever
object it was given. :func:`scheduled_scale` gives it a number whose product is the schedule's scale of the noise level
at which the network was called last: nothing of the pipeline is patched, and mid-step calls get their own scale.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from ...schedules import Schedule
from .levels import sigma_of_timestep
from .watching import argument

__all__ = ["ScheduledScale", "scheduled_scale"]

_NETWORKS = ("unet", "transformer", "transformer_2")


class ScheduledScale(float):
    """A number to a pipeline that asks whether guidance is on; multiplied, the schedule's scale of the last call."""

    def __new__(cls, schedule: Schedule) -> ScheduledScale:
        scale = super().__new__(cls, 2.0)  # above 1: both predictions are wanted
        scale.schedule = schedule
        scale.sigmas = []
        scale.uses = 0
        return scale

    schedule: Schedule
    sigmas: list[float]
    uses: int

    def __mul__(self, other: Any) -> Any:
        if not self.sigmas:
            raise RuntimeError(
                "this scale belongs to one pipeline's run: use it inside `with scheduled_scale(pipe, ...)`"
            )
        self.uses += 1
        # in float32, as k-diffusion's solvers hold it: a level on a window's edge must fall on the same side
        return float(self.schedule(torch.tensor(self.sigmas[-1], dtype=torch.float32))) * other

    __rmul__ = __mul__

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # a tensor on the left would otherwise take the plain number, the same for the whole run
        if func in (torch.Tensor.mul, torch.mul, torch.Tensor.__mul__, torch.Tensor.__rmul__):
            scale, other = args if isinstance(args[0], ScheduledScale) else args[::-1]
            return scale * other
        return NotImplemented


@contextlib.contextmanager
def scheduled_scale(pipe: Any, schedule: Schedule) -> Iterator[ScheduledScale]:
    """A guidance scale that follows a schedule through one or more runs of a classic pipeline.

        with scheduled_scale(pipe, kdist.LateNegative(7.5, 1.5)) as scale:
            images = pipe(prompt, guidance_scale=scale).images           # true_cfg_scale=scale for Qwen-Image, Flux

    Both passes are run in every call, as ever in these pipelines: it is the scale that changes, not the time.

    Args:
        pipe: a pipeline with ``unet`` or ``transformer`` and ``scheduler``.
        schedule: a function of the noise level alone.

    Raises:
        TypeError: no such pipeline.
        RuntimeError: the pipeline called its network and never multiplied by the scale, said at the end (guidance was
            off, or the network is guidance-distilled and took the number as an input).
        ValueError: a schedule per class, or a timestep that the scheduler's run does not have.

    Examples:
        >>> import types, kdist, torch
        >>> from diffusers import EulerDiscreteScheduler
        >>> from kdist.adapters.diffusers import scheduled_scale
        >>> scheduler = EulerDiscreteScheduler()
        >>> pipe = types.SimpleNamespace(unet=torch.nn.Identity(), scheduler=scheduler)  # stands for a pipeline
        >>> pipe.unet.forward = lambda sample, timestep: sample
        >>> scheduler.set_timesteps(4)
        >>> with scheduled_scale(pipe, kdist.LateNegative(7.5, 1.5)) as scale:
        ...     for t in scheduler.timesteps:  # as the pipeline's own loop does, with both predictions
        ...         _ = pipe.unet(torch.zeros(1), t)
        ...         print(round(scale.sigmas[-1], 2), scale * 1.0)
        157.41 7.5
        9.49 7.5
        1.46 0.0
        0.01 0.0
    """
    networks = [getattr(pipe, name) for name in _NETWORKS if getattr(pipe, name, None) is not None]
    if not networks or getattr(pipe, "scheduler", None) is None:
        raise TypeError(
            f"pipe must be a diffusers pipeline with a unet or transformer and a scheduler; got {type(pipe).__name__}"
        )
    schedule(torch.ones(()))  # a schedule per class or row says here what it needs
    scale = ScheduledScale(schedule)

    def note(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        timestep = argument(args, kwargs, ("timestep",), 1)
        scale.sigmas.append(_sigma(pipe.scheduler, float(torch.as_tensor(timestep).flatten()[0])))

    hooks = [network.register_forward_pre_hook(note, with_kwargs=True) for network in networks]
    try:
        yield scale
    finally:
        for hook in hooks:
            hook.remove()
    if scale.sigmas and not scale.uses:
        raise RuntimeError(
            f"{type(pipe).__name__} made {len(scale.sigmas)} network calls and never multiplied by the scale: it needs "
            "a negative prompt, or takes it as true_cfg_scale; a guidance-distilled network cannot be scheduled"
        )


def _sigma(scheduler: Any, timestep: float) -> float:
    """The noise level of a network call; some networks are told the timestep as a fraction of 1000."""
    known = scheduler.timesteps.double().cpu()
    found = []
    for value in (timestep, timestep * 1000):
        nearest = int((known - value).abs().argmin())
        if abs(float(known[nearest]) - value) <= 1e-3 * max(value, 1.0):
            found.append(nearest)
    if not found:
        raise ValueError(f"the network was called at timestep {timestep:g}, which is none of the scheduler's run")
    # 1 is the last timestep of a run, or the first as a fraction: the scheduler knows how far it is
    now = getattr(scheduler, "step_index", None)
    now = (getattr(scheduler, "begin_index", None) or 0) if now is None else now
    index = min(found, key=lambda place: abs(place - now))
    return sigma_of_timestep(scheduler, scheduler.timesteps[index])
