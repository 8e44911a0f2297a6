"""Where images come from: folders, zip archives, npz files, tensors, torch data sets, samplers.

source = as_source("images/")                       # one folder per class
source = as_source("images.zip", labels="labels.csv")
source = as_source((images, labels), value_range=(-1, 1))
source = SamplerSource(model, K.sampling.sample_dpmpp_2m, sigmas, labels, shape=(3, 64, 64))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from .arrays import ArraySource, open_npz
from .base import BadImage, Source
from .datasets import DatasetSource
from .files import FileSource, open_folder, open_zip
from .pictures import Layout, ValueRange, quantise
from .sampler import GeneratorSource, SamplerSource, sample_seeds

__all__ = [
    "ArraySource",
    "BadImage",
    "DatasetSource",
    "FileSource",
    "GeneratorSource",
    "SamplerSource",
    "Source",
    "as_source",
    "quantise",
    "sample_seeds",
]


def as_source(
    source: Any, *, labels: Any = None, value_range: ValueRange | None = None, layout: Layout | None = None
) -> Source:
    """Make a :class:`Source` of whatever holds images.

    Args:
        source: a folder, a ``.zip`` or ``.npz`` path, a tensor or array of images, a pair ``(images, labels)``, a
            map-style torch data set, or a Source.
        labels: a label file for folders and zips, (N,) labels for tensors and data sets.
        value_range: what black and white are in floats; required for float images, useless for files.
        layout: ``NCHW`` or ``NHWC``, where a shape fits both.

    Raises:
        ValueError: nothing there that can be read; see the single sources.
        FileNotFoundError: no such path.

    Examples:
        >>> import torch
        >>> from kdist.evals import as_source
        >>> len(as_source((torch.rand(6, 3, 16, 16), [0, 0, 0, 1, 1, 1]), value_range=(0, 1)))
        6
    """
    if isinstance(source, Source):
        if labels is not None or value_range is not None or layout is not None:
            raise ValueError("source is complete: give labels, value_range and layout where it is made")
        return source
    if isinstance(source, str | Path):
        return _open_path(Path(source), labels, value_range, layout)
    if isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], torch.Tensor | np.ndarray):
        if labels is not None:
            raise ValueError("labels given twice: in source=(images, labels) and as labels")
        source, labels = source
    if isinstance(source, torch.Tensor | np.ndarray):
        return ArraySource(source, labels, value_range=value_range, layout=layout)
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return DatasetSource(source, labels, value_range=value_range, layout=layout)
    raise ValueError(
        "source must be a folder, a .zip or .npz file, images, (images, labels), a torch data set or a Source; "
        f"got {type(source).__name__}"
    )


def _open_path(path: Path, labels: Any, value_range: ValueRange | None, layout: Layout | None) -> Source:
    if path.suffix.lower() == ".npz" and path.is_file():
        if labels is not None:
            raise ValueError(f"labels: {path} carries its own labels (labels, y or arr_1)")
        return open_npz(path, value_range=value_range, layout=layout)
    if value_range is not None or layout is not None:
        raise ValueError(f"value_range and layout are for arrays; {path} holds image files")
    if path.is_dir():
        return open_folder(path, labels)
    if not path.exists():
        raise FileNotFoundError(f"source: nothing at {path}")
    if path.suffix.lower() == ".zip" and path.is_file():
        return open_zip(path, labels)
    raise ValueError(f"source: {path} is neither a folder nor a .zip or .npz file")
