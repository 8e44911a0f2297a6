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

from ... import rules
from ...schedules import Constant, Schedule, from_dict, parse
from ...schedules.evaluate import scale_of_rows
from .levels import sigma_of_timestep
from .predictions import Prediction
from .watching import NetworkInput, forward_of

__all__ = ["ScheduleGuidance"]

_COND, _UNCOND = "pred_cond", "pred_uncond"


class ScheduleGuidance(BaseGuidance):
    """Classifier-free guidance whose scale is a :class:`kdist.Schedule`, for any modular pipeline.

        pipe.update_components(guider=ScheduleGuidance(schedule, scheduler=pipe.scheduler))

    Where the scale is 1 the unconditional pass is not run, where it is 0 the conditional one; the other prediction then
    stands in both fields of the output, as some pipelines look at them.

    Args:
        schedule: a schedule, a number, the text that :func:`kdist.parse` reads, or its ``to_dict()`` form. It is kept
            in the guider's config, so ``save_pretrained`` and ``from_pretrained`` keep it.
        scheduler: the pipeline's scheduler. It and the next three are not part of the config: a guider that was loaded
            gets them by ``guider.scheduler = pipe.scheduler``.
        enabled: False runs the conditional pass alone.
        rule: how the predictions combine, see :mod:`kdist.rules`; None is the linear rule, the same in every
            parametrisation. Others get denoised samples: predictions (noise, velocity or sample, by the scheduler's
            config) are converted with the network's input and the noise level, and back.
        weak_model: a network with the pipeline network's call, run instead of it in the unconditional pass and given
            the positive conditions (autoguidance, Karras et al. 2024, arXiv 2406.02507).
        labels: (N,) class numbers of the pipeline's rows, for :class:`kdist.PerClass`.

    Raises:
        ValueError: a schedule that cannot be read.
        TypeError: a schedule of another kind, e.g. a plain function, which a config cannot hold.

    Examples:
        >>> import kdist
        >>> _ = kdist.compat.repair_torchvision()  # diffusers imports it; a CPU build of torch lacks a part of it
        >>> from kdist.adapters.diffusers import ScheduleGuidance
        >>> guider = ScheduleGuidance(kdist.Interval(6.0, 0.5, 5.0))  # pipe.update_components(guider=guider)
        >>> print(ScheduleGuidance.from_config(guider.config).schedule)
        interval:scale=6.0,sigma_lo=0.5,sigma_hi=5.0
    """

    ignore_for_config = ["scheduler", "rule", "weak_model", "labels"]  # noqa: RUF012 (diffusers' own convention)
    _input_predictions = [_COND, _UNCOND]  # type: ignore[assignment]  # noqa: RUF012
    spatio_temporal_guidance_blocks = None  # LTX-2's pipeline asks for it

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        schedule: Schedule | float | str | Mapping[str, Any],
        scheduler: Any = None,
        enabled: bool = True,
        rule: rules.Rule | None = None,
        weak_model: Any = None,
        labels: torch.Tensor | None = None,
    ) -> None:
        super().__init__(enabled=enabled)
        self.schedule = _read(schedule)
        # diffusers counts what is given by position among the defaults, which from_config and new() then leave out
        self.register_to_config(schedule=self.schedule.to_dict(), _use_default_values=[])
        self.scheduler = scheduler
        self.rule = rules.linear if rule is None else rule
        self.weak_model = weak_model
        self.labels = labels
        self._input = NetworkInput()
        self._sigma: float | None = None
        self._scale: torch.Tensor | None = None
        self._prepared: list[str] = []

    def new(self, **kwargs: Any) -> ScheduleGuidance:
        """A copy, with other arguments where given; it keeps what is not in the config."""
        outside = {name: kwargs.pop(name, getattr(self, name)) for name in self.ignore_for_config}
        guider = super().new(**kwargs)
        for name, value in outside.items():
            setattr(guider, name, value)
        return guider

    def set_state(self, step: int, num_inference_steps: int, timestep: Any) -> None:
        """Called by the pipeline at the start of every iteration of its loop.

        Raises:
            RuntimeError: no scheduler.
            ValueError: a timestep that is not in the scheduler's run, or a schedule per class without labels.
        """
        super().set_state(step, num_inference_steps, timestep)
        if self.scheduler is None:
            raise RuntimeError("ScheduleGuidance has no scheduler: set guider.scheduler = pipe.scheduler")
        self._sigma = sigma_of_timestep(self.scheduler, timestep, step)
        schedule, rows = self.schedule, 1
        if self.labels is not None:
            labels = torch.as_tensor(self.labels)
            schedule, rows = schedule.bind({getattr(schedule, "key", "class_cond"): labels}, len(labels)), len(labels)
        # in float32, as k-diffusion's solvers hold it: a level on a window's edge must fall on the same side
        try:
            self._scale = scale_of_rows(schedule, torch.full((rows,), self._sigma, dtype=torch.float32))
        except ValueError as error:
            if self.labels is None and "depends on the row" in str(error):
                raise ValueError(
                    f"{type(schedule).__name__} needs the classes of the rows, which a pipeline does not have: "
                    "ScheduleGuidance(..., labels=class_numbers); elsewhere pass it to kdist.guide"
                ) from None
            raise
        self._prepared = []

    def get_state(self) -> dict[str, Any]:
        """The base class's state, and ``sigma`` and ``scale`` (with labels, a list) of this iteration."""
        scale = None if self._scale is None else self._scale.tolist()
        return {**super().get_state(), "sigma": self._sigma, "scale": scale[0] if scale and len(scale) == 1 else scale}

    def active_predictions(self) -> list[str]:
        """The passes of this iteration."""
        return list(self._prepared)

    def prepare_inputs(self, data: Any) -> list[Any]:
        """One batch of inputs for each pass that the scale needs.

        Args:
            data: a dict, by input name a tensor or a tuple (conditional, unconditional).

        Raises:
            RuntimeError: used outside the pipeline's loop.
            ValueError: the unconditional pass is needed and there is nothing for it.
        """
        names = self._needed(any(isinstance(v, tuple) and len(v) > 1 and v[1] is not None for v in data.values()))
        return [self._prepare_batch(data, self._place(name), name) for name in names]

    def prepare_inputs_from_block_state(self, data: Any, input_fields: dict[str, Any]) -> list[Any]:
        """As :meth:`prepare_inputs`, the inputs being attributes of the pipeline's state, named in ``input_fields``."""
        pairs = [field for field in input_fields.values() if isinstance(field, tuple) and len(field) > 1]
        if self.weak_model is not None and any(len(field) > 2 for field in pairs):
            raise ValueError("LTX-2 shares its passes between two guiders, so no weak model can take one of them over")
        names = self._needed(any(getattr(data, pair[1], None) is not None for pair in pairs))
        return [self._prepare_batch_from_block_state(input_fields, data, self._place(name), name) for name in names]

    def _place(self, name: str) -> int:
        """Which of the pipeline's conditions a pass gets: a weak model gets the positive one."""
        return 0 if self.weak_model is not None else self._input_predictions.index(name)

    def _needed(self, has_uncond: bool) -> list[str]:
        if self._scale is None:
            raise RuntimeError(
                "ScheduleGuidance is used outside its loop: set_state(step, num_inference_steps, timestep) comes "
                "first, it says at which noise level the predictions are combined"
            )
        scales = set(self._scale.tolist()) if self._enabled else {1.0}
        to_cond, to_uncond = rules.reductions(self.rule) if self._enabled else (True, False)
        alone = {_UNCOND: scales == {0.0} and to_uncond, _COND: scales == {1.0} and to_cond}
        self._prepared = [_COND] if alone[_COND] else [_UNCOND] if alone[_UNCOND] else [_COND, _UNCOND]
        if _UNCOND in self._prepared and not has_uncond and self.weak_model is None:
            raise ValueError(
                f"the scale is {', '.join(f'{s:g}' for s in sorted(scales))} at sigma={self._sigma:g}, which needs an "
                "unconditional prediction, but the pipeline gave no negative conditions: pass negative_prompt (or "
                "negative_prompt_embeds)"
            )
        return self._prepared

    def prepare_models(self, denoiser: torch.nn.Module) -> None:
        """Called by the pipeline before each pass: its input is noted, a weak model takes the network's place."""
        super().prepare_models(denoiser)
        if denoiser is None:
            return
        if self.rule is not rules.linear:
            self._input.watch(denoiser)
        if self.weak_model is not None and not self.is_conditional:
            denoiser.forward = forward_of(self.weak_model, denoiser)

    def cleanup_models(self, denoiser: torch.nn.Module) -> None:
        """Called by the pipeline after each pass: the network is as it was."""
        super().cleanup_models(denoiser)
        if denoiser is None:
            return
        self._input.stop()
        replaced = vars(denoiser).get("forward")
        if hasattr(replaced, "kdist_replaces"):
            denoiser.forward = replaced.kdist_replaces  # type: ignore[union-attr]
            if replaced.kdist_was_in_class:  # type: ignore[union-attr]
                del denoiser.forward

    def __call__(self, data: list[Any]) -> GuiderOutput:
        """The guided prediction of the batches of :meth:`prepare_inputs`, each with its ``noise_pred``."""
        names = [str(getattr(batch, self._identifier_key, None)) for batch in data]
        # in any order: LTX-2 runs the passes that either of its two guiders wants
        if not self._prepared or sorted(names) != sorted(self._prepared):
            raise RuntimeError(
                f"ScheduleGuidance is used outside its loop: it got predictions {names}, and for this iteration "
                f"prepared {self._prepared or 'none'}"
            )
        missing = [name for name, batch in zip(names, data, strict=True) if not hasattr(batch, "noise_pred")]
        if missing:
            raise ValueError(f"no noise_pred in the batches {missing}: run the network on each of them first")
        if self.rule is not rules.linear and any(hasattr(batch, "video_pred") for batch in data):
            raise ValueError("LTX-2 guides two denoised modalities by one noise level: use the linear rule there")
        return self.forward(**{name: batch.noise_pred for name, batch in zip(names, data, strict=True)})

    def forward(self, pred_cond: torch.Tensor | None = None, pred_uncond: torch.Tensor | None = None) -> GuiderOutput:
        """``pred_uncond + scale * (pred_cond - pred_uncond)`` or the rule's result, or the only one that there is."""
        if pred_cond is None or pred_uncond is None:
            pred = pred_uncond if pred_cond is None else pred_cond
            return GuiderOutput(pred=pred, pred_cond=pred, pred_uncond=pred)
        assert self._scale is not None
        assert self._sigma is not None
        rows = (-1, *(1,) * (pred_cond.ndim - 1))
        if len(self._scale) not in (1, len(pred_cond)):
            raise ValueError(f"labels has {len(self._scale)} rows, the pipeline's batch {len(pred_cond)}: one per row")
        scale = self._scale.to(pred_cond.device).view(rows)
        if self.rule is rules.linear:
            # a number where it is one: tensors of float32 would make half-precision predictions wide
            factor = float(self._scale[0]) if len(self._scale) == 1 else scale.to(pred_cond.dtype)
            pred = pred_uncond + factor * (pred_cond - pred_uncond)
        else:
            kind = Prediction.of(self.scheduler, self._sigma, self._input.tensor, pred_cond)
            level = torch.full((len(pred_cond),), self._sigma, device=pred_cond.device).view(rows)
            scale = scale.expand(len(pred_cond), *rows[1:])
            denoised = self.rule(kind.denoised(pred_cond), kind.denoised(pred_uncond), scale, kind.x, level)
            pred = kind.prediction(denoised).to(pred_cond.dtype)
        return GuiderOutput(pred=pred, pred_cond=pred_cond, pred_uncond=pred_uncond)

    @property
    def is_conditional(self) -> bool:
        """Whether the pass that is being run is the conditional one."""
        return self._prepared[self._count_prepared - 1 : self._count_prepared] == [_COND]

    @property
    def num_conditions(self) -> int:
        """How many conditions a pipeline has to provide (it asks before the loop), not how many passes are run."""
        return 2 if self._enabled and self.weak_model is None else 1


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
