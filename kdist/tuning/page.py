"""``report.html``: what was found, whether it is better, and everything that was tried."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..files import versions
from ..schedules import Constant, describe
from .certification import Certified
from .scores import Value
from .space import FAMILIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .tuned import Tuned

__all__ = ["certified_rows", "curve_figure", "front_figure", "report"]

NOTES = {
    "energy distance": "How far the samples of a class are from its real images, in every respect: place, spread, "
    "shape. 0 is the same law; 0.01 is slight, two classes far apart exceed 1. Mean over classes.",
    "accuracy": "Share of samples that the judge recognises as the class asked for.",
    "variance kept": "Total variance of a class over that of its real images; 1 is the diversity of the real images.",
    "displacement": "Root mean square distance of class means from the real ones, in the real classes' "
    "standard deviation.",
    "calls": "Network evaluations for one sample. A scale of 1 needs no unconditional pass, 0 no conditional one.",
    "±": "Standard errors times 1.96: 95 % intervals.",
}


def report(tuned: Tuned, command: str) -> str:
    """The page as HTML, pictures inside."""
    from kdist.evals.report import html

    certificate = tuned.certified
    shown = [certificate.tuned, certificate.constant]
    return html.render(
        "report.html",
        folder=Path(__file__).parent,
        title="kdist tune: a guidance schedule for this model",
        tuned=tuned,
        certificate=certificate,
        description=certificate.tuned.name,
        rows=certified_rows(tuned),
        differences={
            name: _signed(certificate.difference(name)) for name in ("distance", "accuracy") if name in shown[0].values
        },
        promised=_promised(tuned),
        front=html.figure_uri(front_figure(tuned)),
        curve=html.figure_uri(curve_figure(tuned)),
        sheets=[(one.name, _sheet(one, len(tuned.problem.classes))) for one in shown] if _drawable(shown[0]) else [],
        classes=[_class_row(tuned, number) for number in range(len(tuned.problem.classes))],
        candidates=sorted(tuned.front, key=lambda c: c.values["distance"].value)[:40],
        best={candidate.key for candidate in tuned.best},
        describe=describe,
        number=_number,
        notes=NOTES,
        versions=versions(),
        command=command,
    )


def certified_rows(tuned: Tuned) -> list[dict[str, str]]:
    """The tuned schedule and the constant, each as a row of a table."""
    return [_row(one) for one in (tuned.certified.tuned, tuned.certified.constant)]


def _number(value: Value | None, digits: int = 3) -> str:
    return (
        ""
        if value is None or math.isnan(value.value)
        else f"{value.value:.{digits}f} ± {1.96 * value.error:.{digits}f}"
    )


def _signed(value: Value) -> str:
    return f"{value.value:+.3f} ± {1.96 * value.error:.3f}"


def _row(one: Certified) -> dict[str, str]:
    found = one.values
    moved = math.sqrt(max(found["displacement"].value, 0.0))
    row = {"schedule": one.name, "energy distance": _number(found["distance"])}
    for name in ("accuracy", "alignment"):
        if name in found:
            row[name] = _number(found[name])
    return {
        **row,
        "variance kept": _number(found["variance"], 2),
        "displacement": f"{moved:.2f}",
        "separability": _number(found["separability"], 2),
        "calls": f"{one.calls_per_sample:g}",
    }


def _promised(tuned: Tuned) -> str:
    """What the search measured of its choice beside what the fresh seeds say."""
    promised, found = tuned.certified.promised, tuned.certified.tuned.values
    text = f"energy distance {promised['measured distance']:.3f}"
    held = f"{found['distance'].value:.3f}"
    if "accuracy" in found:
        text += f", accuracy {promised['accuracy']:.3f}"
        held += f", {found['accuracy'].value:.3f}"
    return f"While choosing, the search measured {text}; the fresh seeds say {held}."


def _class_row(tuned: Tuned, number: int) -> list[str]:
    cells = [str(tuned.problem.classes[number])]
    for name in ("distance", "accuracy", "variance"):
        for one in (tuned.certified.tuned, tuned.certified.constant):
            if name in one.values:
                cells.append(f"{one.of_class(number)[name].value:.2f}")
    return cells


def _drawable(one: Certified) -> bool:
    return one.images.ndim == 4 and one.images.shape[1] in (1, 3)


def _sheet(one: Certified, classes: int) -> str:
    """A class a row; the same place holds the same seed in every sheet."""
    from kdist.evals.report import html

    rows = min(classes, 12)
    columns = len(one.images) // classes
    images = one.images[: rows * columns]
    factor = max(1, 32 // images.shape[-1])
    return html.image_uri(html.grid(images, columns).repeat(factor, 0).repeat(factor, 1))


def front_figure(tuned: Tuned) -> Figure:
    """Every candidate as the search saw it; the certified two with their intervals."""
    import matplotlib.pyplot as plt

    from kdist.evals.report.figures import style

    figure, ax = plt.subplots(figsize=(7.4, 4.6), layout="constrained")
    judged = "accuracy" in tuned.certified.tuned.values
    present = [family for family in FAMILIES if any(c.family == family for c in tuned.front)]
    for family in present:
        own = [c for c in tuned.front if c.family == family]
        x = [c.values["accuracy"].value if judged else c.calls_per_sample for c in own]
        size = [18 + 2.0 * c.samples / max(1, len(tuned.problem.classes)) for c in own]
        colour, marker = style(FAMILIES.index(family))[:2]
        ax.scatter(
            x,
            [c.values["distance"].value for c in own],
            s=size,
            color=colour,
            marker=marker,
            alpha=0.55,
            label=family,
            linewidths=0,
        )
    for one, colour in ((tuned.certified.constant, "0.35"), (tuned.certified.tuned, "black")):
        found = one.values
        x_value = found["accuracy"] if judged else Value(one.calls_per_sample, 0.0)
        ax.errorbar(
            x_value.value,
            found["distance"].value,
            xerr=1.96 * x_value.error,
            yerr=1.96 * found["distance"].error,
            fmt="*" if one is tuned.certified.tuned else "P",
            color=colour,
            markersize=11,
            capsize=2,
            label=f"certified: {_brief(one)}",
        )
    for bound in tuned.bounds:
        if bound.name == "accuracy":
            ax.axvline(bound.limit, color="0.6", linewidth=0.9, linestyle="--")
    _scales(ax, tuned)
    ax.set_xlabel("accuracy" if judged else "network calls for one sample")
    ax.set_ylabel("energy distance to the real classes")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=7.5, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _brief(one: Certified) -> str:
    return one.name if len(one.name) < 26 else one.schedule.kind


def _scales(ax: Axes, tuned: Tuned) -> None:
    """Distances linear around 0, where chance rules, logarithmic above; accuracies without those far off the front."""
    distances = sorted(c.values["distance"].value for c in tuned.front)
    middle = distances[len(distances) // 2]
    ax.set_yscale("symlog", linthresh=max(middle / 2, 0.005), subs=[2, 5])
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if "accuracy" in tuned.certified.tuned.values:
        near = [c.values["accuracy"].value for c in tuned.front if c.values["distance"].value <= 3 * max(middle, 0.01)]
        ax.set_xlim(min(near) - 0.02, 1.01)


def curve_figure(tuned: Tuned) -> Figure:
    """The scale at each of the sampler's own noise levels, in the order of sampling."""
    import matplotlib.pyplot as plt

    from kdist.evals.report.figures import style

    figure, ax = plt.subplots(figsize=(7.4, 2.9), layout="constrained")
    levels = list(tuned.space.levels)
    steps = np.arange(len(levels))
    for index, schedule in enumerate((tuned.schedule, tuned.certified.constant.schedule)):
        name = describe(schedule) if isinstance(schedule, Constant) else schedule.kind
        ax.step(
            steps, tuned.space.scales_at_levels(schedule), where="mid", color=style(index)[0], linewidth=2, label=name
        )
    for level, name in ((1.0, "conditional"), (0.0, "unconditional")):
        ax.axhline(level, color="0.8", linewidth=0.8, zorder=0)
        ax.annotate(
            name, (0.995, level), xycoords=("axes fraction", "data"), fontsize=7, color="0.45", ha="right", va="bottom"
        )
    if tuned.space.share is not None:
        share = np.asarray(tuned.space.share)
        ax.fill_between(
            steps, 0, share / share.max(), step="mid", color="0.9", zorder=-1, label="guidance's share of the update"
        )
    shown = steps[:: max(1, len(steps) // 10)]
    ax.set_xticks(shown, [f"{levels[index]:.2g}" for index in shown])
    ax.set_xlabel("sigma at each call of the model (sampling runs to the right)")
    ax.set_ylabel("guidance scale")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=8, frameon=False)
    return figure
