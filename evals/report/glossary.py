"""The statistics that a report shows: their titles, number formats, and what each means. One list for every output."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection

from ..statistics.estimate import Estimate
from ..statistics.results import Distortion, DistortionReport

__all__ = ["MEANINGS", "STATISTICS", "Statistic", "interval", "number", "percent", "present"]


@dataclasses.dataclass(frozen=True)
class Statistic:
    """One number of a report.

    Attributes:
        field: its attribute in :class:`~kdist.evals.PooledDistortion` (and, if there, ``ClassDistortion``).
        title: what tables and axes call it.
        form: format specification of its values.
        note: what it means.
        reference: attribute of the pooled record that holds the real data's value; "" where the floor says it.
        ideal: the value of a perfect generator; None where it depends on the number of samples.
    """

    field: str
    title: str
    form: str
    note: str
    reference: str = ""
    ideal: float | None = None

    def of(self, record: Distortion) -> Estimate | None:
        """Its value there; None where it was not measured."""
        value = getattr(record, self.field, None)
        return None if value is None else value if isinstance(value, Estimate) else Estimate(value)


STATISTICS: tuple[Statistic, ...] = (
    Statistic(
        "energy_distance", "distance", ".3f",
        "Energy distance between the generated and the real samples of a class, over the real samples' mean distance: "
        "0 only if the two laws agree in every respect, place, spread, shape and missing modes alike.",
        ideal=0.0,
    ),
    Statistic(
        "trace_ratio", "variance kept", ".2f",
        "Trace ratio: total variance of the generated samples of a class over that of the real ones, averaged over "
        "classes. 1 is the diversity of real data; 0.8 means that a fifth of the class's variance is gone.",
        ideal=1.0,
    ),
    Statistic(
        "trace_ratio_correct", "variance, recognised", ".2f",
        "Variance kept among the samples that a classifier puts in their class: what is left of the shrinkage when "
        "the mere removal of misdrawn samples does not count.",
        ideal=1.0,
    ),
    Statistic(
        "overshoot", "overshoot", "+.2f",
        "How far the class mean was pushed away from the mean of all classes, in units of their distance: 0 is right, "
        "+0.2 is a fifth too far, negative is short of it.",
        ideal=0.0,
    ),
    Statistic(
        "displacement", "displacement", ".2f",
        "How far the class mean was moved in all, overshoot and sideways together, in the units of overshoot.",
        ideal=0.0,
    ),
    Statistic(
        "mean_shift", "mean shift", ".2f",
        "Distance between generated and real class mean, the noise of both taken off, in units of the class's own "
        "spread (root of its total variance).",
        ideal=0.0,
    ),
    Statistic(
        "orthogonal_shift", "sideways shift", ".2f",
        "The part of the mean's shift that overshoot does not explain, in the units of overshoot.",
        ideal=0.0,
    ),
    Statistic(
        "variance_main", "variance, main", ".2f",
        "Variance kept along the directions in which the real class varies most (found on other samples of it). Below "
        "1 structure is lost, even where noise elsewhere makes the total look right.",
        ideal=1.0,
    ),
    Statistic(
        "variance_rest", "variance, rest", ".2f",
        "Variance kept in all other directions. Above 1 something was added that real samples lack, such as noise.",
        ideal=1.0,
    ),
    Statistic(
        "log_det_ratio", "log-det ratio", "+.2f",
        "Logarithm of the ratio of generalised variances (determinants) within the held-out subspace: 0 is right, "
        "negative is volume lost. It sees directions that have collapsed and that the total variance overlooks.",
        ideal=0.0,
    ),
    Statistic(
        "participation_ratio", "directions kept", ".2f",
        "Participation ratio, generated over real: the effective number of directions along which a class varies. "
        "Below 1 the loss is uneven: some directions lost more than others.",
        ideal=1.0,
    ),
    Statistic(
        "vendi", "Vendi score", ".1f",
        "Effective number of different samples among those of a class (Friedman and Dieng 2023). It grows with the "
        "number of samples: compare it with its floor only.",
    ),
    Statistic(
        "recall", "recall", ".2f",
        "Share of real samples that lie within the neighbourhood of a generated one (Kynkäänniemi et al. 2019): what "
        "the generator can reach. Compare it with its floor only.",
    ),
    Statistic(
        "coverage", "coverage", ".2f",
        "Share of real samples whose own neighbourhood holds a generated one (Naeem et al. 2020): recall that "
        "generated outliers cannot raise. Compare it with its floor only.",
    ),
    Statistic(
        "precision", "precision", ".2f",
        "Share of generated samples that lie within the neighbourhood of a real one (Kynkäänniemi et al. 2019): how "
        "many look real. Compare it with its floor only.",
    ),
    Statistic(
        "density", "density", ".2f",
        "How many real neighbourhoods hold a generated sample, 1 for real data (Naeem et al. 2020): precision that "
        "real outliers cannot raise. Compare it with its floor only.",
    ),
    Statistic(
        "kid", "KID per class", ".2g",
        "Kernel inception distance (Bińkowski et al. 2018) between the samples of a class, unbiased; 0 is right.",
        ideal=0.0,
    ),
    Statistic(
        "memorisation", "memorisation", ".2f",
        "Distance of generated samples to the nearest training sample, over that of real samples not trained on: below "
        "1 they are closer to the training set than new samples are, near 0 they are copies.",
        ideal=1.0,
    ),
    Statistic(
        "frechet_mean", "Fréchet, mean", ".3g",
        "Squared distance of the class means: the first part of the class's Fréchet distance. Compare it with its "
        "floor only.",
    ),
    Statistic(
        "frechet_covariance", "Fréchet, covariance", ".3g",
        "The other part of the class's Fréchet distance. At few samples it can be smaller for a shrunk class than for "
        "a perfect one, so it is never a headline.",
    ),
    Statistic(
        "accuracy", "accuracy", ".3f",
        "Share of generated samples that the classifier recognises as the class asked for.",
        reference="accuracy_real",
    ),
    Statistic(
        "neighbour_accuracy", "neighbour accuracy", ".3f",
        "Share of generated samples whose nearest real samples mostly belong to the class asked for: accuracy without "
        "a classifier.",
        reference="neighbour_accuracy_real",
    ),
    Statistic(
        "separability", "separability", ".2f",
        "Between-class over within-class scatter. Above the real value the classes are narrower, or further apart, "
        "than real ones.",
        reference="separability_real",
    ),
)  # fmt: skip

MEANINGS: tuple[tuple[str, str], ...] = (
    *((statistic.title, statistic.note) for statistic in STATISTICS),
    (
        "FID on these features",
        "The usual Fréchet distance of all samples together, classes ignored. Only with the features of the "
        "Inception network is it the FID of the literature.",
    ),
    (
        "variance along each direction",
        "Variance ratio along directions in which other classes vary most, widest first: found without the class that "
        "is measured, so that a perfect generator gives 1.",
    ),
    (
        "interval",
        "95 % interval: images are random, the classes are these. Two overlapping intervals do not show that two sets "
        "are equal; for that see the comparison with the first set.",
    ),
    (
        "floor (real against real)",
        "The same measurement between two disjoint groups of real samples, at matched numbers: a value within its "
        "range cannot be told from perfect.",
    ),
    (
        "shrunk, widened",
        "Classes whose variance differs from the real one by more than chance: permutation p-values, false discovery "
        "rate held at 5 % over all classes (Benjamini and Hochberg 1995).",
    ),
)


def number(value: float | None, form: str) -> str:
    """A formatted number, or a dash where it is not defined; never -0.00."""
    if value is None or not math.isfinite(value):
        return "–"
    text = format(float(value), form)
    return text.replace("-", "+" if form.startswith("+") else "") if float(text) == 0 else text


def interval(estimate: Estimate | None, form: str) -> str:
    """``[low, high]``, or nothing where it is not defined."""
    if estimate is None or not math.isfinite(estimate.lo):
        return ""
    return f"[{number(estimate.lo, form)}, {number(estimate.hi, form)}]"


def percent(value: float, digits: int = 0) -> str:
    """A share in percents."""
    return f"{100 * value:.{digits}f} %" if math.isfinite(value) else "–"


def present(reports: Collection[DistortionReport]) -> list[Statistic]:
    """The statistics that every one of these reports has and that are defined in one of them at least."""
    return [
        statistic
        for statistic in STATISTICS
        if all(statistic.of(report.pooled) is not None for report in reports)
        and any(math.isfinite(statistic.of(report.pooled) or 0.0) for report in reports)
    ]
