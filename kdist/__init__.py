"""kdist: classifier-free guidance that keeps the diversity of each class, for every k-diffusion solver.

    guided = kdist.guide(model, kdist.NegativeWindow(scale=4.0, sigma_lo=0.3, sigma_hi=1.0), uncond={"class_cond": 10})
    x = K.sampling.sample_dpmpp_2m(guided, noise, sigmas, extra_args={"class_cond": y})

Scales are k-diffusion's ``cond_scale`` everywhere: 1 conditional, 0 unconditional (the papers' ``w`` is scale - 1).
"""

from .checkpoints import load_checkpoint
from .composed import ComposedDenoiser
from .guided import CFGDenoiser, GuidedDenoiser, guide
from .schedules import (
    Beta,
    Clip,
    Constant,
    EarlyNegative,
    Exponential,
    Interval,
    LateNegative,
    LinearInVariance,
    NegativeWindow,
    PerClass,
    PerRow,
    Piecewise,
    Product,
    Ramp,
    Schedule,
    Sum,
    Then,
    Triangle,
    from_dict,
    from_json,
    parse,
    progress_to_sigma,
    scale_to_weight,
    sigma_to_progress,
    weight_to_scale,
)

__version__ = "0.1.0"

__all__ = [
    "Beta",
    "CFGDenoiser",
    "Clip",
    "ComposedDenoiser",
    "Constant",
    "EarlyNegative",
    "Exponential",
    "GuidedDenoiser",
    "Interval",
    "LateNegative",
    "LinearInVariance",
    "NegativeWindow",
    "PerClass",
    "PerRow",
    "Piecewise",
    "Product",
    "Ramp",
    "Schedule",
    "Sum",
    "Then",
    "Triangle",
    "from_dict",
    "from_json",
    "guide",
    "load_checkpoint",
    "parse",
    "progress_to_sigma",
    "scale_to_weight",
    "sigma_to_progress",
    "weight_to_scale",
]
