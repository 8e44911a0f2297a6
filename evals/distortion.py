"""What generation did to each class: shift, overshoot, shrinkage, separability, and whether to believe it.

:func:`measure` compares the features of generated samples with those of real ones, class by class and averaged over
classes. Every number is an :class:`~kdist.evals.Estimate`: a float with its interval, its floor (real against real at
the same size) and its p-value. ``docs/statistics.md`` says how each is made and how well it was tested.

The definitions follow Ventura et al., *Emergence of Distortions in High-Dimensional Guided Diffusion Models*
(arXiv 2602.00716): distortion-free is shift 0, overshoot 0, trace ratio 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .estimates import NAN, Estimate, fields_to_dict, mean_estimate, with_q_values
from .inputs import as_features, as_labels, split_by_class
from .moment_estimates import MomentEstimates, Resampling, moment_estimates, trace_ratio_estimate
from .separability import class_probabilities, proportion, scatter_ratio

__all__ = ["SCHEMA", "ClassDistortion", "DistortionReport", "PooledDistortion", "measure"]

SCHEMA = "kdist.distortion/1"
FEW_SAMPLES = 20  # below this the intervals were seen to cover less than they say (docs/statistics.md)

Array = np.ndarray | torch.Tensor | Sequence[Any]


@dataclasses.dataclass(frozen=True)
class ClassDistortion:
    """One class. Lengths are in feature space; a ratio of 1 and a shift of 0 mean no distortion.

    Attributes:
        mean_shift: distance of the class means, noise subtracted, in units of the within-class spread
            sqrt(tr S_real).
        overshoot: the shift's component along (class mean - global mean), in units of that distance; positive is
            away from the other classes. nan where the class mean cannot be told from the global mean.
        orthogonal_shift: the rest of the shift, in the same units as ``overshoot``.
        trace_ratio: tr S_fake / tr S_real, the share of the variance that was kept.
        trace_ratio_correct: the same among the samples that a classifier puts in their class (None without
            predictions): shrinkage that is not the removal of misclassified samples.
        accuracy, confidence: of the classifier on the generated samples (None without predictions).
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
    accuracy: Estimate | None = None
    confidence: float | None = None
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        floor = self.trace_ratio.floor
        text = (
            f"class {self.name}: variance {self.trace_ratio:.2f} of real "
            f"[{self.trace_ratio.lo:.2f}, {self.trace_ratio.hi:.2f}]"
        )
        if floor is not None:
            text += f", floor {floor:.2f} [{floor.lo:.2f}, {floor.hi:.2f}]"
        text += f"; overshoot {self.overshoot:+.2f} [{self.overshoot.lo:+.2f}, {self.overshoot.hi:+.2f}]"
        text += f"; shift {self.mean_shift:.2f} of the class's spread"
        if self.accuracy is not None:
            text += f"; accuracy {self.accuracy:.2f}"
        return text


@dataclasses.dataclass(frozen=True)
class PooledDistortion:
    """Averages over classes, each class counting the same; intervals are for these classes, images being random.

    Attributes:
        mean_shift, orthogonal_shift: root of the mean of the unbiased squares.
        overshoot, trace_ratio, trace_ratio_correct: mean over the classes where they are defined.
        separability, separability_real: between-class over within-class scatter of generated and of real samples.
        accuracy, accuracy_real: of the classifier (None without predictions), all samples together.
        confidence, confidence_real: mean probability of the right class (None without probabilities).
        trace_ratio_classes: (low, high) of the mean trace ratio if the classes were themselves a sample
            (bootstrap over classes).
        shrunk, widened: number of classes whose trace ratio is below or above 1 with q-value under 0.05.
    """

    n_classes: int
    mean_shift: Estimate
    overshoot: Estimate
    orthogonal_shift: Estimate
    trace_ratio: Estimate
    trace_ratio_classes: tuple[float, float]
    separability: Estimate
    separability_real: Estimate
    trace_ratio_correct: Estimate | None = None
    accuracy: Estimate | None = None
    accuracy_real: Estimate | None = None
    confidence: float | None = None
    confidence_real: float | None = None
    shrunk: int = 0
    widened: int = 0


