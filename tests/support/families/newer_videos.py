"""Tiny pipelines of HunyuanVideo 1.5, Mochi, and image-to-video pipelines of CogVideoX and LTX, with random weights."""

from typing import Any

import torch

from codec_pixels.library_logging import silence_libraries

silence_libraries()

from diffusers import (
    AnimateDiffControlNetPipeline,
    AnimateDiffSDXLPipeline,
    AutoencoderKLHunyuanVideo15,
    AutoencoderKLMochi,
    ClassifierFreeGuidance,
    CogVideoXImageToVideoPipeline,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
    LTXConditionPipeline,
    MochiPipeline,
    MochiTransformer3DModel,
)

from tests.support.families import encoders, language_models
from tests.support.families.images import build_controlnet
from tests.support.families.newer_images import changed
from tests.support.families.videos import build_cogvideox, build_ltx, build_motion_adapter
from tests.support.tiny_sdxl import build_sdxl

_TARGET_SIDE = 80
"""Side of a square that contains the tests' size, 64x96, in patches of 16x16 pixels."""


def _hunyuan_15_parts() -> dict[str, Any]:
    torch.manual_seed(51)
    transformer = HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        num_refiner_layers=1,
        mlp_ratio=1.0,
        text_embed_dim=language_models.WIDTH,
        text_embed_2_dim=encoders.WIDTH,
        image_embed_dim=encoders.WIDTH,
        rope_axes_dim=(4, 6, 6),
        target_size=_TARGET_SIDE,
    )
    vae = AutoencoderKLHunyuanVideo15(
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8, 8),
        layers_per_block=1,
    )
    return {
        "vae": vae.eval(),
        "transformer": transformer.eval(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=7.0),
        "text_encoder": language_models.qwen_vl_text(),
        "tokenizer": language_models.qwen_tokenizer(),
        "text_encoder_2": encoders.byt5(),
        "tokenizer_2": encoders.byt5_tokenizer(),
        "guider": ClassifierFreeGuidance(),
    }


def build_hunyuan_15() -> HunyuanVideo15Pipeline:
    return HunyuanVideo15Pipeline(**_hunyuan_15_parts())


def build_hunyuan_15_image_to_video() -> HunyuanVideo15ImageToVideoPipeline:
    return HunyuanVideo15ImageToVideoPipeline(
        **_hunyuan_15_parts(),
        image_encoder=encoders.siglip_vision(),
        feature_extractor=encoders.siglip_image_processor(),
    )


def build_cogvideox_image_to_video(**settings: Any) -> CogVideoXImageToVideoPipeline:
    """Return a pipeline whose transformer has the additional settings `settings`."""
    parts = build_cogvideox().components
    torch.manual_seed(52)
    parts["transformer"] = changed(parts["transformer"], in_channels=8, **settings)
    return CogVideoXImageToVideoPipeline(**parts)


def build_ltx_condition() -> LTXConditionPipeline:
    return LTXConditionPipeline(**build_ltx().components)


def build_animatediff_controlnet() -> AnimateDiffControlNetPipeline:
    parts = build_controlnet().components
    names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler", "controlnet")
    return AnimateDiffControlNetPipeline(**{name: parts[name] for name in names}, motion_adapter=build_motion_adapter())


def build_animatediff_xl() -> AnimateDiffSDXLPipeline:
    parts = build_sdxl().components
    names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "scheduler")
    return AnimateDiffSDXLPipeline(**{name: parts[name] for name in names}, motion_adapter=build_motion_adapter())


def build_mochi() -> MochiPipeline:
    torch.manual_seed(53)
    transformer = MochiTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        pooled_projection_dim=16,
        text_embed_dim=encoders.WIDTH,
        time_embed_dim=4,
        activation_fn="swiglu",
    )
    vae = AutoencoderKLMochi(
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        layers_per_block=(1, 1, 1, 1, 1),
    )
    return MochiPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae.eval(),
        text_encoder=encoders.t5(),
        tokenizer=encoders.t5_tokenizer(),
        transformer=transformer.eval(),
    )
