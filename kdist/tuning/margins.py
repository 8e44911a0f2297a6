"""Accuracy from how sure the judge is, not from its few errors alone.

A judge that scores every class tells more than right or wrong: by how much the class asked for is ahead of the next,
the margin ``m``, an error where it is below 0. The soft errors

    soft(m) = ratio / (1 + exp(m / width))

count what is almost wrong for a part and vary less than the errors do. The width is a third of the length of the
margins' lower tail among the better half of what a search has seen, the ratio makes them as many as the errors there.
They lean on the form of that tail and were seen to be more than the errors, up to a few times, where errors are rare: a
search then asks for more accuracy than the bound does. And where the least sure ``_TAIL`` of the samples are not yet a
tail, the width is anything: 0.05 to 0.55 in five searches on the digits. Only the search believes them; what is
certified are errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from .scores import Columns

__all__ = ["SoftErrors", "margins"]

_WIDTH = 0.35  # of the tail's length; wider is steadier and leans more on its form
_TAIL = 0.05  # of the samples, the least sure, whose margins are the tail
_PRIOR = 3.0  # errors that a tail without end, exponential, counts for
_RATIO = math.sin(math.pi * _WIDTH) / (math.pi * _WIDTH)  # of errors to soft ones there
_FLOOR = 1e-6  # of a probability: beyond it, surer says nothing


def margins(judged: Any, labels: Sequence[Any], classes: Sequence[Any]) -> np.ndarray | None:
    """(n,) log odds of the class asked for against the next best; None where the judge gives labels only.

    Args:
        judged: (n, K) probabilities or logits, columns in the order of ``classes``.
    """
    scores = judged.detach().cpu().numpy() if isinstance(judged, torch.Tensor) else np.asarray(judged)
    if scores.ndim != 2 or scores.shape[1] < 2:
        return None
    scores = scores.astype(np.float64)
    if (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3):
        scores = np.log(np.maximum(scores, _FLOOR))
    number = {class_: k for k, class_ in enumerate(classes)}
    own = np.zeros(scores.shape, bool)
    own[np.arange(len(labels)), [number[label] for label in labels]] = True
    return scores[own] - np.where(own, -np.inf, scores).max(axis=1)


@dataclass(frozen=True)
class SoftErrors:
    """How margins are counted in one search.

    Attributes:
        width: the width of the step from wrong to right.
        ratio: the ratio of errors to soft ones before it.
        noise: variance of the mean over that of as many errors.
    """

    width: float
    ratio: float
    noise: float

    @classmethod
    def of(cls, columns: Sequence[Columns]) -> SoftErrors | None:
        """From all samples of a search; None where a judge gave no margins."""
        if not columns or any("margin" not in block for block in columns):
            return None
        width = _WIDTH * _tail(np.concatenate([block["margin"] for block in columns]))
        # what could be chosen: schedules that guide well have shorter tails than those that do not
        unsure = [float(expit(-block["margin"][::2] / width).mean()) for block in columns]
        good = [block for block, share in zip(columns, unsure, strict=True) if share <= np.median(unsure)]
        margin = np.concatenate([block["margin"][1::2] for block in good])  # not those by which they were chosen
        wrong = sum(float((1 - block["accuracy"][1::2]).sum()) for block in good)
        width = _WIDTH * _tail(margin)
        soft = expit(-margin / width)
        ratio = (wrong + _PRIOR) / (soft.sum() + _PRIOR / _RATIO)
        noise = ratio * np.square(soft).sum() / max(soft.sum(), 1e-9)
        return cls(width, float(ratio), float(np.clip(noise, 0.05, 1.0)))

    def share(self, columns: Columns) -> float:
        """Expected share of errors."""
        return float(self.ratio * expit(-columns["margin"] / self.width).mean())


def _tail(margin: np.ndarray) -> float:
    """The length of an exponential below the quantile ``_TAIL``."""
    edge = np.quantile(margin, _TAIL)
    return max(float(np.median(edge - margin[margin <= edge])) / math.log(2), 1e-9)
