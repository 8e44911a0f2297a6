"""From the classes to their mean: averages with intervals, floors and p-values, and false discoveries over classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

from .estimate import NAN, Estimate, mean_estimate, with_q_values
from .moments import root
from .resampling import Null, pool
from .results import ClassDistortion
from .shape import SHAPE_STATISTICS
from .subspace import exp

__all__ = ["ClassFindings", "bootstrap_classes", "control_false_discoveries", "pooled_estimates"]

_LOGARITHMIC = ("trace_ratio", "trace_ratio_correct")  # whose standard errors are those of the logarithm


@dataclasses.dataclass
class ClassFindings:
    """One class's record with the standard errors and nulls that averages over classes are made of."""

    record: ClassDistortion
    squares: dict[str, Estimate]
    errors: dict[str, Any]
    nulls: dict[str, Any]


def control_false_discoveries(records: list[ClassDistortion]) -> list[ClassDistortion]:
    """q-values over classes, separately for each statistic."""
    changes: list[dict[str, Any]] = [{} for _ in records]
    for field in dataclasses.fields(ClassDistortion):
        column = [getattr(record, field.name) for record in records]
        if isinstance(column[0], Estimate):
            adjusted: list[Any] = with_q_values(column)
        elif field.name == "directional_ratios":
            adjusted = list(zip(*(with_q_values(list(ratios)) for ratios in zip(*column, strict=True)), strict=True))
        else:
            continue
        for change, value in zip(changes, adjusted, strict=False):  # no directions: nothing to adjust
            change[field.name] = value
    return [dataclasses.replace(record, **change) for record, change in zip(records, changes, strict=True)]


def pooled_estimates(found: list[ClassFindings], confidence: float) -> dict[str, Any]:
    """Means over classes of whatever the classes have, with the floor and p-value of the mean."""

    def average(values: list[Estimate], errors: list[float], nulls: list[Null | None], log: bool = False) -> Estimate:
        mean = mean_estimate(values, errors, confidence=confidence, log=log)
        null = pool(nulls)
        if null is not None and null.floor is not None:
            return null.attach(mean, confidence)
        floors = [value.floor for value in values if value.floor is not None]
        quantile = float(special.ndtri((1 + confidence) / 2))
        floor_errors = [value.half_width / quantile for value in floors]
        floor = mean_estimate(floors, floor_errors, confidence=confidence) if floors else None
        return Estimate(mean, mean.interval, floor=floor, p_value=NAN if null is None else null.p_value())

    result: dict[str, Any] = {}
    for name in ("mean_shift", "orthogonal_shift", "overshoot", *_LOGARITHMIC, *SHAPE_STATISTICS):
        if name not in found[0].errors:
            continue
        values = [f.squares.get(name, getattr(f.record, name)) for f in found]
        mean = average(
            values, [f.errors[name] for f in found], [f.nulls.get(name) for f in found], name in _LOGARITHMIC
        )
        result[name] = root(mean) if name in found[0].squares else mean
    if "subspace" in found[0].errors:
        logs = [_logarithms(f.record) for f in found]
        means = [
            average(
                [row[j] for row in logs],
                [f.errors["subspace"][j] for f in found],
                [f.nulls["subspace"][j] if f.nulls["subspace"] else None for f in found],
            )
            for j in range(len(logs[0]))
        ]
        result["log_det_ratio"], result["directional_ratios"] = means[0], tuple(exp(mean) for mean in means[1:])
    return result


def _logarithms(record: ClassDistortion) -> list[Estimate]:
    """Log-det ratio, then the logarithm of the ratio along each direction."""
    log_det = NAN if record.log_det_ratio is None else record.log_det_ratio
    return [Estimate(log) for log in (log_det, *np.log(record.directional_ratios))]


def bootstrap_classes(
    ratios: Sequence[float], confidence: float, generator: np.random.Generator
) -> tuple[float, float]:
    """Interval of the mean if the classes were themselves a sample; nan for fewer than 3."""
    if len(ratios) < 3:
        return NAN, NAN
    draws = generator.choice(np.array(ratios, dtype=float), (2000, len(ratios))).mean(axis=1)
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
