"""A small Stable Diffusion XL pipeline with random weights: two text encoders, size conditioning, another VAE scale."""

import torch

from codec_pixels.library_logging import silence_libraries

silence_libraries()

from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel  # noqa: E402
from transformers import CLIPTextModel, CLIPTextModelWithProjection  # noqa: E402

from tests.support.tiny_sd import TEXT_WIDTH, build_pipeline, build_vae, text_config  # noqa: E402


def build_sdxl() -> StableDiffusionXLPipeline:
    """Return the pipeline; its default size is 128x128 pixels."""
    tokenizer = build_pipeline().tokenizer
    torch.manual_seed(1)
    text = text_config(tokenizer)
    text.num_hidden_layers = 3  # the pipeline skips the last one, and `clip_skip` can skip another
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=2 * TEXT_WIDTH,
        attention_head_dim=8,
        norm_num_groups=8,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=TEXT_WIDTH + 6 * 8,
    )
    return StableDiffusionXLPipeline(
        vae=build_vae(scaling_factor=0.13025),
        text_encoder=CLIPTextModel(text).eval(),
        text_encoder_2=CLIPTextModelWithProjection(text).eval(),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet.eval(),
        scheduler=EulerDiscreteScheduler(prediction_type="v_prediction", steps_offset=1),
        add_watermarker=False,
    )
