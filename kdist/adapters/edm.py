"""EDM and EDM2 networks (Karras et al. 2022, 2206.00364; 2024, 2312.02696) as k-diffusion denoisers.

Such a network is a denoiser already, ``net(x, sigma, class_labels) -> denoised`` on k-diffusion's variance-exploding
path; it takes classes as one-hot rows, the zero row standing for none. k-diffusion's scripts pass ``class_cond``, an
integer, where ``label_dim`` (one past the last class) stands for none.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from ..schedules.levels import readable
from ..solvers import karras_sigmas

__all__ = ["EDMDenoiser"]


class EDMDenoiser(nn.Module):
    """An EDM network for every k-diffusion solver: ``forward(x, sigma, class_cond=None) -> denoised``.

        denoiser = EDMDenoiser(net)
        sigmas = denoiser.get_sigmas(32)
        guided = kdist.guide(denoiser, schedule, uncond={"class_cond": denoiser.uncond})
        x = K.sampling.sample_heun(guided, noise * sigmas[0], sigmas, extra_args={"class_cond": y})

    The EDM2 checkpoints have their unconditional pass in a network of its own (``label_dim = 0``; it ignores the
    classes), and autoguidance (Karras et al. 2024, 2406.02507) has a worse network there. Both are a ``weak_model``:

        guided = kdist.guide(denoiser, schedule, weak_model=EDMDenoiser(other_net))

    Args:
        net: Network with ``label_dim``. Its ``sigma_min``, ``sigma_max``, ``round_sigma`` and ``img_channels`` are used
            where it has them.
        options: further keyword arguments of every call (``force_fp32=True``, ``augment_labels=...``).

    Raises:
        TypeError: ``net`` is not callable or has no ``label_dim``.

    Examples:
        >>> import torch
        >>> from kdist.adapters.edm import EDMDenoiser
        >>> net = lambda x, sigma, class_labels: x / 2  # stands for a network
        >>> net.label_dim = 10
        >>> EDMDenoiser(net)(torch.ones(2, 1, 8, 8), torch.ones(2), class_cond=torch.tensor([3, 7])).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self, net: Any, **options: Any) -> None:
        super().__init__()
        label_dim = getattr(net, "label_dim", None)
        if not callable(net) or not isinstance(label_dim, int):
            raise TypeError(
                "net must be an EDM network: callable as net(x, sigma, class_labels), with an integer label_dim "
                f"(0 for one without classes); got {type(net).__name__}"
            )
        self.inner_model = net
        self.label_dim = label_dim
        self.options = options

    @property
    def uncond(self) -> int:
        """The class number that means no class; as an override of one-hot ``class_cond`` it means zero rows."""
        return _NoClass(self.label_dim)

    @property
    def sigma_min(self) -> float:
        """The lowest level to sample at: the papers' 0.002, or the network's own where that is higher."""
        return max(0.002, float(getattr(self.inner_model, "sigma_min", 0.0)))

    @property
    def sigma_max(self) -> float:
        """The level to start from: the papers' 80, or the network's own where that is lower."""
        return min(80.0, float(getattr(self.inner_model, "sigma_max", math.inf)))

    def get_sigmas(self, n: int, rho: float = 7.0) -> torch.Tensor:
        """The papers' noise levels of ``n`` steps: (n + 1,) float32, the last one 0.

        Networks that were trained on a list of levels round to it (``round_sigma``).

        Raises:
            ValueError: ``n`` below 1, or so many steps that two levels round to the same.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1; got {n}")
        sigmas = karras_sigmas(n, self.sigma_min, self.sigma_max, rho=rho)[:-1]
        if hasattr(self.inner_model, "round_sigma"):
            sigmas = torch.as_tensor(self.inner_model.round_sigma(sigmas)).double().cpu()
        if (sigmas.diff() >= 0).any():
            raise ValueError(f"n={n} is too many steps: two of their noise levels round to the same one of the network")
        return torch.cat([sigmas, sigmas.new_zeros(1)]).float()

    def forward(self, x: torch.Tensor, sigma: torch.Tensor, class_cond: torch.Tensor | None = None) -> torch.Tensor:
        """The network's estimate of the noise-free image.

        Args:
            x: (N, C, H, W) noisy images.
            sigma: (N,) noise levels.
            class_cond: (N,) integers in 0..label_dim (label_dim: no class), or one-hot rows (N, label_dim); None: no
                class anywhere. Networks without classes ignore it.

        Returns:
            (N, C, H, W) denoised, the dtype of ``x``.

        Raises:
            ValueError: labels out of range, of another shape or no one-hot rows (on an accelerator such rows become
                NaN, as looking would cost a synchronisation), or ``x`` with the wrong number of channels.
        """
        channels = getattr(self.inner_model, "img_channels", x.shape[1])
        if x.shape[1] != channels:
            raise ValueError(f"x has {x.shape[1]} channels, the network takes {channels}")
        labels = None if class_cond is None or not self.label_dim else self._one_hot(class_cond, len(x))
        return self.inner_model(x, sigma, labels, **self.options).to(x.dtype)

    def _one_hot(self, class_cond: torch.Tensor, batch: int) -> torch.Tensor:
        if class_cond.shape == (batch, self.label_dim) and not class_cond.is_complex():
            rows = class_cond.float()
            right = (((rows == 0) | (rows == 1)).all(1) & (rows.sum(1) <= 1)).unsqueeze(1)
            if rows.device.type == "cpu" and readable(rows) and not right.all():
                raise ValueError(
                    "class_cond, of one row per class, must be one-hot rows, or zero rows for no class; got "
                    f"{class_cond[~right.squeeze(1)][0].tolist()}"
                )
            return rows.masked_fill(~right, torch.nan)
        whole = not (class_cond.is_floating_point() or class_cond.is_complex() or class_cond.dtype == torch.bool)
        if class_cond.shape != (batch,) or not whole:
            raise ValueError(
                f"class_cond must be {batch} integers, or one-hot rows ({batch}, {self.label_dim}); got "
                f"{class_cond.dtype} of shape {tuple(class_cond.shape)}"
            )
        classes = class_cond.long()
        if not classes.is_cuda and readable(classes) and ((classes < 0) | (classes > self.label_dim)).any():
            # an accelerator's own assertion catches it there, without a synchronisation per call
            raise ValueError(
                f"class_cond must be in 0..{self.label_dim} ({self.label_dim}: no class); got "
                f"{int(classes.min())} to {int(classes.max())}"
            )
        # the class after the last is dropped: a zero row
        return nn.functional.one_hot(classes, self.label_dim + 1)[:, : self.label_dim].float()


class _NoClass(int):
    """The class number after the last, which knows what no class is in the other encoding."""

    def like(self, class_cond: torch.Tensor) -> torch.Tensor:
        """No class for every row of ``class_cond``, in its encoding."""
        return torch.zeros_like(class_cond) if class_cond.ndim == 2 else torch.full_like(class_cond, int(self))
