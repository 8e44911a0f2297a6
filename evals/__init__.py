"""Measuring what guidance did to each class: features, statistics, report. Imports no other part of kdist."""

from .distortion import ClassDistortion, DistortionReport, PooledDistortion, measure
from .estimates import Estimate
from .extract import extract
from .feature_set import Features, load_features, make_comparable
from .features import EXTRACTORS, Extractor, build_extractor
from .frechet import Frechet, frechet_distance, frechet_from_moments
from .sources import GeneratorSource, SamplerSource, as_source
from .statistics import ClassMoments, MomentDistortion, compare_moments

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
    "extract",
    "frechet_distance",
    "frechet_from_moments",
    "load_features",
    "make_comparable",
    "measure",
]
