"""What generation did to each class: shift, overshoot, shrinkage, separability, diversity, and whether to believe it.

:func:`measure` compares the features of generated samples with those of real ones, class by class and averaged over
classes. Every number is an :class:`~kdist.evals.Estimate`: a float with its interval, its floor (real against real at
the same size) and its p-value. ``docs/statistics.md`` says how each is made and how well it was tested.

The headline definitions follow Ventura et al., *Emergence of Distortions in High-Dimensional Guided Diffusion Models*
(arXiv 2602.00716).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..features.feature_set import Features
from .averages import bootstrap_classes, control_false_discoveries, pooled_estimates
from .estimate import Estimate
from .frechet import frechet_in_parts
from .inputs import Array, Checked, Judged, check_inputs, check_memory, check_options
from .memorisation import nearest_distances
from .products import product
from .resampling import Finding, Resampling
from .results import SCHEMA, ClassDistortion, DistortionReport, PooledDistortion
from .separability import neighbour_accuracies, proportion, scatter_ratio
from .stack import Options, Stack, stack_findings
from .subspace import held_out_bases
from .workers import Each, workers

__all__ = ["SCHEMA", "ClassDistortion", "DistortionReport", "PooledDistortion", "measure"]

_CLASSES_AT_ONCE = 64  # more would not be faster
_PRODUCTS_AT_ONCE = 1 << 22  # in the Gram matrices of as many: 32 MB, and some ten arrays of that size


def measure(
    real: Array | Features,
    fake: Array | Features,
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
    training: Array | None = None,
    training_labels: Array | None = None,
    subspace: int = 8,
    basis: Array | None = None,
    splits: int = 8,
    shape_resamples: int = 0,
    neighbours: int = 5,
    neighbour_queries: int = 1000,
    fid: bool = True,
    per_class: int | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> DistortionReport:
    """Per-class distortion of generated samples against real ones.

    Args:
        real: (N, d) features of real samples, array or tensor; or :class:`Features`, and then ``fake`` is too, labels
            and names are theirs, and classes are matched by name.
        fake: (M, d) features of generated samples, by the same extractor.
        real_labels: (N,) classes; None for a single class.
        fake_labels: (M,) classes that the samples were asked for; None for a single class.
        confidence: the confidence of every interval, in (0, 1).
        resamples: permutations for each p-value and real-against-real splits for each floor; 0 for neither.
        seed: decides everything random; a class's numbers do not depend on which other classes' labels come later.
        class_names: label to name, or a sequence of names for labels 0, 1, ...; then every named class must be there.
        global_mean: (d,) the point that overshoot points away from; default the mean of all real samples.
        real_predictions: (N,) labels predicted by a classifier or (N, K) probabilities in the order of the labels.
        fake_predictions: (M,) or (M, K), the same for the generated samples. With it ``accuracy``, ``confidence``
            and ``trace_ratio_correct`` are reported.
        training: (T, d) features of the generator's training set, for ``memorisation``; the real samples must then
            be held out from it.
        training_labels: (T,) their classes; None for a single class.
        subspace: dimensions of the held-out basis for directional and log-det ratios, and of the real class's main
            directions; 0 for none of them.
        basis: (d, k) fixed directions to use instead; they must not come from these real samples.
        splits: random halves for the statistics that depend on n (Fréchet parts, Vendi, recall, coverage); 0 for none.
        shape_resamples: permutations for the p-values of those; each costs O(n^3), so none by default.
        neighbours: k of recall, coverage and nearest-neighbour accuracy.
        neighbour_queries: samples whose neighbours are looked up, all classes together; 0 for none.
        fid: also the usual Fréchet distance of all samples together (O(N d^2)).
        per_class: compare at most so many samples of a class on each side, drawn at random; Fréchet distance,
            neighbours and accuracies stay those of all samples. Every pair of a class counts: with n on each side it
            takes memory and time in proportion to n^2, and n^3 for the statistics of ``splits``.
        progress: called with the number of classes measured so far, and of all.

    Raises:
        ValueError: non-finite features, shapes that do not fit, a class with no sample on a side or with a single
            one, or too large for memory, options out of range.

    Examples:
        >>> import numpy as np
        >>> from kdist.evals import measure
        >>> rng = np.random.default_rng(0)
        >>> y = np.arange(2).repeat(100)
        >>> real, fake = rng.normal(y[:, None], 1.0, (200, 4)), rng.normal(y[:, None], 0.8, (200, 4))
        >>> report = measure(real, fake, y, y, resamples=99)
        >>> round(report.pooled.trace_ratio, 2)  # the planted 0.64
        0.6
        >>> report[1].trace_ratio.interval[1] < 1
        True
    """
    check_options(confidence, resamples, splits, shape_resamples, neighbours, subspace, per_class)
    data = check_inputs(
        real, fake, real_labels, fake_labels, class_names, global_mean, real_predictions, fake_predictions,
        training, training_labels,
    )  # fmt: skip
    settings: dict[str, Any] = {
        "confidence": confidence, "resamples": resamples, "seed": seed, "dimension": data.real.shape[1],
        "global_mean": "real samples" if global_mean is None else "given",
        "basis": "given" if basis is not None else "other classes" if subspace and len(data.classes) > 1 else "none",
        "subspace": subspace, "splits": splits, "shape_resamples": shape_resamples,
        "neighbours": neighbours, "neighbour_queries": neighbour_queries, "fid": fid, "per_class": per_class,
    }  # fmt: skip
    return _report(data, basis, settings, progress or (lambda done, total: None))


def _report(
    everything: Checked, basis: Array | None, settings: dict[str, Any], progress: Callable[[int, int], Any]
) -> DistortionReport:
    """The classes, then their averages and what is measured of all samples together."""
    data = everything.limited(settings["per_class"], settings["seed"])
    confidence, resamples, seed, subspace = (settings[key] for key in ("confidence", "resamples", "seed", "subspace"))
    *generators, last = np.random.default_rng(seed).spawn(len(data.classes) + 1)
    pools: dict[tuple[int, int], np.ndarray] = {}
    options = Options(subspace, settings["splits"], settings["shape_resamples"], settings["neighbours"])

    def measured(stack: list[int]) -> tuple[list[ClassDistortion], dict[str, Finding]]:
        own = [generators[k] for k in stack]
        return stack_findings(samples.stack(stack), Resampling(confidence, resamples, own, seed, pools), options)

    stacks = _stacks(data)
    with workers(check_memory(data.classes)) as (each, aside):
        together = aside(_together, everything, last, settings, each)
        sets = [data.real, data.fake], [data.real_rows, data.fake_rows]
        means = list(each(_class_means, *sets))
        scatter = each(functools.partial(scatter_ratio, confidence=confidence), *sets, means)
        bases = _bases(basis, data, means[0], settings, each)
        (separability_real, noise), (separability, _) = scatter
        samples = _Samples(data, means[0], noise, bases)
        results = []
        for result in each(measured, stacks):
            results.append(result)
            progress(sum(len(entry) for entry, _ in results), len(data.classes))
        extras = together.result()
    by_class = dict(zip(itertools.chain(*stacks), itertools.chain(*(entry for entry, _ in results)), strict=True))
    records = control_false_discoveries([by_class[k] for k in range(len(by_class))])
    averages = pooled_estimates([findings for _, findings in results], confidence)
    del results  # its resamples take more memory than all else
    pooled = PooledDistortion(
        n_classes=len(records),
        **averages,
        trace_ratio_classes=bootstrap_classes([r.trace_ratio for r in records], confidence, last),
        **_counts(records, settings),
        separability=Estimate(separability, separability.interval, floor=separability_real),
        separability_real=separability_real,
        **extras,
    )
    return DistortionReport(records, pooled, _report_warnings(records, everything, settings), settings)


def _stacks(data: Checked) -> list[list[int]]:
    """Classes with the same numbers of samples, as many at once as their Gram matrices leave room for."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for k, (_, _, in_real, in_fake) in enumerate(data.classes):
        by_size.setdefault((len(in_fake), len(in_real)), []).append(k)
    stacks = []
    for sizes, classes in by_size.items():
        step = min(max(1, _PRODUCTS_AT_ONCE // sum(sizes) ** 2), _CLASSES_AT_ONCE)
        stacks += [classes[start : start + step] for start in range(0, len(classes), step)]
    return stacks


class _Samples:
    """The samples of the classes about the global mean, in the form that statistics need, made when asked for."""

    def __init__(self, data: Checked, real_means: np.ndarray, noise: np.ndarray, bases: list[np.ndarray]) -> None:
        self.data, self.bases = data, bases
        sizes = np.array([len(rows) for rows in data.real_rows])
        self.weights = sizes / sizes.sum()
        if data.global_mean is None:
            self.origin = self.weights @ real_means
        else:
            self.origin, self.weights = data.global_mean, np.zeros(len(data.classes))
        self.others_noise = float(self.weights**2 @ noise)
        _check_spread(data.classes, noise, np.square(real_means - self.origin).sum(axis=1))

    def stack(self, classes: Sequence[int]) -> Stack:
        """What is measured of classes with the same numbers of samples, by their places."""
        data = self.data
        labels, names, in_real, in_fake = zip(*(data.classes[k] for k in classes), strict=True)
        count, n_fake, n = len(classes), len(in_fake[0]), len(in_fake[0]) + len(in_real[0])
        grams, to_origin = np.empty((count, n, n)), np.empty((count, n))
        scores = np.empty((count, n, self.bases[0].shape[1])) if self.bases else None
        nearest = None if data.training is None else np.empty((count, n))
        samples = np.empty((n, data.real.shape[1]))  # of one class at a time: they stay in the processor's cache
        for j, k in enumerate(classes):
            np.subtract(data.fake[in_fake[j]], self.origin, out=samples[:n_fake])
            np.subtract(data.real[in_real[j]], self.origin, out=samples[n_fake:])
            grams[j] = product(samples, samples.T)
            to_origin[j] = product(samples, self.origin)
            if scores is not None:
                scores[j] = product(samples, self.bases[k])
            if nearest is not None and data.training is not None:
                nearest[j] = nearest_distances(samples, data.training[data.training_rows[k]] - self.origin)
        correct = confidences = None
        if data.judged_fake is not None:
            right, given = data.judged_fake
            kept = np.ones(len(data.real), dtype=bool) if data.judged_real is None else data.judged_real[0]
            correct = np.hstack([right[np.stack(in_fake)], kept[np.stack(in_real)]])
            confidences = [None if given is None else float(given[rows].mean()) for rows in in_fake]
        return Stack(
            labels=labels,
            names=names,
            n_fake=n_fake,
            width=samples.shape[1],
            grams=grams,
            to_origin=to_origin,
            origin_squared=float(self.origin @ self.origin),
            weight=float(self.weights[classes[0]]),
            others_noise=self.others_noise,
            scores=scores,
            nearest=nearest,
            correct=correct,
            confidences=confidences,
        )


def _together(data: Checked, generator: np.random.Generator, settings: Mapping[str, Any], each: Each) -> dict[str, Any]:
    """What is measured of all samples together: Fréchet distance, neighbours, classifier."""
    found: dict[str, Any] = {}
    if settings["fid"]:
        found["fid_mean"], found["fid_covariance"] = frechet_in_parts(data.fake, data.real, each)
    confidence = settings["confidence"]
    if settings["neighbour_queries"] and len(data.classes) > 1:
        found["neighbour_accuracy"], found["neighbour_accuracy_real"] = neighbour_accuracies(
            [(data.fake, data.fake_rows), (data.real, data.real_rows)],
            data.real,
            data.real_rows,
            neighbours=settings["neighbours"],
            most=settings["neighbour_queries"],
            confidence=confidence,
            generator=generator,
            each=each,
        )
    judgements: tuple[tuple[Judged | None, str], ...] = ((data.judged_fake, ""), (data.judged_real, "_real"))
    for judged, suffix in judgements:
        if judged is not None:
            found["accuracy" + suffix] = proportion(judged[0].sum(), len(judged[0]), confidence=confidence)
            found["confidence" + suffix] = None if judged[1] is None else float(judged[1].mean())
    for name in ("accuracy", "neighbour_accuracy"):
        if name in found and name + "_real" in found:
            found[name] = Estimate(found[name], found[name].interval, floor=found[name + "_real"])
    return found


def _counts(records: Sequence[ClassDistortion], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Classes found shrunk and widened; None where there was no chance of finding one."""
    level = 1 - settings["confidence"]
    significant = [r.trace_ratio for r in records if r.trace_ratio.q_value < level]
    if not significant and not _one_can_be_found(len(records), settings):
        return {"shrunk": None, "widened": None}
    return {"shrunk": sum(ratio < 1 for ratio in significant), "widened": sum(ratio > 1 for ratio in significant)}


def _one_can_be_found(classes: int, settings: Mapping[str, Any]) -> bool:
    """A p-value is at least 1 / (resamples + 1), a single one's q-value that times the number of classes."""
    return bool(settings["resamples"]) and classes <= (1 - settings["confidence"]) * (settings["resamples"] + 1)


def _class_means(features: np.ndarray, rows: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack([features[index].mean(axis=0, dtype=np.float64) for index in rows])


def _check_spread(classes: Sequence[tuple[Any, str, Any, Any]], noise: np.ndarray, distances: np.ndarray) -> None:
    """Real samples that are all the same leave nothing to compare a variance with."""
    same = [name for (_, name, _, _), n, d in zip(classes, noise, distances, strict=True) if n <= 1e-14 * d]
    if same:
        raise ValueError(
            f"the real samples of class {', '.join(same[:5])} are all the same (to rounding): their variance is 0 "
            "and no ratio to it is defined; check the features or leave the class out"
        )


def _bases(
    basis: Array | None, data: Checked, means: np.ndarray, settings: Mapping[str, Any], each: Each
) -> list[np.ndarray]:
    width, subspace = data.real.shape[1], settings["subspace"]
    if basis is not None:
        directions = np.asarray(basis, dtype=np.float64)
        if directions.ndim != 2 or len(directions) != width or not 1 <= directions.shape[1] <= width:
            raise ValueError(f"basis must hold directions as columns, shape ({width}, k); got {directions.shape}")
        if np.linalg.matrix_rank(directions) < directions.shape[1]:
            raise ValueError("basis must have linearly independent, finite columns")
        return [directions] * len(means)
    if not subspace or len(means) < 2:
        return []
    return held_out_bases(data.real, data.real_rows, means, min(subspace, width), seed=settings["seed"], each=each)


def _report_warnings(records: Sequence[ClassDistortion], everything: Checked, settings: Mapping[str, Any]) -> list[str]:
    """One line per kind of warning, however many classes have it."""
    kinds: dict[str, list[str]] = {}
    for record in records:
        for note in record.warnings:
            kinds.setdefault(note.split(" (")[0], []).append(record.name)
    notes = [
        f"{kind}: {len(names)} of {len(records)} classes ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
        for kind, names in kinds.items()
    ]
    resamples = settings["resamples"]
    if resamples and not _one_can_be_found(len(records), settings):
        needed = math.ceil(len(records) / (1 - settings["confidence"]))
        notes.append(
            f"{resamples} resamples cannot single out one class of {len(records)} (its least q-value is "
            f"{min(1.0, len(records) / (resamples + 1)):.2g}); {needed} can, fewer suffice where many classes are "
            "distorted"
        )
    per_class, largest = settings["per_class"], max(map(len, everything.real_rows + everything.fake_rows))
    if per_class is not None and largest > per_class:
        notes.append(
            f"at most {per_class} samples of a class on each side were compared, of up to {largest}; Fréchet distance, "
            "neighbours and accuracies are of all"
        )
    if settings["subspace"] and settings["basis"] == "none":
        notes.append("a single class leaves none to take held-out directions from: pass basis= for directional ratios")
    return notes
