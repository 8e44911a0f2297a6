"""What theory says about the glyphs, without a network: the exact mixture of the images, and the mean-field limit.

*Empirical mixture*: every training image a Gaussian of width :data:`WIDTH`, every class the same weight; conditional on
a class, its own images. Its exact scores are sampled like the network's.

*Mean field*: ``P = exp(alpha d)`` classes with isotropic centres and spreads. Real spectra are not isotropic, so the
dimension is an effective one. With B the covariance of the class means (all classes) and W the mean covariance inside
classes, in pixels,

    d_eff = (tr T)^2 / tr T^2,  T = B + W        alpha = log P / d_eff        c = tr W / tr B

and one unit of noise is ``sqrt(tr B / d_eff)``. d_eff is the participation ratio: how many directions of equal variance
would have this spectrum. Nothing is fitted.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch

from kdist import Schedule, digits
from kdist.theory import GaussianMixtureDenoiser, phase_diagram
from scripts.glyphs import data as glyphs
from scripts.results.law_distance import in_many_dimensions

__all__ = ["WIDTH", "Spectrum", "class_means", "empirical_mixture", "in_units", "mean_field_rows"]

WIDTH = 0.1  # per pixel: adds 256 x 0.01 = 2.6 to the trace of a class, which is 29 on average
MOST = 128  # images of a class in the mixture


def class_means(data: glyphs.Glyphs) -> torch.Tensor:
    """(classes, d) float32 means in [-1, 1]."""
    x = glyphs.to_model(data.images).flatten(1)
    sums = torch.zeros(len(data.characters), x.shape[1]).index_add_(0, data.labels, x)
    return sums / torch.bincount(data.labels)[:, None]


def empirical_mixture(data: glyphs.Glyphs, *, width: float = WIDTH, most: int = MOST) -> GaussianMixtureDenoiser:
    """The exact denoiser of at most ``most`` images of each class, classes of equal weight; K is unconditional."""
    counts = torch.bincount(data.labels)
    place = torch.arange(len(data.labels)) - (counts.cumsum(0) - counts)[data.labels]  # labels are sorted
    keep = place < most
    labels = data.labels[keep]
    weights = 1 / torch.bincount(labels)[labels].double()
    images = glyphs.to_model(data.images[keep])
    return GaussianMixtureDenoiser.empirical(images, labels, width, weights=weights, dtype=torch.float32)


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """``within`` tr W, ``between`` tr B, and the participation ratio ``d_eff`` of their sum."""

    within: float
    between: float
    d_eff: float

    @classmethod
    def of(cls, data: glyphs.Glyphs) -> Spectrum:
        """Of the training images, every class counting the same."""
        x = glyphs.to_model(data.images).flatten(1)
        means, counts = class_means(data), torch.bincount(data.labels)
        residual = (x - means[data.labels]) / ((counts - 1) * len(counts)).float().sqrt()[data.labels, None]
        within, between = (residual.T @ residual).double(), means.T.cov().double()
        total = within + between
        return cls(float(within.trace()), float(between.trace()), float(total.trace() ** 2 / total.square().sum()))

    @property
    def within_var(self) -> float:
        """``c`` of the mean field, centres having variance 1."""
        return self.within / self.between

    @property
    def unit(self) -> float:
        """The mean field's unit of length in pixels' [-1, 1]."""
        return math.sqrt(self.between / self.d_eff)

    def alpha(self, classes: int) -> float:
        return math.log(classes) / self.d_eff

    def to_dict(self) -> dict[str, float]:
        return dataclasses.asdict(self) | {"within_var": self.within_var, "unit": self.unit}


def in_units(schedule: Schedule, unit: float) -> Schedule:
    """The schedule for noise levels that are measured in ``unit``: all of its fields ``sigma...`` divided by it."""
    fields = [field.name for field in dataclasses.fields(schedule) if field.name.startswith("sigma")]
    return dataclasses.replace(schedule, **{name: getattr(schedule, name) / unit for name in fields})


def mean_field_rows(
    spectrum: Spectrum, schedules: Mapping[str, Schedule], noises: Mapping[str, float], largest: int
) -> list[dict[str, Any]]:
    """The mean-field curve: rows as those of the measurement, over all powers of two up to ``largest`` classes."""
    counts = [2**power for power in range(2, int(math.log2(largest)) + 1)]
    in_order = [in_units(schedule, spectrum.unit) for schedule in schedules.values()]
    rows = []
    for solver, noise in noises.items():
        found = phase_diagram(
            [spectrum.alpha(count) for count in counts],
            range(len(in_order)),
            within_var=spectrum.within_var,
            sigma_max=digits.SIGMA_MAX / spectrum.unit,
            noise=noise,
            family=lambda index: in_order[int(index)],
        )
        for column, name in enumerate(schedules):
            for line, count in enumerate(counts):
                overshoot, ratio = float(found.overlap[line, column] - 1), float(found.variance_ratio[line, column])
                apart = float(in_many_dimensions(overshoot / math.sqrt(spectrum.within_var), ratio))
                row = {"solver": solver, "schedule": name, "set": count, "energy_distance": apart}
                rows.append(row | {"overshoot": overshoot, "trace_ratio": ratio})
    return rows
