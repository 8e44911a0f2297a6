"""``dinov2``: the class token of DINOv2, the features that agree best with human judgement in Stein et al.,
Exposing flaws of generative model evaluation metrics, NeurIPS 2023 (network: Oquab et al. 2023).

Images are resized by clean-fid's resizer to 224x224 and normalised with ImageNet's mean and deviation.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ..hashing import module_hash
from .extractor import Extractor
from .resize import ResizeMethod, resize_square, standardise

__all__ = ["DINOV2", "dinov2"]

DINOV2 = "facebook/dinov2-large"  # ViT-L/14, the size that the paper above used
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def dinov2(device: torch.device, weights: str | Path | None, *, resize: ResizeMethod = "pil") -> Extractor:
    """(n, 3, 224, 224) in [0, 255] to (n, 1024) for the default size.

    Args:
        device: where the network goes.
        weights: a local folder as transformers' ``save_pretrained`` writes it, or a hub name; None is
            :data:`DINOV2`. Only safetensors weights are read.
        resize: who resizes.

    Raises:
        ImportError: transformers is missing or cannot be imported.
        ValueError: no DINOv2 network with safetensors weights there.
    """
    name = str(weights or DINOV2)
    try:
        from transformers import AutoModel
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f"extractor 'dinov2' needs transformers (pip install 'kdist[diffusers]'), which could not be imported: "
            f"{error}. If torchvision does not match torch, call kdist.compat.repair_torchvision() first"
        ) from error
    try:
        model = AutoModel.from_pretrained(name, use_safetensors=True, trust_remote_code=False, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"weights: {name!r} is neither a folder with config.json and model.safetensors nor a reachable hub model "
            f"({error}); fetch the folder on a connected machine and pass its path (--weights DIR)"
        ) from error
    if not model.config.model_type.startswith("dinov2"):
        raise ValueError(f"weights: {name!r} holds a {model.config.model_type!r} network, not a DINOv2")
    model = model.to(device).eval().requires_grad_(False)

    def class_token(x: torch.Tensor) -> torch.Tensor:
        return model(pixel_values=standardise(x, _MEAN, _STD)).last_hidden_state[:, 0]

    return Extractor("dinov2", class_token, resize_square(224, resize), device, module_hash(model))
