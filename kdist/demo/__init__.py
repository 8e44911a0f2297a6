"""``kdist demo``: what guidance does to each class of a real trained model, and what a negative window gives back."""

from .run import DEFAULT_SCHEDULES, Outcome, run_demo

__all__ = ["DEFAULT_SCHEDULES", "Outcome", "run_demo"]
