"""Rows of the family table for image models whose prompt is encoded by a language model."""

import sys
from dataclasses import replace
from typing import Any

import numpy as np

from core.diffusers_engine.families import latent_layouts
from core.diffusers_engine.families.contexts import area_of_plan
from core.diffusers_engine.families.family import (
    TEXT_ARGUMENTS,
    Family,
    Geometry,
    linear_sigmas,
    linear_sigmas_without_zero,
)
from core.diffusers_engine.families.flux import PACKED_GEOMETRY, sample_size
from core.diffusers_engine.families.guidance import TRUE_GUIDANCE, embeds_guidance, has_guider
from core.diffusers_engine.families.images import (
    IMAGE_ARGUMENTS,
    IMAGE_TO_IMAGE,
    INPAINTING,
    INPAINTING_ARGUMENTS,
    TEXT_TO_IMAGE,
)
from core.diffusers_engine.families.processors import qwen_processor

_EDIT = replace(TEXT_TO_IMAGE, image=True)
_STRENGTH = replace(IMAGE_TO_IMAGE, latents=False)
_TRUE_GUIDANCE = {**TEXT_ARGUMENTS, "guidance_scale": TRUE_GUIDANCE}


def _qwen_image_text(pipeline: Any, _name: str, _field: str, text: str, max_tokens: int) -> tuple[str, int]:
    # The embeddings of the first tokens of the template are removed before the embeddings are cut.
    return pipeline.prompt_template_encode.format(text), max_tokens + int(pipeline.prompt_template_encode_start_idx)


def _z_image_text(pipeline: Any, _name: str, _field: str, text: str, max_tokens: int) -> tuple[str, int]:
    messages = [{"role": "user", "content": text}]
    options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": True}
    return pipeline.tokenizer.apply_chat_template(messages, **options), max_tokens


def _rotary_cells(pipeline: Any) -> int:
    _text, height, width = pipeline.transformer.config.axes_lens
    return 2 * min(int(height), int(width))  # patches of 2x2 cells


_QWEN_GEOMETRY = Geometry(
    sample_size, channels=lambda pipeline: int(pipeline.vae.config.z_dim), patch=lambda _pipeline: 2
)
_QWEN = Family(
    "QwenImagePipeline",
    TEXT_TO_IMAGE,
    latent_layouts.packed_image_of_one_frame,
    _QWEN_GEOMETRY,
    arguments=_TRUE_GUIDANCE,
    sigmas=linear_sigmas,
    tokenized=_qwen_image_text,
    max_tokens=lambda _pipeline: 1024,
)
_QWEN_EDIT = replace(
    _QWEN,
    pipeline_class="QwenImageEditPipeline",
    mode=_EDIT,
    arguments={**_TRUE_GUIDANCE, "image": "image"},
    load_components=qwen_processor,
    batches=False,
    # It neither truncates the prompt nor cuts the embeddings, which contain those of the image.
    tokenized=lambda _pipeline, _name, _field, text, _max_tokens: (text, sys.maxsize),
    max_tokens=lambda _pipeline: 0,
)
_Z_IMAGE = Family(
    "ZImagePipeline",
    TEXT_TO_IMAGE,
    latent_layouts.image,
    replace(PACKED_GEOMETRY, default_size=lambda _pipeline: (1024, 1024), max_cells=_rotary_cells),
    sigmas=linear_sigmas,
    tokenized=_z_image_text,
)


def _lumina_text(pipeline: Any, _name: str, field: str, text: str, max_tokens: int) -> tuple[str, int]:
    return (f"{pipeline.system_prompt} <Prompt Start> {text}" if field == "prompt" else text), max_tokens


def _lumina_max_tokens(pipeline: Any) -> int:
    # The class accepts 512, but its transformer has fewer positions for the text and the image after it.
    return min(512, int(pipeline.transformer.config.axes_lens[0]) - 1)


def _hidream_text(pipeline: Any, name: str, _field: str, text: str, max_tokens: int) -> tuple[str, int]:
    is_clip = name in ("tokenizer", "tokenizer_2")  # used beyond the 77 tokens of its tokenizer
    return text, max_tokens if is_clip else min(max_tokens, getattr(pipeline, name).model_max_length)


