"""The data sets with a model that the demo can run on, by name."""

from __future__ import annotations

import dataclasses
from types import ModuleType

from .. import digits, fashion
from ..schedules import Constant, EarlyNegative, Interval, LateNegative, NegativeWindow, Schedule

__all__ = ["DEFAULT_SCHEDULES", "EXAMPLES", "Example", "get_example"]


@dataclasses.dataclass(frozen=True)
class Example:
    """A shipped data set and what the demo says and compares on it.

    Attributes:
        data: the module: ``load_data``, ``load_model``, ``load_classifier``, ``sigmas``, ``NUM_CLASSES``, ``UNCOND``.
        noun: what its images are, in the plural.
        real: the images that samples are measured against.
        schedules: what is compared where nothing else is asked for.
    """

    data: ModuleType
    noun: str
    real: str
    schedules: tuple[Schedule, ...]


# Constants and some of each family. The interval of the digits is F5's, the schedules of the garments are F9's nearest
# of their families (docs/results.md). The last two of the digits keep the total variance, at displaced means.
EXAMPLES: dict[str, Example] = {
    "digits": Example(
        digits,
        "digits",
        "scikit-learn's 1797 real digits",
        (
            Constant(1.0),
            Constant(1.25),
            Constant(2.0),
            Constant(3.0),
            Interval(1.25, sigma_lo=0.3, sigma_hi=2.0),
            LateNegative(3.0, sigma_switch=1.5),
            NegativeWindow(3.0, sigma_lo=0.7, sigma_hi=2.0),
            NegativeWindow(3.0, sigma_lo=0.7, sigma_hi=2.0, after=1.0),
            EarlyNegative(5.0, sigma_switch=1.2, sigma_end=0.1),
            EarlyNegative(3.0, sigma_switch=1.2, early=0.25, sigma_end=0.1),
        ),
    ),
    "fashion": Example(
        fashion,
        "garments",
        "2000 real test images of Fashion-MNIST, 200 of each class",
        (
            Constant(1.0),
            Constant(1.5),
            Constant(3.0),
            Interval(2.0, sigma_lo=0.3, sigma_hi=2.5),
            LateNegative(2.0, sigma_switch=1.5, late=0.5),
            EarlyNegative(3.0, sigma_switch=10.0, sigma_end=0.1),
        ),
    ),
}
DEFAULT_SCHEDULES = EXAMPLES["digits"].schedules


def get_example(name: str) -> Example:
    """The example called ``name``.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if name not in EXAMPLES:
        raise ValueError(f"unknown data set {name!r}; known: {', '.join(EXAMPLES)}")
    return EXAMPLES[name]
