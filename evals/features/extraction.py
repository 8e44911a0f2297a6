"""From a source of images to features: shard by shard, resumable, on one process or many.

The images are cut into shards of consecutive ones; process k of P takes every P-th. A shard that is in the cache under
its key (content, weights, preprocessing, number format) is not computed again. Batches never cross shards, so the
arithmetic, and with it every bit of the result, does not depend on where a run was interrupted or on P.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from ..sources import BadImage, Source, as_source
from ..sources.pictures import Layout, ValueRange
from .build import build_extractor
from .cache import Shard, ShardCache, shard_key
from .extractor import Extractor
from .feature_set import Features

__all__ = ["content_hash", "extract", "world_size"]

_COMPARED_IMAGES = 8  # for the difference between torch's and PIL's resizing
T = TypeVar("T")


def extract(
    source: Any,
    extractor: str | Path | Extractor | Callable[[torch.Tensor], torch.Tensor],
    *,
    labels: Any = None,
    value_range: ValueRange | None = None,
    layout: Layout | None = None,
    cache: str | Path | None = None,
    batch_size: int = 64,
    shard_size: int = 256,
    workers: int | None = None,
    max_bad: int = 10,
    progress: bool = False,
) -> Features:
    """Features of all images of a source.

    Under ``accelerate launch`` (or torchrun) the processes share the work and each returns all features; they meet
    in ``cache``, which must be a folder that all of them see.

    Args:
        source: what :func:`as_source` takes; ``labels``, ``value_range`` and ``layout`` are passed on to it.
        extractor: an :class:`Extractor`, or what :func:`build_extractor` takes as a name.
        cache: folder for the shards; None keeps nothing, and an interrupted run starts again.
        batch_size: images per network call.
        shard_size: images per shard, the most that a killed run loses.
        workers: threads that read and prepare images; None is the number of cores, at most 8.
        max_bad: how many unreadable images are set aside before the run stops.
        progress: show a progress bar on the standard error.

    Raises:
        ValueError: nothing usable in the source, more than ``max_bad`` bad images, NaN features, images that do not
            suit the extractor, or several processes without a common cache.
        OSError: the disk is full; finished shards stay.

    Examples:
        >>> from kdist import digits
        >>> from kdist.evals import extract
        >>> images, labels = digits.load_data()
        >>> features = extract((images[:20], labels[:20]), "digits", value_range=(-1, 1))
        >>> features.x.shape, features.y[:4]
        ((20, 64), array([0, 1, 2, 3]))
    """
    for option, value, least in (("batch_size", batch_size, 1), ("shard_size", shard_size, 1), ("max_bad", max_bad, 0)):
        if value < least:
            raise ValueError(f"{option} must be at least {least}; got {value}")
    source = as_source(source, labels=labels, value_range=value_range, layout=layout)
    extractor = extractor if isinstance(extractor, Extractor) else build_extractor(extractor)
    state = _processes(extractor.device)
    rank, world = (0, 1) if state is None else (state.process_index, state.num_processes)
    if world > 1 and (cache is None or extractor.weights is None):
        raise ValueError(
            f"{world} processes exchange features through a cache: give a folder that all see (cache=, --cache)"
            + (", and key= to the extractor, which says nothing of its weights" if extractor.weights is None else "")
        )
    source.check_scale()
    store = ShardCache(cache if extractor.weights is not None else None)
    shards = [range(start, min(start + shard_size, len(source))) for start in range(0, len(source), shard_size)]
    mine = shards[rank::world]
    contents: dict[int, bytes] = {}
    bad_images: list[str] = []
    with (
        ThreadPoolExecutor(workers or _default_workers()) as pool,
        _progress_bar(progress and rank == 0, sum(map(len, mine))) as advance,
    ):
        for indices in mine:
            content = _digests(source, indices, pool) if store.persistent else b""
            shard = store.get(_key(content, extractor)) if content else None
            if shard is None:
                content, shard = _compute(source, indices, extractor, batch_size, pool)
                store.put(_key(content, extractor), shard)
            contents[indices.start] = content
            bad_images += [_describe(source, indices[place], reason) for place, reason in shard.bad.items()]
            _check_bad(bad_images, max_bad)
            advance(len(indices))
        difference = _resize_difference(source, extractor, pool)
    for start, content in _gather(state, contents):
        contents[start] = content
    ordered = [contents[indices.start] for indices in shards]
    return _assemble(source, shards, ordered, store, extractor, max_bad, difference)


def content_hash(source: Source, workers: int | None = None) -> str:
    """What :func:`extract` calls ``content`` in the metadata: one hash of all images, whatever the shards."""
    with ThreadPoolExecutor(workers or _default_workers()) as pool:
        return hashlib.sha256(_digests(source, range(len(source)), pool)).hexdigest()


def _default_workers() -> int:
    return min(8, os.cpu_count() or 1)


def _digests(source: Source, indices: range, pool: Executor) -> bytes:
    """The hashes of a shard's images, one after the other."""
    return b"".join((pool.map if source.concurrent else map)(source.digest, indices))


