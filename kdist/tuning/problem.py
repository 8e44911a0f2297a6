"""A model, what its samples are compared with, and what one block of samples of a schedule tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from ..schedules import Constant, Schedule
from .margins import margins
from .probing import Generate, Probe, checked, fingerprint, probe
from .scores import Reference, correctness, pixels

__all__ = ["Problem", "as_real", "block_seeds"]

# seeds of one purpose are never those of another
STAGES = {"probe": 0, "reference": 1, "search": 2, "certify": 3}
KNOWN_BY = 100  # images that a judge is known again by


def block_seeds(seed: int, stage: str, block: int, count: int) -> list[int]:
    """``count`` 32-bit seeds that depend on their purpose and block alone."""
    return np.random.SeedSequence([seed, STAGES[stage], block]).generate_state(count).tolist()


@dataclass
class Problem:
    """Everything that a candidate is measured with.

    Attributes:
        generate: ``generate(schedule, labels, seeds, **choices) -> images``.
        classes: distinct labels.
        features: images to (n, d).
        judge: images to labels or probabilities, or None.
        align: ``align(images, labels)`` to (n,) numbers, or None.
        seed: decides everything that is drawn.
        seen: what the generator showed.
        reference: what samples are compared with.
        shape: the shape of one image.
        calls: network calls spent before the search.
    """

    generate: Generate
    classes: list[Any]
    features: Callable[[torch.Tensor], Any]
    judge: Callable[[torch.Tensor], Any] | None
    align: Callable[..., Any] | None
    seed: int
    seen: Probe
    reference: Reference
    shape: tuple[int, ...]
    calls: int
    about: dict[str, Any]

    def calls_per_sample(self, schedule: Schedule, choices: Mapping[str, Any] | None = None) -> int:
        """Network calls for one sample, as :func:`kdist.guide` makes them with the linear rule."""
        scale = schedule(torch.tensor(self.seen.called, dtype=torch.float32))
        return int((2 - (scale == 0).int() - (scale == 1).int()).sum())

    def measure(
        self, schedule: Schedule, choices: Mapping[str, Any], stage: str, block: int, per_class: int
    ) -> tuple[dict[str, np.ndarray], int, torch.Tensor]:
        """Columns (see :mod:`kdist.tuning.scores`), network calls and images of one block."""
        labels = [class_ for class_ in self.classes for _ in range(per_class)]
        seeds = block_seeds(self.seed, stage, block, len(labels))
        before = getattr(self.generate, "calls", None)
        images = checked(self.generate, schedule, labels, seeds, self.shape, **choices)
        if before is None:
            calls = self.calls_per_sample(schedule, choices) * len(labels)
        else:
            calls = self.generate.calls - before  # type: ignore[attr-defined]
        columns = self.reference.columns(as_features(self.features, images), labels)
        for judging, by in ((judged, self.judge), (aligned, self.align)):
            if by is not None:
                columns.update(judging(by, images, labels, self.classes))
        return columns, calls, images


def judged(
    judge: Callable[[torch.Tensor], Any], images: torch.Tensor, labels: Sequence[Any], classes: Sequence[Any]
) -> dict[str, np.ndarray]:
    """(n,) ``accuracy``, 1 or 0, and ``margin`` where the judge scores every class."""
    given = judge(images)
    ahead = margins(given, labels, classes)
    return {"accuracy": correctness(given, labels, classes), **({} if ahead is None else {"margin": ahead})}


def aligned(
    align: Callable[..., Any], images: torch.Tensor, labels: Sequence[Any], classes: Sequence[Any]
) -> dict[str, np.ndarray]:
    """(n,) ``alignment``."""
    return {"alignment": _numbers(align(images, labels), len(labels))}


def answers(
    judging: Callable[..., dict[str, np.ndarray]], by: Callable[..., Any] | None, images: torch.Tensor,
    labels: Sequence[Any], classes: Sequence[Any],
) -> dict[str, list[float]]:  # fmt: skip
    """What a judge says of some of the images that samples are compared with. No network calls; of a judge that gives
    labels only two images would tell nothing."""
    if by is None:
        return {}
    mixed = np.random.default_rng(0).permutation(len(images)).tolist()
    rows = list(islice((n for n in mixed if labels[n] in classes), KNOWN_BY))
    found = judging(by, images[rows], [labels[n] for n in rows], classes)
    return {name: [float(f"{number:.5g}") for number in column] for name, column in found.items()}


def as_features(features: Callable[[torch.Tensor], Any], images: torch.Tensor) -> np.ndarray:
    """(n, d) float64.

    Raises:
        ValueError: another shape, or not finite.
    """
    found = features(images)
    found = found.detach().cpu().numpy() if isinstance(found, torch.Tensor) else np.asarray(found)
    if found.ndim != 2 or len(found) != len(images):
        raise ValueError(f"features must give one row for each of {len(images)} images; got shape {found.shape}")
    if not np.isfinite(found).all():
        raise ValueError("features gave NaN or infinite values")
    return found.astype(np.float64)


def _numbers(given: Any, count: int) -> np.ndarray:
    array = given.detach().cpu().numpy() if isinstance(given, torch.Tensor) else np.asarray(given)
    if array.shape != (count,) or not np.isfinite(array).all():
        raise ValueError(f"align must give one finite number for each of {count} images; got shape {array.shape}")
    return array.astype(np.float64)


def as_real(real: Any, labels: Any) -> tuple[torch.Tensor | None, list[Any] | None, list[Any]]:
    """Images, their labels, and the classes to tune, from what :func:`kdist.tune` takes.

    Raises:
        ValueError: counts that do not fit, or nothing that says what the classes are.
    """
    if real is None:
        if labels is None or not len(labels):
            raise ValueError("labels is needed where there is no real set: the classes or prompts to sample")
        return None, None, _distinct(labels)
    if isinstance(real, Mapping):
        real = (real["x"], real["y"])
    if isinstance(real, (tuple, list)):
        images, own = real
        classes = _distinct(own if labels is None else labels)
    else:
        images, own = real, labels
        if own is None:
            raise ValueError("labels is needed: the class of each real image (or pass real=(images, labels))")
        classes = _distinct(own)
    images = torch.as_tensor(images)
    own = _plain(own)
    if len(images) != len(own):
        raise ValueError(f"real has {len(images)} images and {len(own)} labels; they must be as many")
    if not images.is_floating_point():
        raise ValueError(f"real must be in the range that generate returns, floating point; got {images.dtype}")
    return images.float(), own, classes


def _plain(labels: Any) -> list[Any]:
    return labels.tolist() if hasattr(labels, "tolist") else list(labels)


def _distinct(labels: Any) -> list[Any]:
    found = list(dict.fromkeys(_plain(labels)))
    return sorted(found) if all(isinstance(label, int) for label in found) else found


def make_problem(
    generate: Generate,
    *,
    labels: Any,
    real: Any,
    judge: Callable[[torch.Tensor], Any] | None,
    align: Callable[..., Any] | None,
    features: Callable[[torch.Tensor], Any] | None,
    sigmas: Sequence[float] | None,
    seed: int,
    reference_per_class: int,
) -> Problem:
    """Look at the generator, and at the real images or, where there are none, at unguided samples."""
    images, own, classes = as_real(real, labels)
    seen = probe(generate, (classes * 2)[:2], block_seeds(seed, "probe", 0, 2), sigmas)
    shape, calls = seen.images.shape[1:], seen.calls
    if images is None:
        own = [class_ for class_ in classes for _ in range(reference_per_class)]
        seeds = block_seeds(seed, "reference", 0, len(own))
        images = checked(generate, Constant(1.0), own, seeds, shape)
        calls += len(own) * len(seen.called)
    if tuple(images.shape[1:]) != tuple(shape):
        raise ValueError(f"generate returns images of shape {tuple(shape)}, real has {tuple(images.shape[1:])}")
    features = pixels(images) if features is None else features
    own = own or []
    reference = Reference(as_features(features, images), own, classes)
    digest = {class_: reference.residuals[class_].shape[0] for class_ in classes}
    about = {
        "levels": [float(f"{sigma:.5g}") for sigma in seen.called],
        "classes": len(classes),
        "real set": fingerprint(counts=digest, centre=np.round(reference.centre, 4).tolist()),
        "seed": seed,
        "judge": answers(judged, judge, images, own, classes),
        "align": answers(aligned, align, images, own, classes),
        "probe": np.asarray(seen.images).reshape(2, -1)[:, :256].round(3).tolist(),
    }
    return Problem(generate, classes, features, judge, align, seed, seen, reference, tuple(shape), calls, about)
