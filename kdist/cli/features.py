"""``kdist features``: features of a folder, zip, npz or Python object, written to one file.

Bad input is a ValueError, OSError or ImportError, which the ``kdist`` command shows as one line (exit code 2).
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..files import cache_folder, prepare_file, printable
from .options import AllowUnknownWeights, Device, MaxBad, Size, Weights, first_process, value_limits

if TYPE_CHECKING:
    from kdist.evals import Features

__all__ = ["blaming", "features", "load_object"]

_NAMED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")  # module:name


class Resize(str, Enum):
    """Who resizes: PIL on the CPU as clean-fid does, or torch on the device."""

    pil = "pil"
    torch = "torch"


class Layout(str, Enum):
    """Where the channels of an array are."""

    NCHW = "NCHW"
    NHWC = "NHWC"


def features(
    source: Annotated[
        str,
        typer.Argument(
            help="folder (one subfolder per class, or flat), .zip, .npz, or module:name of a source, data set or "
            "a function that returns one"
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="the file to write: .npz or .safetensors")],
    extractor: Annotated[
        str,
        typer.Option(
            "--extractor",
            "-e",
            help="inception, clip, dinov2, digits, fashion, pixels, a TorchScript file or module:name",
        ),
    ] = "inception",
    labels: Annotated[Path | None, typer.Option(help="label file of a folder or zip: .csv, .tsv or .json")] = None,
    weights: Weights = None,
    allow_unknown_weights: AllowUnknownWeights = False,
    device: Device = "auto",
    resize: Annotated[Resize, typer.Option(help="pil (clean-fid's) or torch (on the device)")] = Resize.pil,
    size: Size = None,
    value_range: Annotated[
        str | None, typer.Option(help="black,white of float images in an .npz, for example -1,1 or 0,1")
    ] = None,
    layout: Annotated[Layout | None, typer.Option(help="NCHW or NHWC, where an .npz fits both")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="folder for the shards  [default: features in ~/.cache/kdist or $KDIST_CACHE]")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="images per network call")] = 64,
    shard_size: Annotated[int, typer.Option(help="images per shard, the most that a killed run loses")] = 256,
    workers: Annotated[int | None, typer.Option(help="reading threads  [default: cores, at most 8]")] = None,
    max_bad: MaxBad = 10,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress bar")] = False,
) -> None:
    """Extract features of labelled images; an interrupted run goes on where it stopped.

    Example:  kdist features images/ --extractor inception --out real.npz

    Several GPUs:  accelerate launch -m kdist.cli features images/ --out real.npz
    """
    from kdist.evals.features import build_extractor
    from kdist.evals.features.extraction import extract
    from kdist.evals.features.feature_set import check_path
    from kdist.evals.sources import as_source

    check_path(out)  # before any work
    prepare_file(out)
    images = as_source(
        load_object(source, "source", call=True),
        labels=labels,
        value_range=value_limits(value_range),
        layout=None if layout is None else layout.value,
    )
    network = build_extractor(
        load_object(extractor, "extractor"),
        device=device,
        weights=weights,
        allow_unknown_weights=allow_unknown_weights,
        resize=resize.value,
        size=size,
    )
    with blaming(source, extractor):
        result = extract(
            images,
            network,
            cache=cache or cache_folder() / "features",
            batch_size=batch_size,
            shard_size=shard_size,
            workers=workers,
            max_bad=max_bad,
            progress=not quiet,
        )
    if not first_process():
        return
    result.save(out)
    _say(result, out, network.name)


def _say(result: Features, out: Path, network: str) -> None:
    """What was set aside, and what the file holds."""
    for entry in result.bad:
        typer.echo(printable(f"set aside: {entry['name']}: {entry['reason']}"), err=True)
    difference = result.metadata.get("resize_difference")
    if difference is not None:
        typer.echo(
            f"torch's resizing against PIL's on {difference['images']} images: at most {difference['max']} of 255",
            err=True,
        )
    typer.echo(
        f"{out}: {len(result)} images in {len(set(result.y.tolist()))} classes, {result.x.shape[1]} features "
        f"({network}); {len(result.bad)} set aside"
    )


def load_object(text: str, what: str, *, call: bool = False) -> Any:
    """``module:name`` as the object it names (``call``: and a function as what it returns), else the text itself."""
    if not _NAMED.fullmatch(text) or Path(text).exists():
        return text
    module, _, name = text.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        with blaming(text):
            imported = importlib.import_module(module)
        found = getattr(imported, name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{what}: cannot import {text!r}: {error}") from error
    finally:
        sys.path.remove(os.getcwd())
    with blaming(text):
        return found() if call and callable(found) and not hasattr(found, "__getitem__") else found


@contextmanager
def blaming(*texts: str) -> Iterator[None]:
    """Errors that only somebody else's code can raise, as a ValueError that names it (a ``module:name``)."""
    names = [text for text in texts if _NAMED.fullmatch(text)]
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError):
        raise
    except (Exception, SystemExit) as error:  # a script's exit must not be taken for ours
        if not names:
            raise
        raise ValueError(f"{' or '.join(names)} raised {type(error).__name__}: {error}") from error
