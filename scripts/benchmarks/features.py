"""Feature extraction beside clean-fid's own: same numbers? how fast? how far is torch's resizing?

    python -m scripts.benchmarks.features --images 64 --device cpu
    python -m scripts.benchmarks.features --images 20000 --size 256 --device cuda --weights inception-2015-12-05.pt

Without weights an Inception-v3 with random ones (seed 0) is traced into the published file's form: the work is the
same, the features mean nothing.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from rich.progress import track

from kdist.compat import repair_torchvision
from kdist.evals.features import build_extractor
from kdist.evals.features.extraction import extract
from kdist.evals.features.inception import INCEPTION
from kdist.evals.statistics.frechet import frechet_distance


class Inception(torch.nn.Module):
    """The published file's interface: ``layers`` gives the pool features."""

    def __init__(self, layers: torch.nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        return self.layers((x - 128) / 128)


def random_inception(file: Path) -> None:
    from torchvision.models import inception_v3

    torch.manual_seed(0)
    network = inception_v3(weights=None, aux_logits=False, init_weights=False, dropout=0.0)
    network.fc = torch.nn.Identity()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():  # one look at images sets the normalisation, without which random layers fade to nothing
        network.train()(torch.nn.functional.interpolate(torch.randn(8, 3, 8, 8) / 2, size=299, mode="bicubic"))
    network.eval()
    layers = torch.jit.trace(network, torch.zeros(1, 3, 299, 299))
    torch.jit.script(Inception(layers)).save(str(file))


def write_images(folder: Path, count: int, size: int, seed: int, contrast: float, suffix: str = "png") -> None:
    """Smooth random colour pictures as files of this kind."""
    folder.mkdir()
    generator = np.random.default_rng(seed)
    for i in track(range(count), "writing images", transient=True):
        coarse = generator.normal(128, contrast, (8, 8, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{i:06d}.{suffix}")


def main(
    images: Annotated[int, typer.Option(help="images per folder; two folders")] = 64,
    size: Annotated[int, typer.Option(help="pixels per side")] = 64,
    device: str = "auto",
    weights: Annotated[Path | None, typer.Option(help="the published Inception; random weights without")] = None,
    batch_size: int = 64,
    workers: int = 2,
    square_root: Annotated[bool, typer.Option(help="run clean-fid's 2048 x 2048 square root (a minute)")] = True,
) -> None:
    """Print features' and FID's differences, and images per second."""
    repair_torchvision()
    from cleanfid import fid
    from cleanfid.inception_torchscript import InceptionV3W

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if weights is None:
            random_inception(folder / INCEPTION.name)
        else:
            (folder / INCEPTION.name).symlink_to(weights.resolve())
        options = {"weights": folder / INCEPTION.name, "allow_unknown_weights": weights is None, "device": device}
        ours = {resize: build_extractor("inception", resize=resize, **options) for resize in ("pil", "torch")}
        place = ours["pil"].device
        theirs = InceptionV3W(str(folder), download=False).to(place).eval()
        hardware = (
            torch.cuda.get_device_name(place) if place.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
        )
        print(f"{hardware}; {images} images of {size}x{size}, batches of {batch_size}, {workers} workers")

        features: dict[str, list[np.ndarray]] = {"clean-fid": [], "pil": [], "torch": []}
        seconds = dict.fromkeys(features, 0.0)
        for seed, contrast in ((0, 60.0), (1, 50.0)):
            pictures = folder / str(seed)
            write_images(pictures, images, size, seed, contrast)
            start = time.perf_counter()
            settings = {"num_workers": workers, "batch_size": batch_size, "device": place, "verbose": False}
            features["clean-fid"].append(fid.get_folder_features(str(pictures), theirs, **settings))
            seconds["clean-fid"] += time.perf_counter() - start
            for resize, extractor in ours.items():
                start = time.perf_counter()
                found = extract(pictures, extractor, batch_size=batch_size, workers=workers)
                seconds[resize] += time.perf_counter() - start
                features[resize].append(found.x)
        scale = float(np.abs(features["clean-fid"][0]).mean())
        distance = {name: frechet_distance(*pair).total for name, pair in features.items()}
        for name, pair in features.items():
            apart = max(float(np.abs(a - b).max()) for a, b in zip(pair, features["clean-fid"], strict=True))
            print(
                f"{name:10s} {2 * images / seconds[name]:8.2f} images/s   features within {apart:.2e} of clean-fid's "
                f"(mean size {scale:.3f})   FID {distance[name]:.8f} "
                f"({distance[name] / distance['clean-fid'] - 1:+.1e} relative)"
            )
        difference = found.metadata["resize_difference"]
        print(f"torch against PIL resize: max {difference['max']}, mean {difference['mean']} {difference['unit']}")
        if square_root:
            start = time.perf_counter()
            value = fid.fid_from_feats(*features["clean-fid"])
            print(
                f"clean-fid's square root: FID {value:.8f} ({value / distance['clean-fid'] - 1:+.1e} relative to the "
                f"exact one of the same features), {time.perf_counter() - start:.1f} s"
            )


if __name__ == "__main__":
    typer.run(main)
