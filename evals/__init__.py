"""Measuring what guidance did to each class: features, statistics, report. Imports no other part of kdist."""

from .distortion import ClassDistortion, DistortionReport, PooledDistortion, measure
from .estimates import Estimate

__all__ = ["ClassDistortion", "DistortionReport", "Estimate", "PooledDistortion", "measure"]
