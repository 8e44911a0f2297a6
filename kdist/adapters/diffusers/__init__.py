"""diffusers: a guider for modular pipelines, and its networks as k-diffusion denoisers."""

from .denoiser import DiffusersDenoiser, encode_prompts
from .guider import ScheduleGuidance
from .levels import scheduler_sigmas, sigma_of_timestep, training_sigmas

__all__ = [
    "DiffusersDenoiser",
    "ScheduleGuidance",
    "encode_prompts",
    "scheduler_sigmas",
    "sigma_of_timestep",
    "training_sigmas",
]
