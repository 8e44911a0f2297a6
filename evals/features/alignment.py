"""Do images show what their prompt says? The cosine of CLIP's embeddings of both (Hessel et al., EMNLP 2021).

    judge = load_clip("clip-vit-base-patch32", "cuda")
    cosines = prompt_alignment(judge, as_source("images/"), {0: "a red dog", 1: "two cats"})

Values mean little by themselves (0.2 to 0.35 for most networks and pictures) and are compared between sets of the same
prompts. Longer prompts than the network reads, 77 tokens, are cut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdist.files import read_text

from ..labels import check_names
from ..sources import BadImage, Source

__all__ = ["Clip", "load_clip", "prompt_alignment", "read_prompts"]

_AT_ONCE = 32  # images that go through the network together


@dataclass(frozen=True)
class Clip:
    """A CLIP model with what prepares its inputs, as transformers has them."""

    model: Any
    tokenizer: Any
    processor: Any


def load_clip(folder: str | Path, device: str | torch.device = "cpu") -> Clip:
    """A CLIP model in transformers' format; nothing is downloaded.

    Raises:
        FileNotFoundError: there is none at ``folder``.
        ValueError: files are missing there or do not fit.
        ImportError: transformers is missing.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"no transformers CLIP model at {folder}: a folder with config.json is needed")
    try:
        from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel
    except ImportError as error:
        raise ImportError("prompt alignment needs transformers: pip install 'kdist[diffusers]'") from error
    try:
        model: Any = CLIPModel.from_pretrained(folder, local_files_only=True)
        return Clip(
            model.to(device).eval(),
            AutoTokenizer.from_pretrained(folder, local_files_only=True),
            CLIPImageProcessor.from_pretrained(folder, local_files_only=True),
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(f"{folder} is no whole CLIP model in transformers' format: {error}") from error


def read_prompts(path: str | Path) -> list[str]:
    """One prompt per line; empty lines and lines that start with # are left out.

    Raises:
        ValueError: none, one twice (its images would be counted as two classes), or a file that is no UTF-8.
        OSError: no such file.
    """
    lines = read_text(Path(path)).splitlines()
    prompts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not prompts:
        raise ValueError(f"{path} has no prompt in it")
    check_names(str(path), prompts)
    twice = sorted({prompt for prompt in prompts if prompts.count(prompt) > 1})
    if twice:
        raise ValueError(f"{path} has prompts twice: {', '.join(map(repr, twice))}")
    return prompts


@torch.no_grad()
def prompt_alignment(
    clip: Clip, source: Source, prompts: Mapping[int, str], places: np.ndarray | None = None
) -> np.ndarray:
    """(N,) cosine between each image and the prompt of its label; nan for images that cannot be read or are left out.

    Args:
        clip: what :func:`load_clip` gives.
        source: N images; their labels say which prompt they were drawn for.
        prompts: the text of every label that occurs.
        places: images to look at; None for all.

    Raises:
        ValueError: a label without a prompt.
    """
    places = np.arange(len(source)) if places is None else np.asarray(places)
    labels = source.labels[places]
    missing = sorted(set(labels.tolist()) - prompts.keys())
    if missing:
        raise ValueError(f"prompts must have a text for every label; none for {missing[:5]}")
    device = clip.model.device
    cosines = np.full(len(source), np.nan)
    for label in np.unique(labels).tolist():
        tokens = clip.tokenizer([prompts[label]], return_tensors="pt", truncation=True).to(device)
        own = places[labels == label]
        for start in range(0, len(own), _AT_ONCE):
            batch = own[start : start + _AT_ONCE]
            loaded = source.load(batch.tolist())
            good = [not isinstance(picture, BadImage) for picture in loaded]
            pictures = [_coloured(picture) for picture in loaded if not isinstance(picture, BadImage)]
            if not pictures:
                continue
            pixels = clip.processor(images=pictures, return_tensors="pt", input_data_format="channels_last")
            found = clip.model(pixel_values=pixels.pixel_values.to(device), **tokens)
            cosines[batch[good]] = (found.image_embeds @ found.text_embeds.T)[:, 0].double().cpu()  # of unit length
    return cosines


def _coloured(picture: np.ndarray) -> np.ndarray:
    """Grey pictures in three channels, as CLIP's input has them."""
    return np.broadcast_to(picture, (*picture.shape[:2], 3)) if picture.shape[2] == 1 else np.array(picture)
