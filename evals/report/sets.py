"""What is compared: sets of features, each with the images they came from where these are at hand.

A path is a feature file (npz or safetensors with ``x`` and ``y``, as ``kdist features`` writes) or a source of images
(class folders, zip, npz of images), whose features are then extracted through the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kdist.files import cache_folder, printable

from ..features import Extractor, build_extractor
from ..features.extraction import content_hash, extract
from ..features.feature_set import Features, load_features, make_comparable
from ..labels import check_names
from ..npz import read_npz
from ..sources import Source, as_source
from ..sources.pictures import ValueRange

__all__ = ["MeasuredSet", "comparable", "open_sets"]


@dataclass(frozen=True)
class MeasuredSet:
    """One set of samples.

    Attributes:
        name: what the report calls it.
        path: the place it came from.
        features: (N, d) features, labels, places in the source.
        images: the source that ``features.index`` points into; None where the images are not at hand.
    """

    name: str
    path: str
    features: Features
    images: Source | None = None


def open_sets(
    real: str | Path,
    fakes: Sequence[str | Path],
    *,
    role: str = "real",
    names: Sequence[str] = (),
    extractor: str = "inception",
    weights: str | None = None,
    allow_unknown_weights: bool = False,
    size: int | None = None,
    device: str = "auto",
    value_range: ValueRange | None = None,
    cache: str | Path | None = None,
    batch_size: int = 64,
    max_bad: int = 10,
    progress: bool = False,
) -> list[MeasuredSet]:
    """The real set and the generated ones, in this order; class numbers are those of the real set.

    Everything that can be wrong without a network is looked at before the first image goes through one.

    Args:
        real: path of the real set.
        fakes: paths of the generated sets.
        role: What the first set is called, in messages too.
        names: Names of the generated sets; by default the file and folder names.
        extractor, weights, allow_unknown_weights, size, device: how images become features, :func:`build_extractor`.
        value_range: what black and white are, for npz files of float images.
        cache: folder for the features of images; default the user's cache folder.
        batch_size, max_bad, progress: the same as in :func:`extract`.

    Raises:
        ValueError: different extractors, unreadable files, a name twice; see also ``load_features``, ``as_source``.
        OSError: nothing at a path, or the disk is full.
    """
    paths = [Path(real), *map(Path, fakes)]
    called = [role, *_names(paths[1:], names)]
    opened = [_open(path, value_range) for path in paths]
    network: Extractor | None = None
    if any(isinstance(entry, Source) for entry in opened):
        network = build_extractor(
            extractor, device=device, weights=weights, allow_unknown_weights=allow_unknown_weights, size=size
        )
        _check_agrees(opened, called, network, role)
    sets = []
    for name, path, entry in zip(called, paths, opened, strict=True):
        if isinstance(entry, Features):
            sets.append(MeasuredSet(name, printable(str(path)), entry, _images_of(entry, value_range)))
            continue
        assert network is not None
        features = extract(
            entry,
            network,
            cache=cache or cache_folder() / "features",
            batch_size=batch_size,
            max_bad=max_bad,
            progress=progress,
        )
        sets.append(MeasuredSet(name, printable(str(path)), features, entry))
    return [sets[0], *(comparable(sets[0], entry, role=role) for entry in sets[1:])]


def _names(paths: list[Path], names: Sequence[str]) -> list[str]:
    if names and len(names) != len(paths):
        raise ValueError(f"give one --name for each of the {len(paths)} generated sets, in order; got {len(names)}")
    check_names("--name", names)
    called = list(names) or [printable(path.name if path.is_dir() else path.stem) for path in paths]
    if len(set(called)) < len(called) and not names:
        called = [printable(str(path)) for path in paths]
    twice = sorted({name for name in called if called.count(name) > 1})
    if twice:
        raise ValueError(f"two generated sets are called {twice[0]!r}; give each a name of its own with --name")
    return called


def _open(path: Path, value_range: ValueRange | None) -> Features | Source:
    if not path.exists():
        raise FileNotFoundError(f"nothing at {path}; give a feature file, a folder of images, a .zip or a .npz")
    if _holds_features(path):
        return load_features(path)
    return as_source(path, value_range=value_range if path.suffix == ".npz" else None)


def _holds_features(path: Path) -> bool:
    if path.suffix != ".npz" or not path.is_file():
        return path.suffix == ".safetensors"
    try:
        found = read_npz(path, only=("x", "metadata"))
    except ValueError:  # the reader of images says what is wrong
        return False
    return "x" in found and ("metadata" in found or found["x"].ndim < 3)


def _check_agrees(opened: list[Features | Source], called: list[str], network: Extractor, role: str) -> None:
    """Feature files come from the network that the images are about to go through."""
    for place, (name, entry) in enumerate(zip(called, opened, strict=True)):
        if isinstance(entry, Features):
            future = replace(entry, metadata={**network.identity, "classes": entry.metadata.get("classes", {})})
            real, fake = (future, entry) if place else (entry, future)
            try:
                make_comparable(real, fake, role=role)
            except ValueError as error:
                raise ValueError(f"{error} (the features of {name!r} are on file; --extractor is for images)") from None


def _images_of(features: Features, value_range: ValueRange | None) -> Source | None:
    """The images that a feature file was made from, if these very images are still where they were."""
    path = Path(str(features.metadata.get("source", "")))
    if not features.metadata.get("source") or not path.exists():
        return None
    try:
        source = as_source(path, value_range=value_range if path.suffix == ".npz" else None)
    except (ValueError, OSError):
        return None  # pictures are an extra: a report without them is whole
    if len(source) != features.metadata.get("images"):
        return None
    content = features.metadata.get("content")
    return source if content == content_hash(source) else None  # else other pictures stand there by now


def comparable(real: MeasuredSet, fake: MeasuredSet, *, role: str = "real") -> MeasuredSet:
    """``fake`` with the class numbers of ``real``, see :func:`make_comparable`."""
    try:
        return replace(fake, features=make_comparable(real.features, fake.features, role=role))
    except ValueError as error:
        raise ValueError(f"{real.path} and {fake.path}: {error}") from None


def describe(entry: MeasuredSet) -> dict[str, Any]:
    """A set in plain values, for JSON."""
    return {
        "name": entry.name,
        "path": entry.path,
        "samples": len(entry.features),
        "dimension": entry.features.x.shape[1],
        "metadata": entry.features.metadata,
    }
