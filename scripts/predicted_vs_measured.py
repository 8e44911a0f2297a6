"""What four exact models of the digits predict for a schedule, and what the shipped network does, from the same noise.

    python scripts/predicted_vs_measured.py                      # about 15 minutes on one core; writes docs/
    python scripts/predicted_vs_measured.py --quick --out runs/pm

Rungs, from least to most detail: one Gaussian pair per class (``kdist.theory``, exact at the solver's own steps), the
mixture of ten class Gaussians, the mixture of all training images at two widths (exact scores, sampled), and the
network. Each is judged against its own undistorted class law: the pair, the mixture, or the real training images.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import Progress

import kdist
from kdist import digits
from kdist.solvers import sample
from kdist.theory import GaussianMixtureDenoiser, GaussianPair, GuidanceWidensWarning, compare, solver_moments

SOLVER, STEPS = "dpmpp_2m", 20
SCHEDULES = (
    "1",
    "1.5",
    "2",
    "4",
    "late-negative:scale=3,sigma_switch=1",
    "negative-window:scale=4,sigma_lo=0.3,sigma_hi=1",
)
RUNGS = {
    "pair": "Gaussian pair per class",
    "mixture": "10 class Gaussians",
    "empirical-0.1": "images, width 0.1",
    "empirical-0.3": "images, width 0.3",
    "network": "network",
}


@dataclass(frozen=True)
class Reference:
    """Undistorted class laws: means (K, d), total variances (K,), mean of all data (d,)."""

    means: torch.Tensor
    traces: torch.Tensor
    centre: torch.Tensor


def real_reference(x: torch.Tensor, y: torch.Tensor, extra: float = 0.0) -> Reference:
    """The training images as they are; ``extra`` is added to each pixel's variance."""
    flat = x.flatten(1).double()
    rows = [flat[y == c] for c in range(digits.NUM_CLASSES)]
    # an empirical mixture has the images' own second moment (divisor n), a network should have the estimate of n - 1
    correction = 0 if extra else 1
    traces = [r.var(0, correction=correction).sum() + extra * flat.shape[1] for r in rows]
    return Reference(torch.stack([r.mean(0) for r in rows]), torch.stack(traces), flat.mean(0))


def distortion_of(out: torch.Tensor, classes: torch.Tensor, reference: Reference) -> dict[str, float]:
    """Trace ratio and overshoot averaged over classes, with standard errors of these averages."""
    ratios, overshoots, ratio_errors, overshoot_errors = [], [], [], []
    for c in range(len(reference.means)):
        own = out[classes == c].flatten(1).double()
        n = len(own)
        squares = (own - own.mean(0)).square().sum(1) * n / (n - 1) / reference.traces[c]
        gap = reference.means[c] - reference.centre
        along = (own - reference.means[c]) @ gap / gap.square().sum()
        for values, mean, error in ((squares, ratios, ratio_errors), (along, overshoots, overshoot_errors)):
            mean.append(float(values.mean()))
            error.append(float(values.var()) / n)
    count = len(reference.means)
    return {
        "trace_ratio": sum(ratios) / count,
        "trace_ratio_error": sum(ratio_errors) ** 0.5 / count,
        "overshoot": sum(overshoots) / count,
        "overshoot_error": sum(overshoot_errors) ** 0.5 / count,
    }


def pair_distortion(pairs: list[GaussianPair], schedule: kdist.Schedule) -> dict[str, float]:
    """The same for one Gaussian pair per class, exactly, at the steps of the solver."""
    results = [compare(p, solver_moments(p, schedule, SOLVER, digits.sigmas(STEPS))) for p in pairs]
    return {
        "trace_ratio": sum(r.trace_ratio for r in results) / len(results),
        "trace_ratio_error": 0.0,
        "overshoot": sum(r.overshoot for r in results) / len(results),
        "overshoot_error": 0.0,
    }


