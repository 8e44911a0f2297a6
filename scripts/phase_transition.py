"""Guidance with the exact score of many classes: the approach to the mean field as the dimension grows.

    python scripts/phase_transition.py --out docs             # about 15 minutes on one core
    python scripts/phase_transition.py --quick --out runs/pt  # seconds

Samples from mixtures of ``P = exp(alpha d)`` (and ``P = d``, ``P = d**2``) Gaussian classes with kdist's guided
denoiser and k-diffusion's solvers, measures overlap ``m`` and variance ratio ``q / c``, and draws them against
``kdist.theory.mean_field``, with the phase diagram and the potential. Every finished point is kept in the JSON file,
so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.progress import Progress

import kdist
from kdist.compat import import_k_diffusion
from kdist.solvers import sample
from kdist.theory import GaussianMixtureDenoiser, critical_alpha, guided_critical_alpha, mean_field, phase_diagram
from kdist.theory.potential import potential

SIGMA_MAX, SIGMA_MIN, WITHIN_VAR = math.sqrt(2000), 0.02, 0.1
SOLVERS = {"ode": ("dpmpp_2m", 0.0), "sde": ("dpmpp_2m_sde", 1.0)}  # name, lam of the theory
COLOURS = {"ode": "#0072B2", "sde": "#D55E00"}  # Okabe and Ito's colour-blind-safe blue and vermilion


@dataclass(frozen=True)
class Point:
    """One measurement. ``classes`` is how P grows: ``exp`` with its ``alpha``, or ``d`` or ``d2`` (alpha unused)."""

    classes: str
    alpha: float
    scale: float
    d: int
    solver: str
    rows: int
    codebooks: int
    steps: int
    seed: int

    @property
    def count(self) -> int:
        if self.classes == "exp":
            return max(2, round(math.exp(self.alpha * self.d)))
        return self.d if self.classes == "d" else self.d**2

    @property
    def key(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


def simulate(point: Point, device: str = "cpu") -> dict[str, float]:
    """Overlap and variance ratio with standard errors over the codebooks (independent draws of all centres)."""
    K = import_k_diffusion()
    solver, lam = SOLVERS[point.solver]
    levels = K.sampling.get_sigmas_karras(point.steps, SIGMA_MIN, SIGMA_MAX).to(device)
    entropy = [point.seed, point.d, point.count, *point.solver.encode()]
    overlaps, residuals = [], []
    drawn: list[tuple[torch.Tensor, torch.Tensor]] = []
    for child in np.random.SeedSequence(entropy).spawn(point.codebooks):
        g = torch.Generator(device).manual_seed(int(child.generate_state(1)[0]))
        centres = torch.randn(point.count, point.d, generator=g, device=device)
        model = GaussianMixtureDenoiser(centres, WITHIN_VAR, dtype=torch.float32).to(device)
        guided = kdist.guide(model, point.scale, uncond={"class_cond": point.count})
        classes = torch.arange(point.rows, device=device) % point.count
        x = SIGMA_MAX * torch.randn(point.rows, point.d, generator=g, device=device)
        options: dict[str, Any] = {}
        if lam:
            options = {
                "eta": lam,
                "noise_sampler": lambda *_, g=g, x=x: torch.randn(x.shape, generator=g, device=device),
            }
        out = sample(solver, guided, x, levels, extra_args={"class_cond": classes}, **options)
        drawn.append((out.double(), centres[classes].double()))
    for out, own in drawn:
        overlaps.append(float(((out * own).sum(1) / own.square().sum(1)).mean()))
    mean = float(np.mean(overlaps))
    for out, own in drawn:
        residuals.append(float((out - mean * own).square().mean()) / WITHIN_VAR)
    spread = math.sqrt(point.codebooks)
    return {
        "overlap": mean,
        "overlap_error": float(np.std(overlaps, ddof=1)) / spread,
        "ratio": float(np.mean(residuals)),
        "ratio_error": float(np.std(residuals, ddof=1)) / spread,
    }


def predicted(point: Point, dimension: int | None = None) -> dict[str, float]:
    """The mean field at this number of classes per dimension, ``log(P) / d``, or its correction at ``dimension``."""
    path = mean_field(
        math.log(point.count) / point.d,
        point.scale,
        within_var=WITHIN_VAR,
        sigma_max=SIGMA_MAX,
        noise=SOLVERS[point.solver][1],
        start_overlap=0.0,
        dimension=dimension,
    )
    return {"overlap": float(path.overlap[-1]), "ratio": float(path.variance_ratio[-1])}


def plan(quick: bool, max_classes: int, seed: int) -> list[Point]:
    """The measurements, cheap ones first; those with more than ``max_classes`` classes are left out."""
    sizes = {"rows": 16, "codebooks": 3, "steps": 16} if quick else {"rows": 32, "codebooks": 8, "steps": 80}
    families: list[tuple[str, float, float, tuple[int, ...]]] = [
        ("exp", 0.3, 2.0, (8, 12) if quick else (8, 14, 20, 26, 32, 36, 40, 46)),
        ("exp", 0.2, 4.0, () if quick else (12, 24, 36, 48, 54, 60)),
        ("exp", 0.1, 4.0, () if quick else (16, 40, 70)),
        ("d", 0.0, 4.0, (8, 16) if quick else (8, 32, 128, 512)),
        ("d2", 0.0, 4.0, (8,) if quick else (8, 16, 32, 64, 128, 256)),
    ]
    points = [
        Point(classes, alpha, scale, d, solver, seed=seed, **sizes)
        for classes, alpha, scale, dims in families
        for d in dims
        for solver in SOLVERS
    ]
    return sorted((p for p in points if p.count <= max_classes), key=lambda p: p.count)


def main(
    out: Annotated[Path, typer.Option(help="Folder; gets data/phase_transition.json and figures/*.png.")] = Path(
        "runs/phase_transition"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="A few small points, in seconds.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every draw.")] = 0,
    device: Annotated[str, typer.Option(help="Torch device; a GPU allows larger --max-classes.")] = "cpu",
    max_classes: Annotated[int, typer.Option(min=2, help="Largest number of classes simulated.")] = 50_000,
) -> None:
    """Measure, predict and draw; finished points in the output are kept."""
    points = plan(quick, max_classes, seed)
    if not points:
        raise typer.BadParameter(f"every point has more than {max_classes} classes; raise --max-classes")
    file = out / "data" / "phase_transition.json"
    figures = out / "figures"
    for folder in (file.parent, figures):
        folder.mkdir(parents=True, exist_ok=True)
    done: dict[str, dict[str, Any]] = {}
    if file.is_file():
        try:
            done = {json.dumps(p["point"], sort_keys=True): p for p in json.loads(file.read_text())["points"]}
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise typer.BadParameter(f"{file} is not a result of this script ({error!r}); move it away") from None
    with Progress(disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("points", total=sum(p.count for p in points))
        for point in points:
            if point.key not in done:
                start = time.perf_counter()
                measured = simulate(point, device)
                seconds = round(time.perf_counter() - start, 1)
                done[point.key] = {
                    "point": asdict(point),
                    "count": point.count,
                    "measured": measured,
                    "seconds": seconds,
                }
                write(file, list(done.values()))
            progress.advance(task, point.count)
    for point in points:  # always anew: a change of the theory needs no new simulation
        done[point.key] |= {"mean_field": predicted(point), "at_d": predicted(point, point.d)}
    write(file, list(done.values()))
    results = [done[p.key] for p in points]
    draw_approach(results, figures / "phase_transition.png")
    draw_diagram(figures / "phase_transition_map.png", cells=12 if quick else 50)
    draw_potential(figures / "phase_transition_potential.png")
    typer.echo(f"{len(results)} points in {file}; figures in {figures}")


def write(file: Path, points: list[dict[str, Any]]) -> None:
    """The JSON file, whole or not at all."""
    versions = {name: importlib.metadata.version(name) for name in ("torch", "numpy", "k-diffusion")}
    setting = {"sigma_max": SIGMA_MAX, "sigma_min": SIGMA_MIN, "within_var": WITHIN_VAR, "start": "noise"}
    partial = file.with_suffix(".partial")
    partial.write_text(
        json.dumps({"versions": versions, "setting": setting, "solvers": SOLVERS, "points": points}, indent=1) + "\n"
    )
    os.replace(partial, file)


# Figures


def draw_approach(results: list[dict[str, Any]], file: Path) -> None:
    """Measured points with error bars against both predictions, one column per family of classes."""
    import matplotlib.pyplot as plt

    def family(r: dict[str, Any]) -> tuple[str, float, float]:
        return r["point"]["classes"], r["point"]["alpha"], r["point"]["scale"]

    order = ("exp", "d", "d2")
    families = sorted({family(r) for r in results}, key=lambda f: (order.index(f[0]), -f[1]))
    fig, axes = plt.subplots(2, len(families), figsize=(3.0 * len(families), 5.6), squeeze=False, layout="constrained")
    for column, (classes, alpha, scale) in enumerate(families):
        law = {"exp": f"P = exp({alpha:g} d)", "d": "P = d", "d2": "P = d²"}[classes]
        for row, (name, label) in enumerate((("overlap", "overlap m"), ("ratio", "variance ratio q / c"))):
            ax = axes[row, column]
            for solver, lam in (("ode", "ODE"), ("sde", "SDE")):
                mine = [r for r in results if family(r) == (classes, alpha, scale) and r["point"]["solver"] == solver]
                mine.sort(key=lambda r: r["point"]["d"])
                d = [r["point"]["d"] for r in mine]
                y, error = ([r["measured"][key] for r in mine] for key in (name, f"{name}_error"))
                marker = "o" if solver == "ode" else "s"
                ax.errorbar(d, y, error, fmt=marker, ms=4, capsize=2, color=COLOURS[solver], label=f"{lam}, measured")
                for theory, style, text in (("mean_field", "--", "mean field"), ("at_d", "-", "corrected at d")):
                    values = [r[theory][name] for r in mine]
                    ax.plot(d, values, style, lw=1, color=COLOURS[solver], label=f"{lam}, {text}")
            ax.axhline(1, color="0.6", lw=0.8, zorder=0)
            if classes != "exp":
                ax.set_xscale("log", base=2)
            ax.set_ylabel(label if column == 0 else "")
            ax.set_xlabel("dimension d" if row else "")
        axes[0, column].set_title(f"{law}, scale {scale:g}", fontsize=10)
    axes[0, 0].legend(fontsize=7)
    fig.savefig(file, dpi=130)
    plt.close(fig)


def draw_diagram(file: Path, cells: int) -> None:
    """Final overlap and variance ratio over (alpha, scale) for the ODE and the SDE."""
    import matplotlib.pyplot as plt

    alphas, scales = np.linspace(0.02, 2.0, cells), np.linspace(1.0, 6.0, cells)
    fig, axes = plt.subplots(2, 2, figsize=(8.6, 6.6), sharex=True, sharey=True, layout="constrained")
    edge = np.linspace(1.0, 6.0, 5 if cells < 20 else 16)
    for row, (name, lam) in enumerate((("ODE", 0.0), ("SDE", 1.0))):
        diagram = phase_diagram(alphas, scales, within_var=WITHIN_VAR, sigma_max=SIGMA_MAX, noise=lam)
        border = [guided_critical_alpha(s, within_var=WITHIN_VAR, sigma_max=SIGMA_MAX, noise=lam) for s in edge]
        panels = ((diagram.overlap.T, "overlap m"), (diagram.variance_ratio.T, "variance ratio q / c"))
        for column, (values, label) in enumerate(panels):
            ax = axes[row, column]
            image = ax.pcolormesh(alphas, scales, values, cmap="cividis" if column else "viridis", shading="nearest")
            fig.colorbar(image, ax=ax, label=label)
            ax.axvline(critical_alpha(WITHIN_VAR), color="w", ls=":", label="classes overlap (unguided)")
            ax.plot(border, edge, "w--", label="never resolved (guided)")
            ax.set_title(f"{name}: {label}", fontsize=10)
            ax.set_xlim(alphas[0], alphas[-1])
            ax.set_xlabel("alpha = log P / d" if row else "")
            ax.set_ylabel("" if column else "guidance scale")
    axes[0, 0].legend(fontsize=7, facecolor="0.3", labelcolor="w", loc="upper left")
    fig.savefig(file, dpi=130)
    plt.close(fig)


def draw_potential(file: Path) -> None:
    """The potential over m as sigma falls, at a scale above 1 (one moving minimum) and below (two wells)."""
    import matplotlib.pyplot as plt

    alpha, m = 0.3, np.linspace(-0.5, 4.2, 1881)
    panels = ((4.0, (6.0, 3.0, 2.2, 1.6, 1.1)), (0.2, (3.0, 1.6, 1.1, 0.8, 0.6)))
    fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.6), layout="constrained")
    for ax, (scale, sigmas) in zip(axes, panels, strict=True):
        for sigma, colour in zip(sigmas, plt.get_cmap("viridis")(np.linspace(0, 0.9, len(sigmas))), strict=True):
            v = potential(m, sigma, alpha=alpha, scale=scale, within_var=WITHIN_VAR)
            v = (v - v.min()) * (WITHIN_VAR + sigma**2)  # in units of the class's own curvature
            low = np.flatnonzero((v[1:-1] < v[:-2]) & (v[1:-1] <= v[2:])) + 1
            ax.plot(m, v, color=colour, label=f"sigma = {sigma:g}")
            ax.plot(m[low], v[low], "o", ms=4, color=colour)
        ax.axvline(1, color="0.6", lw=0.8, zorder=0)
        ax.set_title(f"alpha = {alpha:g}, scale {scale:g}", fontsize=10)
        ax.set_xlabel("overlap m")
        ax.set_ylim(-0.05, 1.5 if scale > 1 else 0.6)
        ax.legend(fontsize=7)
    axes[0].set_ylabel("potential (V - min V) Delta")
    fig.savefig(file, dpi=130)
    plt.close(fig)


if __name__ == "__main__":
    import matplotlib

    matplotlib.use("Agg")
    typer.run(main)