@dataclasses.dataclass(frozen=True)
class DistortionReport:
    """What :func:`measure` returns; ``classes`` are in the order of their labels."""

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
            "pooled": fields_to_dict(self.pooled),
            "classes": [fields_to_dict(entry) for entry in self.classes],
            "warnings": self.warnings,
        }

    def __str__(self) -> str:
        pooled = self.pooled
        lines = [
            f"mean over {pooled.n_classes} classes: variance {pooled.trace_ratio:.3f} of real "
            f"[{pooled.trace_ratio.lo:.3f}, {pooled.trace_ratio.hi:.3f}]; overshoot {pooled.overshoot:+.3f} "
            f"[{pooled.overshoot.lo:+.3f}, {pooled.overshoot.hi:+.3f}]; separability {pooled.separability:.2f} "
            f"(real {pooled.separability_real:.2f})"
        ]
        if pooled.accuracy is not None:
            lines.append(f"classifier accuracy {pooled.accuracy:.3f}")
        return "\n".join(lines + [str(entry) for entry in self.classes] + [f"warning: {w}" for w in self.warnings])


def measure(
    real: Array,
    fake: Array,
    real_labels: Array | None = None,
    fake_labels: Array | None = None,
    *,
    confidence: float = 0.95,
    resamples: int = 999,
    seed: int = 0,
    class_names: Mapping[Any, str] | Sequence[str] | None = None,
    global_mean: Array | None = None,
    real_predictions: Array | None = None,
    fake_predictions: Array | None = None,
) -> DistortionReport:
    """Per-class distortion of generated samples against real ones.

    Args:
        real: (N, d) features of real samples, array or tensor.
        fake: (M, d) features of generated samples, by the same extractor.
        real_labels: (N,) classes; None for a single class.
        fake_labels: (M,) classes that the samples were asked for; None for a single class.
        confidence: of every interval, in (0, 1).
        resamples: permutations for each p-value and real-against-real splits for each floor; 0 for neither.
        seed: of the resampling.
        class_names: label to name, or a sequence of names for labels 0, 1, ...; then every named class must be there.
        global_mean: (d,) the point that overshoot points away from; default the mean of all real samples.
        real_predictions: (N,) labels predicted by a classifier or (N, K) probabilities in the order of the labels.
        fake_predictions: (M,) or (M, K), the same for the generated samples. With it ``accuracy``, ``confidence``
            and ``trace_ratio_correct`` are reported.

    Raises:
        ValueError: non-finite features, shapes that do not fit, a class with no sample on a side or with a single
            one, options out of range.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1); got {confidence}")
    if resamples < 0:
        raise ValueError(f"resamples must be >= 0; got {resamples}")
    real, fake = as_features("real", real), as_features("fake", fake)
    if real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"real and fake must have the same feature width; got {real.shape[1]} and {fake.shape[1]}: "
            "were they extracted by the same network?"
        )
    if (real_labels is None) != (fake_labels is None):
        raise ValueError("real_labels and fake_labels go together: pass both, or neither for a single class")
    labels_real = as_labels("real_labels", real_labels, len(real))
    labels_fake = as_labels("fake_labels", fake_labels, len(fake))
    classes = split_by_class(labels_real, labels_fake, class_names)
    order = [label for label, *_ in classes]
    judged_real = _judged("real_predictions", real_predictions, labels_real, order)
    judged_fake = _judged("fake_predictions", fake_predictions, labels_fake, order)

    real_rows, fake_rows = [c[2] for c in classes], [c[3] for c in classes]
    real_means = np.stack([real[rows].mean(axis=0, dtype=np.float64) for rows in real_rows])
    fake_means = np.stack([fake[rows].mean(axis=0, dtype=np.float64) for rows in fake_rows])
    if global_mean is None:
        weights = np.array([len(rows) for rows in real_rows]) / len(real)
        origin = weights @ real_means
        noise = sum(
            w**2 * np.square(real[rows] - mean, dtype=np.float64).sum() / ((len(rows) - 1) * len(rows))
            for w, rows, mean in zip(weights, real_rows, real_means, strict=True)
        )
    else:
        origin, weights, noise = _check_global_mean(global_mean, real.shape[1]), np.zeros(len(classes)), 0.0

    generators = np.random.default_rng(seed).spawn(len(classes))  # a class's numbers do not depend on the others
    entries, moments, correct_errors = [], [], []
    for k, (label, name, in_real, in_fake) in enumerate(classes):
        samples = np.concatenate([fake[in_fake], real[in_real]]).astype(np.float64) - origin
        gram = samples @ samples.T
        resampling = Resampling(confidence, resamples, generators[k])
        found = moment_estimates(gram, len(in_fake), resampling, weight=weights[k], others_noise=float(noise))
        entry = ClassDistortion(
            label=label,
            name=name,
            n_real=len(in_real),
            n_fake=len(in_fake),
            mean_shift=found.mean_shift,
            overshoot=found.overshoot,
            orthogonal_shift=found.orthogonal_shift,
            trace_ratio=found.trace_ratio,
            warnings=tuple(_class_warnings(len(in_real), len(in_fake), found)),
        )
        if judged_fake is not None:
            correct = judged_fake[0][in_fake]
            kept = np.concatenate(
                [correct, np.ones(len(in_real), bool) if judged_real is None else judged_real[0][in_real]]
            )
            ratio, error = Estimate(NAN), NAN
            if correct.sum() >= 2 and kept[len(in_fake) :].sum() >= 2:
                ratio, error = trace_ratio_estimate(gram[np.ix_(kept, kept)], int(correct.sum()), resampling)
            entry = dataclasses.replace(
                entry,
                trace_ratio_correct=ratio,
                accuracy=proportion(correct.sum(), len(correct), confidence=confidence),
                confidence=None if judged_fake[1] is None else float(judged_fake[1][in_fake].mean()),
            )
            correct_errors.append(error)
        entries.append(entry)
        moments.append(found)

    entries = _control_false_discoveries(entries)
    pooled = PooledDistortion(
        n_classes=len(entries),
        **_pooled_moments(entries, moments, confidence),
        trace_ratio_classes=_bootstrap_classes([e.trace_ratio for e in entries], confidence, seed),
        separability=scatter_ratio(fake, fake_rows, fake_means, confidence=confidence),
        separability_real=scatter_ratio(real, real_rows, real_means, confidence=confidence),
        **_pooled_predictions(entries, correct_errors, judged_real, judged_fake, confidence),
        shrunk=sum(e.trace_ratio < 1 and e.trace_ratio.q_value < 0.05 for e in entries),
        widened=sum(e.trace_ratio > 1 and e.trace_ratio.q_value < 0.05 for e in entries),
    )
    settings = {
        "confidence": confidence,
        "resamples": resamples,
        "seed": seed,
        "dimension": real.shape[1],
        "global_mean": "real samples" if global_mean is None else "given",
    }
    return DistortionReport(entries, pooled, _report_warnings(entries), settings)


def _judged(
    name: str, predictions: Array | None, labels: np.ndarray, order: Sequence[Any]
) -> tuple[np.ndarray, np.ndarray | None] | None:
    if predictions is None:
        return None
    if isinstance(predictions, torch.Tensor):
        predictions = predictions.detach().cpu().numpy()
    return class_probabilities(name, np.asarray(predictions), labels, order)


def _check_global_mean(global_mean: Array, width: int) -> np.ndarray:
    point = np.asarray(global_mean, dtype=np.float64)
    if point.shape != (width,) or not np.isfinite(point).all():
        raise ValueError(f"global_mean must be a finite vector of shape ({width},); got shape {point.shape}")
    return point


def _class_warnings(n_real: int, n_fake: int, found: MomentEstimates) -> list[str]:
    notes = []
    if min(n_real, n_fake) < FEW_SAMPLES:
        notes.append(f"few samples (real {n_real}, fake {n_fake}): intervals below {FEW_SAMPLES} are rough")
    if max(n_real, n_fake) > 10 * min(n_real, n_fake):
        notes.append(f"unequal numbers (real {n_real}, fake {n_fake}): the smaller set decides the precision")
    if np.isnan(found.overshoot):
        notes.append("class mean not distinguishable from the global mean: overshoot is undefined")
    return notes


def _report_warnings(entries: list[ClassDistortion]) -> list[str]:
    """One line per kind of warning, however many classes have it."""
    kinds: dict[str, list[str]] = {}
    for entry in entries:
        for note in entry.warnings:
            kinds.setdefault(note.split(" (")[0].split(":")[0], []).append(entry.name)
    return [
        f"{kind}: {'all' if len(names) == len(entries) else len(names)} classes ({', '.join(names[:5])}"
        + (", ...)" if len(names) > 5 else ")")
        for kind, names in kinds.items()
    ]


def _control_false_discoveries(entries: list[ClassDistortion]) -> list[ClassDistortion]:
    """q-values over classes, separately for each statistic."""
    for field in ("mean_shift", "overshoot", "trace_ratio", "trace_ratio_correct"):
        if getattr(entries[0], field) is None:
            continue
        adjusted = with_q_values([getattr(entry, field) for entry in entries])
        entries = [
            dataclasses.replace(e, **{field: q})  # type: ignore[arg-type]
            for e, q in zip(entries, adjusted, strict=True)
        ]
    return entries


def _pooled_moments(
    entries: list[ClassDistortion], moments: list[MomentEstimates], confidence: float
) -> dict[str, Estimate]:
    def root_mean(squares: list[float], errors: list[float]) -> Estimate:
        mean = mean_estimate([Estimate(s) for s in squares], errors, confidence=confidence)
        root = np.sqrt(np.maximum([mean, mean.lo, mean.hi], 0.0))
        return Estimate(root[0], (root[1], root[2]))

    return {
        "mean_shift": root_mean([m.shift_squared for m in moments], [m.shift_squared_error for m in moments]),
        "orthogonal_shift": root_mean(
            [m.orthogonal_squared for m in moments], [m.orthogonal_squared_error for m in moments]
        ),
        "overshoot": mean_estimate(
            [e.overshoot for e in entries], [m.overshoot_error for m in moments], confidence=confidence
        ),
        "trace_ratio": mean_estimate(
            [e.trace_ratio for e in entries],
            [m.log_trace_ratio_error for m in moments],
            confidence=confidence,
            log=True,
        ),
    }


def _pooled_predictions(
    entries: list[ClassDistortion],
    correct_errors: list[float],
    judged_real: tuple[np.ndarray, np.ndarray | None] | None,
    judged_fake: tuple[np.ndarray, np.ndarray | None] | None,
    confidence: float,
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for judged, suffix in ((judged_fake, ""), (judged_real, "_real")):
        if judged is not None:
            result["accuracy" + suffix] = proportion(judged[0].sum(), len(judged[0]), confidence=confidence)
            result["confidence" + suffix] = None if judged[1] is None else float(judged[1].mean())
    if judged_fake is not None:
        ratios = [e.trace_ratio_correct or Estimate(NAN) for e in entries]
        result["trace_ratio_correct"] = mean_estimate(ratios, correct_errors, confidence=confidence, log=True)
    return result


def _bootstrap_classes(ratios: Sequence[float], confidence: float, seed: int) -> tuple[float, float]:
    if len(ratios) < 3:
        return NAN, NAN
    draws = np.random.default_rng(seed).choice(np.array(ratios, dtype=float), (2000, len(ratios))).mean(axis=1)
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
