"""Where guidance distorts, over the number of classes and the scale, without and with a negative window (mean field).

``alpha = log P / d`` classes per dimension, class variance ``c = 0.1``. Two lines are drawn: where unguided classes
overlap (``kdist.theory.critical_alpha``) and where a guided sample is never resolved (``guided_critical_alpha``); for
the windows also where the own class has taken over already at the window's upper edge, so that the window acts on
nothing. Equations: docs/theory_mixtures.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import kdist
from kdist.theory import critical_alpha, guided_critical_alpha, phase_diagram
from scripts.results.class_moments import separability
from scripts.results.law_distance import in_many_dimensions
from scripts.results.store import Store
from scripts.style import markdown, save

__all__ = ["SCHEDULES", "compute", "draw", "texts"]

SIGMA_MAX, WITHIN_VAR = math.sqrt(2000), 0.1
WINDOW = (1.0, 3.0)
SCHEDULES: dict[str, Callable[[float], kdist.Schedule]] = {
    "constant": kdist.Constant,
    "window, then the scale again": lambda scale: kdist.NegativeWindow(scale, *WINDOW),
    "window, then scale 1": lambda scale: kdist.NegativeWindow(scale, *WINDOW, after=1.0),
}
NOISES = {"ODE": 0.0, "SDE": 1.0}
QUOTED_VALUES = {"overlap": ".2f", "ratio": ".2f", "separability": ".3g", "distance": ".3f"}
QUOTED = {"alpha": (0.1, 0.3, 0.6, 1.0, 1.6), "scale": (2.0, 4.0)}


def compute(store: Store, *, alphas: Sequence[float], scales: Sequence[float], edge: int) -> list[dict[str, Any]]:
    """One row per schedule and noise: maps (alphas, scales), and the line of no resolution at ``edge`` scales."""
    rows = []
    edges = np.linspace(scales[0], scales[-1], edge).tolist()
    for name in SCHEDULES:
        for noise, lam in NOISES.items():
            key = {"schedule": name, "window": WINDOW, "lam": lam, "c": WITHIN_VAR, "sigma_max": SIGMA_MAX}
            maps = store.get(
                key | {"alphas": list(alphas), "scales": list(scales)}, partial(diagram, name, lam, alphas, scales)
            )
            border = store.get(key | {"border": edges}, partial(critical, name, lam, edges))
            rows.append(
                {"schedule": name, "noise": noise, "alphas": list(alphas), "scales": list(scales), "edges": edges}
                | {"border": border, **maps}
            )
    return rows


def diagram(name: str, lam: float, alphas: Sequence[float], scales: Sequence[float]) -> dict[str, Any]:
    """Final ``overlap`` and ``ratio``, and ``switch`` (0 where the own class never takes over), as nested lists."""
    result = phase_diagram(
        alphas, scales, within_var=WITHIN_VAR, sigma_max=SIGMA_MAX, noise=lam, family=SCHEDULES[name]
    )
    values = {
        "overlap": result.overlap,
        "ratio": result.variance_ratio,
        "switch": np.nan_to_num(result.switch_sigma, nan=0.0),
    }
    return {key: value.round(4).tolist() for key, value in values.items()}


def critical(name: str, lam: float, scales: Sequence[float]) -> list[float]:
    """``guided_critical_alpha`` of the schedule at each scale."""
    setting = {"within_var": WITHIN_VAR, "sigma_max": SIGMA_MAX, "noise": lam}
    return [round(guided_critical_alpha(SCHEDULES[name](scale), **setting), 4) for scale in scales]


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Columns are schedules; overlap and variance ratio of the ODE, then of the SDE. White is undistorted."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import TwoSlopeNorm

    looks = {
        "overlap": ("overlap m", TwoSlopeNorm(1.0, 0.8, 1.5)),
        "ratio": ("variance ratio q / c", TwoSlopeNorm(1.0, 0.0, 1.75)),
        "separability": ("separability m² c / q", TwoSlopeNorm(1.0, 0.25, 4.0)),
    }
    fig, axes = plt.subplots(6, len(SCHEDULES), figsize=(9.6, 15.0), sharex=True, sharey=True, layout="constrained")
    for line, (noise, value) in enumerate((noise, value) for noise in NOISES for value in looks):
        label, norm = looks[value]
        for ax, row in zip(axes[line], [row for row in rows if row["noise"] == noise], strict=True):
            values = np.array(separated(row)[value]).T
            image = ax.pcolormesh(row["alphas"], row["scales"], values, norm=norm, cmap="PuOr_r", shading="nearest")
            ax.axvline(critical_alpha(WITHIN_VAR), color="k", ls=":", label="unguided classes overlap")
            ax.plot(row["border"], row["edges"], "k--", label="guided samples never resolved")
            if row["schedule"] != "constant":
                ax.contour(row["alphas"], row["scales"], np.array(row["switch"]).T, levels=[WINDOW[1]], colors="k")
                ax.plot([], [], "k-", label="left of it the class has won before the window")
            ax.set_xlim(row["alphas"][0], row["alphas"][-1])
            ax.set_ylim(row["scales"][0], row["scales"][-1])
            if line == 0:
                ax.set_title(row["schedule"], fontsize=11)
        axes[line, 0].set_ylabel(f"{noise}\nguidance scale")
        fig.colorbar(image, ax=axes[line], label=label, extend="max" if value == "ratio" else "both", aspect=14)
    for ax in axes[-1]:
        ax.set_xlabel("alpha = log P / d")
    fig.legend(*axes[0, -1].get_legend_handles_labels(), ncols=3, fontsize=9, loc="outside lower center", frameon=False)
    save(fig, path, dpi=100)


def separated(row: dict[str, Any]) -> dict[str, Any]:
    """The row with a map of ``separability``, squared distance of class means over variance, over the true one, and of
    ``distance``, the energy distance of the guided class from the true one."""
    ratio = np.maximum(row["ratio"], 5e-5)  # stored with four digits
    overlap = np.array(row["overlap"])
    return row | {
        "separability": separability(overlap, ratio),
        "distance": in_many_dimensions((overlap - 1) / np.sqrt(WITHIN_VAR), ratio),
    }


def texts(rows: list[dict[str, Any]]) -> dict[str, str]:
    """``table``: overlap / ratio / separability / distance at points of the map; ``never_resolved``: where it ends."""
    alphas, scales = rows[0]["alphas"], rows[0]["scales"]
    columns = sorted({min(range(len(alphas)), key=lambda i: abs(alphas[i] - a)) for a in QUOTED["alpha"]})
    lines = sorted({min(range(len(scales)), key=lambda i: abs(scales[i] - s)) for s in QUOTED["scale"]})
    body = [
        [row["schedule"], row["noise"], f"{scales[j]:g}"]
        + [" / ".join(format(row[name][i][j], form) for name, form in QUOTED_VALUES.items()) for i in columns]
        for j in lines
        for row in map(separated, rows)
    ]
    borders = {
        f"never_resolved_{row['noise'].lower()}": f"{max(row['border']):.2f}"
        for row in rows
        if row["schedule"] == "constant"
    }
    return {
        "table": markdown(["schedule", "noise", "scale", *(f"alpha {alphas[i]:g}" for i in columns)], body),
        "window": f"{WINDOW[0]:g} < sigma <= {WINDOW[1]:g}",
        "alpha_c": f"{critical_alpha(WITHIN_VAR):.2f}",
        **borders,
    }
