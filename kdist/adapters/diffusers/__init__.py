"""diffusers: a guider for modular pipelines, a scale for classic ones, and its networks as k-diffusion denoisers."""

from .classic import scheduled_scale
from .denoiser import DiffusersDenoiser, encode_prompts
from .flow import FlowDenoiser
from .guider import ScheduleGuidance
from .levels import scheduler_sigmas, sigma_of_timestep, training_sigmas

__all__ = [
    "DiffusersDenoiser",
    "FlowDenoiser",
    "ScheduleGuidance",
    "encode_prompts",
    "scheduled_scale",
    "scheduler_sigmas",
    "sigma_of_timestep",
    "training_sigmas",
]
