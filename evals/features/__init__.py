"""From images to feature files: extractors by name, extraction with a resumable cache, sets of features.

extractor = build_extractor("inception", device="cuda", weights="inception-2015-12-05.pt")
found = extract("samples/", extractor)
"""

from .build import EXTRACTORS, build_extractor
from .extraction import extract
from .extractor import Extractor, Preprocessing, full_precision
from .feature_set import Features, load_features, make_comparable
from .pairs import Pairs, paired_rows

__all__ = [
    "EXTRACTORS",
    "Extractor",
    "Features",
    "Pairs",
    "Preprocessing",
    "build_extractor",
    "extract",
    "full_precision",
    "load_features",
    "make_comparable",
    "paired_rows",
]
