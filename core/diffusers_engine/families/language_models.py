"""Rows of the family table for image models whose prompt is encoded by a language model."""

from dataclasses import replace
from typing import Any

from core.diffusers_engine.families import latent_layouts
from core.diffusers_engine.families.family import TEXT_ARGUMENTS, Family, Geometry, linear_sigmas
from core.diffusers_engine.families.flux import PACKED_GEOMETRY, sample_size
from core.diffusers_engine.families.images import IMAGE_ARGUMENTS, IMAGE_TO_IMAGE, TEXT_TO_IMAGE

_EDIT = replace(TEXT_TO_IMAGE, image=True)
_STRENGTH = replace(IMAGE_TO_IMAGE, latents=False)
_TRUE_GUIDANCE = {**TEXT_ARGUMENTS, "guidance_scale": "true_cfg_scale"}
"""Arguments of classes that use classifier-free guidance only if there is a negative prompt."""
_MAX_TOKENS = 512


def _qwen_image_text(pipeline: Any, _name: str, text: str) -> tuple[str, int]:
    # The embeddings of the first tokens of the template are removed before the embeddings are cut.
    return pipeline.prompt_template_encode.format(text), _MAX_TOKENS + int(pipeline.prompt_template_encode_start_idx)


def _z_image_text(pipeline: Any, _name: str, text: str) -> tuple[str, int]:
    messages = [{"role": "user", "content": text}]
    options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": True}
    return pipeline.tokenizer.apply_chat_template(messages, **options), _MAX_TOKENS


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
)
_QWEN_EDIT = replace(
    _QWEN,
    pipeline_class="QwenImageEditPipeline",
    mode=_EDIT,
    arguments={**_TRUE_GUIDANCE, "image": "image"},
    batches=False,
)
_Z_IMAGE = Family(
    "ZImagePipeline",
    TEXT_TO_IMAGE,
    latent_layouts.image,
    replace(PACKED_GEOMETRY, default_size=lambda _pipeline: (1024, 1024)),
    sigmas=linear_sigmas,
    tokenized=_z_image_text,
)

LANGUAGE_MODEL_FAMILIES = (
    replace(_QWEN, related=("QwenImageImg2ImgPipeline",)),
    replace(
        _QWEN,
        pipeline_class="QwenImageImg2ImgPipeline",
        mode=_STRENGTH,
        arguments={**IMAGE_ARGUMENTS, "guidance_scale": "true_cfg_scale"},
        scales_noise=True,
    ),
    _QWEN_EDIT,
    replace(_QWEN_EDIT, pipeline_class="QwenImageEditPlusPipeline"),
    replace(_Z_IMAGE, related=("ZImageImg2ImgPipeline",)),
    replace(
        _Z_IMAGE,
        pipeline_class="ZImageImg2ImgPipeline",
        mode=_STRENGTH,
        arguments=IMAGE_ARGUMENTS,
        scales_noise=True,
    ),
)