def _hunyuan_image_text(pipeline: Any, name: str, _field: str, text: str, _max_tokens: int) -> tuple[str, int]:
    if name == "tokenizer_2":  # it gets only the quoted parts of the prompt
        return "", int(pipeline.tokenizer_2_max_length)
    limit = int(pipeline.tokenizer_max_length) + int(pipeline.prompt_template_encode_start_idx)
    return pipeline.prompt_template_encode.format(text), limit


def _cogview_sigmas(steps: int) -> Any:
    return np.linspace(1000, 1, steps).astype(np.int64) / 1000


def _transformer_size(pipeline: Any) -> tuple[int, int]:
    side = int(pipeline.transformer.config.sample_size) * pipeline.vae_scale_factor
    return side, side


def _hidream_pixels(pipeline: Any) -> int:
    height, width = pipeline.transformer.config.max_resolution  # in latent cells
    return int(height) * int(width) * int(pipeline.vae_scale_factor) ** 2


LANGUAGE_MODEL_FAMILIES = (
    replace(_QWEN, related=("QwenImageImg2ImgPipeline", "QwenImageInpaintPipeline")),
    replace(
        _QWEN,
        pipeline_class="QwenImageImg2ImgPipeline",
        mode=_STRENGTH,
        arguments={**IMAGE_ARGUMENTS, "guidance_scale": TRUE_GUIDANCE},
        scales_noise=True,
    ),
    replace(
        _QWEN,
        pipeline_class="QwenImageInpaintPipeline",
        mode=INPAINTING,
        arguments={**INPAINTING_ARGUMENTS, "guidance_scale": TRUE_GUIDANCE},
        scales_noise=True,
    ),
    _QWEN_EDIT,
    replace(_QWEN_EDIT, pipeline_class="QwenImageEditPlusPipeline"),
    replace(_Z_IMAGE, related=("ZImageImg2ImgPipeline", "ZImageInpaintPipeline")),
    replace(
        _Z_IMAGE,
        pipeline_class="ZImageImg2ImgPipeline",
        mode=_STRENGTH,
        arguments=IMAGE_ARGUMENTS,
        scales_noise=True,
    ),
    replace(
        _Z_IMAGE,
        pipeline_class="ZImageInpaintPipeline",
        mode=INPAINTING,
        arguments=INPAINTING_ARGUMENTS,
        scales_noise=True,
    ),
    Family(
        "Lumina2Pipeline",
        TEXT_TO_IMAGE,
        latent_layouts.image,
        replace(PACKED_GEOMETRY, max_cells=_rotary_cells),
        sigmas=linear_sigmas,
        tokenized=_lumina_text,
        max_tokens=_lumina_max_tokens,
    ),
    Family(
        "CogView4Pipeline",
        TEXT_TO_IMAGE,
        latent_layouts.image,
        Geometry(_transformer_size, patch=lambda _pipeline: 2),
        sigmas=_cogview_sigmas,
        batches=False,  # it pads prompts to the longest one, and attends to the padding
    ),
    Family(
        "HiDreamImagePipeline",
        TEXT_TO_IMAGE,
        latent_layouts.image,
        replace(PACKED_GEOMETRY, max_pixels=_hidream_pixels),
        call_context=area_of_plan,
        tokenized=_hidream_text,
    ),
    Family(
        "HunyuanImagePipeline",
        TEXT_TO_IMAGE,
        latent_layouts.image,
        PACKED_GEOMETRY,
        # The scale of classifier-free guidance is a setting of its component `guider`. Distilled models have no guider.
        arguments={**TEXT_ARGUMENTS, "guidance_scale": "distilled_guidance_scale"},
        sigmas=linear_sigmas_without_zero,
        has_callback=False,
        batches=False,
        tokenized=_hunyuan_image_text,
        uses_guidance_scale=embeds_guidance,
        uses_negative_prompt=has_guider,
    ),
)
