"""Everything that is measured of classes with the same numbers of samples, from the inner products of those."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from .averages import named
from .discrepancy import energy_finding, kid_finding
from .diversity import matched_findings
from .gram import squared_distances
from .moments import shift_findings
from .resampling import Finding, Resampling, joined
from .results import ClassDistortion
from .separability import proportion
from .spread import grouped_squares, held_out_squares, ratio_findings, trace_ratio_finding
from .subspace import subspace_findings

__all__ = ["Options", "Stack", "sample_warnings", "stack_findings"]

FEW_SAMPLES = 20  # below this coverage of the intervals was not tested
HEAVY_TAILED = 12.0  # least kurtosis of squared lengths that is called heavy; Gaussian: 1 % of classes of 20 samples


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure; see :func:`~kdist.evals.measure`."""

    subspace: int
    halves: int
    shape_resamples: int
    neighbours: int


@dataclasses.dataclass(frozen=True)
class Stack:
    """K classes with the same numbers of samples; the N samples of each are n_fake generated ones, then the real ones.

    Attributes:
        labels, names: the classes' labels and names.
        n_fake: how many of the N are generated.
        width: d, the length of the features.
        grams: (K, N, N) float64 inner products about the global mean.
        to_origin: (K, N) inner products of the samples about the global mean with the global mean.
        origin_squared: squared length of the global mean.
        weight: weight of each class's real mean in the global mean; ``others_noise``: expected squared error of that.
        scores: (K, N, k) coordinates in held-out directions; None for none.
        nearest: (K, N) distances to the nearest training sample; None without.
        correct: (K, N) whether a classifier puts each sample in its class; None without predictions.
        confidences: the probability it gives to the right class, over the generated samples.
    """

    labels: Sequence[Any]
    names: Sequence[str]
    n_fake: int
    width: int
    grams: np.ndarray
    to_origin: np.ndarray
    origin_squared: float
    weight: float
    others_noise: float
    scores: np.ndarray | None = None
    nearest: np.ndarray | None = None
    correct: np.ndarray | None = None
    confidences: Sequence[float | None] | None = None


def stack_findings(
    data: Stack, resampling: Resampling, options: Options
) -> tuple[list[ClassDistortion], dict[str, Finding]]:
    """The classes' records, and what averages over classes are made of."""
    grams, n_fake, count = data.grams, data.n_fake, len(data.grams)
    n_real = grams.shape[1] - n_fake
    splits = resampling.of(n_fake, n_real)
    distances = squared_distances(grams)
    found = {"energy_distance": energy_finding(distances, splits), "trace_ratio": trace_ratio_finding(grams, splits)}
    found |= shift_findings(grams, splits, weight=data.weight, others_noise=data.others_noise)
    found["kid"] = kid_finding(grams, data.to_origin, data.origin_squared, data.width, splits)
    matched_n = None
    if options.subspace:
        squares = held_out_squares(grams, n_fake, options.subspace)
        parts = [Finding.undefined(count, "ratio")] * 2
        if squares is not None:
            parts = ratio_findings(squares, resampling.of(n_fake, squares.shape[1] - n_fake))
        found |= zip(("variance_main", "variance_rest"), parts, strict=True)
    if data.scores is not None:
        log_det, *directions = subspace_findings(data.scores, splits)
        found |= {"log_det_ratio": log_det} | {f"direction_{j}": entry for j, entry in enumerate(directions)}
    if options.halves:
        matched, matched_n = matched_findings(
            grams, splits, halves=options.halves, permutations=options.shape_resamples, neighbours=options.neighbours
        )
        found |= matched
    if data.nearest is not None:
        found["memorisation"] = ratio_findings(data.nearest[:, :, None], splits)[0]
    if data.correct is not None:
        found["trace_ratio_correct"] = _among_correct(grams, n_fake, data.correct, resampling)
    shown = {name: entry.shown(splits.confidence) for name, entry in found.items()}
    notes = sample_warnings(grams, distances, n_fake)
    records = []
    for k, (label, name) in enumerate(zip(data.labels, data.names, strict=True)):
        record = ClassDistortion(
            label=label, name=name, n_real=n_real, n_fake=n_fake, matched_n=matched_n,
            **named({statistic: estimates[k] for statistic, estimates in shown.items()}),
            **_judged(data, k, splits.confidence),
        )  # fmt: skip
        warnings = notes[k] + _record_warnings(record, options.neighbours)
        records.append(dataclasses.replace(record, warnings=tuple(warnings)))
    return records, found


