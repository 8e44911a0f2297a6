"""Measuring what guidance did to each class: features, statistics, report. Imports no other part of kdist."""

from .distortion import ClassDistortion, DistortionReport, PooledDistortion, measure
from .estimates import Estimate
from .frechet import Frechet, frechet_distance, frechet_from_moments
from .statistics import ClassMoments, MomentDistortion, compare_moments

__all__ = [
    "ClassDistortion",
    "ClassMoments",
    "DistortionReport",
    "Estimate",
    "Frechet",
    "MomentDistortion",
    "PooledDistortion",
    "compare_moments",
    "frechet_distance",
    "frechet_from_moments",
    "measure",
]
