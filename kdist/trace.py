"""What guidance did during a run: its scale, its size, its share of every update, and the volume that it took away.

    with guided.trace(log_volume=True) as trace:
        x = K.sampling.sample_heun(guided, noise, sigmas, extra_args=...)
    trace.plot()

The guidance term is ``denoised - cond``, what guidance adds to the conditional prediction; with the linear rule that
is ``w * (cond - uncond)``, ``w = scale - 1``. Samplers follow ``dx / d log sigma = x - denoised``, so along the
probability-flow ODE guidance changes a volume element by

    log volume = integral of div(denoised - cond) d log sigma          over the noise levels passed.

Apart from guidance, the two predictions tell how much of the class is decided at which noise level: for a consistent
pair the mutual information of class and noised sample, in nats, is

    I(sigma) = integral from sigma up of E |cond - uncond|^2 / s^2 d log s          (docs/theory.md, equation 19).

For a Gaussian class inside a Gaussian whole that is half the log of the variance ratio, summed over the dimensions:
theory.gaussian's closed form. A stochastic sampler with full noise feels guidance twice as strongly and refills
volume with noise, so there it is guidance's part only, at the deterministic rate.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from .files import written_atomically
from .plotting import sigma_axis
from .rules import flat

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Trace"]

Predict: TypeAlias = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class Trace:
    """The record that :meth:`kdist.GuidedDenoiser.trace` fills, one entry per call of the guided model.

    Every property is (calls, N), float64 on the CPU, calls in the order in which they were made. What tracing asks
    of the model on top (the conditional prediction where the schedule did without, and for ``log_volume`` two or
    more guided predictions) is not counted in ``nfe``; values are copied to the CPU, which synchronises.

    Args:
        log_volume: estimate divergences too.
        information: compare the two predictions too, at the price of one more unconditional pass per call.
        probes: random directions per call for that (Hutchinson's estimator: unbiased, its spread falls as
            ``1 / sqrt(probes)``).
        seed: Seed of the directions. The sampler's random numbers are not touched.

    Examples:
        >>> import kdist, torch
        >>> from kdist import digits
        >>> guided = kdist.guide(digits.load_model(), 2.0, uncond={"class_cond": digits.UNCOND})
        >>> with guided.trace() as trace:
        ...     x = guided(torch.zeros(3, 1, 8, 8), torch.ones(3), class_cond=torch.arange(3))
        >>> trace.share.shape, trace.scale[0].tolist()
        (torch.Size([1, 3]), [2.0, 2.0, 2.0])
    """

    def __init__(self, *, log_volume: bool = False, information: bool = False, probes: int = 1, seed: int = 0) -> None:
        if probes < 1:
            raise ValueError(f"probes must be at least 1; got {probes}")
        self._probes = probes if log_volume else 0
        self._information = information
        self._generator = torch.Generator().manual_seed(seed)
        self._use_jvp = True
        self._calls: dict[str, list[torch.Tensor]] = {
            name: [] for name in ("sigma", "scale", "norm", "share", "divergence", "gap")
        }

    def __len__(self) -> int:
        """Number of calls seen."""
        return len(self._calls["sigma"])

    @property
    def sigma(self) -> torch.Tensor:
        """Noise level."""
        return self._stack("sigma")

    @property
    def scale(self) -> torch.Tensor:
        """Guidance scale, k-diffusion's convention."""
        return self._stack("scale")

    @property
    def norm(self) -> torch.Tensor:
        """L2 norm of the guidance term ``denoised - cond``, in units of the data."""
        return self._stack("norm")

    @property
    def share(self) -> torch.Tensor:
        """That norm over the norm of the whole update direction ``x - denoised``."""
        return self._stack("share")

    @property
    def divergence(self) -> torch.Tensor:
        """Estimated divergence of the guidance term: the change of log volume per unit of log sigma.

        Raises:
            ValueError: traced without ``log_volume=True``.
        """
        if not self._probes:
            raise ValueError("this trace has no divergences: use guided.trace(log_volume=True)")
        return self._stack("divergence")

    @property
    def gap(self) -> torch.Tensor:
        """L2 distance of conditional and unconditional prediction, whatever the scale.

        Raises:
            ValueError: traced without ``information=True``.
        """
        if not self._information:
            raise ValueError("this trace did not compare the predictions: use guided.trace(information=True)")
        return self._stack("gap")

    def information(self, down_to: float = 0.0) -> torch.Tensor:
        """Class information (nats) that each sample met down to the noise level ``down_to``, (N,).

        The mean over samples of scale 1, drawn from a class, is what noised data of noise level ``down_to`` tell about
        that class, its mean over classes the mutual information: at most ``log P`` for P equally likely classes, if the
        network's two predictions are those of one law. More says that they are not. Under guidance samples are not
        distributed as noised data, and the sum is no information.

        The trapezoid rule over the visited noise levels, from the highest one on; what a start at ``sigma_max`` misses
        is about half of ``(gap / sigma_max)**2``.
        """
        sigma, total = self._information_down_to()
        return torch.where((sigma >= down_to) & (sigma > 0), total, 0.0).amax(0)

    def _information_down_to(self) -> tuple[torch.Tensor, torch.Tensor]:
        rate = torch.where(self.sigma > 0, (self.gap / self.sigma).square(), 0.0)
        return self._cumulated(rate)

    def log_volume(self) -> torch.Tensor:
        """Change of log volume (nats) that guidance caused in each sample on the way, (N,).

        The trapezoid rule over the noise levels that were visited; the error is of second order in their distance,
        of first order where the schedule jumps between two of them.
        """
        return self._cumulated(self.divergence)[1][-1]

    def _cumulated(self, rate: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Noise levels from high to low and the integral of ``rate`` over log sigma down to each, both (calls, N)."""
        sigma, order = self.sigma.sort(dim=0, descending=True, stable=True)
        rate = rate.gather(0, order)
        log_sigma = sigma.clamp_min(torch.finfo(sigma.dtype).tiny).log()
        pieces = -log_sigma.diff(dim=0) * (rate[1:] + rate[:-1]) / 2
        return sigma, torch.cat([torch.zeros_like(sigma[:1]), pieces.cumsum(0)])

    def _stack(self, name: str) -> torch.Tensor:
        calls = self._calls[name]
        if not calls:
            raise ValueError("nothing was traced: run the sampler inside `with guided.trace() as trace:`")
        if len({len(call) for call in calls}) > 1:
            raise ValueError("the batch size changed between calls: trace one run at a time")
        return torch.stack(calls)

    def record(
        self,
        x: torch.Tensor,
        sigma: torch.Tensor,
        scale: torch.Tensor,
        denoised: torch.Tensor,
        cond: torch.Tensor,
        predict: Predict,
        uncond: Callable[[], torch.Tensor],
    ) -> None:
        """Add one call; the guided model does this.

        Args:
            x: (N, ...) noisy samples.
            sigma: (N,) noise levels.
            scale: (N,) scales.
            denoised: (N, ...) guided prediction.
            cond: (N, ...) conditional prediction.
            predict: gives ``(denoised, cond)`` at other samples.
            uncond: gives the unconditional prediction, (N, ...).
        """
        size = _norm(denoised - cond)
        values = {
            "sigma": sigma,
            "scale": scale,
            "norm": size,
            "share": size / _norm(x - denoised).clamp_min(torch.finfo(size.dtype).tiny),
        }
        if self._probes:
            values["divergence"] = self._divergence(x, sigma, predict)
        if self._information:
            values["gap"] = _norm(cond - uncond())
        for name, value in values.items():
            self._calls[name].append(value.detach().double().cpu())

    def _divergence(self, x: torch.Tensor, sigma: torch.Tensor, predict: Predict) -> torch.Tensor:
        """Hutchinson's estimate: the mean of ``probe . (J probe)`` over random signs."""

        def term(x: torch.Tensor) -> torch.Tensor:
            denoised, cond = predict(x)
            return denoised - cond

        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for _ in range(self._probes):
            signs = torch.randint(0, 2, x.shape, generator=self._generator) * 2 - 1
            probe = signs.to(x)
            total += flat(probe * self._derivative(term, x, sigma, probe)).double().sum(1)
        return total / self._probes

    def _derivative(
        self, term: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, sigma: torch.Tensor, probe: torch.Tensor
    ) -> torch.Tensor:
        """The derivative of ``term`` along ``probe``: exact where the network allows, else a central difference."""
        if self._use_jvp:
            try:
                return torch.func.jvp(term, (x,), (probe,))[1]
            except (RuntimeError, NotImplementedError):
                # e.g. k-diffusion 0.1.1's transformer, which changes a parameter in place: no use to try again
                self._use_jvp = False
        # a denoiser varies over distances of sigma; the fourth root keeps both truncation and rounding small
        step = (sigma * torch.finfo(x.dtype).eps ** 0.25).clamp_min(torch.finfo(x.dtype).tiny)
        step = step.to(x.dtype).view(-1, *(1,) * (x.ndim - 1))
        return (term(x + step * probe) - term(x - step * probe)) / (2 * step)

    # Pictures

    def plot(self) -> Figure:
        """Scale, share of the update and, where traced, log volume against sigma: mean over the batch and its range.

        Raises:
            ImportError: matplotlib is missing.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("plots need matplotlib: pip install 'kdist[evals]'") from error
        curves = [
            ("guidance scale", self.sigma, self.scale),
            ("guidance / update", self.sigma, self.share),
        ]
        if self._probes:
            curves.append(("log volume (nats)", *self._cumulated(self.divergence)))
        if self._information:
            curves.append(("class information (nats)", *self._information_down_to()))
        figure = Figure(figsize=(6, 2 * len(curves)), layout="constrained")
        axes = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
        for ax, (label, sigma, values) in zip(axes, curves, strict=True):
            shown = sigma[:, 0] > 0
            ax.fill_between(sigma[shown, 0], values[shown].amin(1), values[shown].amax(1), alpha=0.25, linewidth=0)
            ax.plot(sigma[shown, 0], values[shown].mean(1), marker=".", markersize=4, linewidth=1)
            ax.axhline(0, color="0.75", linewidth=0.8, zorder=0)
            ax.set_ylabel(label)
        sigma_axis(axes[-1], float(self.sigma.max()) * 1.1, float(self.sigma[self.sigma > 0].min()) / 1.1)
        axes[0].set_title("mean over the batch, and its range", fontsize=9)
        return figure

    def plot_callback(self, path: str | Path, *, every: int = 1) -> Callable[[dict[str, Any]], None]:
        """A ``callback=`` for k-diffusion's samplers that draws :meth:`plot` into ``path`` every few steps."""
        if every < 1:
            raise ValueError(f"every must be at least 1; got {every}")
        path = Path(path)
        kind = path.suffix.removeprefix(".") or "png"

        def draw(state: dict[str, Any]) -> None:
            if state["i"] % every == 0 and len(self):
                written_atomically(path, lambda partial: self.plot().savefig(partial, format=kind))

        return draw


def _norm(values: torch.Tensor) -> torch.Tensor:
    """L2 norm of each row, at least in float32."""
    return torch.linalg.vector_norm(flat(values), dim=1)
