"""Guidance schedules where people sample: diffusers, ComfyUI, Forge, EDM networks, CompVis-style scripts.

Each adapter is imported by its own name, so that only what is used has to be installed:

    from kdist.adapters.diffusers import DiffusersDenoiser, FlowDenoiser, ScheduleGuidance, scheduled_scale
    from kdist.adapters.edm import EDMDenoiser

The repository itself is a pack of custom nodes for ComfyUI, ``kdist/adapters/forge`` an extension for Stable Diffusion
WebUI Forge. CompVis-style scripts need no adapter: :class:`kdist.CFGDenoiser` has the call that they make.
"""
