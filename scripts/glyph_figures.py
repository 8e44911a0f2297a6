"""Figures and tables of the glyph experiment: distortion against the number of classes (F8), samples, numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import torch
from matplotlib import pyplot as plt

__all__ = ["distortion_figure", "sample_figure", "tables"]

# Okabe and Ito's colours, told apart by the colour-blind
COLOURS = {"1.5": "#56B4E9", "2": "#0072B2", "4": "#D55E00", "window": "#009E73", "late": "#CC79A7"}
MARKERS = {"1.5": "o", "2": "s", "4": "^", "window": "D", "late": "v"}
PREDICTED = ("2", "4")  # drawn for these only; all of them are in the JSON
NAMES = {"window": "3, none for 0.3 < σ < 1", "late": "3 above σ = 1, then none"}
SOLVERS = {"dpmpp_2m": "DPM-Solver++(2M)", "euler_ancestral": "Euler ancestral"}
QUANTITIES = {"overshoot": "overshoot", "trace_ratio": "trace ratio inside the class", "accuracy": "accuracy among P"}


def distortion_figure(data: Mapping[str, Any], path: Path) -> None:
    """Figure F8 from the numbers in ``docs/data/glyphs.json``: a row per solver, a column per quantity."""
    used = [solver for solver in SOLVERS if any(row["solver"] == solver for row in data["network"])]
    figure, axes = plt.subplots(len(used), 3, figsize=(11, 3.3 * len(used) + 0.9), sharex=True, squeeze=False)
    for line, solver in zip(axes, used, strict=True):
        for axis, quantity in zip(line, QUANTITIES, strict=True):
            _draw_panel(axis, data, solver, quantity)
    for line in axes:
        line[1].set_ylim(0, None)
    for axis in axes[-1]:
        axis.set_xlabel("classes of the unconditional branch, P")
    handles = {label: h for axis in axes[0] for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    for label, dashes in (("exact mixture of the images", "--"), ("mean field, α = log P / d_eff", ":")):
        handles[label] = plt.Line2D([], [], color="k", ls=dashes, lw=1.1)
    figure.legend(list(handles.values()), list(handles), loc="lower center", ncols=4, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.7 / figure.get_figheight(), 1, 1))
    _save(figure, path)


def _draw_panel(axis: Any, data: Mapping[str, Any], solver: str, quantity: str) -> None:
    def rows(source: list[dict[str, Any]], schedule: str) -> list[dict[str, Any]]:
        return [row for row in source if (row["solver"], row["schedule"]) == (solver, schedule)]

    for name, colour in COLOURS.items():
        found = rows(data["network"], name)
        if not found:
            continue
        values = [r[quantity][str(r["set"])] if quantity == "accuracy" else r[quantity] for r in found]
        y, low, high = np.array(values).T
        style = {"color": colour, "marker": MARKERS[name], "ms": 4, "lw": 1.5, "capsize": 2}
        label = f"scale {NAMES.get(name, name)}"
        axis.errorbar([r["set"] for r in found], y, [y - low, high - y], label=label, **style)
        if quantity == "accuracy":
            continue
        for source, dashes in (("empirical", "--"), ("mean_field", ":")):
            predicted = rows(data["theory"][source], name) if name in PREDICTED else []
            y = [np.ravel(r[quantity])[0] for r in predicted]
            axis.plot([r["set"] for r in predicted], y, dashes, color=colour, lw=1.1)
    for plain in rows(data["network"], "1"):
        if quantity == "accuracy":
            x = [int(p) for p in plain["accuracy"]]
            axis.plot(x, [v[0] for v in plain["accuracy"].values()], color="0.35", lw=1.2, label="scale 1")
            axis.plot(x, [v[0] for v in plain["accuracy_real"].values()], "k-.", lw=1, label="held-out images")
        else:
            axis.axhline(plain[quantity][0], color="0.35", lw=1.2, label="scale 1")
            axis.axhspan(*plain[f"{quantity}_floor"], color="0.85", lw=0, label="real against real (95 %)")
    axis.set_xscale("log", base=2)
    axis.set_xticks(data["sets"], [str(p) for p in data["sets"]])
    axis.minorticks_off()
    axis.set_title(f"{QUANTITIES[quantity]}, {SOLVERS[solver]}", fontsize=9)
    axis.grid(alpha=0.25)


def sample_figure(
    samples: Mapping[str, torch.Tensor], labels: Mapping[str, torch.Tensor], path: Path, *, each: int = 10
) -> None:
    """A block of columns per law, a row per class: the first ``each`` images of each, (N, 1, h, w) in [-1, 1]."""
    figure, axes = plt.subplots(1, len(samples), figsize=(2.8 * len(samples), 2.7), squeeze=False)
    for axis, (name, x) in zip(axes[0], samples.items(), strict=True):
        lines = [torch.cat(list(x[labels[name] == c][:each, 0]), 1) for c in labels[name].unique()]
        axis.imshow(-torch.cat(lines), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        axis.set_title(name, fontsize=9)
        axis.set_axis_off()
    figure.tight_layout()
    _save(figure, path)


def tables(data: Mapping[str, Any]) -> str:
    """The numbers as Markdown: null tokens, largest set against smallest, everything."""
    sets = data["sets"]
    header = " | ".join(f"error with token {p}" for p in sets)
    lines = [f"| set | its token's samples in it (real) | trace ratio | {header} |", "| --- " * (3 + len(sets)) + "|"]
    for row in data["null_check"]:
        errors = " | ".join(f"{value:.2f}" for value in row["error"].values())
        own = [row[law][str(row["set"])][0] for law in ("generated", "real")]
        lines.append(f"| {row['set']} | {own[0]:.2f} ({own[1]:.2f}) | {row['trace_ratio']:.2f} | {errors} |")
    lines += ["", f"| solver | scale | overshoot, {sets[-1]} less {sets[0]} | log trace ratio, the same |"]
    lines += ["| --- | --- | --- | --- |"]
    for row in data["paired"]:
        cells = [f"{value:+.3f} [{low:+.3f}, {high:+.3f}]" for value, low, high in (row["overshoot"], row["log_trace"])]
        lines.append(
            f"| {SOLVERS[row['solver']]} | {NAMES.get(row['schedule'], row['schedule'])} | {' | '.join(cells)} |"
        )
    lines += ["", "| solver | scale | P | overshoot | trace ratio | the same, correct samples | accuracy among P |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    for row in data["network"]:
        names = ("overshoot", "trace_ratio", "trace_ratio_correct")
        cells = ["{:.2f} [{:.2f}, {:.2f}]".format(*row[name]) for name in names]
        cells.append(", ".join(f"{share[0]:.2f}" for share in row["accuracy"].values()))
        first = [SOLVERS[row["solver"]], NAMES.get(row["schedule"], row["schedule"]), str(row["set"] or "any")]
        lines.append(f"| {' | '.join(first + cells)} |")
    return "\n".join(lines)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
