"""A second, weaker network in place of the negative prompt: autoguidance (Karras et al. 2024, arXiv 2406.02507)."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["attach_weak_model", "predict_weakly"]

KEY = "kdist_weak"


def attach_weak_model(model: Any, weak_model: Any) -> None:
    """Have ComfyUI load ``weak_model`` whenever it loads ``model`` (both ``ModelPatcher``).

    Raises:
        ValueError: another architecture, or two versions of one set of weights, of which only one can be loaded.
    """
    kinds = [type(patcher.model).__name__ for patcher in (model, weak_model)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"the weak model is a {kinds[1]}, the model a {kinds[0]}: they must be of the same architecture"
        )
    if weak_model.is_clone(model) and weak_model.patches_uuid != model.patches_uuid:
        raise ValueError(
            "the weak model shares its weights with the model (a LoRA on one of them?), and only one version can be "
            "loaded at a time: load the weak model with a loader of its own"
        )
    model.set_additional_models(KEY, [weak_model])


def predict_weakly(model: Any, cond: Any, args: dict[str, Any]) -> torch.Tensor:
    """The weak network's prediction for ``cond``; ``args`` as of ``sampler_calc_cond_batch_function``."""
    import comfy.model_patcher  # there only inside ComfyUI
    import comfy.samplers

    (weak,) = model.get_additional_models_with_key(KEY)
    if weak.model.current_patcher is None:
        weak.pre_run()
    options = comfy.model_patcher.create_model_options_clone(weak.model_options)
    of_run = args["model_options"].get("transformer_options", {})
    options["transformer_options"].update({name: of_run[name] for name in ("sample_sigmas",) if name in of_run})
    return comfy.samplers.calc_cond_batch(weak.model, [cond], args["input"], args["sigma"], options)[0]
