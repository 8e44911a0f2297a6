"""From the classes to their mean: averages with intervals, floors and p-values, and false discoveries over classes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special

from .estimate import NAN, Estimate, Estimates, with_q_values
from .resampling import Finding, pool, show
from .results import ClassDistortion

__all__ = ["bootstrap_classes", "control_false_discoveries", "mean_finding", "named", "pooled_estimates"]


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


def named(estimates: Mapping[str, Estimate]) -> dict[str, Any]:
    """The fields of a record from estimates by name; ``direction_0``, ... become ``directional_ratios``."""
    fields: dict[str, Any] = {name: value for name, value in estimates.items() if not name.startswith("direction_")}
    directions = tuple(value for name, value in estimates.items() if name.startswith("direction_"))
    return {**fields, "directional_ratios": directions}


def pooled_estimates(found: Sequence[Mapping[str, Finding]], confidence: float) -> dict[str, Any]:
    """Means over all classes of whatever the classes have."""
    return named({name: mean_finding([entry[name] for entry in found], confidence) for name in found[0]})


def mean_finding(found: Sequence[Finding], confidence: float) -> Estimate:
    """Mean over classes whose errors are independent, each class counting the same, with floor and p-value.

    The interval is for the mean over *these* classes: only the sampling of images is random. Undefined classes (nan)
    are left out. The degrees of freedom are Welch's and Satterthwaite's; biases are taken off. A class of few samples
    without an outlier is divided by too small a variance and does not show it: see ``unit_spread`` of :class:`Finding`.
    """
    scale = found[0].scale
    values = np.concatenate([entry.estimate.value for entry in found])
    errors, degrees, biases = (
        np.concatenate([np.broadcast_to(getattr(entry, name), entry.error.shape) for entry in found])
        for name in ("error", "degrees", "bias")
    )
    defined = ~np.isnan(values)
    if not defined.any():
        return Estimate(NAN)
    if defined.sum() > 1:
        missing = _missing_spread(found, defined)
        errors, biases = np.sqrt(errors**2 + values**2 * missing), biases + values * missing
        values = values - np.where(np.isfinite(biases), biases, 0.0)
    mean = _mean(values[defined], errors[defined], degrees[defined], confidence, log=scale == "ratio")
    null = pool([entry.null for entry in found])
    floor = _mean_floor([entry for entry in found if entry.floor is not None], confidence)
    return show(mean, null, scale, confidence, floor)[0]


def _missing_spread(found: Sequence[Finding], defined: np.ndarray) -> np.ndarray:
    """By how much each class's unit is less well known, as a squared relative error, than its own samples show."""
    if found[0].unit_spread is None:
        return np.zeros(len(defined))
    spread = np.concatenate([entry.unit_spread for entry in found if entry.unit_spread is not None])
    samples = np.concatenate([np.full(entry.error.shape, entry.unit_samples) for entry in found])
    return np.maximum(spread[defined].mean() - spread, 0.0) / samples


def _mean_floor(found: Sequence[Finding], confidence: float) -> Estimates | None:
    """Of the classes where value and floor are defined."""
    centres, widths = [], []
    for entry in found:
        assert entry.floor is not None
        kept = ~np.isnan(entry.estimate.value)
        quantile = special.stdtrit(entry.degrees, (1 + confidence) / 2)
        centres.append(entry.floor.value[kept])
        widths.append(((entry.floor.hi - entry.floor.lo) / 2 / quantile)[kept])
    if not sum(map(len, centres)):
        return None
    return _mean(np.concatenate(centres), np.concatenate(widths), np.inf, confidence)


def _mean(
    values: np.ndarray, errors: np.ndarray, degrees: np.ndarray | float, confidence: float, *, log: bool = False
) -> Estimates:
    mean = values.mean()
    variances = np.square(values * errors if log else errors) / len(values) ** 2
    total = variances.sum()
    freedom = total**2 / max((variances**2 / degrees).sum(), 1e-300) if total > 0 else math.inf
    if not log:
        return Estimates.student(np.array([mean]), np.array([math.sqrt(total)]), freedom, confidence)
    if not mean > 0:
        return Estimates.undefined(1)
    logarithm = np.array([math.log(mean)])
    return Estimates.student(logarithm, np.array([math.sqrt(total) / mean]), freedom, confidence).map(np.exp)


def bootstrap_classes(
    ratios: Sequence[float], confidence: float, generator: np.random.Generator
) -> tuple[float, float]:
    """Interval of the mean if the classes were themselves a sample; nan for fewer than 3."""
    if len(ratios) < 3:
        return NAN, NAN
    draws = generator.choice(np.array(ratios, dtype=float), (2000, len(ratios))).mean(axis=1)
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
