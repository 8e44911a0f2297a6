"""README's figure: real garments, and what a strong constant scale and an interval make of the same noise.

python -m scripts.pages.readme          # half a minute of one core; writes docs/figures/diversity.png
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import kdist
from kdist import fashion
from kdist.evals.report.html import grid
from scripts.pages.fashion import draw

__all__ = ["CLASSES", "SCHEDULES", "blocks", "main"]

PICTURE = Path(__file__).parents[2] / "docs" / "figures" / "diversity.png"
CLASSES, PER_CLASS, SEED = (0, 2, 3, 5, 8), 8, 0
SCHEDULES: dict[str, kdist.Schedule] = {
    "a constant scale of 3": kdist.Constant(3),
    "scale 2 between sigma 0.3 and 2.5, else 1": kdist.Interval(2, 0.3, 2.5),
}


def blocks(per_class: int = PER_CLASS) -> dict[str, NDArray[np.uint8]]:
    """Sheets of images by title, a class a row: real ones first, then each schedule's, from the same noise."""
    real, labels = fashion.load_data()
    model = fashion.load_model()
    samples = {title: draw(model, schedule, per_class, SEED) for title, schedule in SCHEDULES.items()}
    y = torch.arange(fashion.NUM_CLASSES).repeat_interleave(per_class)
    sets = {"real images": (real, labels)} | {title: (x, y) for title, x in samples.items()}
    return {
        title: grid(torch.cat([x[y == c][:per_class] for c in CLASSES]).numpy(), per_class)
        for title, (x, y) in sets.items()
    }


def main(path: Path = PICTURE) -> None:
    """Draw the figure."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 1 + len(SCHEDULES), figsize=(12, 2.9), layout="constrained")
    for ax, (title, sheet) in zip(axes, blocks().items(), strict=True):
        ax.imshow(sheet, cmap="gray", vmin=0, vmax=255)
        ax.set_title(title, fontsize=11)
        ax.set_axis_off()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
