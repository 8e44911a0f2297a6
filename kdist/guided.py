"""The guided denoiser: wrap any k-diffusion model, get classifier-free guidance with a schedule.

``denoised(x, sigma) = rule(cond(x, sigma), uncond(x, sigma), schedule(sigma))``, a pure function of ``x`` and
``sigma``: there is no step counter, so every solver's mid-step, correction and adaptive calls are guided rightly.
"""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch

from . import rules
from .conditioning import Uncond, Unjoinable, join, take_rows, unconditional_args
from .schedules import Constant, Schedule
from .schedules.evaluate import host_values, readable, scale_of_rows
from .trace import Trace
from .wrapper import Wrapper

__all__ = ["GuidedDenoiser", "ScaleLike", "as_number", "guide"]

ScaleLike = Schedule | float | Callable[[torch.Tensor], Any]


class _Call(NamedTuple):
    """One call of a guided model: (N,) noise levels and scales, conditions, and the rows that need each pass."""

    sigma: torch.Tensor
    scale: torch.Tensor
    cond_args: Mapping[str, Any]
    uncond_args: Mapping[str, Any]
    cond_rows: list[int] | None = None  # None: all of them
    uncond_rows: list[int] | None = None


class GuidedDenoiser(Wrapper):
    """A model with guidance, itself a k-diffusion model: ``forward(x, sigma, **extra_args) -> denoised``.

    Made by :func:`guide`, which documents the arguments. A subclass may say what the two passes get
    (:meth:`conditions`) and what they cost (:meth:`passes`).

    Examples:
        >>> import kdist, torch
        >>> model = lambda x, sigma, class_cond: class_cond[:, None].float()  # stands for a network
        >>> guided = kdist.GuidedDenoiser(model, 3.0, uncond={"class_cond": 0})
        >>> guided(torch.zeros(2, 1), torch.ones(2), class_cond=torch.tensor([1, 2]))
        tensor([[3.],
                [6.]])
    """

    def __init__(
        self,
        model: Callable[..., torch.Tensor],
        schedule: ScaleLike | None,
        *,
        uncond: Uncond | None = None,
        weak_model: Callable[..., torch.Tensor] | None = None,
        rule: rules.Rule | None = None,
        batched: bool = True,
        check_finite: bool = False,
    ) -> None:
        super().__init__(model)
        number = as_number(schedule)
        self.schedule: Any = schedule if number is None else Constant(number)
        for name, value in (("model", model), ("weak_model", weak_model), ("rule", rule), ("schedule", self.schedule)):
            if value is not None and not callable(value):
                raise TypeError(f"{name} must be callable; got {type(value).__name__}")
        self.weak_model = weak_model
        self.uncond = uncond
        self.rule = rules.linear if rule is None else rule
        self.batched = batched
        self.check_finite = check_finite
        self._traces: list[Trace] = []
        self.reset_nfe()

    @property
    def nfe(self) -> float:
        """Network evaluations per sample since the last :meth:`reset_nfe`: plain guidance counts 2 per call, a call
        that needs one pass 1, a batch that needs it for half of its rows 1.5. Not counted under ``torch.compile``."""
        total = sum(rows / batch for batch, rows in self._rows_run.items())
        return int(total) if total == int(total) else total

    def reset_nfe(self) -> None:
        """Set :attr:`nfe` to 0. Counting is all that it is for: results never depend on it."""
        self._rows_run: dict[int, int] = {}  # rows evaluated, by batch size: exact integers

    @contextlib.contextmanager
    def trace(self, **options: Any) -> Iterator[Trace]:
        """Record what guidance does in every call made inside the ``with`` block; results stay the same.

        Args:
            options: Options of :class:`kdist.trace.Trace`, e.g. ``log_volume=True``.
        """
        trace = Trace(**options)
        self._traces.append(trace)
        try:
            yield trace
        finally:
            self._traces.remove(trace)

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, **extra_args: Any) -> torch.Tensor:
        """Guided prediction.

        Args:
            x: (N, ...) noisy samples.
            sigma: (N,) or () noise levels; rows may differ.
            extra_args: the wrapped model's conditions.

        Returns:
            (N, ...) denoised, the dtype of the model's prediction.

        Raises:
            ValueError: conditions that do not fit (see :func:`guide`), a sigma of the wrong shape, a scale of the wrong
                shape or not finite.
            FloatingPointError: a prediction is not finite, and ``check_finite`` was asked for.
        """
        assert self.schedule is not None
        return self._denoise(x, sigma, self.schedule, *self.conditions(extra_args, x.shape[0]))

    def conditions(self, extra_args: Mapping[str, Any], batch: int) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The keyword arguments of the conditional and of the unconditional pass, for a batch of ``batch`` rows."""
        return extra_args, unconditional_args(extra_args, self.uncond, batch)

    def passes(self, args: Mapping[str, Any]) -> int:
        """Network evaluations per row that one call of the wrapped model makes with these conditions."""
        return 1

    def _denoise(
        self,
        x: torch.Tensor,
        sigma: torch.Tensor,
        schedule: Callable[[torch.Tensor], Any],
        cond_args: Mapping[str, Any],
        uncond_args: Mapping[str, Any],
    ) -> torch.Tensor:
        batch = x.shape[0]
        if not isinstance(sigma, torch.Tensor):
            raise TypeError(f"sigma must be a tensor of {batch} noise levels, or of one; got {type(sigma).__name__}")
        sigma = sigma.expand(batch) if sigma.ndim == 0 else sigma
        if sigma.shape != (batch,):
            raise ValueError(f"sigma must have shape ({batch},) like the batch, or (); got {tuple(sigma.shape)}")
        bound = schedule.bind(cond_args, batch) if isinstance(schedule, Schedule) else schedule
        scale = scale_of_rows(bound, sigma)
        call = _Call(sigma, scale, cond_args, uncond_args, *self._needed(bound, scale))
        denoised, cond = self._evaluate(x, call)
        if self._traces and readable(x):
            self._record(x, denoised, cond, call)
        return denoised

    def _needed(
        self, schedule: Callable[[torch.Tensor], Any], scale: torch.Tensor
    ) -> tuple[list[int] | None, list[int] | None]:
        """The rows that need the conditional pass and those that need the unconditional one; None is all."""
        to_cond, to_uncond = rules.reductions(self.rule)
        looked_at = to_cond or to_uncond or scale.device.type == "cpu"  # there looking is free, and finds infinities
        values = host_values(schedule, scale) if looked_at else None
        if values is None:
            return None, None
        cond_rows = [row for row, value in enumerate(values) if value != 0 or not to_uncond]
        uncond_rows = [row for row, value in enumerate(values) if value != 1 or not to_cond]
        every = len(values)
        return cond_rows if len(cond_rows) < every else None, uncond_rows if len(uncond_rows) < every else None

    def _evaluate(self, x: torch.Tensor, call: _Call) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The guided prediction, and the conditional one where it was made for all rows."""
        cond_rows, uncond_rows = call.cond_rows, call.uncond_rows
        cond, uncond = self._predict(x, call, cond_rows, uncond_rows)
        if cond_rows is None and uncond_rows is None:
            return self._combine(cond, uncond, call, x), cond
        if uncond_rows == []:
            return cond, cond
        if cond_rows == []:
            return uncond, None
        # the prediction that a row went without is filled with the other one, so that the rule sees whole batches
        every = range(len(x))
        made = torch.cat([cond, uncond])
        at_cond = {row: place for place, row in enumerate(every if cond_rows is None else cond_rows)}
        at_uncond = {row: place for place, row in enumerate(every if uncond_rows is None else uncond_rows, len(cond))}
        places = [(at_cond.get(row, at_uncond.get(row)), at_uncond.get(row, at_cond.get(row))) for row in every]
        first, second = torch.tensor(places).to(x.device, non_blocking=True).unbind(1)
        cond, uncond = made[first], made[second]
        alone = (first == second).view(-1, *(1,) * (cond.ndim - 1))  # rules that look at x do not give it back exactly
        denoised = torch.where(alone, cond, self._combine(cond, uncond, call, x))
        return denoised, cond if cond_rows is None else None

    def _combine(self, cond: torch.Tensor, uncond: torch.Tensor, call: _Call, x: torch.Tensor) -> torch.Tensor:
        shape = (-1, *(1,) * (cond.ndim - 1))
        return self.rule(cond, uncond, call.scale.view(shape), x, call.sigma.view(shape))

    def _predict(
        self, x: torch.Tensor, call: _Call, cond_rows: list[int] | None, uncond_rows: list[int] | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both predictions for the rows that need them, in one network call where that is possible."""
        model, batch = self.inner_model, x.shape[0]
        weak = model if self.weak_model is None else self.weak_model
        if self.batched and weak is model and cond_rows != [] and uncond_rows != []:
            try:
                args = join(call.uncond_args, call.cond_args, (batch, batch), (uncond_rows, cond_rows))
            except Unjoinable:
                pass  # e.g. prompts of different lengths: two calls
            else:
                parts = [(take_rows(x, r, batch), take_rows(call.sigma, r, batch)) for r in (uncond_rows, cond_rows)]
                stacked, sigma = (torch.cat(pair) for pair in zip(*parts, strict=True))
                made = self._call(model, stacked, sigma, args, batch, "guided")
                first = parts[0][0].shape[0]
                return made[first:], made[:first]
        # the order of classic CFG code: unconditional first
        uncond = self._pass(weak, x, call.sigma, call.uncond_args, uncond_rows, "unconditional")
        cond = self._pass(model, x, call.sigma, call.cond_args, cond_rows, "conditional")
        return cond, uncond

    def _pass(
        self,
        model: Callable[..., torch.Tensor],
        x: torch.Tensor,
        sigma: torch.Tensor,
        args: Mapping[str, Any],
        rows: list[int] | None,
        name: str,
    ) -> torch.Tensor:
        """One network call for these rows; no rows, no call."""
        if rows == []:
            return x[:0]
        batch = len(x)
        x, sigma, args = (take_rows(value, rows, batch) for value in (x, sigma, args))
        return self._call(model, x, sigma, args, batch, name)

    @torch.no_grad()
    def _record(self, x: torch.Tensor, denoised: torch.Tensor, cond: torch.Tensor | None, call: _Call) -> None:
        """Show this call to the traces. What they ask of the model is not counted."""

        def both(
            x: torch.Tensor, denoised: torch.Tensor, cond: torch.Tensor | None
        ) -> tuple[torch.Tensor, torch.Tensor]:
            return denoised, self._predict(x, call, None, [])[0] if cond is None else cond

        counted = dict(self._rows_run)
        for trace in self._traces:
            trace.record(
                x,
                call.sigma,
                call.scale,
                *both(x, denoised, cond),
                lambda x: both(x, *self._evaluate(x, call)),
                lambda: self._predict(x, call, [], None)[1],
            )
        self._rows_run = counted

    def _call(
        self,
        model: Callable[..., torch.Tensor],
        x: torch.Tensor,
        sigma: torch.Tensor,
        args: Mapping[str, Any],
        batch: int,
        name: str,
    ) -> torch.Tensor:
        if not torch.compiler.is_compiling():
            self._rows_run[batch] = self._rows_run.get(batch, 0) + x.shape[0] * self.passes(args)
        denoised = model(x, sigma, **args)
        if not isinstance(denoised, torch.Tensor):
            raise TypeError(f"the model must return one tensor, denoised; got {type(denoised).__name__}")
        if denoised.shape != x.shape:
            raise ValueError(
                f"the {name} prediction has shape {tuple(denoised.shape)} for x of shape {tuple(x.shape)}: a denoiser "
                "gives every row of its input one prediction of the same shape"
            )
        if self.check_finite and not denoised.isfinite().all():
            bad = ~denoised.isfinite().flatten(1).all(1)
            raise FloatingPointError(
                f"the {name} prediction is not finite at sigma={sorted(set(sigma[bad].tolist()), reverse=True)} "
                f"({int(bad.sum())} of {len(x)} rows); the input there was "
                f"{'finite' if x[bad].isfinite().all() else 'not finite either: look at the step before'}"
            )
        return denoised


def guide(
    model: Callable[..., torch.Tensor],
    schedule: ScaleLike,
    *,
    uncond: Uncond | None = None,
    weak_model: Callable[..., torch.Tensor] | None = None,
    rule: rules.Rule | None = None,
    batched: bool = True,
    check_finite: bool = False,
) -> GuidedDenoiser:
    """Wrap a k-diffusion model with a guidance schedule.

        guided = kdist.guide(model, kdist.NegativeWindow(scale=4, sigma_lo=0.3, sigma_hi=1), uncond={"class_cond": 10})
        x = K.sampling.sample_dpmpp_2m(guided, noise, sigmas, extra_args={"class_cond": y})

    Args:
        model: any denoiser ``model(x, sigma, **extra_args)``.
        schedule: a :class:`Schedule`, a number (constant scale), or a function of the noise levels ((N,) tensor in,
            number, () or (N,) tensor out; a function that only takes numbers is called row by row). Scales are
            k-diffusion's: 1 conditional, 0 unconditional.
        uncond: what makes the unconditional pass of ``extra_args``: overrides by name (numbers fill, tensors of batch
            1 are expanded), or a function ``extra_args -> extra_args``. May be left out with ``weak_model``.
        weak_model: another network for the unconditional pass (autoguidance, Karras et al. 2024, arXiv 2406.02507).
        rule: how the predictions combine, see :mod:`kdist.rules`; None is the usual linear one.
        batched: run both passes as one network call of 2N rows (False: two calls of N, for memory).
        check_finite: raise as soon as the model returns NaN or infinity (one device synchronisation per call).

    Raises:
        ValueError: neither ``uncond`` nor ``weak_model``, or a scale that is not finite.
        TypeError: something that should be callable is not.

    Examples:
        >>> import kdist, torch
        >>> from kdist import digits
        >>> guided = kdist.guide(digits.load_model(), kdist.Interval(2, 0.3, 2), uncond={"class_cond": digits.UNCOND})
        >>> guided(torch.zeros(4, 1, 8, 8), torch.ones(4), class_cond=torch.arange(4)).shape
        torch.Size([4, 1, 8, 8])
        >>> guided.nfe  # two passes, as sigma 1 lies inside the interval
        2
    """
    if uncond is None and weak_model is None:
        raise ValueError(
            "guidance needs an unconditional prediction: say which condition means none, e.g. "
            "uncond={'class_cond': num_classes}, or give a weak_model"
        )
    return GuidedDenoiser(
        model,
        schedule,
        uncond=uncond,
        weak_model=weak_model,
        rule=rule,
        batched=batched,
        check_finite=check_finite,
    )


def as_number(value: Any) -> float | None:
    """Python's and NumPy's numbers and tensors of one number; None for anything else."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    if hasattr(value, "__array__") and getattr(value, "ndim", None) == 0:
        return float(value)
    return None