def _key(content: bytes, extractor: Extractor) -> str:
    return shard_key(hashlib.sha256(content).hexdigest(), extractor.identity)


def _compute(
    source: Source, indices: range, extractor: Extractor, batch_size: int, pool: Executor
) -> tuple[bytes, Shard]:
    """Load, prepare and embed a shard; the next batch is prepared while the network runs.

    Returns the digests of what was embedded, too: an image may have been replaced since its digest was asked for.
    """

    def prepare(batch: Sequence[int]) -> list[tuple[bytes, torch.Tensor | BadImage]]:
        return list(pool.map(prepare_one, batch, source.load_hashed(batch, pool)))

    def prepare_one(index: int, found: tuple[bytes, np.ndarray | BadImage]) -> tuple[bytes, torch.Tensor | BadImage]:
        digest, image = found
        try:
            return digest, image if isinstance(image, BadImage) else extractor.preprocessing.on_cpu(image)
        except ValueError as error:
            raise ValueError(f"{source.name(index)}: {error}") from error

    batches = [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
    digests: list[bytes] = []
    features: list[np.ndarray] = []
    kept: list[int] = []
    bad: dict[int, str] = {}
    for batch, prepared in zip(batches, _ahead(prepare, batches, source.concurrent), strict=True):
        usable: list[tuple[int, torch.Tensor]] = []
        for i, (digest, image) in zip(batch, prepared, strict=True):
            digests.append(digest)
            if isinstance(image, BadImage):
                bad[i - indices.start] = image.reason
            else:
                usable.append((i, image))
        if usable:
            features.append(_embed(source, extractor, usable))
            kept += [i - indices.start for i, _ in usable]
    x = np.concatenate(features) if features else np.zeros((0, 0), dtype=np.float32)
    return b"".join(digests), Shard(x, np.array(kept, dtype=np.int64), bad)


def _embed(source: Source, extractor: Extractor, usable: Sequence[tuple[int, torch.Tensor]]) -> np.ndarray:
    try:
        x = extractor([image for _, image in usable])
    except RuntimeError as error:  # the network's own: shapes that it does not take, memory
        names = ", ".join(source.name(index) for index, _ in usable[:3])
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"extractor {extractor.name!r} fails on a batch of {len(usable)} images ({names}, ...): {why[-1]} (do they "
            "have the size it takes? size=, --size resizes them)"
        ) from error
    wrong = [source.name(usable[row][0]) for row in np.flatnonzero(~np.isfinite(x).all(axis=1))]
    if wrong:
        raise ValueError(
            f"extractor {extractor.name!r} gives NaN or infinite features for {len(wrong)} images of a batch "
            f"({', '.join(wrong[:3])}); check its weights and the scale of its input ([0, 255])"
        )
    return x


def _ahead(prepare: Callable[[range], T], batches: list[range], concurrent: bool) -> Iterator[T]:
    """``map(prepare, batches)``, one batch ahead in another thread if the source allows it."""
    if not concurrent:
        yield from map(prepare, batches)
        return
    with ThreadPoolExecutor(1) as ahead:
        pending = ahead.submit(prepare, batches[0])
        for batch in batches[1:]:
            done, pending = pending, ahead.submit(prepare, batch)
            yield done.result()
        yield pending.result()


