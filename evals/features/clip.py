"""``clip``: CLIP's ViT-B/32 image embedding, prepared as clean-fid does (Radford et al. 2021; Kynkäänniemi et al.
2023 on why to look at a second feature space).

The network always runs in float32; clean-fid leaves it in float16 on a GPU.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import torch

from .extractor import Extractor
from .resize import ResizeMethod, resize_and_crop, standardise
from .weights import PublishedFile, find_weights

__all__ = ["CLIP", "clip"]

_SHA256 = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
CLIP = PublishedFile(
    name="ViT-B-32.pt",
    url=f"https://openaipublic.azureedge.net/clip/models/{_SHA256}/ViT-B-32.pt",
    sha256=_SHA256,
)
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def clip(
    device: torch.device, weights: str | Path | None, *, resize: ResizeMethod = "pil", allow_unknown: bool = False
) -> Extractor:
    """(n, 3, 224, 224) in [0, 255] to (n, 512). Looks where the clip package keeps the file too.

    Raises:
        ImportError: the clip package is missing.
        ValueError: not the published weights, or no TorchScript file of a CLIP network.
    """
    model = _clip_models()
    path, digest = find_weights(CLIP, weights, allow_unknown=allow_unknown, also_in=(Path.home() / ".cache" / "clip",))
    try:
        state = torch.jit.load(str(path), map_location="cpu").state_dict()
        visual = model.build_model(dict(state)).visual.float()
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"weights: {path} is no TorchScript file of a CLIP network: {error}") from error
    visual = visual.to(device).eval().requires_grad_(False)
    preprocessing = resize_and_crop(visual.input_resolution, resize)
    return Extractor("clip", lambda x: visual(standardise(x, _MEAN, _STD)), preprocessing, device, digest)


def _clip_models() -> ModuleType:
    """The clip package's ``model.py`` by itself: its ``__init__`` imports torchvision, which is not needed here."""
    package = importlib.util.find_spec("clip")
    if package is None or not package.submodule_search_locations:
        raise ImportError("extractor 'clip' needs the clip package: pip install clip-anytorch 'setuptools<81'")
    file = Path(next(iter(package.submodule_search_locations))) / "model.py"
    spec = importlib.util.spec_from_file_location("_kdist_clip_model", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise ImportError(f"extractor 'clip': {file.parent} is not OpenAI's clip package (clip-anytorch)")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
