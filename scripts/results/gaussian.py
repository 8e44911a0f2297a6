"""A guided Gaussian class, mean and variance against the scale: infinitely many steps, and k-diffusion's solvers.

The class is ``N(mu, c)`` inside ``N(0, u)``. Both kinds of curve are exact: ``kdist.theory.moments`` integrates the
schedule (docs/theory.md, sections 2 and 5), ``kdist.theory.solver_moments`` runs the real solver (section 4).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from kdist.plotting import PALETTE
from kdist.solvers import karras_sigmas
from kdist.theory import GaussianPair, moments, solver_moments, solver_noise
from scripts.results.store import Store
from scripts.style import markdown, save

__all__ = ["compute", "draw", "texts"]

PAIR = {"mu": 0.5, "c": 0.3, "u": 1.0}
SIGMA_MIN, SIGMA_MAX = 0.02, 80.0
COLOURS = (PALETTE[5], PALETTE[2], PALETTE[4])  # for 10, 20, 50 steps
QUOTED = 4.0  # the scale of the table


def compute(
    store: Store, *, scales: Sequence[float], steps: Sequence[int], solvers: Sequence[str]
) -> list[dict[str, Any]]:
    """Mean and variance, in units of the class's own, at every scale: one row per solver and number of steps.

    ``steps`` None in a row stands for infinitely many, from sigma = infinity.
    """
    return [
        {
            "solver": solver,
            "noise": solver_noise(solver),
            "steps": n,
            "scales": list(scales),
            **store.get(
                {"solver": solver, "steps": n, "scales": list(scales), "sigmas": [SIGMA_MIN, SIGMA_MAX], **PAIR},
                partial(ratios, solver, n, scales),
            ),
        }
        for solver in solvers
        for n in (None, *steps)
    ]


def ratios(solver: str, steps: int | None, scales: Sequence[float]) -> dict[str, list[float]]:
    """``mean`` and ``variance`` over the class's own, one number per scale."""
    pair = GaussianPair(PAIR["mu"], PAIR["c"], 0.0, PAIR["u"])
    if steps is None:
        laws = [moments(pair, scale, sigma_max=math.inf, noise=solver_noise(solver)) for scale in scales]
    else:
        sigmas = karras_sigmas(steps, SIGMA_MIN, SIGMA_MAX)
        laws = [solver_moments(pair, scale, solver, sigmas) for scale in scales]
    return {
        "mean": [float(law.mean[0]) / PAIR["mu"] for law in laws],
        "variance": [float(law.var[0]) / PAIR["c"] for law in laws],
    }


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """One column per solver, the mean above the variance; black is exact, colours are numbers of steps."""
    import matplotlib.pyplot as plt

    solvers = list(dict.fromkeys(row["solver"] for row in rows))
    exact = [value for row in rows if row["steps"] is None for value in row["mean"]]
    fig, axes = plt.subplots(
        2,
        len(solvers),
        figsize=(2.4 * len(solvers), 5.2),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    for column, solver in enumerate(solvers):
        mine = [row for row in rows if row["solver"] == solver]
        for ax, name in zip(axes[:, column], ("mean", "variance"), strict=True):
            ax.axhline(1, color="0.6", lw=0.8)
            for row, colour in zip(mine, ("black", *COLOURS), strict=False):
                label = f"{row['steps']} steps" if row["steps"] else "exact"
                ax.plot(row["scales"], row[name], color=colour, label=label, lw=1.3, ls="-" if row["steps"] else "--")
        axes[0, column].set_title(f"{solver}\n({'SDE' if mine[0]['noise'] else 'ODE'})", fontsize=10)
        axes[1, column].set_xlabel("guidance scale")
    axes[0, 0].set_ylim(0.8, 1.15 * max(exact))  # few steps overshoot without bound at high scales
    axes[1, 0].set_yscale("log")
    axes[1, 0].set_ylim(1e-5, 20)
    axes[0, 0].set_ylabel("mean / true mean")
    axes[1, 0].set_ylabel("variance / true variance")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), fontsize=9, ncols=4, loc="outside lower center", frameon=False)
    save(fig, path)


def texts(rows: list[dict[str, Any]]) -> dict[str, str]:
    """``table``: mean and variance ratio at scale 1 (the solver alone) and at the quoted one."""
    scales = rows[0]["scales"]
    quoted = min(scales, key=lambda s: abs(s - QUOTED))
    picked = list(dict.fromkeys((min(scales), quoted)))
    head = [f"{name}, scale {s:g}" for s in picked for name in ("mean", "variance")]
    body = [
        ["" if row["steps"] else row["solver"], str(row["steps"] or "exact")]
        + [
            f"{row[name][scales.index(s)]:{form}}"
            for s in picked
            for name, form in (("mean", ".3f"), ("variance", ".2g"))
        ]
        for row in rows
    ]
    at = scales.index(quoted)
    exact = {bool(row["noise"]): row for row in rows if row["steps"] is None}
    return {
        "table": markdown(["solver", "steps", *head], body),
        "scale": f"{quoted:g}",
        **{
            f"{kind}_{name}": f"{exact[noisy][name][at]:.3g}"
            for noisy, kind in ((False, "ode"), (True, "sde"))
            if noisy in exact
            for name in ("mean", "variance")
        },
    }
