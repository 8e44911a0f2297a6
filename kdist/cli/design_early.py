"""``kdist design-early``: a schedule for classes that a good network tells apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from .predict import Features, SigmaMax, SigmaMin, Steps, karras_sigmas, load_arrays

__all__ = ["design_early_command"]


def design_early_command(
    features: Features = None,
    unguided: Annotated[
        tuple[float, float],
        typer.Option(help="trace ratio and overshoot of your network's samples at scale 1, from kdist measure"),
    ] = (1.0, 0.0),
    solver: Annotated[str, typer.Option(help="a k-diffusion solver without noise of its own")] = "dpmpp_2m",
    steps: Steps = 20,
    sigma_min: SigmaMin = 0.02,
    sigma_max: SigmaMax = 80.0,
    accuracy_loss: Annotated[float, typer.Option(help="accuracy that may be lost on the mixture", min=0)] = 0.005,
    per_class: Annotated[int, typer.Option(help="samples of each class for every candidate", min=2)] = 60,
    seed: Annotated[int, typer.Option(help="of the noise")] = 0,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="the file to write; a .png beside it shows the schedule")
    ] = Path("schedule.json"),
) -> None:
    """Design a schedule that begins without the class, for classes that a good network tells apart.

    Candidates are sampled from the exact mixture of one Gaussian per class. Needs features with full class covariances:
    pixels or latents of a few hundred numbers at most.

    Example: kdist design-early --sigma-max 20 --unguided 0.92 0.01 --out schedule.json
    """
    import matplotlib.pyplot as plt
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from kdist.theory.designs.separated import design_on_mixture
    from kdist.theory.mixture import GaussianMixtureDenoiser

    from ..files import prepare_output

    console = Console()
    if out.suffix != ".json":
        raise ValueError(f"--out must be a .json file, which kdist reads as a schedule; got {out}")
    sigmas = torch.as_tensor(karras_sigmas(steps, sigma_min, sigma_max))
    prepare_output(out.parent)
    x, y = load_arrays(features)
    mixture = GaussianMixtureDenoiser.fit(x, np.unique(y, return_inverse=True)[1])
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("candidates", total=None)
        design = design_on_mixture(
            mixture,
            sigmas,
            unguided=unguided,
            solver=solver,
            accuracy_loss=accuracy_loss,
            per_class=per_class,
            seed=seed,
            on_run=lambda done, total: progress.update(task, completed=done, total=total),
        )
    design.schedule.to_json(out)
    picture = out.with_suffix(".png")
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    design.schedule.plot(sigma_min=sigma_min, sigma_max=sigma_max, ax=axes)
    figure.savefig(picture, dpi=110)
    console.print(
        f"predicted for your network: variance {design.trace_ratio:.2f} of real, overshoot {design.overshoot:+.2f}, "
        f"{design.schedule.nfe(sigmas, solver):g} network calls per sample. Of the mixture's own samples "
        f"{design.accuracy:.1%} are likeliest in their class, {design.accuracy_unguided:.1%} without guidance.",
        highlight=False,
    )
    console.print(f"schedule: {design.schedule}", highlight=False, soft_wrap=True)
    console.print(f"kdist.from_json({str(out)!r}) or --schedule {out} uses it; picture: {picture}", highlight=False)
