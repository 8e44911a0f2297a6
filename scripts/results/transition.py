"""When guidance distorts: samples with the exact score of many classes against the mean field, dimension growing.

Mixtures of ``P = exp(alpha d)`` Gaussian classes (exponentially many), and of ``P = d`` and ``P = d**2`` (too few), are
sampled with kdist's guided denoiser and k-diffusion's solvers from pure noise. Overlap ``m`` and variance ratio
``q / c`` are held against ``kdist.theory.mean_field``. A second picture shows the potential of the overlap.
Notation and equations: docs/theory_mixtures.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import kdist
from kdist.plotting import PALETTE
from kdist.solvers import karras_sigmas, sample
from kdist.theory import GaussianMixtureDenoiser, mean_field, potential
from scripts.results.store import Store
from scripts.style import markdown, save

__all__ = ["Point", "compute", "draw", "plan", "predicted", "simulate", "texts"]

SIGMA_MAX, SIGMA_MIN, WITHIN_VAR = math.sqrt(2000), 0.02, 0.1
SOLVERS = {"ode": ("dpmpp_2m", 0.0), "sde": ("dpmpp_2m_sde", 1.0)}  # name, lam of the theory
COLOURS = dict(zip(("ode", "sde"), PALETTE, strict=False))
LAWS = {"exp": "P = exp({alpha:g} d)", "d": "P = d", "d2": "P = d²"}


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
        """Number of classes."""
        if self.classes == "exp":
            return max(2, round(math.exp(self.alpha * self.d)))
        return self.d if self.classes == "d" else self.d**2

    @property
    def family(self) -> tuple[str, float, float]:
        """What stays the same as d grows."""
        return self.classes, self.alpha, self.scale

    @property
    def law(self) -> str:
        """The number of classes in words."""
        return LAWS[self.classes].format(alpha=self.alpha)


def simulate(point: Point) -> dict[str, float]:
    """Overlap and variance ratio with standard errors over the codebooks (independent draws of all centres)."""
    solver, lam = SOLVERS[point.solver]
    levels = karras_sigmas(point.steps, SIGMA_MIN, SIGMA_MAX).float()
    entropy = [point.seed, point.d, point.count, *point.solver.encode()]
    overlaps, residuals = [], []
    drawn: list[tuple[torch.Tensor, torch.Tensor]] = []
    for child in np.random.SeedSequence(entropy).spawn(point.codebooks):
        g = torch.Generator().manual_seed(int(child.generate_state(1)[0]))
        centres = torch.randn(point.count, point.d, generator=g)
        model = GaussianMixtureDenoiser(centres, WITHIN_VAR, dtype=torch.float32)
        guided = kdist.guide(model, point.scale, uncond={"class_cond": point.count})
        classes = torch.arange(point.rows) % point.count
        x = SIGMA_MAX * torch.randn(point.rows, point.d, generator=g)
        options: dict[str, Any] = {}
        if lam:
            options = {"eta": lam, "noise_sampler": lambda *_, g=g, x=x: torch.randn(x.shape, generator=g)}
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


def plan(
    families: Iterable[tuple[str, float, float, Sequence[int]]], *, rows: int, codebooks: int, steps: int, seed: int
) -> list[Point]:
    """One point per family, dimension and solver, cheap ones first.

    Args:
        families: how P grows, alpha, scale and the dimensions.
        rows, codebooks: samples per draw of the centres, and draws.
        steps, seed: every run's.
    """
    points = [
        Point(classes, alpha, scale, d, solver, rows, codebooks, steps, seed)
        for classes, alpha, scale, dims in families
        for d in dims
        for solver in SOLVERS
    ]
    return sorted(points, key=lambda p: p.count)


def compute(store: Store, **settings: Any) -> list[dict[str, Any]]:
    """Every point of :func:`plan` (same arguments), measured and predicted: mean field, and M13 at the dimension."""
    setting = {"sigma_max": SIGMA_MAX, "sigma_min": SIGMA_MIN, "within_var": WITHIN_VAR}
    rows = []
    for point in plan(**settings):
        theory = {name: asdict(point)[name] for name in ("classes", "alpha", "scale", "d", "solver")} | setting
        rows.append(
            {
                "point": point,
                "measured": store.get(asdict(point) | setting, partial(simulate, point)),
                "mean_field": store.get(theory | {"theory": "mean field"}, partial(predicted, point)),
                "at_d": store.get(theory | {"theory": "M13"}, partial(predicted, point, point.d)),
            }
        )
    return rows


def grouped(rows: Iterable[dict[str, Any]]) -> dict[tuple[str, float, float], dict[str, list[dict[str, Any]]]]:
    """Rows by family and solver, dimension growing; exponentially many classes first."""
    order = list(LAWS)
    groups: dict[tuple[str, float, float], dict[str, list[dict[str, Any]]]] = {}
    for row in sorted(rows, key=lambda r: (order.index(r["point"].classes), -r["point"].alpha, r["point"].d)):
        point = row["point"]
        groups.setdefault(point.family, {solver: [] for solver in SOLVERS})[point.solver].append(row)
    return groups


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """The approach to the mean field, and beside it the potential, ``<name>_potential.png``."""
    draw_approach(rows, path)
    draw_potential(path.with_name(f"{path.stem}_potential.png"))


def draw_approach(rows: list[dict[str, Any]], path: Path) -> None:
    """Measured points with error bars against both predictions, one column per family of classes."""
    import matplotlib.pyplot as plt

    groups = grouped(rows)
    fig, axes = plt.subplots(
        2, len(groups), figsize=(2.75 * len(groups), 5.6), sharey="row", squeeze=False, layout="constrained"
    )
    for column, solvers in enumerate(groups.values()):
        for ax, name in zip(axes[:, column], ("overlap", "ratio"), strict=True):
            for solver, mine in solvers.items():
                d = [row["point"].d for row in mine]
                y, error = ([row["measured"][key] for row in mine] for key in (name, f"{name}_error"))
                look = {"color": COLOURS[solver], "lw": 1}
                label = solver.upper()
                marker = "o" if solver == "ode" else "s"
                ax.errorbar(d, y, error, fmt=marker, ms=4, capsize=2, label=f"{label}, measured", **look)
                for theory, style, text in (("mean_field", "--", "mean field"), ("at_d", "-", "corrected at d")):
                    ax.plot(d, [row[theory][name] for row in mine], style, label=f"{label}, {text}", **look)
            ax.axhline(1, color="0.6", lw=0.8, zorder=0)
            if mine[0]["point"].classes != "exp":
                ax.set_xscale("log", base=2)
                ax.xaxis.set_major_formatter("{x:g}")
        axes[0, column].set_title(f"{mine[0]['point'].law}, scale {mine[0]['point'].scale:g}", fontsize=10)
        axes[1, column].set_xlabel("dimension d")
    axes[0, 0].set_ylabel("overlap m (1: undistorted)")
    axes[1, 0].set_ylabel("variance ratio q / c")
    ncols = len(groups) + 1  # what their width holds
    fig.legend(
        *axes[0, 0].get_legend_handles_labels(), fontsize=8, ncols=ncols, loc="outside lower center", frameon=False
    )
    save(fig, path)


def draw_potential(path: Path) -> None:
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
    save(fig, path)


def texts(rows: list[dict[str, Any]]) -> dict[str, str]:
    """``table``: the largest size of each family; the rest: how far the theories miss from d = 20 on."""
    body = []
    for solvers in grouped(rows).values():
        for solver, mine in solvers.items():
            row, point = mine[-1], mine[-1]["point"]
            cells = [f"{point.law} = {point.count}", f"{point.scale:g}", f"{point.d}"]
            cells = [*(cells if solver == "ode" else [""] * 3), solver.upper()]
            for name in ("overlap", "ratio"):
                cells.append(with_error(row["measured"][name], row["measured"][f"{name}_error"]))
                cells += [f"{row[theory][name]:.3f}" for theory in ("mean_field", "at_d")]
            body.append(cells)
    theories = ("mean field", "M13")
    head = ["classes P", "scale", "d", "noise", "m measured", *theories, "q / c measured", *theories]
    large = [row for row in rows if row["point"].d >= 20] or rows

    def miss(theory: str, name: str, solver: str) -> str:
        gaps = [abs(r["measured"][name] - r[theory][name]) for r in large if r["point"].solver == solver]
        return f"{max(gaps):.3f}"

    return {
        "table": markdown(head, body),
        "points": str(len(rows)),
        **{
            f"{solver}_{name}_miss_{theory}": miss(theory, name, solver)
            for solver in SOLVERS
            for name in ("overlap", "ratio")
            for theory in ("mean_field", "at_d")
        },
    }


def with_error(value: float, error: float) -> str:
    """``1.133(3)``: the error in units of the last digit, at least one digit and three decimals."""
    decimals = max(3, -math.floor(math.log10(error))) if error > 0 else 3
    return f"{value:.{decimals}f}({round(error * 10**decimals)})"
