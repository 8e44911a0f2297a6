"""Sample the shipped digits model under several schedules with the same noise, and measure each."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from .. import digits
from ..guided import guide
from ..schedules import Constant, EarlyNegative, Interval, LateNegative, NegativeWindow, Schedule, describe
from ..solvers import sample

if TYPE_CHECKING:
    from kdist.evals import DistortionReport

__all__ = ["DEFAULT_SCHEDULES", "Outcome", "network_calls", "run_demo"]

# Windows sit where classes still compete; at low sigma both predictions agree and there is little to guide. The last
# two are those that keep the variance of this network's classes (docs/results.md).
DEFAULT_SCHEDULES: tuple[Schedule, ...] = (
    Constant(1.0),
    Constant(1.25),
    Constant(2.0),
    Constant(3.0),
    Interval(3.0, sigma_lo=0.5, sigma_hi=5.0),
    LateNegative(3.0, sigma_switch=1.5),
    NegativeWindow(3.0, sigma_lo=0.7, sigma_hi=2.0),
    NegativeWindow(3.0, sigma_lo=0.7, sigma_hi=2.0, after=1.0),
    EarlyNegative(5.0, sigma_switch=1.2, sigma_end=0.1),
    EarlyNegative(3.0, sigma_switch=1.2, early=0.25, sigma_end=0.1),
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One schedule's samples and what was measured on them.

    Attributes:
        schedule: what guided them.
        samples: (N, 1, 8, 8) float32, about [-1, 1].
        pixels, features: distortion in pixel space and in the digits classifier's feature space.
        nfe: network evaluations per sample.
        seconds: wall time of the sampling.
    """

    schedule: Schedule
    samples: torch.Tensor
    pixels: DistortionReport
    features: DistortionReport
    nfe: float
    seconds: float

    @property
    def name(self) -> str:
        return describe(self.schedule)


def network_calls(schedules: Sequence[Schedule], solver: str, sigmas: torch.Tensor) -> float | None:
    """Network evaluations per sample of all runs together; None where the solver chooses its own steps."""
    if solver.removeprefix("sample_") == "dpm_adaptive":
        return None
    return sum(schedule.nfe(sigmas, solver) for schedule in schedules)


def run_demo(
    schedules: Sequence[Schedule] = DEFAULT_SCHEDULES,
    *,
    per_class: int = 50,
    solver: str = "dpmpp_2m",
    steps: int = 20,
    seed: int = 0,
    device: str | torch.device = "cpu",
    resamples: int = 199,
    progress: Callable[[str, float], Any] | None = None,
) -> list[Outcome]:
    """Sample every class under each schedule and measure the samples against the real digits.

    Args:
        schedules: what to compare; all start from the same noise, stochastic solvers draw the same noise too.
        per_class: samples of each class, at least 2.
        solver: a name in :data:`kdist.solvers.SOLVERS`.
        steps: of the solver, on the Karras grid :func:`kdist.digits.sigmas`.
        seed: of the noise.
        device: where the networks run.
        resamples: for floors and p-values, see :func:`kdist.evals.measure`.
        progress: called with (schedule's name, network evaluations per sample since the last call).

    Raises:
        ValueError: an option out of range, or a solver that is not known.
    """
    from kdist.evals import measure

    from ..digits.classifier import load_digits_classifier

    if per_class < 2:
        raise ValueError(f"a variance needs at least 2 samples per class; got per_class={per_class}")
    model = digits.load_model(device=device)
    classifier = load_digits_classifier().to(device).eval()
    real, real_labels = (tensor.to(device) for tensor in digits.load_data("all"))
    labels = torch.arange(digits.NUM_CLASSES, device=device).repeat_interleave(per_class)
    levels = digits.sigmas(steps).to(device)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(labels), 1, 8, 8, generator=generator).to(device) * levels[0]

    with torch.no_grad():
        real_features, real_guess = classifier.features(real), classifier.logits(real).softmax(1)
    outcomes = []
    for schedule in schedules:
        guided = guide(model, schedule, uncond={"class_cond": digits.UNCOND})
        name, done = describe(schedule), 0.0

        def denoise(x: torch.Tensor, sigma: torch.Tensor, guided: Any = guided, name: str = name, **args: Any) -> Any:
            nonlocal done
            denoised = guided(x, sigma, **args)
            if progress is not None:
                progress(name, guided.nfe - done)
                done = guided.nfe
            return denoised

        start = time.perf_counter()
        with torch.random.fork_rng():
            torch.manual_seed(seed)  # the noise that stochastic solvers draw
            samples = sample(solver, denoise, noise, levels, extra_args={"class_cond": labels})
        seconds = time.perf_counter() - start
        with torch.no_grad():
            features, guess = classifier.features(samples), classifier.logits(samples).softmax(1)
        options: dict[str, Any] = {
            "real_predictions": real_guess,
            "fake_predictions": guess,
            "resamples": resamples,
            "seed": seed,
            # what the demo does not show: `kdist compare` has it all
            "subspace": 0,
            "splits": 0,
            "fid": False,
        }
        outcomes.append(
            Outcome(
                schedule=schedule,
                samples=samples.cpu(),
                pixels=measure(real.flatten(1), samples.flatten(1), real_labels, labels, **options),
                features=measure(real_features, features, real_labels, labels, **options),
                nfe=guided.nfe,
                seconds=seconds,
            )
        )
    return outcomes
