"""Tiny pipelines of Wan, and of the models that share its transformer and VAE, with random weights."""

from typing import Any

import torch

from codec_pixels.library_logging import silence_libraries

silence_libraries()

from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    SanaVideoPipeline,
    SanaVideoTransformer3DModel,
    SkyReelsV2ImageToVideoPipeline,
    SkyReelsV2Pipeline,
    SkyReelsV2Transformer3DModel,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)

from tests.support.families import encoders
from tests.support.families.videos import build_wan

_SIZES = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "out_channels": 16,
    "text_dim": encoders.WIDTH,
    "freq_dim": 32,
    "ffn_dim": 32,
    "num_layers": 2,
    "rope_max_seq_len": 64,
}
_WITH_CONDITION = 36
"""Input channels for the noisy latents, the mask of given frames and the latents of the input image."""


def _parts(transformer_class: Any = None, **sizes: Any) -> dict[str, Any]:
    """Return the parts of Wan, with another transformer if `transformer_class` is given."""
    parts = {name: part for name, part in build_wan().components.items() if part is not None}
    if transformer_class is not None:
        torch.manual_seed(41)
        parts["transformer"] = transformer_class(**{"in_channels": 16, **_SIZES, **sizes}).eval()
    return parts


def build_wan_22() -> WanPipeline:
    """Return a pipeline with a transformer for each half of the noise levels, as in Wan 2.2."""
    low_noise = _parts(WanTransformer3DModel)["transformer"]
    return WanPipeline(**_parts(), transformer_2=low_noise, boundary_ratio=0.5)


def build_wan_image_to_video() -> WanImageToVideoPipeline:
    return WanImageToVideoPipeline(**_parts(WanTransformer3DModel, in_channels=_WITH_CONDITION))


def build_wan_image_to_video_22() -> WanImageToVideoPipeline:
    """Return a pipeline whose input image is the first frame, as in the small model of Wan 2.2."""
    return WanImageToVideoPipeline(**_parts(WanTransformer3DModel), expand_timesteps=True)


def build_wan_vace() -> WanVACEPipeline:
    return WanVACEPipeline(**_parts(WanVACETransformer3DModel, vace_layers=[0], vace_in_channels=96))


def build_skyreels() -> SkyReelsV2Pipeline:
    return SkyReelsV2Pipeline(**_parts(SkyReelsV2Transformer3DModel))


def build_skyreels_image_to_video() -> SkyReelsV2ImageToVideoPipeline:
    parts = _parts(SkyReelsV2Transformer3DModel, in_channels=_WITH_CONDITION, image_dim=encoders.WIDTH)
    return SkyReelsV2ImageToVideoPipeline(
        **parts, image_encoder=encoders.clip_vision(), image_processor=encoders.clip_image_processor()
    )


def build_sana_video(vae: Any = None) -> SanaVideoPipeline:
    """Return a pipeline with `vae`, by default the VAE of Wan."""
    torch.manual_seed(42)
    if vae is None:
        vae = AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    channels = vae.config.z_dim if "z_dim" in vae.config else vae.config.latent_channels
    transformer = SanaVideoTransformer3DModel(
        in_channels=channels,
        out_channels=channels,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=encoders.WIDTH,
        sample_size=8,
    )
    return SanaVideoPipeline(
        tokenizer=encoders.gemma_tokenizer(),
        text_encoder=encoders.gemma(),
        vae=vae.eval(),
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )
