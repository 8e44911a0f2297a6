"""Schedules found for a target: for classes that overlap, and for classes that are told apart."""

from .overlapping import InfeasibleDesign as InfeasibleDesign
from .overlapping import design as design
from .separated import MixtureDesign as MixtureDesign
from .separated import design_on_mixture as design_on_mixture
from .verification import DesignMismatch as DesignMismatch
from .verification import VerifiedDesign as VerifiedDesign
from .verification import verify_design as verify_design
