"""Fashion-MNIST from its four IDX files, checked by their SHA-256; nothing is downloaded.

Source: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, 2017, arXiv 1708.07747; copyright 2017 Zalando SE, MIT licence
(``LICENSE`` beside this file, for the sample that ships here).
"""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path
from typing import Literal, get_args

import torch

__all__ = ["CLASS_NAMES", "FOLDER_VARIABLE", "Split", "load_data"]

CLASS_NAMES = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
"""What each label stands for."""
FOLDER_VARIABLE = "KDIST_FASHION_MNIST"
"""The environment variable that names the folder of the four files."""
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
_HERE = Path(__file__).parent
# of what is inside the .gz files: compressed anew they differ
_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}

Split = Literal["sample", "train", "held_out", "all"]


def load_data(split: Split = "sample", root: str | Path | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Real images as ``(images, labels)``: (N, 1, 28, 28) float32 in [-1, 1] and (N,) int64.

    Args:
        split: ``sample`` (the first 200 of each class of ``held_out``, which come with the package), ``train`` (60 000
            images, what the shipped networks saw), ``held_out`` (10 000, the test set) or ``all`` (70 000, both).
        root: folder of the four IDX files, compressed (``.gz``) or not. None takes the environment variable
            ``KDIST_FASHION_MNIST``, then the folder of Debian's package dataset-fashion-mnist. ``sample`` needs none.

    Raises:
        ValueError: unknown ``split``, or a file with other content than the published one.
        FileNotFoundError: no such files; the message says how to get them.

    Examples:
        >>> from kdist import fashion
        >>> images, labels = fashion.load_data()
        >>> images.shape
        torch.Size([2000, 1, 28, 28])
    """
    if split not in get_args(Split):
        raise ValueError(f"split must be one of {', '.join(get_args(Split))}; got {split!r}")
    if split == "sample":
        return _scale(_read(_HERE / "sample-images-idx3-ubyte.gz")), _read(_HERE / "sample-labels-idx1-ubyte.gz").long()
    folder = Path(root or os.environ.get(FOLDER_VARIABLE) or _DEBIAN)
    parts = {"train": ["train"], "held_out": ["t10k"], "all": ["train", "t10k"]}[split]
    images = torch.cat([_read(_find(folder, f"{part}-images-idx3-ubyte")) for part in parts])
    labels = torch.cat([_read(_find(folder, f"{part}-labels-idx1-ubyte")) for part in parts])
    return _scale(images), labels.long()


def _scale(images: torch.Tensor) -> torch.Tensor:
    return images[:, None].float() / 127.5 - 1


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"no {name} or {name}.gz in {folder}: install Debian's or Ubuntu's package dataset-fashion-mnist, or put the "
        "four IDX files of github.com/zalandoresearch/fashion-mnist into a folder and name it as root= or in the "
        f"environment variable {FOLDER_VARIABLE}; load_data('sample') needs no files"
    )


def _read(path: Path) -> torch.Tensor:
    """One IDX file of unsigned bytes: magic 0, 0, 8, number of dimensions, each as 4 bytes big-endian, the values."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}): fetch it again") from error
    expected = _SHA256.get(path.name.removesuffix(".gz"))
    if expected is not None and hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(f"{path} is not the published Fashion-MNIST file (its SHA-256 differs): fetch it again")
    dims = content[3]
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(dims)]
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=4 + 4 * dims).reshape(shape)
