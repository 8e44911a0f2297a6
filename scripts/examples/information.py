"""How many nats of class information a network's two predictions claim, noise level by noise level.

    python scripts/examples/information.py --per-class 40

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


def of_samples(model: torch.nn.Module, y: torch.Tensor, seed: int) -> Trace:
    """On the way of unguided samples of the classes ``y`` (N,)."""
    guided = kdist.guide(model, 1.0, uncond={"class_cond": digits.UNCOND})
    start = torch.randn(len(y), 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * digits.SIGMA_MAX
    with guided.trace(information=True) as trace:
        sample("dpmpp_2m", guided, start, digits.sigmas(40), extra_args={"class_cond": y})
    return trace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-class", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    network, mixture = digits.load_model(), GaussianMixtureDenoiser.empirical(*digits.load_data("train"), 0.1)
    x, y = digits.load_data("held_out")
    rows = torch.cat([(y == c).nonzero()[: options.per_class, 0] for c in range(digits.NUM_CLASSES)])
    asked = torch.arange(digits.NUM_CLASSES).repeat_interleave(options.per_class)
    with torch.no_grad():
        traces = {
            "network, its own samples": of_samples(network, asked, options.seed),
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