def _assemble(
    source: Source,
    shards: list[range],
    contents: list[bytes],
    store: ShardCache,
    extractor: Extractor,
    max_bad: int,
    difference: dict[str, Any] | None,
) -> Features:
    """All shards as one set of features."""
    x: list[np.ndarray] = []
    index: list[np.ndarray] = []
    bad: list[dict[str, Any]] = []
    for indices, content in zip(shards, contents, strict=True):
        shard = store.get(_key(content, extractor))
        if shard is None:
            raise ValueError(
                f"the shard of images {indices.start} to {indices.stop - 1} is not in {store.folder}: all processes "
                "must see one cache folder, and nothing may delete from it during a run"
            )
        if len(shard.features):
            x.append(shard.features)
        index.append(shard.kept + indices.start)
        bad += [
            {"index": indices[place], "name": source.name(indices[place]), "reason": reason}
            for place, reason in shard.bad.items()
        ]
    _check_bad([f"{entry['name']}: {entry['reason']}" for entry in bad], max_bad)
    if not x:
        why = f": {bad[0]['name']}: {bad[0]['reason']}, ..." if bad else ""
        raise ValueError(f"source: not one usable image among the {len(source)} of {source.description}{why}")
    if len({features.shape[1] for features in x}) > 1:
        raise ValueError(f"extractor {extractor.name!r} gives features of several lengths; resize the images (size=)")
    rows = np.concatenate(index)
    metadata = {
        **extractor.identity,
        "source": source.description,
        "content": hashlib.sha256(b"".join(contents)).hexdigest(),
        "images": len(source),
        "classes": {str(label): name for label, name in source.classes.items()},
        "bad": bad,
    }
    if difference is not None:
        metadata["resize_difference"] = difference
    seeds = None if source.seeds is None else np.array(source.seeds, dtype=np.uint64)[rows]
    features = np.concatenate(x)
    predictions = extractor.predict(features)
    if predictions is not None:
        metadata["recognises"] = {str(code): name for code, name in enumerate(extractor.recognises)}
    return Features(features, source.labels[rows], rows, metadata, seeds, predictions)


def _resize_difference(source: Source, extractor: Extractor, pool: Executor) -> dict[str, Any] | None:
    """How far the device's resizing is from PIL's on the first images, in grey levels of 255; None if PIL does it."""
    compare = extractor.preprocessing.difference
    if compare is None:
        return None
    images = source.load(range(min(_COMPARED_IMAGES, len(source))), pool)
    differences = [compare(image) for image in images if not isinstance(image, BadImage)]
    if not differences:
        return None
    return {
        "unit": "grey levels of 255, torch against PIL",
        "images": len(differences),
        "max": round(max(float(difference.max()) for difference in differences), 6),
        "mean": round(sum(float(difference.mean()) for difference in differences) / len(differences), 6),
    }


def _describe(source: Source, index: int, reason: str) -> str:
    return f"{source.name(index)}: {reason}"


def _check_bad(bad: list[str], max_bad: int) -> None:
    if len(bad) > max_bad:
        raise ValueError(
            f"{len(bad)} images could not be used, more than max_bad={max_bad}: {'; '.join(bad[:3])}"
            f"{'; ...' if len(bad) > 3 else ''}. Repair or remove them, or raise max_bad (--max-bad); what is "
            "finished stays in the cache"
        )


def world_size() -> int:
    """How many processes share the work: ``WORLD_SIZE`` of accelerate and torchrun, 1 where it is not set or empty.

    Raises:
        ValueError: it is no whole number.
    """
    text = os.environ.get("WORLD_SIZE") or "1"
    if not text.isdecimal():
        raise ValueError(f"the environment's WORLD_SIZE must be a number of processes; got {text!r}: unset it")
    return int(text)


def _processes(device: torch.device) -> Any:
    """accelerate's state when there are several processes, else None."""
    if world_size() < 2:
        return None
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise ImportError("several processes need accelerate: pip install accelerate") from error
    return PartialState(cpu=device.type == "cpu")


def _gather(state: Any, contents: dict[int, bytes]) -> list[tuple[int, bytes]]:
    """Every process's digests, once all shards are written."""
    if state is None:
        return []
    from accelerate.utils import gather_object

    state.wait_for_everyone()
    return gather_object(list(contents.items()))


@contextmanager
def _progress_bar(shown: bool, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on the standard error, or nothing; gives ``advance(count)``."""
    if not shown:
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("features"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("features", total=total)
        yield lambda count: progress.advance(task, count)
