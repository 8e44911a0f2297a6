"""What ``kdist tune`` can be pointed at: the shipped examples by name, or anyone's ``module:name``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .generators import generator
from .probing import Generate

if TYPE_CHECKING:
    from kdist.evals import Extractor

__all__ = ["SHIPPED", "Subject", "as_function", "linear_judge", "load_real", "shipped"]

SHIPPED = {"digits": 0.995, "fashion": 0.92}  # and about how often their real images are recognised
Range = tuple[float, float]


@dataclass(frozen=True)
class Subject:
    """A generator with what its samples are judged by, and the accuracy to ask for where nothing else is asked for."""

    generate: Generate
    real: tuple[torch.Tensor, Any]
    judge: Callable[[torch.Tensor], Any] | None
    accuracy: float | None = None


def shipped(name: str, *, steps: int, solver: str, device: str) -> Subject:
    """A shipped network with its real images and its classifier.

    Raises:
        ValueError: no such example.
    """
    if name not in SHIPPED:
        raise ValueError(f"what to tune must be {', '.join(SHIPPED)} or module:name; got {name!r}")
    example = import_module(f"kdist.{name}")
    real = example.load_data("all" if name == "digits" else "sample")
    generate = generator(
        example.load_model(device=device),
        example.sigmas(steps),
        real[0].shape[1:],
        solver=solver,
        uncond={"class_cond": example.UNCOND},
        weak_model=example.load_model(example.WEAK_MODEL_PATH, device=device),
        device=device,
    )
    classifier = example.load_classifier(device=device)
    return Subject(generate, real, lambda images: classifier.logits(images.to(device)), SHIPPED[name])


def load_real(path: str, value_range: Range) -> tuple[torch.Tensor, np.ndarray]:
    """Images of a folder, zip or npz in ``value_range``, (N, C, H, W) float32, and their labels."""
    from kdist.evals.sources import as_source

    floats = path.endswith(".npz") and Path(path).is_file() and _holds_floats(path)
    source = as_source(path, value_range=value_range if floats else None)
    low, high = value_range
    pictures = source.load(range(len(source.labels)))
    bad = [picture for picture in pictures if not isinstance(picture, np.ndarray)]
    if bad:
        raise ValueError(f"--real {path}: {len(bad)} images cannot be read ({bad[0]}); take them out")
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)  # type: ignore[arg-type]
    return images.float() / 255 * (high - low) + low, source.labels


def _holds_floats(path: str) -> bool:
    with np.load(path, allow_pickle=False) as data:
        return any(data[name].ndim > 2 and data[name].dtype.kind == "f" for name in data)


def as_function(extractor: Extractor, value_range: Range, batch: int = 64) -> Callable[[torch.Tensor], np.ndarray]:
    """An extractor as a function from images in ``value_range`` to (n, d)."""
    from kdist.evals.sources.pictures import as_pictures

    def features(images: torch.Tensor) -> np.ndarray:
        parts = []
        for start in range(0, len(images), batch):
            part = as_pictures(images[start : start + batch], value_range=value_range, layout="NCHW", name="images")
            parts.append(extractor([extractor.preprocessing.on_cpu(picture) for picture in part]))
        return np.concatenate(parts)

    return features


def linear_judge(
    features: Callable[[torch.Tensor], np.ndarray], images: torch.Tensor, labels: np.ndarray
) -> tuple[Callable[[torch.Tensor], np.ndarray], float]:
    """Logistic regression on the real images' features as the judge, and its cross-validated accuracy on them."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = features(images)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    folds = min(5, int(np.unique(labels, return_counts=True)[1].min()))
    accuracy = float(cross_val_score(model, x, labels, cv=folds).mean()) if folds > 1 else float("nan")
    model.fit(x, labels)
    return lambda images: model.predict(features(images)), accuracy
