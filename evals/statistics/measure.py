"""What generation did to each class: shift, overshoot, shrinkage, separability, diversity, and whether to believe it.

:func:`measure` compares the features of generated samples with those of real ones, class by class and averaged over
classes. Every number is an :class:`~kdist.evals.Estimate`: a float with its interval, its floor (real against real at
the same size) and its p-value. ``docs/statistics.md`` says how each is made and how well it was tested.

The headline definitions follow Ventura et al., *Emergence of Distortions in High-Dimensional Guided Diffusion Models*
(arXiv 2602.00716).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .averages import ClassFindings, bootstrap_classes, control_false_discoveries, pooled_estimates
from .estimate import NAN, Estimate
from .frechet import frechet_distance
from .inputs import as_features, as_labels, split_by_class
from .moments import moment_estimates, trace_ratio_estimate
from .resampling import Null, Resampling
from .results import SCHEMA, ClassDistortion, DistortionReport, PooledDistortion
from .separability import class_probabilities, nearest_neighbour_accuracy, proportion, scatter_ratio
from .shape import shape_estimates
from .subspace import held_out_bases, subspace_estimates

__all__ = ["SCHEMA", "ClassDistortion", "DistortionReport", "PooledDistortion", "measure"]

FEW_SAMPLES = 20  # below this coverage of the intervals was not tested

Array = np.ndarray | torch.Tensor | Sequence[Any]
Judged = tuple[np.ndarray, np.ndarray | None]  # right or wrong, and the probability of the right class, per sample


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
    subspace: int = 8,
    basis: Array | None = None,
    splits: int = 8,
    shape_resamples: int = 0,
    neighbours: int = 5,
    neighbour_queries: int = 2000,
    fid: bool = True,
) -> DistortionReport:
    """Per-class distortion of generated samples against real ones.

    Args:
        real: (N, d) features of real samples, array or tensor.
        fake: (M, d) features of generated samples, by the same extractor.
        real_labels: (N,) classes; None for a single class.
        fake_labels: (M,) classes that the samples were asked for; None for a single class.
        confidence: of every interval, in (0, 1).
        resamples: permutations for each p-value and real-against-real splits for each floor; 0 for neither.
        seed: of everything random; a class's numbers do not depend on which other classes' labels come later.
        class_names: label to name, or a sequence of names for labels 0, 1, ...; then every named class must be there.
        global_mean: (d,) the point that overshoot points away from; default the mean of all real samples.
        real_predictions: (N,) labels predicted by a classifier or (N, K) probabilities in the order of the labels.
        fake_predictions: (M,) or (M, K), the same for the generated samples. With it ``accuracy``, ``confidence``
            and ``trace_ratio_correct`` are reported.
        subspace: dimensions of the held-out basis for directional and log-det ratios; 0 for none.
        basis: (d, k) fixed directions to use instead; they must not come from these real samples.
        splits: random halves for the statistics that depend on n (Fréchet parts, Vendi, recall, coverage); 0 for none.
        shape_resamples: permutations for the p-values of those; each costs O(n^3), so none by default.
        neighbours: k of recall, coverage and nearest-neighbour accuracy.
        neighbour_queries: samples whose neighbours are looked up, all classes together; 0 for none.
        fid: also the usual Fréchet distance of all samples together (O(N d^2)).

    Raises:
        ValueError: non-finite features, shapes that do not fit, a class with no sample on a side or with a single
            one, options out of range.
    """
    _check_options(confidence, resamples, splits, shape_resamples, neighbours)
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
    judged_real = _judge("real_predictions", real_predictions, labels_real, order)
    judged_fake = _judge("fake_predictions", fake_predictions, labels_fake, order)

    real_rows, fake_rows = [c[2] for c in classes], [c[3] for c in classes]
    real_means, fake_means = _class_means(real, real_rows), _class_means(fake, fake_rows)
    separability_real, real_noise = scatter_ratio(real, real_rows, real_means, confidence=confidence)
    separability, _ = scatter_ratio(fake, fake_rows, fake_means, confidence=confidence)
    if global_mean is None:
        weights = np.array([len(rows) for rows in real_rows]) / len(real)
        origin = weights @ real_means
    else:
        origin, weights = _check_global_mean(global_mean, real.shape[1]), np.zeros(len(classes))
    _check_spread(classes, real_noise, np.square(real_means - origin).sum(axis=1))
    bases = _bases(basis, subspace, real, real_rows, real_means, seed)
    generators = np.random.default_rng(seed).spawn(len(classes) + 1)

    found = []
    for k, (label, name, in_real, in_fake) in enumerate(classes):
        samples = np.concatenate([fake[in_fake], real[in_real]]).astype(np.float64) - origin
        gram, n_fake = samples @ samples.T, len(in_fake)
        resampling = Resampling(confidence, resamples, generators[k])
        moments = moment_estimates(
            gram, n_fake, resampling, weight=weights[k], others_noise=float(weights**2 @ real_noise)
        )
        errors: dict[str, Any] = dict(moments.errors)
        nulls: dict[str, Any] = dict(moments.nulls)
        fields: dict[str, Any] = {}
        if judged_fake is not None:
            fields, errors["trace_ratio_correct"], nulls["trace_ratio_correct"] = _classified(
                gram, in_real, in_fake, judged_real, judged_fake, resampling
            )
        if bases:
            in_subspace = subspace_estimates(samples @ bases[k], n_fake, resampling)
            fields["log_det_ratio"] = in_subspace.log_det_ratio
            fields["directional_ratios"] = in_subspace.directional_ratios
            errors["subspace"], nulls["subspace"] = in_subspace.errors, in_subspace.nulls
        if splits:
            shape = shape_estimates(
                gram, n_fake, resampling, splits=splits, permutations=shape_resamples, neighbours=neighbours
            )
            fields |= {**shape.estimates, "matched_n": shape.matched_n}
            errors |= shape.errors
            nulls |= shape.nulls
        record = ClassDistortion(
            label=label,
            name=name,
            n_real=len(in_real),
            n_fake=n_fake,
            mean_shift=moments.mean_shift,
            overshoot=moments.overshoot,
            orthogonal_shift=moments.orthogonal_shift,
            trace_ratio=moments.trace_ratio,
            **fields,
        )
        record = dataclasses.replace(record, warnings=tuple(_class_warnings(record, neighbours)))
        squares = {"mean_shift": moments.shift_squared, "orthogonal_shift": moments.orthogonal_squared}
        found.append(ClassFindings(record, squares, errors, nulls))

    records = control_false_discoveries([entry.record for entry in found])
    extras: dict[str, Any] = {}
    if neighbour_queries and len(classes) > 1:
        for suffix, queries, rows in (("", fake, fake_rows), ("_real", real, real_rows)):
            extras["neighbour_accuracy" + suffix] = nearest_neighbour_accuracy(
                queries,
                rows,
                real,
                real_rows,
                neighbours=neighbours,
                most=neighbour_queries,
                confidence=confidence,
                generator=generators[-1],
            )
    for judged, suffix in ((judged_fake, ""), (judged_real, "_real")):
        if judged is not None:
            extras["accuracy" + suffix] = proportion(judged[0].sum(), len(judged[0]), confidence=confidence)
            extras["confidence" + suffix] = None if judged[1] is None else float(judged[1].mean())
    for name in ("accuracy", "neighbour_accuracy"):
        if name in extras and name + "_real" in extras:
            extras[name] = Estimate(extras[name], extras[name].interval, floor=extras[name + "_real"])
    if fid:
        extras["fid_mean"], extras["fid_covariance"] = frechet_distance(fake, real)
    significant = [r.trace_ratio for r in records if r.trace_ratio.q_value < 1 - confidence]
    pooled = PooledDistortion(
        n_classes=len(records),
        **pooled_estimates(found, confidence),
        trace_ratio_classes=bootstrap_classes([r.trace_ratio for r in records], confidence, generators[-1]),
        shrunk=sum(ratio < 1 for ratio in significant),
        widened=sum(ratio > 1 for ratio in significant),
        separability=Estimate(separability, separability.interval, floor=separability_real),
        separability_real=separability_real,
        **extras,
    )
    settings = {
        "confidence": confidence,
        "resamples": resamples,
        "seed": seed,
        "dimension": real.shape[1],
        "global_mean": "real samples" if global_mean is None else "given",
        "basis": "given" if basis is not None else "other classes" if bases else "none",
        "splits": splits,
        "shape_resamples": shape_resamples,
        "neighbours": neighbours,
    }
    notes = _report_warnings(records)
    if resamples and len(records) > (1 - confidence) * (resamples + 1):
        needed = math.ceil(len(records) / (1 - confidence))
        notes.append(
            f"{resamples} resamples cannot single out one class of {len(records)} (its least q-value is "
            f"{len(records) / (resamples + 1):.2g}); {needed} can, fewer suffice where many classes are distorted"
        )
    if subspace and not bases:
        notes.append("a single class leaves none to take held-out directions from: pass basis= for directional ratios")
    return DistortionReport(records, pooled, notes, settings)


def _check_options(confidence: float, resamples: int, splits: int, shape_resamples: int, neighbours: int) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1); got {confidence}")
    for name, value in (("resamples", resamples), ("shape_resamples", shape_resamples)):
        if value < 0:
            raise ValueError(f"{name} must be >= 0; got {value}")
    if splits < 0 or splits in (1, 2):
        raise ValueError(f"splits must be 0 (skip) or at least 3, for a spread over them; got {splits}")
    if neighbours < 1:
        raise ValueError(f"neighbours must be at least 1; got {neighbours}")


def _judge(name: str, predictions: Array | None, labels: np.ndarray, order: Sequence[Any]) -> Judged | None:
    if predictions is None:
        return None
    if isinstance(predictions, torch.Tensor):
        predictions = predictions.detach().cpu().numpy()
    return class_probabilities(name, np.asarray(predictions), labels, order)


def _class_means(features: np.ndarray, rows: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack([features[index].mean(axis=0, dtype=np.float64) for index in rows])


def _check_global_mean(global_mean: Array, width: int) -> np.ndarray:
    point = np.asarray(global_mean, dtype=np.float64)
    if point.shape != (width,) or not np.isfinite(point).all():
        raise ValueError(f"global_mean must be a finite vector of shape ({width},); got shape {point.shape}")
    return point


def _check_spread(classes: Sequence[tuple[Any, str, Any, Any]], noise: np.ndarray, distances: np.ndarray) -> None:
    """Real samples that are all the same leave nothing to compare a variance with."""
    same = [name for (_, name, _, _), n, d in zip(classes, noise, distances, strict=True) if n <= 1e-14 * d]
    if same:
        raise ValueError(
            f"the real samples of class {', '.join(same[:5])} are all the same (to rounding): their variance is 0 "
            "and no ratio to it is defined; check the features or leave the class out"
        )


def _bases(
    basis: Array | None, subspace: int, real: np.ndarray, rows: list[np.ndarray], means: np.ndarray, seed: int
) -> list[np.ndarray]:
    width = real.shape[1]
    if basis is not None:
        directions = np.asarray(basis, dtype=np.float64)
        if directions.ndim != 2 or len(directions) != width or not 1 <= directions.shape[1] <= width:
            raise ValueError(f"basis must hold directions as columns, shape ({width}, k); got {directions.shape}")
        if np.linalg.matrix_rank(directions) < directions.shape[1]:
            raise ValueError("basis must have linearly independent, finite columns")
        return [directions] * len(rows)
    if subspace < 0:
        raise ValueError(f"subspace must be >= 0; got {subspace}")
    return held_out_bases(real, rows, means, min(subspace, width), seed=seed) if subspace and len(rows) > 1 else []


def _classified(
    gram: np.ndarray,
    in_real: np.ndarray,
    in_fake: np.ndarray,
    judged_real: Judged | None,
    judged_fake: Judged,
    resampling: Resampling,
) -> tuple[dict[str, Any], float, Null | None]:
    """Accuracy of one class and the trace ratio among what the classifier gets right, on both sides if it can."""
    correct = judged_fake[0][in_fake]
    kept_real = np.ones(len(in_real), dtype=bool) if judged_real is None else judged_real[0][in_real]
    ratio, error, null = Estimate(NAN), NAN, None
    if min(correct.sum(), kept_real.sum()) >= 2:
        kept = np.concatenate([correct, kept_real])
        ratio, error, null = trace_ratio_estimate(gram[np.ix_(kept, kept)], int(correct.sum()), resampling)
    fields = {
        "trace_ratio_correct": ratio,
        "accuracy": proportion(correct.sum(), len(correct), confidence=resampling.confidence),
        "confidence": None if judged_fake[1] is None else float(judged_fake[1][in_fake].mean()),
    }
    return fields, error, null


def _class_warnings(record: ClassDistortion, neighbours: int) -> list[str]:
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


def _report_warnings(records: list[ClassDistortion]) -> list[str]:
    """One line per kind of warning, however many classes have it."""
    kinds: dict[str, list[str]] = {}
    for record in records:
        for note in record.warnings:
            kinds.setdefault(note.split(" (")[0], []).append(record.name)
    return [
        f"{kind}: {len(names)} of {len(records)} classes ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
        for kind, names in kinds.items()
    ]
