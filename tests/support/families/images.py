"""Tiny image pipelines with random weights, one function per family."""

from typing import Any

import torch

from codec_pixels.library_logging import silence_libraries

silence_libraries()

from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    ControlNetModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLControlNetPipeline,
    UNet2DConditionModel,
)

from tests.support.families import encoders
from tests.support.tiny_sd import build_pipeline, build_vae
from tests.support.tiny_sdxl import build_sdxl


def shifted_vae() -> AutoencoderKL:
    """Return a VAE like that of Stable Diffusion 3 and Flux: 16 channels, and a shift in addition to the scale."""
    return AutoencoderKL(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=16,
        norm_num_groups=8,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def build_sd3(blocks: int = 1) -> StableDiffusion3Pipeline:
    """Return a pipeline with `blocks` blocks. A ControlNet changes the output of all blocks except the last one."""
    torch.manual_seed(3)
    transformer = SD3Transformer2DModel(
        sample_size=16,
        num_layers=blocks,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=64,
        caption_projection_dim=32,
        pooled_projection_dim=2 * encoders.WIDTH,
    )
    tokenizer = encoders.clip_tokenizer()
    return StableDiffusion3Pipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=shifted_vae(),
        text_encoder=encoders.clip_with_projection(),
        tokenizer=tokenizer,
        text_encoder_2=encoders.clip_with_projection(),
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def build_flux(blocks: int = 1) -> FluxPipeline:
    """Return a pipeline with `blocks` blocks of each of the two kinds."""
    torch.manual_seed(4)
    transformer = FluxTransformer2DModel(
        in_channels=64,
        num_layers=blocks,
        num_single_layers=blocks,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=encoders.WIDTH,
        pooled_projection_dim=encoders.WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 8),
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=shifted_vae(),
        text_encoder=encoders.clip(),
        tokenizer=encoders.clip_tokenizer(),
        text_encoder_2=encoders.t5(),
        tokenizer_2=encoders.t5_tokenizer(),
        transformer=transformer.eval(),
    )


def _pixart(pipeline_class: Any, seed: int) -> Any:
    torch.manual_seed(seed)
    transformer = PixArtTransformer2DModel(
        sample_size=16,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=encoders.WIDTH,
        norm_num_groups=8,
        use_additional_conditions=False,
    )
    return pipeline_class(
        tokenizer=encoders.t5_tokenizer(),
        text_encoder=encoders.t5(),
        vae=build_vae(scaling_factor=0.13025),
        transformer=transformer.eval(),
        scheduler=DPMSolverMultistepScheduler(),
    )


def build_pixart_alpha() -> PixArtAlphaPipeline:
    return _pixart(PixArtAlphaPipeline, 5)


def build_pixart_sigma() -> PixArtSigmaPipeline:
    return _pixart(PixArtSigmaPipeline, 6)


def build_sana() -> SanaPipeline:
    torch.manual_seed(7)
    transformer = SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=encoders.WIDTH,
        sample_size=8,
    )
    blocks = {f"{part}_block_types": ("ResBlock", "ResBlock", "EfficientViTBlock") for part in ("encoder", "decoder")}
    widths = {f"{part}_block_out_channels": (8, 8, 16) for part in ("encoder", "decoder")}
    depths = {f"{part}_layers_per_block": (1, 1, 1) for part in ("encoder", "decoder")}
    scales: dict[str, Any] = {f"{part}_qkv_multiscales": ((), (), (5,)) for part in ("encoder", "decoder")}
    vae = AutoencoderDC(
        latent_channels=4, attention_head_dim=8, scaling_factor=0.41407, **blocks, **widths, **depths, **scales
    )
    return SanaPipeline(
        tokenizer=encoders.gemma_tokenizer(),
        text_encoder=encoders.gemma(),
        vae=vae.eval(),
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def build_sd_inpainting() -> StableDiffusionInpaintPipeline:
    """Return a pipeline whose UNet was made for inpainting: its input includes the mask and the masked image."""
    pipeline = build_pipeline()
    torch.manual_seed(9)
    unet = UNet2DConditionModel.from_config(pipeline.unet.config, in_channels=9)
    return StableDiffusionInpaintPipeline(**pipeline.components | {"unet": unet.eval()}, requires_safety_checker=False)


def _with_controlnet(pipeline: Any, pipeline_class: Any, **arguments: Any) -> Any:
    torch.manual_seed(8)
    controlnet = ControlNetModel.from_unet(pipeline.unet, conditioning_embedding_out_channels=(8, 8, 8, 8))
    for name, weight in controlnet.named_parameters():
        if "controlnet_" in name:  # initialised to zero: the ControlNet would have no effect
            torch.nn.init.normal_(weight, std=0.1)
    return pipeline_class(**pipeline.components | {"controlnet": controlnet.eval()}, **arguments)


def build_controlnet() -> StableDiffusionControlNetPipeline:
    return _with_controlnet(build_pipeline(), StableDiffusionControlNetPipeline, requires_safety_checker=False)


def build_controlnet_xl() -> StableDiffusionXLControlNetPipeline:
    return _with_controlnet(build_sdxl(), StableDiffusionXLControlNetPipeline)
