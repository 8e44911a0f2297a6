"""``inception``: the Inception-v3 pool features of FID, with clean-fid's own network class and resizer.

Heusel et al., GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, NeurIPS 2017, in
the TorchScript conversion of StyleGAN2-ADA (Karras et al. 2020), fed as in Parmar et al., CVPR 2022 (clean-fid).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import torch

from .extractor import Extractor
from .resize import ResizeMethod, resize_square
from .weights import PublishedFile, find_weights

__all__ = ["INCEPTION", "inception"]

INCEPTION = PublishedFile(
    name="inception-2015-12-05.pt",
    url="https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    sha256="f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
)


def inception(
    device: torch.device, weights: str | Path | None, *, resize: ResizeMethod = "pil", allow_unknown: bool = False
) -> Extractor:
    """(n, 3, 299, 299) in [0, 255] to (n, 2048). Looks where clean-fid keeps the file too (its hash is checked).

    Raises:
        ValueError: not the published weights, or no TorchScript file with Inception's interface.
    """
    path, digest = find_weights(
        INCEPTION, weights, allow_unknown=allow_unknown, also_in=(Path("/tmp"), Path(tempfile.gettempdir()))
    )
    try:
        network = _load(path).to(device).eval()
    except (RuntimeError, AttributeError) as error:
        raise ValueError(f"weights: {path} is no TorchScript Inception (a module with .layers): {error}") from error
    return Extractor("inception", network, resize_square(299, resize), device, digest)


def _load(path: Path) -> torch.nn.Module:
    """clean-fid's class takes a folder in which the file has its published name; lend it one that has."""
    from cleanfid.inception_torchscript import InceptionV3W

    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / INCEPTION.name
        try:
            os.symlink(path.resolve(), link)
        except OSError:  # file systems and accounts that may not link
            shutil.copyfile(path, link)
        return InceptionV3W(folder, download=False, resize_inside=False)
