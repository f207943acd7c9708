"""Rows of the family table for the Flux models and for models derived from them."""

from dataclasses import replace
from typing import Any

from codec_wire.errors import InvalidRequest
from core.diffusers_engine.families import latent_layouts
from core.diffusers_engine.families.family import TEXT_ARGUMENTS, Family, Geometry, linear_sigmas
from core.diffusers_engine.families.guidance import embeds_guidance, is_not_distilled
from core.diffusers_engine.families.images import (
    CONTROL_TO_IMAGE,
    IMAGE_ARGUMENTS,
    IMAGE_TO_IMAGE,
    INPAINTING,
    INPAINTING_ARGUMENTS,
    TEXT_TO_IMAGE,
)
from core.plan import StreamPlan

# These models are guidance-distilled: a negative prompt would double the cost of each step.
_TEXT = replace(TEXT_TO_IMAGE, negative_prompt=False)
_EDIT = replace(_TEXT, image=True)


def sample_size(pipeline: Any) -> tuple[int, int]:
    """Return the default size (width, height) in pixels of a pipeline with the attribute `default_sample_size`."""
    side = int(pipeline.default_sample_size) * pipeline.vae_scale_factor
    return side, side


PACKED_GEOMETRY = Geometry(sample_size, patch=lambda _pipeline: 2)
"""Geometry of pipelines whose transformer takes patches of 2x2 cells."""


def _with_area(arguments: dict[str, Any], plan: StreamPlan) -> dict[str, Any]:
    # The class scales the width and height to this area.
    return {**arguments, "max_area": plan.width * plan.height}


_MAX_ASPECT_RATIO, _MIN_SIDE = 8, 64
"""Maximum aspect ratio, and minimum side in pixels, that FLUX.2 allows for reference images.

An input image is scaled to the size of the result.
"""


def _require_allowed_reference(_pipeline: Any, plan: StreamPlan) -> None:
    short, long = sorted((plan.width, plan.height))
    if plan.image is not None and (short < _MIN_SIDE or long > _MAX_ASPECT_RATIO * short):
        raise InvalidRequest(
            "size",
            f"sides must be at least {_MIN_SIDE} and have a ratio of at most {_MAX_ASPECT_RATIO}:1 for {plan.model} "
            f"with an input image, got {plan.width}x{plan.height}",
        )


def _mistral_text(pipeline: Any, _name: str, _field: str, text: str, max_tokens: int) -> tuple[str, int]:
    messages = [
        {"role": role, "content": [{"type": "text", "text": content}]}
        for role, content in (("system", pipeline.system_message), ("user", text))
    ]
    return pipeline.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False), max_tokens


def _qwen_text(pipeline: Any, _name: str, _field: str, text: str, max_tokens: int) -> tuple[str, int]:
    messages = [{"role": "user", "content": text}]
    options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
    return pipeline.tokenizer.apply_chat_template(messages, **options), max_tokens


_FLUX = Family(
    "FluxPipeline",
    _TEXT,
    latent_layouts.packed_image,
    PACKED_GEOMETRY,
    sigmas=linear_sigmas,
    uses_guidance_scale=embeds_guidance,
)
_CONTROL = replace(
    _FLUX,
    pipeline_class="FluxControlNetPipeline",
    mode=replace(CONTROL_TO_IMAGE, negative_prompt=False),
    arguments={**TEXT_ARGUMENTS, "control_image": "control_image"},
)
_FLUX2 = Family(
    "Flux2Pipeline",
    _TEXT,
    latent_layouts.flux2_image,
    PACKED_GEOMETRY,
    arguments={**TEXT_ARGUMENTS, "image": "image"},
    check=_require_allowed_reference,
    other_modes=(_EDIT,),
    sigmas=linear_sigmas,
    batches=False,  # a list of images is several references for one prompt
    tokenized=_mistral_text,
    uses_guidance_scale=embeds_guidance,
)
_CHROMA = Family(
    "ChromaPipeline",
    TEXT_TO_IMAGE,
    latent_layouts.packed_image,
    PACKED_GEOMETRY,
    sigmas=linear_sigmas,
)

FLUX_FAMILIES = (
    replace(_FLUX, related=("FluxImg2ImgPipeline", "FluxInpaintPipeline")),
    replace(
        _FLUX,
        pipeline_class="FluxImg2ImgPipeline",
        mode=replace(IMAGE_TO_IMAGE, negative_prompt=False),
        arguments=IMAGE_ARGUMENTS,
        scales_noise=True,
    ),
    replace(
        _FLUX,
        pipeline_class="FluxInpaintPipeline",
        mode=replace(INPAINTING, negative_prompt=False),
        arguments=INPAINTING_ARGUMENTS,
        scales_noise=True,
    ),
    replace(
        _FLUX,
        pipeline_class="FluxFillPipeline",
        mode=replace(INPAINTING, negative_prompt=False),
        arguments=INPAINTING_ARGUMENTS,
        scales_noise=True,
        batches=False,  # it samples the encoded input image once for all members
    ),
    replace(
        _FLUX,
        pipeline_class="FluxKontextPipeline",
        arguments={**TEXT_ARGUMENTS, "image": "image"},
        # The input image already has the size of the result.
        fixed_arguments={"_auto_resize": False},
        finish=_with_area,
        other_modes=(_EDIT,),
    ),
    _CONTROL,
    replace(_CONTROL, pipeline_class="FluxControlPipeline"),
    _FLUX2,
    replace(
        _FLUX2,
        pipeline_class="Flux2KleinPipeline",
        tokenized=_qwen_text,
        uses_guidance_scale=is_not_distilled,
    ),
    replace(_CHROMA, related=("ChromaImg2ImgPipeline",)),
    replace(
        _CHROMA,
        pipeline_class="ChromaImg2ImgPipeline",
        mode=replace(IMAGE_TO_IMAGE, latents=False),
        arguments=IMAGE_ARGUMENTS,
        scales_noise=True,
    ),
)
