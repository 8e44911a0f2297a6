"""Measuring what guidance did to each class: features, statistics, report. Imports no other part of kdist."""

from .features import EXTRACTORS, Extractor, build_extractor
from .features.extraction import extract
from .features.feature_set import Features, load_features, make_comparable
from .sources import GeneratorSource, SamplerSource, as_source
from .statistics.energy import energy_distance
from .statistics.estimate import Estimate
from .statistics.frechet import Frechet, frechet_distance, frechet_from_moments
from .statistics.measure import ClassDistortion, DistortionReport, PooledDistortion, measure
from .statistics.streaming import ClassMoments, MomentDistortion, compare_moments

__all__ = [
    "EXTRACTORS",
    "ClassDistortion",
    "ClassMoments",
    "DistortionReport",
    "Estimate",
    "Extractor",
    "Features",
    "Frechet",
    "GeneratorSource",
    "MomentDistortion",
    "PooledDistortion",
    "SamplerSource",
    "as_source",
    "build_extractor",
    "compare_moments",
    "energy_distance",
    "extract",
    "frechet_distance",
    "frechet_from_moments",
    "load_features",
    "make_comparable",
    "measure",
]
