"""The records that :func:`~kdist.evals.measure` returns: one per class, one for the averages, one report.

Lengths are in feature space. Distortion-free is shift 0, overshoot 0, every ratio 1, and every number within the
interval of its floor. ``docs/statistics.md`` gives each definition with its correction for small n.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from .estimate import Estimate

__all__ = ["SCHEMA", "ClassDistortion", "DistortionReport", "PooledDistortion"]

SCHEMA = "kdist.distortion/1"


@dataclasses.dataclass(frozen=True)
class ClassDistortion:
    """One class.

    Attributes:
        mean_shift: distance of the class means, noise subtracted, in units of the within-class spread
            sqrt(tr S_real).
        overshoot: the shift's component along (class mean - global mean), in units of that distance; positive is
            away from the other classes. nan where the class mean cannot be told from the global mean.
        orthogonal_shift: the rest of the shift, in the same units as ``overshoot``.
        trace_ratio: tr S_fake / tr S_real, the share of the variance that was kept.
        trace_ratio_correct: the same among the samples that a classifier puts in their class (None without
            predictions): shrinkage that is not the removal of misclassified samples.
        log_det_ratio: log |S_fake| / |S_real| in the subspace (nan where n is too small, None without a subspace).
        directional_ratios: variance ratio along each direction of the subspace, the widest direction first.
        participation_ratio: effective number of directions, fake over real.
        frechet_mean, frechet_covariance, vendi, recall, coverage: between ``matched_n`` generated and as many real
            samples; read them against their floor, which is between as many real ones. None when switched off.
        accuracy, confidence: of the classifier on the generated samples (None without predictions, probabilities).
    """

    label: Any
    name: str
    n_real: int
    n_fake: int
    mean_shift: Estimate
    overshoot: Estimate
    orthogonal_shift: Estimate
    trace_ratio: Estimate
    trace_ratio_correct: Estimate | None = None
    log_det_ratio: Estimate | None = None
    directional_ratios: tuple[Estimate, ...] = ()
    participation_ratio: Estimate | None = None
    frechet_mean: Estimate | None = None
    frechet_covariance: Estimate | None = None
    vendi: Estimate | None = None
    recall: Estimate | None = None
    coverage: Estimate | None = None
    matched_n: int | None = None
    accuracy: Estimate | None = None
    confidence: float | None = None
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"class {self.name}: {_headline(self)}"


@dataclasses.dataclass(frozen=True)
class PooledDistortion:
    """Averages over classes, each class counting the same; intervals are for these classes, images being random.

    Attributes:
        mean_shift, orthogonal_shift: root of the mean of the unbiased squares.
        overshoot, trace_ratio, ...: mean over the classes where they are defined (``directional_ratios``: geometric).
        trace_ratio_classes: interval of the mean trace ratio if the classes were themselves a sample (bootstrap).
        shrunk, widened: number of classes whose trace ratio is below or above 1 with q-value under 1 - confidence.
        separability, separability_real: between-class over within-class scatter of generated and of real samples.
        neighbour_accuracy, neighbour_accuracy_real: share of generated (real) samples whose nearest real samples are
            mostly of their class.
        accuracy, accuracy_real, confidence, confidence_real: of the classifier, all samples together. Of these three
            pairs the real one is the other's floor: what a perfect generator would have.
        fid_mean, fid_covariance: the two parts of the usual Fréchet distance, classes ignored; their sum is what FID
            is on these features.
    """

    n_classes: int
    mean_shift: Estimate
    overshoot: Estimate
    orthogonal_shift: Estimate
    trace_ratio: Estimate
    trace_ratio_classes: tuple[float, float]
    shrunk: int
    widened: int
    separability: Estimate
    separability_real: Estimate
    trace_ratio_correct: Estimate | None = None
    log_det_ratio: Estimate | None = None
    directional_ratios: tuple[Estimate, ...] = ()
    participation_ratio: Estimate | None = None
    frechet_mean: Estimate | None = None
    frechet_covariance: Estimate | None = None
    vendi: Estimate | None = None
    recall: Estimate | None = None
    coverage: Estimate | None = None
    neighbour_accuracy: Estimate | None = None
    neighbour_accuracy_real: Estimate | None = None
    accuracy: Estimate | None = None
    accuracy_real: Estimate | None = None
    confidence: float | None = None
    confidence_real: float | None = None
    fid_mean: float | None = None
    fid_covariance: float | None = None

    def __str__(self) -> str:
        text = f"mean over {self.n_classes} classes: {_headline(self)}"
        if not math.isnan(self.separability):
            text += f"; separability {self.separability:.2f} (real {self.separability_real:.2f})"
        return text


@dataclasses.dataclass(frozen=True)
class DistortionReport:
    """What :func:`~kdist.evals.measure` returns; ``classes`` are in the order of their labels."""

    classes: list[ClassDistortion]
    pooled: PooledDistortion
    warnings: list[str]
    settings: dict[str, Any]

    def __getitem__(self, label: Any) -> ClassDistortion:
        """The class with this label.

        Raises:
            KeyError: no such class.
        """
        for entry in self.classes:
            if entry.label == label:
                return entry
        raise KeyError(label)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON (``schema`` names the version); what is undefined is None."""
        return {
            "schema": SCHEMA,
            "settings": self.settings,
            "pooled": _plain(self.pooled),
            "classes": [_plain(entry) for entry in self.classes],
            "warnings": self.warnings,
        }

    def __str__(self) -> str:
        return "\n".join([str(self.pooled), *map(str, self.classes), *(f"warning: {note}" for note in self.warnings)])


def _headline(record: ClassDistortion | PooledDistortion) -> str:
    ratio, overshoot = record.trace_ratio, record.overshoot
    text = f"variance {ratio:.2f} of real [{ratio.lo:.2f}, {ratio.hi:.2f}]"
    if ratio.floor is not None:
        text += f", floor {ratio.floor:.2f} [{ratio.floor.lo:.2f}, {ratio.floor.hi:.2f}]"
    if not math.isnan(overshoot):
        text += f"; overshoot {overshoot:+.2f} [{overshoot.lo:+.2f}, {overshoot.hi:+.2f}]"
    text += f"; shift {record.mean_shift:.2f} of the class's spread"
    return text if record.accuracy is None else f"{text}; accuracy {record.accuracy:.2f}"


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
