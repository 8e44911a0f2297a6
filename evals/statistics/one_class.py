"""Everything that is measured of one class, from the inner products of its samples."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from .averages import named
from .discrepancy import energy_finding, kid_finding
from .diversity import matched_findings
from .estimate import NAN, Estimate
from .gram import squared_distances
from .memorisation import memorisation_finding
from .moments import shift_findings
from .resampling import Finding, Resampling
from .results import ClassDistortion
from .separability import proportion
from .spread import grouped_squares, held_out_squares, ratio_findings, trace_ratio_finding
from .subspace import subspace_findings

__all__ = ["ClassSamples", "Options", "class_findings", "sample_warnings"]

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
class ClassSamples:
    """One class.

    Attributes:
        label, name: the class's label and name.
        samples: (N, d) float64 features about the global mean, generated samples first.
        n_fake: how many of the N are generated.
        weight: weight of the class's real mean in the global mean; ``others_noise``: expected squared error of that.
        origin: (d,) the global mean.
        basis: (d, k) held-out directions; None for none.
        correct: (N,) whether a classifier puts each sample in its class; None without predictions.
        confidence: the probability it gives to the right class, over the generated samples.
        training: (T, d) training samples about the global mean; None without.
    """

    label: Any
    name: str
    samples: np.ndarray
    n_fake: int
    weight: float
    others_noise: float
    origin: np.ndarray
    basis: np.ndarray | None = None
    correct: np.ndarray | None = None
    confidence: float | None = None
    training: np.ndarray | None = None


def class_findings(
    data: ClassSamples, resampling: Resampling, options: Options
) -> tuple[ClassDistortion, dict[str, Finding]]:
    """The class's record, and what averages over classes are made of."""
    samples, n_fake = data.samples, data.n_fake
    gram, splits = samples @ samples.T, resampling.of(n_fake, len(samples) - n_fake)
    distances = squared_distances(gram)
    found = {"energy_distance": energy_finding(distances, splits), "trace_ratio": trace_ratio_finding(gram, splits)}
    found |= shift_findings(gram, splits, weight=data.weight, others_noise=data.others_noise)
    found["kid"] = kid_finding(gram, samples @ data.origin, float(data.origin @ data.origin), samples.shape[1], splits)
    fields: dict[str, Any] = {}
    if options.subspace:
        squares = held_out_squares(gram, n_fake, options.subspace)
        parts = [Finding(Estimate(NAN), scale="ratio")] * 2
        if squares is not None:
            parts = ratio_findings(squares, resampling.of(n_fake, len(squares) - n_fake))
        found |= zip(("variance_main", "variance_rest"), parts, strict=True)
    if data.basis is not None:
        log_det, *directions = subspace_findings(samples @ data.basis, splits)
        found |= {"log_det_ratio": log_det} | {f"direction_{j}": entry for j, entry in enumerate(directions)}
    if options.halves:
        matched, fields["matched_n"] = matched_findings(
            gram, splits, halves=options.halves, permutations=options.shape_resamples, neighbours=options.neighbours
        )
        found |= matched
    if data.training is not None:
        found["memorisation"] = memorisation_finding(samples, data.training, splits)
    if data.correct is not None:
        found["trace_ratio_correct"] = _among_correct(gram, n_fake, data.correct, resampling)
        fields["accuracy"] = proportion(int(data.correct[:n_fake].sum()), n_fake, confidence=splits.confidence)
        fields["confidence"] = data.confidence
    record = ClassDistortion(
        label=data.label,
        name=data.name,
        n_real=len(samples) - n_fake,
        n_fake=n_fake,
        **named({name: entry.shown(splits.confidence) for name, entry in found.items()}),
        **fields,
    )
    notes = sample_warnings(gram, distances, n_fake) + _record_warnings(record, options.neighbours)
    return dataclasses.replace(record, warnings=tuple(notes)), found


def _among_correct(gram: np.ndarray, n_fake: int, correct: np.ndarray, resampling: Resampling) -> Finding:
    """The trace ratio among what the classifier gets right, on both sides."""
    kept_fake, kept_real = int(correct[:n_fake].sum()), int(correct[n_fake:].sum())
    if min(kept_fake, kept_real) < 2:
        return Finding(Estimate(NAN), scale="ratio")
    return trace_ratio_finding(gram[np.ix_(correct, correct)], resampling.of(kept_fake, kept_real))


def sample_warnings(gram: np.ndarray, distances: np.ndarray, n_fake: int) -> list[str]:
    """What the samples themselves say about how far the numbers can be trusted."""
    notes = []
    squares = grouped_squares(gram, n_fake)
    for name, group in (("generated", squares[:n_fake]), ("real", squares[n_fake:])):
        if name == "generated" and not group.any():
            notes.append("all generated samples are the same: no variance is left")
            continue
        centred = group - group.mean()
        second = np.square(centred).mean()
        kurtosis = float(np.square(np.square(centred)).mean() / second**2) if second > 0 else 0.0
        if kurtosis > max(HEAVY_TAILED, len(group) / 2):
            notes.append(f"heavy tails: a few {name} samples hold much of the variance; look at them")
    copies = int((distances[:n_fake, n_fake:] == 0).any(axis=1).sum())
    if copies:
        notes.append(f"generated samples that equal a real one ({copies} of {n_fake}): are the sets independent?")
    repeated = int((distances[n_fake:, n_fake:] == 0).sum() > len(gram) - n_fake)
    if repeated:
        notes.append("some real samples are the same: errors assume independent samples")
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
