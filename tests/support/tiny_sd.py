"""A small Stable Diffusion pipeline with random weights, for tests that do not look at the images.

All components are real diffusers and transformers classes. The latents have the shape of Stable Diffusion 1's:
4 channels, one latent pixel per 8x8 pixels. The weights are the same in every process.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from codec_pixels.library_logging import silence_libraries

silence_libraries()  # must be called before diffusers and transformers are imported

from diffusers import (  # noqa: E402
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from tokenizers.pre_tokenizers import ByteLevel  # noqa: E402
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer  # noqa: E402

from codec_maps.model_map import map_from_model  # noqa: E402
from codec_wire.maps.bundle import LatentMapBundle  # noqa: E402
from core.map_store import bundle_folder  # noqa: E402
from core.model import ModelInfo  # noqa: E402

SEED = 0
TEXT_WIDTH = 32
"""Width of the text encoder's hidden states."""
MAX_TOKENS = 77
"""Maximum length of a prompt in tokens, as in CLIP."""
STATIC_SCALE = 5.0
"""Scale of int8 and int4 for every channel; the largest value in 12 latents (256x256, 20 steps) was 4.97."""


def build_pipeline(sample_size: int = 32) -> StableDiffusionPipeline:
    """Return the pipeline. `sample_size` is the side of its default latent: 32 for images of 256x256 pixels."""
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


def build_small_pipeline() -> StableDiffusionPipeline:
    """Return the pipeline with a default size of 64x64 pixels, which takes less time to generate."""
    return build_pipeline(sample_size=8)


def text_config(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    """Return the configuration of a text encoder of width TEXT_WIDTH for `tokenizer`."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=TEXT_WIDTH,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def build_vae(scaling_factor: float) -> AutoencoderKL:
    """Return a VAE whose latents have 4 channels and one latent pixel per 8x8 pixels."""
    return AutoencoderKL(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=8,
        scaling_factor=scaling_factor,
    )


def _byte_tokenizer() -> CLIPTokenizer:
    """Return a CLIP tokenizer without merges: one token per byte, and another for a byte at the end of a word."""
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        vocabulary, merges = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocabulary.write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
        merges.write_text("#version: 0.2\n")
        return CLIPTokenizer(str(vocabulary), str(merges), model_max_length=MAX_TOKENS)


def build_bundle(latent_space: str, side: int = 256) -> LatentMapBundle:
    """Return a map of the pipeline's latents with the id `latent_space`; `side` is the default size in pixels."""
    info = ModelInfo(
        name="tiny-sd",
        latent_space=latent_space,
        latent_channels=4,
        spatial_factor=8,
        size_multiple=8,
        default_size=(side, side),
    )
    scales = np.full(4, STATIC_SCALE, "<f2").tobytes()
    return map_from_model(info, 0.18215, "AutoencoderKL", {"int8": scales, "int4": scales})


def save_model_and_map(models_dir: Path, latent_space: str) -> None:
    """Write the pipeline to models_dir/tiny-sd, and its map to the path in `models_dir` where a server reads it."""
    build_pipeline().save_pretrained(models_dir / "tiny-sd")
    build_bundle(latent_space).write(bundle_folder(models_dir, latent_space))
