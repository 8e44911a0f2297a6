"""Random networks of a few thousand weights, built from diffusers' configs, so that the examples run anywhere."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import diffusers
import torch
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

WIDTH = 8


def tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer whose only tokens are letters."""
    letters = string.ascii_lowercase
    words = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=16)


def text_encoder(kind: type = CLIPTextModel) -> Any:
    config = CLIPTextConfig(
        vocab_size=54,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        bos_token_id=52,
        eos_token_id=53,
    )
    return kind(config).eval()


def clip() -> CLIPModel:
    """Text and image encoder."""
    shared = {"hidden_size": WIDTH, "intermediate_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"vocab_size": 54, "max_position_embeddings": 16, "bos_token_id": 52, "eos_token_id": 53}
    torch.manual_seed(0)
    return CLIPModel(
        CLIPConfig(
            text_config={**shared, **text},
            vision_config={**shared, "image_size": 16, "patch_size": 8},
            projection_dim=WIDTH,
        )
    ).eval()


def save_clip(folder: Path) -> Path:
    """:func:`clip` in transformers' format, for images of 16 x 16 pixels."""
    clip().save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def unet(*, xl: bool = False) -> diffusers.UNet2DConditionModel:
    added = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 6 * 4 + WIDTH,
    }
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=2 * WIDTH if xl else WIDTH,  # SDXL concatenates its two text encoders
        attention_head_dim=4,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **(added if xl else {}),
    ).eval()


def vae() -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=2,
        layers_per_block=1,
    ).eval()


def stable_diffusion(scheduler: Any) -> diffusers.StableDiffusionPipeline:
    """The parts of Stable Diffusion 1.x."""
    torch.manual_seed(0)
    return diffusers.StableDiffusionPipeline(
        vae=vae(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(),
        unet=unet(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl_components(scheduler: Any) -> dict[str, Any]:
    """The parts of SDXL, by the names of its modular pipeline."""
    torch.manual_seed(0)
    return {
        "vae": vae(),
        "text_encoder": text_encoder(),
        "text_encoder_2": text_encoder(CLIPTextModelWithProjection),
        "tokenizer": tokenizer(),
        "tokenizer_2": tokenizer(),
        "unet": unet(xl=True),
        "scheduler": scheduler,
    }
