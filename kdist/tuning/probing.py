"""What a generator shows of itself when it draws a few images: its noise levels, its form, whether seeds decide."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..schedules import Constant, Schedule

__all__ = ["Generate", "Probe", "checked", "probe"]

Generate = Callable[..., torch.Tensor]


@dataclass(frozen=True, eq=False)
class _Recorder(Constant):
    """A constant scale that notes the noise levels it is asked about."""

    asked: dict[float, None] = dataclasses.field(default_factory=dict)

    def _scale(self, sigma: torch.Tensor) -> torch.Tensor:
        self.asked.update(dict.fromkeys(sigma.detach().flatten().tolist()))
        return super()._scale(sigma)

    def to_dict(self) -> dict[str, Any]:
        """Of the constant scale: where sampling runs elsewhere, its JSON is what is sent."""
        return Constant(self.scale).to_dict()


@dataclass(frozen=True)
class Probe:
    """What was seen.

    Attributes:
        called: noise levels of the model's calls, decreasing, all above 0 (a solver that asks twice at one level has
            it twice where that is known).
        share: guidance's share of the update at each, where the generator can tell.
        paired: whether the same seed gives the same image.
        images: (2, ...) of the probe, by which a model is known again.
        calls: network calls spent.
    """

    called: list[float]
    share: list[float] | None
    paired: bool
    images: np.ndarray
    calls: int

    @property
    def levels(self) -> list[float]:
        """The distinct levels, decreasing."""
        return sorted(set(self.called), reverse=True)


def probe(generate: Generate, labels: Sequence[Any], seeds: Sequence[int], sigmas: Sequence[float] | None) -> Probe:
    """Draw two images twice, and look.

    Args:
        sigmas: the noise levels, where the caller knows them.

    Raises:
        ValueError: wrong form (see :func:`checked`), or levels that cannot be seen.
    """
    recorder = _Recorder(2.0)
    images = checked(generate, recorder, labels, seeds)
    again = checked(generate, Constant(2.0), labels, seeds)
    called, share = sorted(recorder.asked, reverse=True), None
    runs = 2
    if hasattr(generate, "share"):
        asked = [pair for pair in generate.share(labels, seeds) if pair[0] > 0]
        called, share = [sigma for sigma, _ in asked], _by_level(asked)
        runs = 3
    elif sigmas is not None:
        called = [float(sigma) for sigma in sigmas]
    called = [sigma for sigma in called if sigma > 0]
    if not called:
        raise ValueError(
            "generate did not ask the schedule for a scale, so the noise levels of the sampler are not known: pass "
            "them, sigmas=[...]"
        )
    return Probe(
        called=sorted(called, reverse=True),
        share=share,
        paired=torch.allclose(images, again, rtol=1e-3, atol=1e-3 * float(images.abs().max())),
        images=images.numpy(),
        calls=2 * runs * len(labels) * len(called),
    )


def _by_level(asked: Sequence[tuple[float, float]]) -> list[float]:
    shares: dict[float, list[float]] = {}
    for sigma, share in asked:
        shares.setdefault(sigma, []).append(share)
    return [float(np.mean(shares[sigma])) for sigma in sorted(shares, reverse=True)]


def checked(
    generate: Generate,
    schedule: Schedule,
    labels: Sequence[Any],
    seeds: Sequence[int],
    shape: Sequence[int] | None = None,
    **choices: Any,
) -> torch.Tensor:
    """Images as promised: one for each label, of the real images' shape, finite; float32 on the CPU.

    Raises:
        TypeError: no tensor.
        ValueError: another count or shape, NaN or infinite pixels.
    """
    given = torch.as_tensor(labels) if all(isinstance(label, (int, np.integer)) for label in labels) else list(labels)
    images = generate(schedule, given, [int(seed) for seed in seeds], **choices)
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(images)
    if not isinstance(images, torch.Tensor):
        raise TypeError(f"generate must return a tensor of images; got {type(images).__name__}")
    if images.ndim < 2 or len(images) != len(labels):
        raise ValueError(
            f"generate must return one image for each label, here {len(labels)}; got shape {tuple(images.shape)}"
        )
    if shape is not None and tuple(images.shape[1:]) != tuple(shape):
        raise ValueError(
            f"generate must return images of the real images' shape {tuple(shape)}; got {tuple(images.shape[1:])}"
        )
    images = images.detach().float().cpu()
    if not images.isfinite().all():
        bad = int((~images.flatten(1).isfinite().all(1)).sum())
        raise ValueError(f"generate returned NaN or infinite values in {bad} of {len(images)} images under {schedule}")
    return images


def fingerprint(**parts: Any) -> str:
    """A short name of everything that makes a study's numbers comparable, but the model (see :class:`Probe`)."""
    text = "\0".join(f"{name}={value!r}" for name, value in sorted(parts.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
