"""kdist for Stable Diffusion WebUI Forge and the classic web UI: this folder is an extension, for ``extensions/``.

``scripts/kdist_guidance.py`` is the panel; what it does without the web UI is here. Forge calls every
``conditioning_modifier`` of the model before the passes of each network call, with the guidance scale among its
arguments: there the schedule's scale of that noise level takes its place, and a pass that it does not need is taken
away. A scale of 1 in the web UI's own code leaves out the negative prompt's pass and hands on zeros for it, so that
shortcut is switched off wherever somebody looks at both predictions. The classic web UI has no such modifiers; there
its denoiser is told the scale (``classic.py``).
"""

from .classic import schedule_denoiser
from .guidance import conditioning_modifier, refuse
from .panel import FAMILIES, TERMS, curve, panel_schedule

__all__ = ["FAMILIES", "TERMS", "conditioning_modifier", "curve", "panel_schedule", "refuse", "schedule_denoiser"]
