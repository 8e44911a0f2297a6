"""Guidance schedules: pure functions ``sigma -> scale`` in k-diffusion's convention (1 = conditional)."""

from .base import (
    Clip,
    Constant,
    Product,
    Schedule,
    Sum,
    Then,
    registry,
)
from .curves import Beta, Exponential, Ramp, Triangle
from .interval import Interval
from .negative import EarlyNegative, LateNegative, LinearInVariance, NegativeWindow
from .on_levels import describe_on
from .piecewise import Piecewise
from .progress import progress_to_sigma, sigma_to_progress
from .rows import PerClass, PerRow
from .terms import InTerms, from_sigma, in_terms_of, to_sigma
from .text import describe, from_dict, from_json, parse
from .weight import scale_to_weight, weight_to_scale

__all__ = [
    "Beta",
    "Clip",
    "Constant",
    "EarlyNegative",
    "Exponential",
    "InTerms",
    "Interval",
    "LateNegative",
    "LinearInVariance",
    "NegativeWindow",
    "PerClass",
    "PerRow",
    "Piecewise",
    "Product",
    "Ramp",
    "Schedule",
    "Sum",
    "Then",
    "Triangle",
    "describe",
    "describe_on",
    "from_dict",
    "from_json",
    "from_sigma",
    "in_terms_of",
    "parse",
    "progress_to_sigma",
    "registry",
    "scale_to_weight",
    "sigma_to_progress",
    "to_sigma",
    "weight_to_scale",
]
