"""Guiding the digits model by a weaker version of itself, beside guiding it by its unconditional class.

    python scripts/digits_autoguidance.py --out docs/data/digits_autoguidance.json       # 15 minutes of one core

Autoguidance (Karras et al. 2024, arXiv 2406.02507): the second prediction is not unconditional, it is that of a less
trained network for the same class. The classes then do not compete, and what guidance removes is what the weak network
does worse. Both models are shipped; the weak one is the same training run after 1000 of 4000 steps.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("K_DIFFUSION_USE_COMPILE", "0")  # compiling takes longer than it saves here

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

import kdist
from kdist import digits
from kdist.cli import prepare_output
from kdist.compat import import_k_diffusion
from kdist.evals import measure
from kdist.evals.digits_classifier import load_digits_classifier
from kdist.evals.html import write_whole
from kdist.solvers import sample

COLUMNS = ("trace_ratio", "trace_ratio_correct", "overshoot", "accuracy", "separability")


def guided_models(scales: list[float], weak_scales: list[float]) -> dict[str, torch.nn.Module]:
    """The unguided model, and both kinds of guidance at each scale, by name."""
    model, weak = digits.load_model(), digits.load_model(digits.WEAK_MODEL_PATH)
    models = {"no guidance": model}
    for scale in scales:
        models[f"by the unconditional class, scale {scale:g}"] = kdist.guide(model, scale, uncond={"class_cond": 10})
    for scale in weak_scales:
        models[f"by the weak model, scale {scale:g}"] = kdist.guide(model, scale, weak_model=weak)
    return models


def distortion(model: torch.nn.Module, seed: int, per_class: int, steps: int) -> dict[str, float]:
    """One run of dpmpp_2m against the real digits, in pixels."""
    real, real_labels = digits.load_data("all")
    classifier = load_digits_classifier()
    labels = torch.arange(digits.NUM_CLASSES).repeat_interleave(per_class)
    noise = torch.randn(len(labels), 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * digits.SIGMA_MAX
    x = torch.cat(
        [
            sample("dpmpp_2m", model, part, digits.sigmas(steps), extra_args={"class_cond": own})
            for part, own in zip(noise.split(500), labels.split(500), strict=True)
        ]
    )
    with torch.no_grad():
        guesses = {"real_predictions": classifier(real).argmax(1), "fake_predictions": classifier(x).argmax(1)}
    options: dict[str, Any] = {"resamples": 0, "subspace": 0, "splits": 0, "fid": False, **guesses}
    pooled = measure(real.flatten(1), x.flatten(1), real_labels, labels, **options).pooled
    return {name: float(getattr(pooled, name)) for name in COLUMNS}


def main(
    out: Annotated[Path, typer.Option(help="the JSON file to write")],
    scale: Annotated[list[float], typer.Option(help="of ordinary guidance, repeatable")] = [1.25],  # noqa: B006
    weak_scale: Annotated[list[float], typer.Option(help="of autoguidance, repeatable")] = [2.0, 2.5],  # noqa: B006
    seed: Annotated[list[int], typer.Option(help="of the noise, repeatable")] = [101, 102, 103],  # noqa: B006
    per_class: Annotated[int, typer.Option(min=2)] = 500,
    steps: Annotated[int, typer.Option(min=1)] = 20,
) -> None:
    """Compare the two kinds of guidance over several seeds."""
    prepare_output(out.parent)
    import_k_diffusion()
    models = guided_models(scale, weak_scale)
    runs = [(name, s) for name in models for s in seed]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in models}
    for name, s in track(runs, description="sampling"):
        found[name].append(distortion(models[name], s, per_class, steps))
        content = {"seeds": seed, "per_class": per_class, "steps": steps, "solver": "dpmpp_2m", "runs": found}
        write_whole(out, json.dumps(content, indent=1) + "\n")  # what is done is kept
    table = Table("guidance", *COLUMNS, title=f"mean (spread) over seeds {seed}, {per_class} per class")
    for name, values in found.items():
        cells = [[value[column] for value in values] for column in COLUMNS]
        spread = [f"{np.std(c, ddof=1):.3f}" if len(c) > 1 else "" for c in cells]
        table.add_row(name, *(f"{np.mean(c):.3f} ({s})" for c, s in zip(cells, spread, strict=True)))
    Console(width=140).print(table)


if __name__ == "__main__":
    typer.run(main)
