"""Tiny pipelines of Kandinsky 5, with random weights."""

from typing import Any

import torch

from codec_pixels.library_logging import silence_libraries

silence_libraries()

from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    Kandinsky5I2IPipeline,
    Kandinsky5I2VPipeline,
    Kandinsky5T2IPipeline,
    Kandinsky5T2VPipeline,
    Kandinsky5Transformer3DModel,
)

from tests.support.families import encoders, language_models
from tests.support.families.images import shifted_vae
from tests.support.families.videos import build_hunyuan


def _parts(vae: Any, **settings: Any) -> dict[str, Any]:
    torch.manual_seed(71)
    channels = vae.config.latent_channels
    transformer = Kandinsky5Transformer3DModel(
        in_visual_dim=channels,
        out_visual_dim=channels,
        in_text_dim=language_models.WIDTH,
        in_text_dim2=encoders.WIDTH,
        time_dim=16,
        model_dim=16,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=1,
        axes_dims=(2, 2, 4),
        **settings,
    )
    for name, module in transformer.named_modules():
        if name.endswith("modulation"):  # zero in a new model, so that the prompt has no effect
            torch.nn.init.normal_(module.out_layer.weight, std=0.1)
    return {
        "transformer": transformer.eval(),
        "vae": vae,
        "text_encoder": language_models.qwen_vl(),
        "tokenizer": language_models.qwen_processor(),
        "text_encoder_2": encoders.clip(),
        "tokenizer_2": encoders.clip_tokenizer(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=5.0),
    }


def build_kandinsky_video() -> Kandinsky5T2VPipeline:
    return Kandinsky5T2VPipeline(**_parts(build_hunyuan().vae, visual_cond=True))


def build_kandinsky_image_to_video() -> Kandinsky5I2VPipeline:
    return Kandinsky5I2VPipeline(**_parts(build_hunyuan().vae, visual_cond=True))


def build_kandinsky_image() -> Kandinsky5T2IPipeline:
    return Kandinsky5T2IPipeline(**_parts(shifted_vae()))


def build_kandinsky_edit() -> Kandinsky5I2IPipeline:
    return Kandinsky5I2IPipeline(**_parts(shifted_vae(), visual_cond=True))


def allow_test_size(pipeline: Any) -> None:
    """Add the size of the tests, 64x96, to the sizes that the pipeline generates."""
    pipeline.resolutions = [(64, 96)]
