"""EDM and EDM2 networks with a schedule: unconditional by labels, by a network of its own, or by a weaker one.

    python scripts/examples/edm.py

A stand-in with the papers' calling convention is used. With their code on the path, load the real one instead:

    with open("edm2-img512-s.pkl", "rb") as file:      # pickles run code: only from a source that you trust
        net = pickle.load(file)["ema"].cuda().eval()
"""

from __future__ import annotations

import torch

import kdist
from kdist.adapters.edm import EDMDenoiser
from kdist.compat import import_k_diffusion

K = import_k_diffusion()


class Net(torch.nn.Module):
    """``net(x, sigma, class_labels)``: the exact denoiser of classes N(mean_k, 0.25), of N(0, 1) without a class."""

    img_channels, sigma_min, sigma_max = 1, 0.0, float("inf")

    def __init__(self, label_dim: int) -> None:
        super().__init__()
        self.label_dim = label_dim
        self.means = torch.linspace(-1, 1, max(label_dim, 1))

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, class_labels: torch.Tensor | None = None) -> torch.Tensor:
        sigma = sigma.reshape(-1, 1, 1, 1)
        if self.label_dim == 0 or class_labels is None:
            return x / (1 + sigma**2)
        known = class_labels.sum(1).view(-1, 1, 1, 1)
        mean = (class_labels @ self.means).view(-1, 1, 1, 1)
        variance = 1 - 0.75 * known
        return (variance * x + sigma**2 * mean) / (variance + sigma**2)


def main() -> None:
    denoiser = EDMDenoiser(Net(label_dim=3))
    sigmas = denoiser.get_sigmas(32)
    labels = torch.full((4000,), 2)
    noise = torch.randn(4000, 1, 1, 1, generator=torch.Generator().manual_seed(0)) * sigmas[0]
    passes = {"labels dropped": {"uncond": {"class_cond": denoiser.uncond}}}
    passes["separate network"] = {"weak_model": EDMDenoiser(Net(label_dim=0))}
    for text in ("1", "2", "negative-window:scale=2,sigma_lo=0.1,sigma_hi=0.6"):
        for name, options in passes.items():
            guided = kdist.guide(denoiser, kdist.parse(text), **options)
            x = K.sampling.sample_heun(guided, noise, sigmas, extra_args={"class_cond": labels}, disable=True)
            print(f"{text:50} {name:17} mean {x.mean():.2f} (1.00) variance {x.var():.3f} (0.250) calls {guided.nfe}")


if __name__ == "__main__":
    main()