def _judged(data: Stack, k: int, confidence: float) -> dict[str, Any]:
    """What a classifier says of the generated samples of class k."""
    if data.correct is None or data.confidences is None:
        return {}
    accuracy = proportion(int(data.correct[k, : data.n_fake].sum()), data.n_fake, confidence=confidence)
    return {"accuracy": accuracy, "confidence": data.confidences[k]}


def _among_correct(grams: np.ndarray, n_fake: int, correct: np.ndarray, resampling: Resampling) -> Finding:
    """The trace ratio among what the classifier gets right, on both sides: class by class, their numbers differ."""
    found = []
    for gram, kept, generator in zip(grams, correct, resampling.generators, strict=True):
        kept_fake, kept_real = int(kept[:n_fake].sum()), int(kept[n_fake:].sum())
        if min(kept_fake, kept_real) < 2:
            found.append(Finding.undefined(1, "ratio", draws=resampling.count))
        else:
            splits = dataclasses.replace(resampling, generators=[generator]).of(kept_fake, kept_real)
            found.append(trace_ratio_finding(gram[np.ix_(kept, kept)][None], splits))
    return joined(found)


def sample_warnings(grams: np.ndarray, distances: np.ndarray, n_fake: int) -> list[list[str]]:
    """What the samples of each class themselves say about how far the numbers can be trusted."""
    notes: list[list[str]] = [[] for _ in grams]
    squares = grouped_squares(grams, n_fake)
    for name, group in (("generated", squares[:, :n_fake]), ("real", squares[:, n_fake:])):
        centred = np.square(group - group.mean(axis=1, keepdims=True))
        second = centred.mean(axis=1)
        kurtosis = np.square(centred).mean(axis=1) / np.maximum(second**2, 1e-300)
        for k in range(len(grams)):
            if name == "generated" and not group[k].any():
                notes[k].append("all generated samples are the same: no variance is left")
            elif kurtosis[k] > max(HEAVY_TAILED, group.shape[1] / 2):
                notes[k].append(f"heavy tails: a few {name} samples hold much of the variance; look at them")
    copies = (distances[:, :n_fake, n_fake:] == 0).any(axis=2).sum(axis=1)
    repeated = (distances[:, n_fake:, n_fake:] == 0).sum(axis=(1, 2)) > grams.shape[1] - n_fake
    for k in range(len(grams)):
        if copies[k]:
            notes[k].append(
                f"generated samples that equal a real one ({copies[k]} of {n_fake}): are the sets independent?"
            )
        if repeated[k]:
            notes[k].append("some real samples are the same: errors assume independent samples")
    return notes


def _record_warnings(record: ClassDistortion, neighbours: int) -> list[str]:
    fewer, more = sorted((record.n_real, record.n_fake))
    sizes = f"(real {record.n_real}, fake {record.n_fake})"
    notes = []
    if fewer < FEW_SAMPLES:
        notes.append(f"fewer than {FEW_SAMPLES} samples {sizes}: intervals are rough")
    if more > 10 * fewer:
        notes.append(f"very unequal numbers of samples {sizes}: the smaller set decides the precision")
    if np.isnan(record.overshoot):
        notes.append("class mean not to be told from the global mean: overshoot is undefined")
    if record.log_det_ratio is not None and np.isnan(record.log_det_ratio):
        notes.append(f"too few samples for a log-determinant in {len(record.directional_ratios)} dimensions {sizes}")
    if record.matched_n is not None and record.matched_n <= neighbours:
        notes.append(f"too few samples for recall and coverage with {neighbours} neighbours {sizes}")
    return notes
