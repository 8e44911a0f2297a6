"""``kdist demo``: what guidance does to each class of a real trained model, and what other schedules give back."""

from .examples import DEFAULT_SCHEDULES, EXAMPLES, Example, get_example
from .run import Outcome, run_demo

__all__ = ["DEFAULT_SCHEDULES", "EXAMPLES", "Example", "Outcome", "get_example", "run_demo"]
