"""A guider for diffusers' modular pipelines that follows a schedule of the noise level.

diffusers' own guiders switch by the index of the loop. A second-order scheduler runs 2 N - 1 iterations for N steps, so
there a window of steps ends at half of the progress that was asked for. Here the loop's timestep is turned into its
noise level, and the schedule is asked there, whichever scheduler runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.guiders.guider_utils import BaseGuidance, GuiderOutput

from ...schedules import Constant, Schedule, from_dict, parse
from .levels import sigma_of_timestep

__all__ = ["ScheduleGuidance"]

_COND, _UNCOND = "pred_cond", "pred_uncond"


class ScheduleGuidance(BaseGuidance):
    """Classifier-free guidance whose scale is a :class:`kdist.Schedule`, for any modular pipeline.

        pipe.update_components(guider=ScheduleGuidance(schedule, scheduler=pipe.scheduler))

    Where the scale is 1 the unconditional pass is not run, where it is 0 the conditional one. The predictions (noise,
    velocity or sample, as the network gives them) are combined linearly, which is the same in every parametrisation.
    For other rules use :class:`~kdist.adapters.diffusers.DiffusersDenoiser` with :func:`kdist.guide`.

    Args:
        schedule: a schedule, a number, the text that :func:`kdist.parse` reads, or its ``to_dict()`` form. It is kept
            in the guider's config, so ``save_pretrained`` and ``from_pretrained`` keep it.
        scheduler: the pipeline's scheduler. Not part of the config: a guider that was loaded gets it by
            ``guider.scheduler = pipe.scheduler``.
        enabled: False runs the conditional pass alone.

    Raises:
        ValueError: a schedule that cannot be read.
        TypeError: a schedule of another kind, e.g. a plain function, which a config cannot hold.
    """

    ignore_for_config = ["scheduler"]  # noqa: RUF012 (diffusers' own convention)
    _input_predictions = [_COND, _UNCOND]  # type: ignore[assignment]  # noqa: RUF012

    @register_to_config
    def __init__(
        self, schedule: Schedule | float | str | Mapping[str, Any], scheduler: Any = None, enabled: bool = True
    ) -> None:
        super().__init__(enabled=enabled)
        self.schedule = _read(schedule)
        self.register_to_config(schedule=self.schedule.to_dict())
        self.scheduler = scheduler
        self._sigma: float | None = None
        self._scale: float | None = None
        self._prepared: list[str] = []

    def new(self, **kwargs: Any) -> ScheduleGuidance:
        """A copy, with other arguments where given; it keeps the scheduler."""
        scheduler = kwargs.pop("scheduler", self.scheduler)
        guider = super().new(**kwargs)
        guider.scheduler = scheduler
        return guider

    def set_state(self, step: int, num_inference_steps: int, timestep: Any) -> None:
        """Called by the pipeline at the start of every iteration of its loop.

        Raises:
            RuntimeError: no scheduler.
            ValueError: a timestep that is not in the scheduler's run.
        """
        super().set_state(step, num_inference_steps, timestep)
        if self.scheduler is None:
            raise RuntimeError("ScheduleGuidance has no scheduler: set guider.scheduler = pipe.scheduler")
        self._sigma = sigma_of_timestep(self.scheduler, timestep, step)
        # in float32, as k-diffusion's solvers hold it: a level on a window's edge must fall on the same side
        self._scale = float(self.schedule(torch.tensor(self._sigma, dtype=torch.float32)))
        self._prepared = []

    def get_state(self) -> dict[str, Any]:
        """The base class's state, and ``sigma`` and ``scale`` of this iteration."""
        return {**super().get_state(), "sigma": self._sigma, "scale": self._scale}

    def prepare_inputs(self, data: Any) -> list[Any]:
        """One batch of inputs for each pass that the scale needs.

        Args:
            data: a dict, by input name a tensor or a tuple (conditional, unconditional).

        Raises:
            RuntimeError: used outside the pipeline's loop.
            ValueError: the unconditional pass is needed and there is nothing for it.
        """
        names = self._needed(any(isinstance(v, tuple) and len(v) > 1 and v[1] is not None for v in data.values()))
        return [self._prepare_batch(data, self._input_predictions.index(name), name) for name in names]

    def prepare_inputs_from_block_state(self, data: Any, input_fields: dict[str, Any]) -> list[Any]:
        """As :meth:`prepare_inputs`, the inputs being attributes of the pipeline's state, named in ``input_fields``."""
        pairs = (field for field in input_fields.values() if isinstance(field, tuple) and len(field) > 1)
        names = self._needed(any(getattr(data, pair[1], None) is not None for pair in pairs))
        return [
            self._prepare_batch_from_block_state(input_fields, data, self._input_predictions.index(name), name)
            for name in names
        ]

    def _needed(self, has_uncond: bool) -> list[str]:
        if self._scale is None:
            raise RuntimeError(
                "ScheduleGuidance is used outside its loop: set_state(step, num_inference_steps, timestep) comes "
                "first, it says at which noise level the predictions are combined"
            )
        scale = self._scale if self._enabled else 1.0
        self._prepared = [name for name, unused_at in ((_COND, 0), (_UNCOND, 1)) if scale != unused_at]
        if _UNCOND in self._prepared and not has_uncond:
            raise ValueError(
                f"the scale is {scale:g} at sigma={self._sigma:g}, which needs an unconditional prediction, but the "
                "pipeline gave no negative conditions: pass negative_prompt (or negative_prompt_embeds)"
            )
        return self._prepared

    def __call__(self, data: list[Any]) -> GuiderOutput:
        """The guided prediction of the batches of :meth:`prepare_inputs`, each with its ``noise_pred``."""
        names = [getattr(batch, self._identifier_key, None) for batch in data]
        if not self._prepared or names != self._prepared:
            raise RuntimeError(
                f"ScheduleGuidance is used outside its loop: it got predictions {names}, and for this iteration "
                f"prepared {self._prepared or 'none'}"
            )
        missing = [name for name, batch in zip(names, data, strict=True) if not hasattr(batch, "noise_pred")]
        if missing:
            raise ValueError(f"no noise_pred in the batches {missing}: run the network on each of them first")
        return self.forward(**{name: batch.noise_pred for name, batch in zip(names, data, strict=True)})

    def forward(self, pred_cond: torch.Tensor | None = None, pred_uncond: torch.Tensor | None = None) -> GuiderOutput:
        """``pred_uncond + scale * (pred_cond - pred_uncond)``, or the only one that there is."""
        if pred_cond is None or pred_uncond is None:
            pred = pred_uncond if pred_cond is None else pred_cond
        else:
            assert self._scale is not None
            pred = pred_uncond + self._scale * (pred_cond - pred_uncond)
        return GuiderOutput(pred=pred, pred_cond=pred_cond, pred_uncond=pred_uncond)

    @property
    def is_conditional(self) -> bool:
        """Whether the pass that is being run is the conditional one."""
        return self._prepared[self._count_prepared - 1 : self._count_prepared] == [_COND]

    @property
    def num_conditions(self) -> int:
        """How many conditions a pipeline has to provide (it asks before the loop), not how many passes are run."""
        return 2 if self._enabled else 1


def _read(schedule: Schedule | float | str | Mapping[str, Any]) -> Schedule:
    if isinstance(schedule, Schedule):
        return schedule
    if isinstance(schedule, str):
        return parse(schedule)
    if isinstance(schedule, Mapping):
        return from_dict(schedule)
    if isinstance(schedule, (int, float)):
        return Constant(schedule)
    raise TypeError(
        f"schedule must be a kdist Schedule, a number, text for kdist.parse, or a dict; got {type(schedule).__name__}"
    )
