"""Rows of the family table for Kandinsky 5."""

from dataclasses import replace
from functools import partial
from typing import Any

from codec_wire.errors import InvalidRequest, truncated_repr
from core.diffusers_engine.call_signature import call_defaults
from core.diffusers_engine.families import latent_layouts
from core.diffusers_engine.families.contexts import resolution_of_plan
from core.diffusers_engine.families.family import TEXT_ARGUMENTS, TEXT_VIDEO_ARGUMENTS, Family, Geometry
from core.diffusers_engine.families.images import TEXT_TO_IMAGE
from core.diffusers_engine.families.processors import qwen_processor
from core.diffusers_engine.families.videos import IMAGE_TO_VIDEO, TEXT_TO_VIDEO, spatial, temporal
from core.plan import StreamPlan

_POSITIONS = 128
"""Number of rotary embeddings of the transformer along each axis."""
_SPARSE_PATCHES = 8
"""Number of patches along each side of a block in the sparse attention NABLA."""


def _patch(pipeline: Any) -> int:
    config = pipeline.transformer.config
    return int(config.patch_size[1]) * (_SPARSE_PATCHES if config.attention_type == "nabla" else 1)


def _max_cells(pipeline: Any) -> int:
    return _POSITIONS * int(pipeline.transformer.config.patch_size[1])


def _text(pipeline: Any, name: str, _field: str, text: str, max_tokens: int) -> tuple[str, int] | None:
    if name == "tokenizer_2":
        return None
    return pipeline.prompt_template.format(text), int(pipeline.prompt_template_encode_start_idx) + max_tokens


_VIDEO = Family(
    "Kandinsky5T2VPipeline",
    TEXT_TO_VIDEO,
    latent_layouts.channels_last_video,
    Geometry(
        lambda _pipeline: (768, 512),
        spatial=spatial,
        patch=_patch,
        temporal=temporal,
        max_cells=_max_cells,
        max_frames=lambda pipeline: 1 + (_POSITIONS - 1) * temporal(pipeline),
    ),
    arguments=TEXT_VIDEO_ARGUMENTS,
    load_components=partial(qwen_processor, name="tokenizer"),
    batches=False,  # it pads prompts to the longest one, and attends to the padding
    tokenized=_text,
)

_IMAGE = replace(
    _VIDEO,
    pipeline_class="Kandinsky5T2IPipeline",
    mode=TEXT_TO_IMAGE,
    latents=latent_layouts.channels_last_image,
    geometry=Geometry(lambda _pipeline: (1024, 1024), spatial=spatial, patch=_patch, max_cells=_max_cells),
    arguments=TEXT_ARGUMENTS,
    call_context=resolution_of_plan,
)


def _require_short_prompts(pipeline: Any, plan: StreamPlan) -> None:
    """Raise InvalidRequest if a prompt is too long for an edit of an image.

    The pipeline must not shorten a prompt, because the token for the input image is at the end of the prompt.
    """
    limit = int(call_defaults(pipeline)["max_sequence_length"])
    processor = pipeline.tokenizer
    patches = processor.image_processor.get_number_of_image_patches(plan.height // 2, plan.width // 2)
    image_tokens = patches // processor.image_processor.merge_size**2
    for field, text in (("prompt", plan.prompt), ("negative_prompt", plan.negative_prompt or "")):
        tokens = len(processor.tokenizer(pipeline.prompt_template.format(text)).input_ids) - 1 + image_tokens
        excess = tokens - int(pipeline.prompt_template_encode_start_idx) - limit
        if excess > 0:
            raise InvalidRequest(
                field,
                f"must be {excess} tokens shorter for {plan.model}, got {truncated_repr(text)}. The limit is {limit} "
                f"tokens, of which the input image uses {image_tokens}",
            )


KANDINSKY_FAMILIES = (
    _VIDEO,
    replace(
        _VIDEO,
        pipeline_class="Kandinsky5I2VPipeline",
        mode=IMAGE_TO_VIDEO,
        # It fits the mean and deviation of the first four latent frames to those of the following ones.
        geometry=replace(_VIDEO.geometry, min_latent_frames=5),
        arguments={**TEXT_VIDEO_ARGUMENTS, "image": "image"},
        previews=False,  # the scheduler does not get the first frame, which is the input image
    ),
    _IMAGE,
    replace(
        _IMAGE,
        pipeline_class="Kandinsky5I2IPipeline",
        mode=replace(TEXT_TO_IMAGE, image=True),
        arguments={**TEXT_ARGUMENTS, "image": "image"},
        check=_require_short_prompts,
        # It fails if it shortens a prompt, because the token of the image is at the end.
        max_tokens=lambda _pipeline: 0,
    ),
)
