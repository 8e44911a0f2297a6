"""How many nats of class information a network's two predictions claim, noise level by noise level.

    python scripts/examples/information.py --per-class 36
    python scripts/examples/information.py --per-class 48 --seed 5 --act     # does it tell where guidance should act?
    python scripts/examples/information.py --per-class 60 --wrong            # how much of it is about wrong samples?

For a consistent pair of predictions the sum is the mutual information of class and image (docs/theory.md, equation
19): at most log 10 for the ten digits. What is above it is the network's own doing. Three sources of noised images:
the network's unguided samples, real images that it was not trained on, and the exact mixture of the training images as
a reference that keeps the bound.
"""

from __future__ import annotations

import argparse
import math

import torch

import kdist
from kdist import digits
from kdist.evals import energy_distance
from kdist.solvers import sample
from kdist.theory import GaussianMixtureDenoiser
from kdist.trace import Trace

LEVELS = torch.logspace(math.log10(digits.SIGMA_MAX), math.log10(digits.SIGMA_MIN), 40)


def of_images(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, seed: int) -> Trace:
    """The two predictions on ``x`` (N, ...) noised to every level by the same noise."""
    guided = kdist.guide(model, 1.0, uncond={"class_cond": digits.UNCOND})
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    with guided.trace(information=True) as trace:
        for sigma in LEVELS:
            guided(x + sigma * noise, sigma.expand(len(x)), class_cond=y)
    return trace


def of_samples(model: torch.nn.Module, y: torch.Tensor, seed: int) -> tuple[Trace, torch.Tensor]:
    """On the way of unguided samples of the classes ``y`` (N,); the samples beside it."""
    guided = kdist.guide(model, 1.0, uncond={"class_cond": digits.UNCOND})
    start = torch.randn(len(y), 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * digits.SIGMA_MAX
    with guided.trace(information=True) as trace:
        x = sample("dpmpp_2m", guided, start, digits.sigmas(40), extra_args={"class_cond": y})
    return trace, x


def wrong(model: torch.nn.Module, y: torch.Tensor, seed: int) -> None:
    """Print which share of ``|D_c - D_u|^2`` the unguided samples carry that the classifier takes for another class."""
    trace, x = of_samples(model, y, seed)
    other = digits.load_classifier()(x).argmax(1) != y
    squares = trace.gap.square()
    shares = (squares[:, other].sum(1) / squares.sum(1)).tolist()
    print(f"{float(other.double().mean()):.3f} of {len(y)} samples end as another digit; their share at sigma")
    for sigma, share in zip(trace.sigma[:, 0].tolist(), shares, strict=True):
        print(f"{sigma:8.3f}  {share:.3f}")
    print(f"largest {max(shares):.3f}")


def act(model: torch.nn.Module, y: torch.Tensor, seed: int) -> None:
    """Print accuracy and energy distance of constant scales, and of intervals that end above or below that level."""
    classifier, (real, labels) = digits.load_classifier(), digits.load_data()
    start = torch.randn(len(y), 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * digits.SIGMA_MAX
    intervals = [(scale, low, high) for scale in (2.0, 4.0) for low in (0.1, 0.5) for high in (1.0, 2.0, 4.0)]
    intervals += [(scale, 0.05, high) for high in (0.4, 0.6, 0.8, 1.4) for scale in (2.0, 4.0)]
    for schedule in [*map(kdist.Constant, (1.0, 1.25, 1.5, 2.0)), *(kdist.Interval(*numbers) for numbers in intervals)]:
        guided = kdist.guide(model, schedule, uncond={"class_cond": digits.UNCOND})
        made = [
            sample("dpmpp_2m", guided, x, digits.sigmas(20), extra_args={"class_cond": c})
            for x, c in zip(start.split(120), y.split(120), strict=True)
        ]
        x = torch.cat(made)
        right = float((classifier(x).argmax(1) == y).double().mean())
        apart = [energy_distance(real[labels == c].flatten(1), x[y == c].flatten(1)) for c in range(digits.NUM_CLASSES)]
        print(f"{schedule!s:50} accuracy {right:.3f}   energy distance {sum(apart) / len(apart):.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-class", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--act", action="store_true", help="sample under schedules that act above or below a level")
    parser.add_argument("--wrong", action="store_true", help="the share of samples that end as another class")
    options = parser.parse_args()
    network, mixture = digits.load_model(), GaussianMixtureDenoiser.empirical(*digits.load_data("train"), 0.1)
    x, y = digits.load_data("held_out")
    rows = torch.cat([(y == c).nonzero()[: options.per_class, 0] for c in range(digits.NUM_CLASSES)])
    asked = torch.arange(digits.NUM_CLASSES).repeat_interleave(options.per_class)
    if options.act:
        with torch.no_grad():
            return act(network, asked, options.seed)
    if options.wrong:
        with torch.no_grad():
            return wrong(network, asked, options.seed)
    with torch.no_grad():
        traces = {
            "network, its own samples": of_samples(network, asked, options.seed)[0],
            "network, held-out images": of_images(network, x[rows], y[rows], options.seed),
            "exact mixture, its own samples": of_images(
                mixture, mixture.sample(asked, generator=torch.Generator().manual_seed(options.seed)).float(), asked, 1
            ),
        }
    edges = (5.0, 2.0, 1.0, 0.5, 0.2, 0.0)
    print(f"nats down to sigma (bound: log 10 = {math.log(10):.2f})")
    print(" " * 32 + "".join(f"{edge:>8g}" for edge in edges) + "   standard error")
    for name, trace in traces.items():
        total = trace.information()
        means = "".join(f"{float(trace.information(edge).mean()):8.2f}" for edge in edges)
        print(f"{name:32}{means}   {float(total.std()) / math.sqrt(len(total)):.2f}")


if __name__ == "__main__":
    main()
