"""Figures and tables of the glyph experiment: distortion against the number of classes (F8), samples, numbers."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import pyplot as plt

from kdist.plotting import PALETTE
from scripts.style import interval, markdown, save

__all__ = ["distortion_figure", "sample_figure", "sheet", "tables"]

COLOURS = dict(
    zip(("1.5", "2", "4", "window", "late", "early"), (PALETTE[place] for place in (4, 0, 1, 2, 3, 5)), strict=True)
)
MARKERS = {"1.5": "o", "2": "s", "4": "^", "window": "D", "late": "v", "early": "P"}
PREDICTED = ("2", "4")  # drawn for these only; all of them are in the JSON
NAMES = {"window": "3, 0 for 0.3 < σ < 1", "late": "3 above σ = 1, then 0", "early": "0 above σ = 4, then 3"}
SOLVERS = {"dpmpp_2m": "DPM-Solver++(2M)", "euler_ancestral": "Euler ancestral"}
FAR = {"energy_distance": ("distance", 3), "displacement": ("displaced", 2)}
QUANTITIES = {
    "energy_distance": "energy distance",
    "overshoot": "overshoot",
    "trace_ratio": "trace ratio inside the class",
    "accuracy": "accuracy among P",
}


def distortion_figure(data: Mapping[str, Any], path: Path) -> None:
    """Figure F8 from the numbers of :mod:`scripts.glyphs.experiment`: a column per solver, a row per quantity."""
    used = [solver for solver in SOLVERS if any(row["solver"] == solver for row in data["network"])]
    size = (4.3 * len(used), 2.9 * len(QUANTITIES) + 1.2)
    figure, axes = plt.subplots(len(QUANTITIES), len(used), figsize=size, sharex=True, squeeze=False)
    for line, quantity in zip(axes, QUANTITIES, strict=True):
        for axis, solver in zip(line, used, strict=True):
            _draw_panel(axis, data, solver, quantity)
            if quantity == "trace_ratio":
                axis.set_ylim(0, None)
    for axis in axes[-1]:
        axis.set_xlabel("classes of the unconditional branch, P")
    handles = {label: h for axis in axes[:, 0] for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    for label, dashes in (("exact mixture of the images", "--"), ("mean field, α = log P / d_eff", ":")):
        handles[label] = plt.Line2D([], [], color="k", ls=dashes, lw=1.1)
    figure.legend(list(handles.values()), list(handles), loc="lower center", ncols=3, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.8 / figure.get_figheight(), 1, 1))
    save(figure, path, dpi=130)


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
            predicted = [r for r in rows(data["theory"][source], name) if name in PREDICTED and quantity in r]
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


def sheet(x: torch.Tensor, labels: torch.Tensor, each: int) -> dict[str, Any]:
    """A row per class, the first ``each`` images of (N, 1, h, w) in [-1, 1] in it: ``shape`` and bytes, for JSON."""
    lines = [torch.cat(list(x[labels == c][:each, 0]), 1) for c in labels.unique()]
    grey = ((torch.cat(lines) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    return {"shape": grey.shape, "bytes": base64.b64encode(grey.tobytes()).decode()}


def sample_figure(sheets: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """A block for each sheet, named."""
    figure, axes = plt.subplots(1, len(sheets), figsize=(2.8 * len(sheets), 2.7), squeeze=False)
    for axis, (name, one) in zip(axes[0], sheets.items(), strict=True):
        grey = np.frombuffer(base64.b64decode(one["bytes"]), np.uint8).reshape(one["shape"])
        axis.imshow(grey, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
        axis.set_title(name, fontsize=9)
        axis.set_axis_off()
    figure.tight_layout()
    save(figure, path, dpi=130)


def tables(data: Mapping[str, Any]) -> dict[str, str]:
    """Markdown: ``null`` tokens, ``paired`` differences of largest and smallest set, ``network``, ``mixture``."""
    sets = data["sets"]
    head = ["set", "null token's samples in it", "its classes' samples", "real images", "trace ratio"]
    lines = []
    for row in data["null_check"]:
        shares = [f"{row[law][str(row['set'])][0]:.2f}" for law in ("generated", "by_class", "real")]
        best = min(row["error"].values())
        errors = [f"**{e:.2f}**" if e == best else f"{e:.2f}" for e in row["error"].values()]
        lines.append([str(row["set"]), *shares, f"{row['trace_ratio']:.2f}", *errors])
    found = {"null": markdown([*head, *(f"error, token {p}" for p in sets)], lines)}
    head = ["solver", "scale", f"overshoot, {sets[-1]} less {sets[0]}", "log trace ratio, the same"]
    ends = (sets[0], sets[-1])
    head += [f"{what}, {p}" for what, _ in FAR.values() for p in ends]
    by_place = {(row["solver"], row["schedule"], row["set"]): row for row in data["network"]}
    lines = []
    for row in data["paired"]:
        both = [by_place[row["solver"], row["schedule"], p] for p in ends]
        cells = [interval(row[name], 3, sign=True) for name in ("overshoot", "log_trace")]
        cells += [interval(one[name], digits) for name, (_, digits) in FAR.items() for one in both]
        lines.append([*_names(row), *cells])
    found["paired"] = markdown(head, lines)
    head = ["solver", "scale", "P", *(what for what, _ in FAR.values())]
    head += ["overshoot", "trace ratio", "the same, correct samples", "accuracy among P"]
    lines = [
        [
            *_names(row),
            str(row["set"] or "any"),
            *(interval(row[name], digits) for name, (_, digits) in FAR.items()),
            *(interval(row[name]) for name in ("overshoot", "trace_ratio", "trace_ratio_correct")),
            ", ".join(f"{share[0]:.2f}" for share in row["accuracy"].values()),
        ]
        for row in data["network"]
    ]
    found["network"] = markdown(head, lines)
    return found | {"mixture": _mixture(data["theory"]["empirical"])}


def _mixture(rows: Sequence[Mapping[str, Any]], schedule: str = PREDICTED[-1]) -> str:
    """Samples of the exact mixture under one schedule, against the number of classes."""
    rows = sorted((row for row in rows if row["schedule"] == schedule), key=lambda row: row["set"])
    lines = []
    for solver, name in SOLVERS.items():
        for quantity, (what, digits) in {
            "overshoot": ("overshoot", 2),
            "trace_ratio": ("trace ratio", 2),
            **FAR,
        }.items():
            cells = [interval(row[quantity], digits) for row in rows if row["solver"] == solver]
            lines.append([f"{what}, {name}", *cells])
    return markdown([f"scale {schedule}", *(f"P = {p}" for p in dict.fromkeys(row["set"] for row in rows))], lines)


def _names(row: Mapping[str, Any]) -> list[str]:
    return [SOLVERS[row["solver"]], NAMES.get(row["schedule"], row["schedule"])]
