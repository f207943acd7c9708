"""The architectures of Stable Diffusion 1.5, SDXL and Flux.1 schnell at full size, with random weights.

The configurations are those of the published models. Nothing is downloaded: the tokenizers are those of the tests.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from bench.sd15 import clip_l, sd15_parts
from codec_pixels.library_logging import silence_libraries


@dataclass(frozen=True, slots=True)
class Architecture:
    """A pipeline to build on the default device, and the request with which it is measured."""

    build: Callable[[], Any]
    side: int
    """Width and height in pixels."""
    steps: int


def build_on(device: torch.device, dtype: torch.dtype, build: Callable[[], Any]) -> Any:
    """Return the pipeline of `build`, whose random weights are drawn on `device` in `dtype`."""
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            return build()
    finally:
        torch.set_default_dtype(default)


def build_sd15() -> Any:
    """Return Stable Diffusion 1.5."""
    silence_libraries()
    from diffusers import PNDMScheduler, StableDiffusionPipeline  # noqa: PLC0415 - takes seconds

    unet, vae = sd15_parts()
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=clip_l(),
        tokenizer=_clip_tokenizer(),
        unet=unet,
        scheduler=PNDMScheduler(beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def build_sdxl() -> Any:
    """Return Stable Diffusion XL 1.0."""
    silence_libraries()
    from diffusers import (  # noqa: PLC0415 - takes seconds
        EulerDiscreteScheduler,
        StableDiffusionXLPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection  # noqa: PLC0415

    unet = UNet2DConditionModel(
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=2048,
        attention_head_dim=(5, 10, 20),
        transformer_layers_per_block=(1, 2, 10),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    big_g = CLIPTextConfig(  # the text encoder of OpenCLIP ViT-bigG/14
        hidden_size=1280,
        intermediate_size=5120,
        num_hidden_layers=32,
        num_attention_heads=20,
        projection_dim=1280,
        hidden_act="gelu",
    )
    with torch.device("cpu"):  # where the scheduler needs its sigmas
        scheduler = EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        )
    return StableDiffusionXLPipeline(
        vae=_vae(sample_size=1024, scaling_factor=0.13025, force_upcast=True),
        text_encoder=clip_l(),
        text_encoder_2=CLIPTextModelWithProjection(big_g),
        tokenizer=_clip_tokenizer(),
        tokenizer_2=_clip_tokenizer(),
        unet=unet,
        scheduler=scheduler,
        add_watermarker=False,
    )


def build_flux_schnell() -> Any:
    """Return Flux.1 schnell."""
    silence_libraries()
    from diffusers import (  # noqa: PLC0415 - takes seconds
        FlowMatchEulerDiscreteScheduler,
        FluxPipeline,
        FluxTransformer2DModel,
    )
    from transformers import T5Config, T5EncoderModel  # noqa: PLC0415

    from tests.support.families.encoders import t5_tokenizer  # noqa: PLC0415

    transformer = FluxTransformer2DModel(
        in_channels=64,
        num_layers=19,
        num_single_layers=38,
        attention_head_dim=128,
        num_attention_heads=24,
        joint_attention_dim=4096,
        pooled_projection_dim=768,
        guidance_embeds=False,
        axes_dims_rope=(16, 56, 56),
    )
    xxl = T5Config(  # the encoder of T5 v1.1 XXL
        vocab_size=32128,
        d_model=4096,
        d_kv=64,
        d_ff=10240,
        num_layers=24,
        num_heads=64,
        feed_forward_proj="gated-gelu",
    )
    vae = _vae(
        sample_size=1024,
        latent_channels=16,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=vae,
        text_encoder=clip_l(),
        tokenizer=_clip_tokenizer(),
        text_encoder_2=T5EncoderModel(xxl),
        tokenizer_2=t5_tokenizer(),
        transformer=transformer,
    )


def _vae(**arguments: Any) -> Any:
    from diffusers import AutoencoderKL  # noqa: PLC0415 - takes seconds

    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        **arguments,
    )


def _clip_tokenizer() -> Any:
    from tests.support.families.encoders import clip_tokenizer  # noqa: PLC0415 - takes seconds

    return clip_tokenizer()


FULL: Mapping[str, Architecture] = {
    "sd15": Architecture(build_sd15, side=512, steps=25),
    "sdxl": Architecture(build_sdxl, side=1024, steps=25),
    "flux-schnell": Architecture(build_flux_schnell, side=1024, steps=4),
}
"""Architectures by name."""


def tiny_models() -> Mapping[str, Architecture]:
    """Return tiny pipelines of the same classes, by the same names."""
    from tests.support.families.images import build_flux  # noqa: PLC0415 - takes seconds
    from tests.support.tiny_sd import build_small_pipeline  # noqa: PLC0415
    from tests.support.tiny_sdxl import build_sdxl as build_tiny_sdxl  # noqa: PLC0415

    return {
        "sd15": Architecture(build_small_pipeline, side=64, steps=4),
        "sdxl": Architecture(build_tiny_sdxl, side=64, steps=4),
        "flux-schnell": Architecture(build_flux, side=64, steps=4),
    }
