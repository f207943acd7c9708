"""Tiny pipelines of Qwen-Image and Z-Image, with random weights."""

from typing import Any

import torch

from codec_pixels.library_logging import silence_libraries

silence_libraries()

from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)

from tests.support.families import language_models
from tests.support.families.images import shifted_vae


def _qwen_parts(levels: int = 3, **vae_sizes: int) -> dict[str, Any]:
    """Return the parts of Qwen-Image. The VAE halves the sides `levels` times."""
    torch.manual_seed(30)
    vae = AutoencoderKLQwenImage(
        **{"base_dim": 4, "num_res_blocks": 1, **vae_sizes},
        z_dim=4,
        dim_mult=[1] * (levels + 1),
        temperal_downsample=[False] * (levels - 2) + [True, True],
        latents_mean=[-0.5, 0.0, 0.2, 0.5],
        latents_std=[1.0, 2.0, 3.0, 4.0],
    )
    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=language_models.WIDTH,
        axes_dims_rope=(8, 4, 4),
    )
    return {
        "vae": vae.eval(),
        "transformer": transformer.eval(),
        "scheduler": FlowMatchEulerDiscreteScheduler(),
        "text_encoder": language_models.qwen_vl(),
        "tokenizer": language_models.qwen_tokenizer(),
    }


def build_qwen_image() -> QwenImagePipeline:
    return QwenImagePipeline(**_qwen_parts())


def build_qwen_image_edit() -> QwenImageEditPipeline:
    """Return the pipeline, which scales every input image to about one megapixel, hence the larger spatial factor."""
    return QwenImageEditPipeline(
        **_qwen_parts(4, base_dim=2, num_res_blocks=0), processor=language_models.qwen_processor()
    )


def build_qwen_image_edit_plus() -> QwenImageEditPlusPipeline:
    return QwenImageEditPlusPipeline(
        **_qwen_parts(4, base_dim=2, num_res_blocks=0), processor=language_models.qwen_processor()
    )


def build_z_image() -> ZImagePipeline:
    torch.manual_seed(32)
    transformer = ZImageTransformer2DModel(
        in_channels=16,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=language_models.WIDTH,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 64, 64],
    )
    for token in (transformer.x_pad_token, transformer.cap_pad_token):
        torch.nn.init.normal_(token)  # uninitialized memory otherwise
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=shifted_vae(),
        text_encoder=language_models.qwen3(),
        tokenizer=language_models.qwen_tokenizer(),
        transformer=transformer.eval(),
    )
