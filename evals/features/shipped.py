"""``digits`` and ``fashion``: the shipped classifiers, whose features say what they take each image for, too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from kdist import digits, fashion

from ..hashing import file_hash
from .extractor import Extractor, Preprocessing
from .resize import to_chw, to_grey

__all__ = ["SHIPPED", "shipped"]

SHIPPED = {"digits": (digits, "digits"), "fashion": (fashion, "garments")}  # with what they judge


def shipped(name: str, device: torch.device, weights: str | Path | None) -> Extractor:
    """A shipped classifier's features, (n, 64); colour becomes grey, images of another size are refused.

    Raises:
        FileNotFoundError, ValueError: weights of another network, or none at that path.
    """
    example, judged = SHIPPED[name]
    path = Path(weights or example.classifier.CLASSIFIER_PATH)
    model = example.load_classifier(path, device=device)
    _, height, width = model.shape
    size = f"{width}x{height}"

    def prepare(image: np.ndarray) -> torch.Tensor:
        if image.shape[:2] != (height, width):
            got = f"{image.shape[1]}x{image.shape[0]}"
            raise ValueError(f"extractor {name!r} judges {size} {judged}; got an image of {got}")
        return to_chw(to_grey(image))

    return Extractor(
        name,
        lambda x: model.features(x / 127.5 - 1),
        Preprocessing(f"grey {size}", prepare),
        device,
        file_hash(path),
        classify=model.head,
        recognises=example.CLASS_NAMES,
    )
