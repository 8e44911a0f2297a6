"""What a run of the digits did to each class: moments, their halves, the part that outliers play, and sub-classes."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch

from kdist import digits
from kdist.digits.classifier import load_digits_classifier
from kdist.theory import overshoot

__all__ = ["Digits", "responses", "separability", "some_of_each"]

Array = np.ndarray


class Digits:
    """All real digits, flattened, with what generated ones are compared to.

    Args:
        split: a split of :func:`kdist.digits.load_data`.
        parts: sub-classes per digit (k-means of the real images).
    """

    def __init__(self, split: str = "all", parts: int = 4) -> None:
        self.images, self.labels = digits.load_data(split)  # type: ignore[arg-type]
        flat = self.images.flatten(1).double().numpy()
        self.rows = [flat[self.labels.numpy() == c] for c in range(digits.NUM_CLASSES)]
        self.means = np.stack([own.mean(0) for own in self.rows])
        self.traces = np.array([own.var(0, ddof=1).sum() for own in self.rows])
        self.centre = flat.mean(0)
        self.parts = parts

    @cached_property
    def clusters(self) -> list[Any]:
        """A fitted k-means for each class."""
        from sklearn.cluster import KMeans

        return [KMeans(self.parts, n_init=4, random_state=0).fit(own) for own in self.rows]

    @cached_property
    def classifier(self) -> torch.nn.Module:
        return load_digits_classifier()

    def moments(self, x: torch.Tensor, per_class: int) -> dict[str, list[float]]:
        """Per class: ``log_trace`` (of the trace over the real one) and ``along`` (overshoot); ``*_even``/``*_odd`` of
        every other sample; ``log_trace_correct`` among the correctly classified and ``accuracy``; ``between`` and
        ``within`` sub-classes, parts of the variance in units of the real trace.

        Args:
            x: (K * per_class, 1, 8, 8) samples, ordered by class.
            per_class: samples of each.
        """
        with torch.no_grad():
            right = self.classifier(x).argmax(1).view(-1, per_class).numpy()
        right = right == np.arange(len(right))[:, None]
        found: dict[str, list[float]] = {}
        for c, own in enumerate(x.flatten(1).double().numpy().reshape(len(right), per_class, -1)):
            values = {"accuracy": right[c].mean(), "log_trace_correct": self._log_trace(own[right[c]], c)}
            for suffix, part in (("", own), ("_even", own[::2]), ("_odd", own[1::2])):
                values |= {f"log_trace{suffix}": self._log_trace(part, c), f"along{suffix}": self._along(part, c)}
            values["between"], values["within"] = self._split(own, c)
            for name, value in values.items():
                found.setdefault(name, []).append(round(float(value), 5))
        return found

    def _log_trace(self, own: Array, c: int) -> float:
        return float(np.log(own.var(0, ddof=1).sum() / self.traces[c])) if len(own) > 1 else float("nan")

    def _along(self, own: Array, c: int) -> float:
        return float(overshoot(own.mean(0), self.means[c], self.centre))

    def _split(self, own: Array, c: int) -> tuple[float, float]:
        """Variance between and within the sub-classes (nearest k-means centre of the real class)."""
        nearest = self.clusters[c].predict(own)
        centres = np.zeros_like(own)
        for k in np.unique(nearest):
            centres[nearest == k] = own[nearest == k].mean(0)
        between = np.square(centres - own.mean(0)).sum() / (len(own) - 1)
        within = np.square(own - centres).sum() / (len(own) - 1)
        return between / self.traces[c], within / self.traces[c]


def some_of_each(labels: torch.Tensor, number: int | None) -> torch.Tensor:
    """Rows of ``number`` of every class, from its first to its last (None: of all; neighbours are of one hand). Classes
    of one size are measured together, in a fraction of the time."""
    if number is None:
        return torch.arange(len(labels))
    of_each = [(labels == label).nonzero().flatten() for label in labels.unique()]
    return torch.cat([own[torch.linspace(0, len(own) - 1, number).long()] for own in of_each])


def separability(mean: Any, variance: Any) -> Any:
    """Between-class over within-class scatter in units of the real one: ``mean**2 / variance``, of means this many
    times as far from the centre of everything and variances this many times as large."""
    return mean**2 / variance


def responses(found: dict[str, list[float]], base: dict[str, list[float]], suffix: str = "") -> dict[str, Array]:
    """Guidance's own part: ``trace`` and ``overshoot`` per class (K,), relative to ``base``, the same at scale 1."""
    return {
        "trace": np.subtract(found["log_trace" + suffix], base["log_trace" + suffix]),
        "overshoot": np.subtract(found["along" + suffix], base["along" + suffix]),
    }
