"""Draw every schedule for docs/schedules.md.

python -m scripts.pages.schedules docs/figures/schedules.png
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import matplotlib.pyplot as plt
import typer

from kdist.plotting import PALETTE
from kdist.schedules import (
    Beta,
    Constant,
    EarlyNegative,
    Exponential,
    Interval,
    LateNegative,
    LinearInVariance,
    NegativeWindow,
    PerClass,
    PerRow,
    Piecewise,
    Ramp,
    Schedule,
    Triangle,
)

RANGE = {"sigma_min": 0.05, "sigma_max": 20.0}
# one panel each: a title, and the curves in it with their labels
PANELS: dict[str, dict[str, Schedule]] = {
    "Constant": {"": Constant(4)},
    "Interval": {"": Interval(4, 0.3, 3)},
    "NegativeWindow": {"ramp=0": NegativeWindow(4, 0.3, 3), "ramp=1": NegativeWindow(4, 0.3, 3, ramp=1.0)},
    "LateNegative": {"": LateNegative(4, 0.6)},
    "EarlyNegative": {"": EarlyNegative(4, 1.0, sigma_end=0.1)},
    "LinearInVariance": {"": LinearInVariance(-1, 0.5, max_scale=4)},
    "Ramp": {
        "linear": Ramp(1, 4, **RANGE),
        "cosine": Ramp(1, 4, **RANGE, shape="cosine"),
        "power=3": Ramp(1, 4, **RANGE, shape="power", power=3),
    },
    "Triangle": {"": Triangle(4, 1.0, **RANGE)},
    "Exponential": {"decay=2": Exponential(4, **RANGE), "decay=5": Exponential(4, **RANGE, decay=5)},
    "Beta": {"a=2, b=2": Beta(4, **RANGE), "a=2, b=5": Beta(4, **RANGE, b=5)},
    "Piecewise": {
        "previous": Piecewise((80, 10, 2, 0.4), (2, 4, 0, 1)),
        "linear": Piecewise((80, 10, 2, 0.4), (2, 4, 0, 1), "linear"),
    },
    "Interval.then(Ramp, at=0.5)": {"": Interval(4, 0.3, 5).then(Ramp(0, 1, 0.05, 0.5), at=0.5)},
    "(Triangle + -1).clip(0, 2)": {"": (Triangle(4, 1.0, **RANGE) + -1.0).clip(0, 2)},
    "PerClass": {"": PerClass({0: NegativeWindow(4, 0.3, 3), 7: Constant(2)}, default=Ramp(1, 3, **RANGE))},
    "PerRow": {
        f"row {row}": PerRow(Beta(2, **RANGE), (2, 3, 4)).bind({}, 3).choices[row]  # type: ignore[attr-defined]
        for row in range(3)
    },
}


def main(path: Annotated[Path, typer.Argument(help="Picture to write.")]) -> None:
    """Draw every schedule, scale against sigma."""
    # dashes tell them apart without colour vision
    plt.rcParams["axes.prop_cycle"] = plt.cycler(color=PALETTE[:3]) + plt.cycler(linestyle=["-", "--", "-."])
    figure, axes = plt.subplots(5, 3, figsize=(10, 12), sharex=True, sharey=True, layout="constrained")
    for ax, (title, curves) in zip(axes.flat, PANELS.items(), strict=True):
        for label, schedule in curves.items():
            schedule.plot(ax=ax, **({"label": label} if label else {}))
        ax.set_title(title, fontsize=10)
        ax.set_ylim(-0.4, 5.2)
        if ax.get_legend_handles_labels()[1]:
            ax.legend(fontsize=7, loc="upper center", ncols=3, frameon=False)
    for ax in axes.flat:
        ax.label_outer()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    typer.run(main)
