"""The noise levels that usual models and schedulers visit, as the table in docs/schedules.md."""

from kdist.compat import repair_torchvision

repair_torchvision()

import diffusers  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from kdist.adapters.diffusers import scheduler_sigmas  # noqa: E402
from kdist.schedules.terms import flow_to_sigma  # noqa: E402

LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}  # SD 1.5 and SDXL
SHIFT_OF_FLUX = np.exp(1.15)  # at 1024 x 1024, 4096 tokens


def flow(steps: int, shift: float) -> torch.Tensor:
    s = torch.linspace(1, 1 / steps, steps, dtype=torch.float64)
    s = shift * s / (1 + (shift - 1) * s)
    return torch.cat([flow_to_sigma(s), torch.zeros(1)])


def runs(steps: int) -> dict[str, torch.Tensor]:
    euler = diffusers.EulerDiscreteScheduler
    return {
        "SD 1.5, SDXL: uniform timesteps (Euler)": scheduler_sigmas(
            euler(**LATENT, timestep_spacing="trailing"), steps
        ),
        "SD 1.5, SDXL: Karras": scheduler_sigmas(euler(**LATENT, use_karras_sigmas=True), steps),
        "SD3: flow, shift 3": flow(steps, 3.0),
        "Flux: flow, shift 3.16 (1024 x 1024)": flow(steps, SHIFT_OF_FLUX),
        "EDM, EDM2: Karras 0.002 to 80": scheduler_sigmas(
            diffusers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0), steps
        ),
    }


def main() -> None:
    print(
        "| model and scheduler | steps | first | 25 % | 50 % | 75 % | last | levels > 5 | 1 to 5 | 0.3 to 1 | < 0.3 |"
    )
    print("| --- |" + " --- |" * 10)
    for steps in (20, 30):
        for name, sigmas in runs(steps).items():
            levels = [float(s) for s in sigmas[:-1]]
            at = [levels[0], *(levels[round(steps * part)] for part in (0.25, 0.5, 0.75)), levels[-1]]
            shown = [f"{level:.3g}" if level < 1e4 else "inf" for level in at]
            edges = [(5, 1e9), (1, 5), (0.3, 1), (0, 0.3)]
            counts = [str(sum(low < level <= high for level in levels)) for low, high in edges]
            print(f"| {name} | {steps} | {' | '.join(shown + counts)} |")


if __name__ == "__main__":
    main()
