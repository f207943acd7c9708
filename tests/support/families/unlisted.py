"""Tiny pipelines of diffusers classes without a row in the family table, with random weights."""

from typing import Any

import torch

from codec_pixels.library_logging import silence_libraries

silence_libraries()

from diffusers import (
    AutoencoderKL,
    CogVideoXDDIMScheduler,
    CogVideoXVideoToVideoPipeline,
    CogView3PlusPipeline,
    CogView3PlusTransformer2DModel,
)

from tests.support.families import encoders
from tests.support.families.videos import build_cogvideox


class Brighter(AutoencoderKL):  # type: ignore[misc]
    """A VAE that needs a step which clients do not know."""

    def decode(self, *arguments: Any, **options: Any) -> Any:
        output = super().decode(*arguments, **options)
        if isinstance(output, tuple):
            return (output[0] + 0.5, *output[1:])
        output.sample = output.sample + 0.5
        return output


def build_cogview3() -> CogView3PlusPipeline:
    torch.manual_seed(71)
    transformer = CogView3PlusTransformer2DModel(
        in_channels=16,
        out_channels=16,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        text_embed_dim=encoders.WIDTH,
        time_embed_dim=8,
        condition_dim=4,
        pos_embed_max_size=16,
        sample_size=16,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=16,
        norm_num_groups=8,
        scaling_factor=1.5305,
    )
    return CogView3PlusPipeline(
        tokenizer=encoders.t5_tokenizer(),
        text_encoder=encoders.t5(),
        vae=vae.eval(),
        transformer=transformer.eval(),
        scheduler=CogVideoXDDIMScheduler(prediction_type="v_prediction"),
    )


def build_cogview3_with_other_vae() -> CogView3PlusPipeline:
    pipeline = build_cogview3()
    pipeline.vae.__class__ = Brighter
    return pipeline


def build_video_to_video() -> CogVideoXVideoToVideoPipeline:
    """Return a pipeline that needs an input video, which requests do not have."""
    return CogVideoXVideoToVideoPipeline(**build_cogvideox().components)
