"""Exponentially many classes in high dimension: the mean field, its phases, the potential behind them."""

from .phases import MeanField as MeanField
from .phases import PhaseDiagram as PhaseDiagram
from .phases import critical_alpha as critical_alpha
from .phases import guided_critical_alpha as guided_critical_alpha
from .phases import mean_field as mean_field
from .phases import phase_diagram as phase_diagram
from .phases import switch_variance as switch_variance
from .rivals import potential as potential
