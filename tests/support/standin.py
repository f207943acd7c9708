"""Builds a small, untrained Stable Diffusion pipeline: every part real, nothing learned.

Tests that need no picture generate with it. Its latents have the shape of SD-1's: 4 channels, one cell for 8x8 pixels.
The same seed gives the same weights.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from codec_pixels.quiet import quiet_libraries

quiet_libraries()  # before the imports that it quiets

from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from codec_maps.document import map_of_model
from codec_wire.maps.bundle import LatentMapBundle
from core.map_store import bundle_folder
from core.model import ModelInfo

SEED = 0
TEXT_WIDTH = 32
CONTEXT = 77
"""Tokens a prompt may have, as CLIP's."""
STATIC_SCALE = 5.0
"""Scale of int8 and int4 for every channel: 12 latents of 256x256, 20 steps, lay within 4.97 (deviation 1.06)."""


def build_pipeline(sample_size: int = 32) -> StableDiffusionPipeline:
    """Return the pipeline; `sample_size` is the side of its own latent, so 32 means 256x256 pixels."""
    torch.manual_seed(SEED)
    tokenizer = _byte_tokenizer()
    text_encoder = CLIPTextModel(text_config(tokenizer))
    unet = UNet2DConditionModel(
        sample_size=sample_size,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    vae = build_vae(scaling_factor=0.18215)
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder.eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def text_config(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    """Return the configuration of a text encoder that is `TEXT_WIDTH` wide, for that tokenizer."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=TEXT_WIDTH,
        max_position_embeddings=CONTEXT,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def build_vae(scaling_factor: float) -> AutoencoderKL:
    """Return a VAE with SD's shape of latents: 4 channels, one cell for 8x8 pixels."""
    return AutoencoderKL(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=8,
        scaling_factor=scaling_factor,
    )


def _byte_tokenizer() -> CLIPTokenizer:
    """Return a CLIP tokenizer whose vocabulary is the bytes, within and at the end of a word, and no merges."""
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        vocabulary, merges = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocabulary.write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
        merges.write_text("#version: 0.2\n")
        return CLIPTokenizer(str(vocabulary), str(merges), model_max_length=CONTEXT)


def build_bundle(latent_space: str, side: int = 256) -> LatentMapBundle:
    """Return the map of the stand-in's latents under the id `latent_space`, with scales for int8 and int4."""
    info = ModelInfo(
        name="standin",
        latent_space=latent_space,
        latent_channels=4,
        spatial_factor=8,
        size_multiple=8,
        default_size=(side, side),
    )
    scales = np.full(4, STATIC_SCALE, "<f2").tobytes()
    return map_of_model(info, 0.18215, "AutoencoderKL", {"int8": scales, "int4": scales})


def build(models_dir: Path, latent_space: str) -> None:
    """Write the pipeline to models_dir/standin and its latent-space map to where a server looks for it."""
    build_pipeline().save_pretrained(models_dir / "standin")
    build_bundle(latent_space).write(bundle_folder(models_dir, latent_space))
