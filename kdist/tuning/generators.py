"""``generate(schedule, labels, seeds) -> images`` of a k-diffusion model, in one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ..conditioning import Uncond
from ..guided import guide
from ..schedules import Constant, Schedule
from ..solvers import get_solver

__all__ = ["ModelGenerator", "generator"]


class ModelGenerator:
    """A model, its solver and its noise levels as the function that :func:`kdist.tune` calls.

    Made by :func:`generator`, which documents the arguments. :attr:`calls` counts network evaluations, all samples
    together, since it was made.

    Examples:
        >>> import kdist
        >>> from kdist import digits
        >>> generate = kdist.generator(digits.load_model(), digits.sigmas(4), (1, 8, 8), uncond={"class_cond": 10})
        >>> images = generate(kdist.Constant(2), labels=[3], seeds=[0])
        >>> generate.calls
        8
    """

    def __init__(
        self,
        model: Callable[..., torch.Tensor],
        sigmas: torch.Tensor,
        shape: Sequence[int],
        *,
        solver: str | Callable[..., torch.Tensor],
        key: str,
        uncond: Uncond | None,
        weak_model: Callable[..., torch.Tensor] | None,
        extra_args: Mapping[str, Any] | None,
        solver_options: Mapping[str, Any] | None,
        batch_size: int,
        device: str | torch.device,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        self.model, self.weak_model, self.uncond, self.key = model, weak_model, uncond, key
        self.sigmas, self.shape, self.device = torch.as_tensor(sigmas).to(device), tuple(shape), device
        self.solver, self.solver_options = get_solver(solver), dict(solver_options or {})
        self.extra_args, self.batch_size = dict(extra_args or {}), batch_size
        self.calls = 0

    @torch.no_grad()
    def __call__(
        self,
        schedule: Schedule,
        labels: Sequence[int] | torch.Tensor,
        seeds: Sequence[int],
        *,
        rule: Callable[..., torch.Tensor] | None = None,
        weak: bool = False,
    ) -> torch.Tensor:
        """(N, *shape) samples, each from its own seed; ``rule`` and ``weak`` are choices for ``kdist.tune``."""
        labels = torch.as_tensor(labels)
        parts = []
        for start in range(0, len(labels), self.batch_size):
            rows = slice(start, start + self.batch_size)
            parts.append(self._batch(schedule, labels[rows].to(self.device), seeds[rows], rule, weak)[0])
        return torch.cat(parts)

    @torch.no_grad()
    def share(self, labels: Sequence[int] | torch.Tensor, seeds: Sequence[int]) -> list[tuple[float, float]]:
        """Noise levels that the solver asks about and, at each, guidance's share of the update at scale 2.

        Where the conditional and the unconditional prediction agree, no schedule makes a difference.
        """
        labels = torch.as_tensor(labels).to(self.device)
        _, trace = self._batch(Constant(2.0), labels, seeds, None, False, traced=True)
        return [(float(sigma[0]), float(share.mean())) for sigma, share in zip(trace.sigma, trace.share, strict=True)]

    def _batch(
        self,
        schedule: Schedule,
        labels: torch.Tensor,
        seeds: Sequence[int],
        rule: Callable[..., torch.Tensor] | None,
        weak: bool,
        traced: bool = False,
    ) -> tuple[torch.Tensor, Any]:
        from kdist.evals.sources.sampler import sample_from_seeds

        if weak and self.weak_model is None:
            raise ValueError("weak=True needs a weak model: generator(..., weak_model=...)")
        guided = guide(
            self.model,
            schedule,
            uncond=None if weak else self.uncond,
            weak_model=self.weak_model if weak else None,
            rule=rule,
        )

        def run() -> torch.Tensor:
            return sample_from_seeds(
                guided,
                self.solver,
                self.sigmas,
                self.shape,
                seeds,
                extra_args={self.key: labels, **self.extra_args},
                options=self.solver_options,
                device=self.device,
            )

        trace = None
        if traced:
            with guided.trace() as trace:
                samples = run()
        else:
            samples = run()
        self.calls += round(guided.nfe * len(labels))
        return samples.cpu(), trace


def generator(
    model: Callable[..., torch.Tensor],
    sigmas: torch.Tensor,
    shape: Sequence[int],
    *,
    solver: str | Callable[..., torch.Tensor] = "dpmpp_2m",
    key: str = "class_cond",
    uncond: Uncond | None = None,
    weak_model: Callable[..., torch.Tensor] | None = None,
    extra_args: Mapping[str, Any] | None = None,
    solver_options: Mapping[str, Any] | None = None,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
) -> ModelGenerator:
    """A k-diffusion model as ``generate(schedule, labels, seeds) -> images``, for :func:`kdist.tune`.

    Each sample's noise comes from its own seed, that of stochastic solvers too, so that two schedules are compared on
    the same noise whatever the batch.

    Args:
        model: a k-diffusion denoiser.
        sigmas: (steps + 1,) decreasing noise levels, as its solver takes them.
        shape: the shape of one sample, e.g. ``(1, 8, 8)``.
        solver: a name in :data:`kdist.solvers.SOLVERS`, or a function of ``k_diffusion.sampling``.
        key: the argument under which the model takes labels.
        uncond: the same as in :func:`kdist.guide`.
        weak_model: the same as in :func:`kdist.guide`; used where ``weak=True`` is asked for.
        extra_args: further arguments of the model, the same for all samples.
        solver_options: further options of the solver.
        batch_size: most samples in one network call.
        device: where to sample; images come back on the CPU.

    Examples:
        >>> import kdist
        >>> from kdist import digits
        >>> generate = kdist.generator(digits.load_model(), digits.sigmas(), (1, 8, 8), uncond={"class_cond": 10})
        >>> generate(kdist.Constant(1.5), labels=[3, 3], seeds=[0, 1]).shape
        torch.Size([2, 1, 8, 8])
    """
    return ModelGenerator(
        model, sigmas, shape, solver=solver, key=key, uncond=uncond, weak_model=weak_model, extra_args=extra_args,
        solver_options=solver_options, batch_size=batch_size, device=device,
    )  # fmt: skip
