"""Tiny pipelines of the Flux models and their descendants, with random weights."""

from typing import Any

import torch

from codec_pixels.library_logging import silence_libraries

silence_libraries()

from diffusers import (
    AutoencoderKLFlux2,
    ChromaPipeline,
    ChromaTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    FluxControlNetModel,
    FluxControlNetPipeline,
    FluxControlPipeline,
    FluxFillPipeline,
    FluxKontextPipeline,
    FluxTransformer2DModel,
)

from tests.support.families import encoders, language_models
from tests.support.families.images import build_flux, shifted_vae

_SIZES = {
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": encoders.WIDTH,
    "pooled_projection_dim": encoders.WIDTH,
    "guidance_embeds": True,
    "axes_dims_rope": (4, 4, 8),
}


def build_kontext() -> FluxKontextPipeline:
    return FluxKontextPipeline(**build_flux().components)


def build_flux_controlnet() -> FluxControlNetPipeline:
    parts = build_flux().components
    torch.manual_seed(21)
    controlnet = FluxControlNetModel(in_channels=64, **_SIZES)
    for block in (
        *controlnet.controlnet_blocks,
        *controlnet.controlnet_single_blocks,
        controlnet.controlnet_x_embedder,
    ):
        torch.nn.init.normal_(block.weight, std=0.1)
    return FluxControlNetPipeline(**parts, controlnet=controlnet.eval())


def _parts_for_input_channels(channels: int) -> dict[str, Any]:
    """Return the parts of Flux with a transformer that also takes the latents of an input image."""
    parts = build_flux().components
    torch.manual_seed(22)
    parts["transformer"] = FluxTransformer2DModel(in_channels=channels, out_channels=64, **_SIZES).eval()
    accepted = ("scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "transformer")
    return {name: parts[name] for name in accepted}


def build_flux_control() -> FluxControlPipeline:
    return FluxControlPipeline(**_parts_for_input_channels(128))


def build_flux_fill() -> FluxFillPipeline:
    """Return a pipeline whose transformer also takes the masked image and 8x8 mask values for each latent cell."""
    return FluxFillPipeline(**_parts_for_input_channels(64 + 64 + 256))


def _flux2_parts() -> dict[str, Any]:
    """Return the parts of FLUX.2 except the text encoder, of which the states of three layers are used."""
    torch.manual_seed(23)
    vae = AutoencoderKLFlux2(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=8,
        layers_per_block=1,
        norm_num_groups=8,
    )
    vae.bn.running_mean.copy_(torch.linspace(-0.5, 0.5, 32))
    vae.bn.running_var.copy_(torch.linspace(0.5, 2.0, 32))
    transformer = Flux2Transformer2DModel(
        in_channels=32,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * language_models.WIDTH,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
    )
    return {
        "vae": vae.eval(),
        "transformer": transformer.eval(),
        "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        "tokenizer": language_models.qwen_tokenizer(),
    }


def build_flux2() -> Flux2Pipeline:
    return Flux2Pipeline(**_flux2_parts(), text_encoder=language_models.mistral3(30))


def build_flux2_klein() -> Flux2KleinPipeline:
    return Flux2KleinPipeline(**_flux2_parts(), text_encoder=language_models.qwen3_for_causal_lm(27))


def build_chroma() -> ChromaPipeline:
    torch.manual_seed(24)
    transformer = ChromaTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=encoders.WIDTH,
        axes_dims_rope=(4, 4, 8),
        approximator_num_channels=8,
        approximator_hidden_dim=16,
        approximator_layers=1,
    )
    return ChromaPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=shifted_vae(),
        text_encoder=encoders.t5(),
        tokenizer=encoders.t5_tokenizer(),
        transformer=transformer.eval(),
    )
