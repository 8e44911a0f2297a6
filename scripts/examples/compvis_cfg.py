"""The ``CFGDenoiser`` of CompVis-style scripts and web UIs, replaced by one line.

    python scripts/examples/compvis_cfg.py

Such a script has a class of that name with ``forward(x, sigma, uncond, cond, cond_scale)``. Delete it, and:

    model_wrap_cfg = kdist.CFGDenoiser(model_wrap, kdist.LateNegative(scale=1, sigma_switch=1.0))

``cond_scale``, which the script passes on from its command line or slider, sets the schedule's peak.
"""

from __future__ import annotations

import torch

import kdist
from kdist.compat import import_k_diffusion

K = import_k_diffusion()


class LatentDiffusion(torch.nn.Module):
    """Stands for the model that the script loads: ``apply_model(x, t, cond)`` and ``alphas_cumprod``."""

    def __init__(self) -> None:
        super().__init__()
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
        self.register_buffer("alphas_cumprod", (1 - betas).cumprod(0))

    def apply_model(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x * (1 + cond.mean((1, 2)).view(-1, 1, 1, 1)))


def main() -> None:
    model_wrap = K.external.CompVisDenoiser(LatentDiffusion())
    generator = torch.Generator().manual_seed(0)
    c, uc = (torch.randn(4, 77, 8, generator=generator) for _ in range(2))
    sigmas = model_wrap.get_sigmas(30)
    x = torch.randn(4, 4, 8, 8, generator=generator) * sigmas[0]

    schedule = kdist.LateNegative(scale=1.0, sigma_switch=kdist.progress_to_sigma(0.6, sigmas))
    for name, model_wrap_cfg in (
        ("constant, as before", kdist.CFGDenoiser(model_wrap)),
        ("late negative", kdist.CFGDenoiser(model_wrap, schedule)),
    ):
        extra_args = {"cond": c, "uncond": uc, "cond_scale": 7.5}
        torch.manual_seed(0)
        K.sampling.sample_euler_ancestral(model_wrap_cfg, x, sigmas, extra_args=extra_args, disable=True)
        print(f"{name}: {model_wrap_cfg.nfe} network calls per image")


if __name__ == "__main__":
    main()
