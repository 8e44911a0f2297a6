"""The guided denoiser: wrap any k-diffusion model, get classifier-free guidance with a schedule.

``denoised(x, sigma) = rule(cond(x, sigma), uncond(x, sigma), schedule(sigma))``, a pure function of ``x`` and
``sigma``: there is no step counter, so every solver's mid-step, correction and adaptive calls are guided rightly.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import torch
from torch import nn

from . import rules
from .conditioning import Uncond, Unjoinable, join, take_rows, unconditional_args
from .schedules import Constant, Schedule
from .schedules.base import readable
from .schedules.evaluate import host_values, scale_of_rows

if TYPE_CHECKING:
    from .trace import Trace

__all__ = ["CFGDenoiser", "GuidedDenoiser", "ScaleLike", "guide"]

ScaleLike = Schedule | float | Callable[[torch.Tensor], Any]


class _Call(NamedTuple):
    """One call of a guided model: (N,) noise levels and scales, conditions, and which rows need which passes."""

    sigma: torch.Tensor
    scale: torch.Tensor
    cond_args: Mapping[str, Any]
    uncond_args: Mapping[str, Any]
    both: list[int]
    only_cond: list[int]
    only_uncond: list[int]


class GuidedDenoiser(nn.Module):
    """A model with guidance, itself a k-diffusion model: ``forward(x, sigma, **extra_args) -> denoised``.

    Made by :func:`guide`, which documents the arguments. Attributes of the wrapped model (``sigma_min``,
    ``get_sigmas``, ``sigma_to_t``, ...) are reachable through it.
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
        super().__init__()
        for name, value in (("model", model), ("weak_model", weak_model), ("rule", rule), ("schedule", schedule)):
            if value is not None and not callable(value) and not (name == "schedule" and _is_number(value)):
                raise TypeError(f"{name} must be callable; got {type(value).__name__}")
        self.inner_model = model
        self.weak_model = weak_model
        self.schedule = _callable_schedule(schedule)
        self.uncond = uncond
        self.rule = rules.linear if rule is None else rule
        self.batched = batched
        self.check_finite = check_finite
        self._traces: list[Trace] = []
        self.reset_nfe()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # "inner_model" itself is missing while a copy or an unpickled object is being built
            if name == "inner_model" or name.startswith("__"):
                raise
            return getattr(self.inner_model, name)

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
            options: see :class:`kdist.trace.Trace`, e.g. ``log_volume=True``.
        """
        from .trace import Trace

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
            ValueError: conditions that do not fit (see :func:`guide`), a schedule value of the wrong shape or not
                finite.
            FloatingPointError: with ``check_finite``, a prediction that is not finite.
        """
        assert self.schedule is not None
        uncond_args = unconditional_args(extra_args, self.uncond, len(x))
        return self._denoise(x, sigma, self.schedule, extra_args, uncond_args)

    def _denoise(
        self,
        x: torch.Tensor,
        sigma: torch.Tensor,
        schedule: Callable[[torch.Tensor], Any],
        cond_args: Mapping[str, Any],
        uncond_args: Mapping[str, Any],
    ) -> torch.Tensor:
        batch = len(x)
        sigma = sigma.expand(batch) if sigma.ndim == 0 else sigma
        if sigma.shape != (batch,):
            raise ValueError(f"sigma must have shape ({batch},) like the batch, or (); got {tuple(sigma.shape)}")
        bound = schedule.bind(cond_args, batch) if isinstance(schedule, Schedule) else schedule
        scale = scale_of_rows(bound, sigma)
        rules.check_scales(self.rule, scale, sigma, schedule)
        call = _Call(sigma, scale, cond_args, uncond_args, *self._passes(bound, scale))
        denoised, cond = self._evaluate(x, call)
        if self._traces and readable(x):
            self._record(x, denoised, cond, call)
        return denoised

    def _passes(
        self, schedule: Callable[[torch.Tensor], Any], scale: torch.Tensor
    ) -> tuple[list[int], list[int], list[int]]:
        """The rows that need both passes, only the conditional one and only the unconditional one."""
        rows = range(len(scale))
        to_cond, to_uncond = rules.reductions(self.rule)
        values = host_values(schedule, scale) if to_cond or to_uncond else None
        if values is None:
            return list(rows), [], []
        only_cond = [row for row in rows if values[row] == 1 and to_cond]
        only_uncond = [row for row in rows if values[row] == 0 and to_uncond]
        alone = {*only_cond, *only_uncond}
        return [row for row in rows if row not in alone], only_cond, only_uncond

    def _evaluate(self, x: torch.Tensor, call: _Call) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The guided prediction, and the conditional one where it was made for all rows."""
        sigma, scale, _, _, both, only_cond, only_uncond = call
        cond, uncond = self._predict(x, call, both + only_cond, both + only_uncond)
        if len(both) == len(x):
            return self._combine(cond, uncond, scale, x, sigma), cond
        if not both and not only_uncond:
            return cond, cond
        if not both and not only_cond:
            return uncond, None
        # every prediction lists the rows that need both passes first
        parts = [cond[len(both) :], uncond[len(both) :]]
        if both:
            rows = torch.tensor(both, device=x.device)
            mixed = (cond[: len(both)], uncond[: len(both)], scale[rows], x[rows], sigma[rows])
            parts.insert(0, self._combine(*mixed))
        order = torch.tensor(both + only_cond + only_uncond, device=x.device)
        return torch.cat(parts)[order.argsort()], None

    def _combine(
        self, cond: torch.Tensor, uncond: torch.Tensor, scale: torch.Tensor, x: torch.Tensor, sigma: torch.Tensor
    ) -> torch.Tensor:
        trailing = (1,) * (cond.ndim - 1)
        return self.rule(cond, uncond, scale.view(-1, *trailing), x, sigma.view(-1, *trailing))

    def _predict(
        self, x: torch.Tensor, call: _Call, cond_rows: list[int], uncond_rows: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Both predictions for the rows that need them, in one network call where that is possible."""
        cond = _rows(x, call.sigma, call.cond_args, cond_rows)
        uncond = _rows(x, call.sigma, call.uncond_args, uncond_rows)
        weak = self.inner_model if self.weak_model is None else self.weak_model
        if self.batched and weak is self.inner_model and cond_rows and uncond_rows:
            sizes = (len(uncond_rows), len(cond_rows))
            try:
                args = join(uncond[2], cond[2], sizes)
            except Unjoinable:
                pass  # e.g. prompts of different lengths: two calls
            else:
                stacked = torch.cat([uncond[0], cond[0]]), torch.cat([uncond[1], cond[1]])
                first, second = self._call(self.inner_model, *stacked, args, len(x), "guided").split(sizes)
                return second, first
        # the order of classic CFG code: unconditional first
        second = self._call(weak, *uncond, len(x), "unconditional") if uncond_rows else x[:0]
        first = self._call(self.inner_model, *cond, len(x), "conditional") if cond_rows else x[:0]
        return first, second

    @torch.no_grad()
    def _record(self, x: torch.Tensor, denoised: torch.Tensor, cond: torch.Tensor | None, call: _Call) -> None:
        """Show this call to the traces. What they ask of the model is not counted."""

        def both(
            x: torch.Tensor, denoised: torch.Tensor, cond: torch.Tensor | None
        ) -> tuple[torch.Tensor, torch.Tensor]:
            return denoised, self._predict(x, call, list(range(len(x))), [])[0] if cond is None else cond

        counted = dict(self._rows_run)
        for trace in self._traces:
            trace.record(
                x,
                call.sigma,
                call.scale,
                *both(x, denoised, cond),
                lambda x: both(x, *self._evaluate(x, call)),
                lambda: self._predict(x, call, [], list(range(len(x))))[1],
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
            self._rows_run[batch] = self._rows_run.get(batch, 0) + len(x)
        denoised = model(x, sigma, **args)
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


class CFGDenoiser(GuidedDenoiser):
    """The class that CompVis-style k-diffusion scripts use: ``forward(x, sigma, uncond, cond, cond_scale)``.

    Without a schedule it is constant guidance at ``cond_scale``. With one, ``cond_scale`` sets its peak,
    ``schedule.with_scale(cond_scale)``; None leaves the schedule as it is.

    Args:
        model: a denoiser that takes its condition as the keyword argument ``key``.
        schedule: see :func:`guide`; None for the classic behaviour.
        key: name of the condition; k-diffusion's Stable Diffusion wrappers call it ``cond``.
        options: ``rule``, ``batched``, ``check_finite`` as in :func:`guide`.
    """

    def __init__(
        self,
        model: Callable[..., torch.Tensor],
        schedule: ScaleLike | None = None,
        *,
        key: str = "cond",
        **options: Any,
    ) -> None:
        super().__init__(model, schedule, **options)
        self.key = key

    def forward(  # type: ignore[override]
        self,
        x: torch.Tensor,
        sigma: torch.Tensor,
        uncond: Any,
        cond: Any,
        cond_scale: float | None = None,
        **extra_args: Any,
    ) -> torch.Tensor:
        """Guided prediction, (N, ...).

        Args:
            x: (N, ...) noisy samples.
            sigma: (N,) noise levels.
            uncond, cond: the conditions, tensors (N, ...) or nested dicts and lists of them.
            cond_scale: k-diffusion's guidance scale.
            extra_args: passed to both passes.

        Raises:
            ValueError: neither a schedule nor ``cond_scale``, or a ``cond_scale`` that the schedule cannot take.
        """
        schedule = self.schedule
        if cond_scale is not None:
            if schedule is None:
                schedule = Constant(float(cond_scale))
            elif isinstance(schedule, Schedule):
                schedule = schedule.with_scale(float(cond_scale))
            else:
                raise ValueError("cond_scale sets the peak of a kdist Schedule; a plain function has none: pass None")
        if schedule is None:
            raise ValueError("no guidance scale: pass cond_scale, or build CFGDenoiser with a schedule")
        return self._denoise(x, sigma, schedule, {self.key: cond, **extra_args}, {self.key: uncond, **extra_args})


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _callable_schedule(schedule: ScaleLike | None) -> Callable[[torch.Tensor], Any] | None:
    return Constant(schedule) if _is_number(schedule) else schedule  # type: ignore[return-value]


def _rows(
    x: torch.Tensor, sigma: torch.Tensor, args: Mapping[str, Any], rows: list[int]
) -> tuple[torch.Tensor, torch.Tensor, Mapping[str, Any]]:
    """The inputs of one pass. All rows in order, the usual case, is no copy."""
    if rows == list(range(len(x))):
        return x, sigma, args
    index = torch.tensor(rows, dtype=torch.int64, device=x.device)
    return x[index], sigma[index], take_rows(args, index, len(x))
