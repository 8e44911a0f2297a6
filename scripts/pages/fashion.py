"""What docs/fashion.md says of the Fashion-MNIST networks: a table per class, and a sheet of samples.

    python -m scripts.pages.fashion --per-class 100                                 # the shipped network
    python -m scripts.pages.fashion --model docs/data/fashion_1.safetensors --picture ""

Needs the data set's files (see ``kdist.fashion.load_data``): samples are compared with all 10 000 test images, and
searched for copies of the 60 000 training images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from kdist import Schedule, fashion, guide
from kdist.evals.report.html import grid
from kdist.solvers import sample
from scripts.style import markdown, number

CLASSES = range(fashion.NUM_CLASSES)


def draw(model: fashion.ClassConditional, schedule: float | Schedule, per_class: int, seed: int) -> torch.Tensor:
    """Samples (10 * per_class, 1, 28, 28), sorted by class: dpmpp_2m, 20 steps, the same noise at every scale."""
    guided = guide(model, schedule, uncond={"class_cond": fashion.UNCOND})
    labels = torch.arange(fashion.NUM_CLASSES).repeat_interleave(per_class)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(labels), 1, 28, 28, generator=generator) * fashion.SIGMA_MAX
    parts = [
        sample("dpmpp_2m", guided, x, fashion.sigmas(20), extra_args={"class_cond": y})
        for x, y in zip(noise.split(200), labels.split(200), strict=True)
    ]
    return torch.cat(parts)


def accuracies(x: torch.Tensor, y: torch.Tensor) -> list[float]:
    """The judge's accuracy on each class, then on all images."""
    classifier = fashion.load_classifier()
    right = torch.cat([classifier(part).argmax(1) for part in x.split(500)]) == y
    return [float(chosen.float().mean()) for chosen in (*(right[y == c] for c in CLASSES), right)]


def moments(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Class means (10, 784) and traces of the class covariances (10,)."""
    classes = [x[y == c].flatten(1).double() for c in CLASSES]
    return torch.stack([c.mean(0) for c in classes]), torch.stack([c.var(0).sum() for c in classes])


def nearest(x: torch.Tensor, train: torch.Tensor) -> float:
    """Median distance to the nearest training image."""
    return float(torch.cat([torch.cdist(part, train).min(1).values for part in x.flatten(1).split(100)]).median())


def main(
    model: Annotated[Path, typer.Option(help="the network's weights")] = fashion.MODEL_PATH,
    scales: Annotated[str, typer.Option(help="guidance scales")] = "1,2",
    per_class: Annotated[int, typer.Option(help="samples of each class", min=8)] = 100,
    seed: Annotated[int, typer.Option(help="seed of the noise")] = 5,
    picture: Annotated[str, typer.Option(help="where the sheet goes; empty: nowhere")] = "docs/figures/fashion.png",
) -> None:
    """Measure a Fashion-MNIST network and show its samples."""
    from PIL import Image

    real, labels = fashion.load_data("held_out")
    train = fashion.load_data("train")[0].flatten(1)
    means, traces = moments(real, labels)
    copies = nearest(real[:500], train)
    columns = {"real test images": [*map(number, accuracies(real, labels)), "", ""]}
    sheets, drawn = [real], [labels]
    network, y = fashion.load_model(model), torch.arange(fashion.NUM_CLASSES).repeat_interleave(per_class)
    for scale in map(float, scales.split(",")):
        x = draw(network, scale, per_class, seed)
        mean, trace = moments(x, y)
        kept, off = trace / traces, (mean - means).norm(dim=1) / (means - real.flatten(1).double().mean(0)).norm(dim=1)
        columns[f"scale {scale:g}: accuracy"] = [*map(number, accuracies(x, y))]
        columns["variance kept"] = [*map(number, [*kept.tolist(), float(kept.mean())])]
        columns["mean off by"] = [*map(number, [*off.tolist(), float(off.mean())])]
        typer.echo(f"scale {scale:g}; nearest training image, over test images: {nearest(x, train) / copies:.2f}")
        typer.echo(markdown(["", *columns], [*zip([*fashion.CLASS_NAMES, "all"], *columns.values(), strict=False)]))
        columns = {"real test images": columns["real test images"]}
        sheets.append(x)
        drawn.append(y)
    if picture:
        shown = [torch.stack([x[z == c][:8] for c in CLASSES]) for x, z in zip(sheets, drawn, strict=True)]
        sheet = torch.cat([torch.from_numpy(grid(block.flatten(0, 1).numpy(), 8)) for block in shown], 1)
        Image.fromarray(sheet.numpy()).save(picture, optimize=True)


if __name__ == "__main__":
    typer.run(main)
