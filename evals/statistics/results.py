"""The records that :func:`~kdist.evals.measure` returns: one per class, one for the averages, one report.

Lengths are in feature space. Distortion-free is shift 0, overshoot 0, every ratio 1, and every number within the
interval of its floor. ``docs/statistics.md`` gives each definition with its correction for small n.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from .estimate import Estimate

__all__ = ["SCHEMA", "ClassDistortion", "Distortion", "DistortionReport", "PooledDistortion"]

SCHEMA = "kdist.distortion/2"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distortion:
    """What is measured of a class, and of all classes on average.

    Attributes:
        energy_distance: energy distance of the class's samples from the real ones, in units of the real samples' mean
            distance: 0 only if the laws agree, in every respect.
        trace_ratio: tr S_fake / tr S_real, the share of the variance that was kept.
        overshoot: the shift's component along (class mean - global mean), in units of that distance; positive is
            away from the other classes. nan where the class mean cannot be told from the global mean.
        displacement: length of the whole shift, in the same units.
        orthogonal_shift: the rest of the shift beside ``overshoot``, in the same units.
        mean_shift: distance of the class means, noise subtracted, in units of the within-class spread
            sqrt(tr S_real).
        kid: kernel inception distance of the class (cubic kernel, unbiased).
        variance_main, variance_rest: the trace ratio within the real class's first directions (held out) and within
            the rest: lost structure and added noise, which the total may hide. None without a subspace.
        trace_ratio_correct: the trace ratio among the samples that a classifier puts in their class (None without
            predictions): shrinkage that is not the removal of misclassified samples.
        log_det_ratio: log |S_fake| / |S_real| in the subspace (nan where n is too small, None without a subspace).
        directional_ratios: variance ratio along each direction of the subspace, the widest direction first.
        participation_ratio: effective number of directions, fake over real.
        memorisation: distance to the nearest training sample, generated over held-out real (None without a training
            set): below 1 the generator is closer to its training set than new samples are.
        frechet_mean, frechet_covariance, vendi, recall, coverage, precision, density: between ``matched_n`` generated
            and as many real samples; read them against their floor, which is between as many real ones. None when
            switched off.
        accuracy, confidence: the classifier's, on the generated samples (None without predictions, probabilities).
    """

    energy_distance: Estimate
    trace_ratio: Estimate
    overshoot: Estimate
    displacement: Estimate
    orthogonal_shift: Estimate
    mean_shift: Estimate
    kid: Estimate
    variance_main: Estimate | None = None
    variance_rest: Estimate | None = None
    trace_ratio_correct: Estimate | None = None
    log_det_ratio: Estimate | None = None
    directional_ratios: tuple[Estimate, ...] = ()
    participation_ratio: Estimate | None = None
    memorisation: Estimate | None = None
    frechet_mean: Estimate | None = None
    frechet_covariance: Estimate | None = None
    vendi: Estimate | None = None
    recall: Estimate | None = None
    coverage: Estimate | None = None
    precision: Estimate | None = None
    density: Estimate | None = None
    accuracy: Estimate | None = None
    confidence: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassDistortion(Distortion):
    """One class.

    Attributes:
        label, name: the class's label and name.
        n_real, n_fake: numbers of samples; ``matched_n``: of either side for the statistics that depend on it.
        warnings: what to know before believing the numbers.

    Examples:
        >>> import numpy as np
        >>> from kdist.evals import measure
        >>> rng = np.random.default_rng(0)
        >>> y = np.arange(2).repeat(100)
        >>> real, fake = rng.normal(y[:, None], 1.0, (200, 4)), rng.normal(y[:, None], 0.8, (200, 4))
        >>> of_one = measure(real, fake, y, y, resamples=99)[1]
        >>> of_one.n_real, round(of_one.trace_ratio, 1)
        (100, 0.6)
    """

    label: Any
    name: str
    n_real: int
    n_fake: int
    matched_n: int | None = None
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"class {self.name}: {_headline(self)}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PooledDistortion(Distortion):
    """Averages over classes, each class counting the same; intervals are for these classes, images being random.

    Lengths are roots of the mean of unbiased squares, ``directional_ratios`` geometric means, all else means over the
    classes where it is defined. Averages of ratios have their small-sample bias taken off.

    Attributes:
        n_classes: how many.
        trace_ratio_classes: interval of the mean trace ratio if the classes were themselves a sample (bootstrap).
        shrunk, widened: number of classes whose trace ratio is below or above 1 with q-value under 1 - confidence;
            None where none was found and the resamples are too few to have found a single one.
        separability, separability_real: between-class over within-class scatter of generated and of real samples.
        neighbour_accuracy, neighbour_accuracy_real: share of generated (real) samples whose nearest real samples are
            mostly of their class.
        accuracy, accuracy_real, confidence, confidence_real: the classifier's, all samples together. Of these three
            pairs the real one is the other's floor: what a perfect generator would have.
        fid_mean, fid_covariance: the two parts of the usual Fréchet distance, classes ignored; their sum is what FID
            is on these features.

    Examples:
        >>> import numpy as np
        >>> from kdist.evals import measure
        >>> rng = np.random.default_rng(0)
        >>> y = np.arange(2).repeat(100)
        >>> real, fake = rng.normal(y[:, None], 1.0, (200, 4)), rng.normal(y[:, None], 0.8, (200, 4))
        >>> measure(real, fake, y, y, resamples=99).pooled.shrunk  # both classes
        2
    """

    n_classes: int
    trace_ratio_classes: tuple[float, float]
    shrunk: int | None
    widened: int | None
    separability: Estimate
    separability_real: Estimate
    neighbour_accuracy: Estimate | None = None
    neighbour_accuracy_real: Estimate | None = None
    accuracy_real: Estimate | None = None
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
    """What :func:`~kdist.evals.measure` returns; ``classes`` are in the order of their labels.

    Examples:
        >>> import numpy as np
        >>> from kdist.evals import measure
        >>> rng = np.random.default_rng(0)
        >>> y = np.arange(2).repeat(100)
        >>> real, fake = rng.normal(y[:, None], 1.0, (200, 4)), rng.normal(y[:, None], 0.8, (200, 4))
        >>> report = measure(real, fake, y, y, resamples=99)
        >>> len(report.classes), report.to_dict()["schema"]
        (2, 'kdist.distortion/2')
    """

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


def _headline(record: Distortion) -> str:
    distance, ratio, overshoot = record.energy_distance, record.trace_ratio, record.overshoot
    text = f"distance {_with_floor(distance, '.3f')}; variance {_with_floor(ratio, '.2f')} of real"
    if not math.isnan(overshoot):
        text += f"; overshoot {overshoot:+.2f} [{overshoot.lo:+.2f}, {overshoot.hi:+.2f}]"
        text += f"; displacement {record.displacement:.2f}"
    text += f"; shift {record.mean_shift:.2f} of the class's spread"
    return text if record.accuracy is None else f"{text}; accuracy {record.accuracy:.2f}"


def _with_floor(estimate: Estimate, form: str) -> str:
    text = f"{estimate:{form}} [{estimate.lo:{form}}, {estimate.hi:{form}}]"
    floor = estimate.floor
    return text if floor is None else f"{text} (floor {floor.lo:{form}} to {floor.hi:{form}})"


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