def main(
    out: Annotated[Path, typer.Option(help="Folder; gets predicted_vs_measured.md and data/*.json.")] = Path("docs"),
    schedule: Annotated[list[str] | None, typer.Option(help="In kdist.parse's form; repeat for several.")] = None,
    per_class: Annotated[int, typer.Option(min=2, help="Samples of each class.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the starting noise.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="8 per class and three schedules.")] = False,
) -> None:
    """Predict, sample, and write the table."""
    texts = schedule or list(SCHEDULES[::3] + SCHEDULES[2:3] if quick else SCHEDULES)
    try:
        schedules = {text: kdist.parse(text) for text in dict.fromkeys(["1", *texts])}
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--schedule") from None
    per_class = 8 if quick else per_class
    x, y = digits.load_data("train")
    classes = torch.arange(digits.NUM_CLASSES).repeat_interleave(per_class)
    start = torch.randn(len(classes), *x.shape[1:], generator=torch.Generator().manual_seed(seed)) * digits.SIGMA_MAX
    mixture = GaussianMixtureDenoiser.fit(x, y)
    models: dict[str, tuple[Any, Reference]] = {"mixture": (mixture, real_reference(x, y))}
    for width in (0.1, 0.3):
        model = GaussianMixtureDenoiser.empirical(x, y, width)
        models[f"empirical-{width}"] = (model, real_reference(x, y, width**2))
    weights = hashlib.sha256(digits.MODEL_PATH.read_bytes()).hexdigest()
    models["network"] = (digits.load_model(), real_reference(x, y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GuidanceWidensWarning)
        pairs = [GaussianPair.from_data(x.numpy(), y.numpy(), c) for c in range(digits.NUM_CLASSES)]
    results: list[dict[str, Any]] = []
    with Progress(disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("runs", total=len(schedules) * (len(models) + 1))
        for text, one in schedules.items():
            results.append({"schedule": text, "rung": "pair", **pair_distortion(pairs, one)})
            progress.advance(task)
            for name, (model, reference) in models.items():
                began = time.perf_counter()
                guided = kdist.guide(model, one, uncond={"class_cond": digits.UNCOND})
                with torch.no_grad():
                    made = sample(SOLVER, guided, start, digits.sigmas(STEPS), extra_args={"class_cond": classes})
                row = {"schedule": text, "rung": name, **distortion_of(made, classes, reference)}
                results.append({**row, "seconds": round(time.perf_counter() - began, 1)})
                progress.advance(task)
    setting: dict[str, Any] = {
        "solver": SOLVER,
        "steps": STEPS,
        "per_class": per_class,
        "seed": seed,
        "real": "train split",
    }
    setting["weights_sha256"] = weights
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numpy", "scikit-learn", "k-diffusion")}
    data = out / "data" / "predicted_vs_measured.json"
    data.parent.mkdir(parents=True, exist_ok=True)
    _write(data, json.dumps({"setting": setting, "versions": versions, "results": results}, indent=1) + "\n")
    _write(out / "predicted_vs_measured.md", page(results, setting))
    typer.echo(f"{out / 'predicted_vs_measured.md'}\n{data}")


def page(results: list[dict[str, Any]], setting: dict[str, Any]) -> str:
    """The Markdown page: totals, then guidance's part alone (against scale 1 on the same rung)."""
    cells = {(r["schedule"], r["rung"]): r for r in results}
    schedules = list(dict.fromkeys(r["schedule"] for r in results))

    def table(text_of: Any, names: list[str]) -> str:
        head = "| schedule | " + " | ".join(RUNGS[rung] for rung in RUNGS) + " |"
        rows = [f"| `{name}` | " + " | ".join(text_of(name, rung) for rung in RUNGS) + " |" for name in names]
        return "\n".join([head, "|" + " --- |" * (len(RUNGS) + 1), *rows])

    def total(name: str, rung: str) -> str:
        r = cells[name, rung]
        if not r["trace_ratio_error"]:
            return f"{r['trace_ratio']:.2f} / {r['overshoot']:+.2f}"
        return f"{r['trace_ratio']:.2f}({100 * r['trace_ratio_error']:.0f}) / {r['overshoot']:+.2f}"

    def part(name: str, rung: str) -> str:
        r, base = cells[name, rung], cells["1", rung]
        return f"{r['trace_ratio'] / base['trace_ratio']:.2f} / {r['overshoot'] - base['overshoot']:+.2f}"

    options = f"--per-class {setting['per_class']} --seed {setting['seed']}"
    largest = max(r["overshoot_error"] for r in results)
    return f"""# Predicted against measured: the digits

`python scripts/predicted_vs_measured.py {options}` ({setting["solver"]}, {setting["steps"]} steps, sigma
{digits.SIGMA_MAX:g} to {digits.SIGMA_MIN:g}; {setting["per_class"]} samples of each class; data, versions and the
weights' SHA-256 in [data/predicted_vs_measured.json](data/predicted_vs_measured.json)).

Trace ratio / overshoot, averaged over the ten classes. Each rung is judged against its own undistorted class law: the
pair's, the mixture's, or the training images'. In brackets the standard error of the last digits; that of the
overshoot is at most {largest:.3f}. All sampled rungs start from the same noise. The pair is computed, not sampled, at
the same steps of the same solver.

{table(total, schedules)}

Guidance's own part: trace ratio over that of scale 1, and overshoot less that of scale 1, on the same rung.

{table(part, [s for s in schedules if s != "1"])}
"""


def _write(file: Path, text: str) -> None:
    partial = file.with_name(file.name + ".partial")
    partial.write_text(text)
    os.replace(partial, file)


if __name__ == "__main__":
    typer.run(main)
