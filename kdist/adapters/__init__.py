"""Guidance schedules where people sample: diffusers, ComfyUI, EDM networks, CompVis-style scripts.

Each adapter is imported by its own name, so that only what is used has to be installed:

    from kdist.adapters.diffusers import DiffusersDenoiser, ScheduleGuidance
    from kdist.adapters.edm import EDMDenoiser

``kdist/adapters/comfyui`` is a custom-node folder for ComfyUI. CompVis-style scripts and web UIs need no adapter:
:class:`kdist.CFGDenoiser` has the call that they make.
"""
