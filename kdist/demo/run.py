"""Sample a shipped model under several schedules with the same noise, and measure each."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..guided import guide
from ..schedules import Schedule, describe
from ..solvers import sample
from .examples import Example, get_example

if TYPE_CHECKING:
    from kdist.evals import DistortionReport

__all__ = ["Outcome", "network_calls", "run_demo"]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One schedule's samples and what was measured on them.

    Attributes:
        schedule: what guided them.
        example: the data set and its network.
        samples: (N, C, H, W) float32, about [-1, 1].
        pixels, features: distortion in pixel space and in the classifier's feature space.
        nfe: network evaluations per sample.
        seconds: wall time of the sampling.
    """

    schedule: Schedule
    example: Example
    samples: torch.Tensor
    pixels: DistortionReport
    features: DistortionReport
    nfe: float
    seconds: float

    @property
    def name(self) -> str:
        return describe(self.schedule)

    @property
    def labels(self) -> torch.Tensor:
        """(N,) int64: samples are sorted by class, equally many of each."""
        classes = self.example.data.NUM_CLASSES
        return torch.arange(classes).repeat_interleave(len(self.samples) // classes)


def network_calls(schedules: Sequence[Schedule], solver: str, sigmas: torch.Tensor) -> float | None:
    """Network evaluations per sample of all runs together; None where the solver chooses its own steps."""
    if solver.removeprefix("sample_") == "dpm_adaptive":
        return None
    return sum(schedule.nfe(sigmas, solver) for schedule in schedules)


def run_demo(
    schedules: Sequence[Schedule] | None = None,
    *,
    data: str = "digits",
    per_class: int = 50,
    solver: str = "dpmpp_2m",
    steps: int = 20,
    seed: int = 0,
    device: str | torch.device = "cpu",
    resamples: int = 199,
    progress: Callable[[str, float], Any] | None = None,
) -> list[Outcome]:
    """Sample every class under each schedule and measure the samples against real images.

    Args:
        schedules: what to compare; all start from the same noise, stochastic solvers draw the same noise too. None
            compares those that :data:`kdist.demo.EXAMPLES` lists for the data.
        data: ``digits`` or ``fashion``.
        per_class: samples of each class, at least 2.
        solver: a name in :data:`kdist.solvers.SOLVERS`.
        steps: Number of the solver's steps, on the Karras grid of the data's ``sigmas``.
        seed: Seed of the noise.
        device: where the networks run.
        resamples: Number of resamples for floors and p-values, see :func:`kdist.evals.measure`.
        progress: called with (schedule's name, network evaluations per sample since the last call).

    Raises:
        ValueError: an option out of range, or a solver or data that are not known.
    """
    from kdist.evals import measure

    if per_class < 2:
        raise ValueError(f"a variance needs at least 2 samples per class; got per_class={per_class}")
    example = get_example(data)
    model, classifier = example.data.load_model(device=device), example.data.load_classifier(device=device)
    real, real_labels = (tensor.to(device) for tensor in example.data.load_data())
    labels = torch.arange(example.data.NUM_CLASSES, device=device).repeat_interleave(per_class)
    levels = example.data.sigmas(steps).to(device)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(labels), *real.shape[1:], generator=generator).to(device) * levels[0]

    with torch.no_grad():
        real_features = classifier.features(real)
        real_guess = classifier.head(real_features).softmax(1)
    outcomes = []
    for schedule in example.schedules if schedules is None else schedules:
        guided = guide(model, schedule, uncond={"class_cond": example.data.UNCOND})
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
            features = classifier.features(samples)
            guess = classifier.head(features).softmax(1)
        options: dict[str, Any] = {"real_predictions": real_guess, "fake_predictions": guess, "resamples": resamples}
        options |= {"seed": seed, "fid": False}
        outcomes.append(
            Outcome(
                schedule=schedule,
                example=example,
                samples=samples.cpu(),
                pixels=measure(real.flatten(1), samples.flatten(1), real_labels, labels, **options),
                features=measure(real_features, features, real_labels, labels, **options),
                nfe=guided.nfe,
                seconds=seconds,
            )
        )
    return outcomes
