"""Rows of the family table for pipeline classes that generate videos."""

import importlib.util
from dataclasses import replace
from typing import Any

from codec_wire.latents import Modality
from core.diffusers_engine.families import latent_layouts
from core.diffusers_engine.families.contexts import image_size_of_plan
from core.diffusers_engine.families.family import (
    TEXT_VIDEO_ARGUMENTS,
    Family,
    Geometry,
    linear_sigmas,
    linear_sigmas_without_zero,
)
from core.diffusers_engine.families.guidance import embeds_guidance, has_guider, has_plain_unet
from core.diffusers_engine.families.images import UNET_GEOMETRY
from core.diffusers_engine.families.long_videos import sliding_windows
from core.model import GenerationMode
from core.plan import StreamPlan

TEXT_TO_VIDEO = GenerationMode(Modality.VIDEO)
IMAGE_TO_VIDEO = GenerationMode(Modality.VIDEO, image=True)


def spatial(pipeline: Any) -> int:
    """Return the number of pixels per latent cell of a video pipeline."""
    return int(pipeline.vae_scale_factor_spatial)


def temporal(pipeline: Any) -> int:
    """Return the number of video frames per latent frame of a video pipeline."""
    return int(pipeline.vae_scale_factor_temporal)


def _cogvideox_max_tokens(pipeline: Any) -> int:
    # Position embeddings that are added to the tokens have a fixed number of positions for text.
    config = pipeline.transformer.config
    return int(config.max_text_seq_length) if config.use_rotary_positional_embeddings else 0


def _control_image_for_every_frame(arguments: dict[str, Any], plan: StreamPlan) -> dict[str, Any]:
    return {**arguments, "conditioning_frames": [arguments["conditioning_frames"]] * plan.num_frames}


def _cogvideox_size(pipeline: Any) -> tuple[int, int]:
    config, factor = pipeline.transformer.config, spatial(pipeline)
    return int(config.sample_width) * factor, int(config.sample_height) * factor


def _cogvideox_cells(pipeline: Any) -> int | None:
    # CogVideoX 1.5 takes its rotary embeddings from a table with the size of the configuration.
    config = pipeline.transformer.config
    return None if config.patch_size_t is None else min(int(config.sample_width), int(config.sample_height))


def _motion_frames(pipeline: Any) -> int:
    return int(pipeline.unet.config.motion_max_seq_length)


# If the pipeline's configuration contains no default size, the numbers are those of its __call__ method.
_SVD_GEOMETRY = Geometry(
    lambda _pipeline: (1024, 576),
    # Each level of its UNet except the last halves the sides, without padding.
    patch=lambda pipeline: int(2 ** (len(pipeline.unet.config.block_out_channels) - 1)),
)
_COGVIDEOX_GEOMETRY = Geometry(
    _cogvideox_size,
    spatial=spatial,
    patch=lambda pipeline: int(pipeline.transformer.config.patch_size),
    temporal=temporal,
    group=2,  # its VAE decodes two latent frames at a time after the first
    max_cells=_cogvideox_cells,
    # The first CogVideoX image-to-video model has learned positional embeddings.
    has_fixed_size=lambda pipeline: bool(pipeline.transformer.config.use_learned_positional_embeddings),
)
_LTX_GEOMETRY = Geometry(
    lambda _pipeline: (704, 512),
    spatial=lambda pipeline: int(pipeline.vae_spatial_compression_ratio),
    # LTXPipeline accepts only multiples of 32 pixels, whatever the spatial factor of its VAE is.
    patch=lambda pipeline: max(1, 32 // int(pipeline.vae_spatial_compression_ratio)),
    temporal=lambda pipeline: int(pipeline.vae_temporal_compression_ratio),
)
_HUNYUAN_GEOMETRY = Geometry(
    lambda _pipeline: (1280, 720),
    spatial=spatial,
    patch=lambda pipeline: int(pipeline.transformer.config.patch_size),
    temporal=temporal,
)

_MOCHI_GEOMETRY = Geometry(
    lambda pipeline: (int(pipeline.default_width), int(pipeline.default_height)),
    spatial=lambda pipeline: int(pipeline.vae_spatial_scale_factor),
    patch=lambda pipeline: int(pipeline.transformer.config.patch_size),
    temporal=lambda pipeline: int(pipeline.vae_temporal_scale_factor),
)

# The guidance scale of HunyuanVideo 1.5 is a setting of its component `guider`.
_HUNYUAN_15_FIELDS = ("prompt", "negative_prompt", "num_frames")


def _hunyuan_15_text(pipeline: Any, name: str, _field: str, text: str, _max_tokens: int) -> tuple[str, int]:
    if name == "tokenizer_2":  # it gets only the quoted parts of the prompt
        return "", int(pipeline.tokenizer_2_max_length)
    messages = [{"role": "system", "content": pipeline.system_message}, {"role": "user", "content": text or " "}]
    limit = int(pipeline.tokenizer_max_length) + int(pipeline.prompt_template_encode_start_idx)
    return pipeline.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True), limit


_LTX = Family(
    "LTXPipeline",
    TEXT_TO_VIDEO,
    latent_layouts.packed_video,
    _LTX_GEOMETRY,
    arguments={**TEXT_VIDEO_ARGUMENTS, "fps": "frame_rate"},
    sigmas=linear_sigmas,
)


def _ltx2_text(_pipeline: Any, _name: str, _field: str, text: str, max_tokens: int) -> tuple[str, int]:
    return text.strip(), max_tokens


IMAGE_COMPRESSION = {} if importlib.util.find_spec("av") is not None else {"image_crf": 0}
"""Additional arguments of an LTX-2 pipeline with an input image.

Without the package PyAV, an LTX-2 pipeline cannot compress the input image as in the training of the model.
"""

# It also generates audio, which is not sent.
_LTX2 = replace(
    _LTX,
    pipeline_class="LTX2Pipeline",
    latents=latent_layouts.channels_first_video,
    geometry=replace(_LTX_GEOMETRY, default_size=lambda _pipeline: (768, 512)),
    batches=False,
    previews=False,  # the samples of its scheduler are packed, and the result is not
    tokenized=_ltx2_text,
    max_tokens=lambda _pipeline: 0,  # its connectors require a multiple of the number of their registers
)
_HUNYUAN_15_ARGUMENTS = {field: name for field, name in TEXT_VIDEO_ARGUMENTS.items() if field in _HUNYUAN_15_FIELDS}
_HUNYUAN_15 = Family(
    "HunyuanVideo15Pipeline",
    TEXT_TO_VIDEO,
    latent_layouts.channels_first_video,
    replace(_HUNYUAN_GEOMETRY, default_size=lambda _pipeline: (832, 480)),
    arguments={**_HUNYUAN_15_ARGUMENTS, "width": "width", "height": "height"},
    sigmas=linear_sigmas_without_zero,
    has_callback=False,
    batches=False,
    tokenized=_hunyuan_15_text,
    uses_negative_prompt=has_guider,
)

VIDEO_FAMILIES = (
    Family(
        "AnimateDiffPipeline",
        TEXT_TO_VIDEO,
        latent_layouts.channels_first_video,
        UNET_GEOMETRY,
        arguments=TEXT_VIDEO_ARGUMENTS,
        call_context=sliding_windows,
        guidance_inputs=("prompt_embeds",),
    ),
    Family(
        "AnimateDiffControlNetPipeline",
        GenerationMode(Modality.VIDEO, control_image=True),
        latent_layouts.channels_first_video,
        UNET_GEOMETRY,
        arguments={**TEXT_VIDEO_ARGUMENTS, "control_image": "conditioning_frames"},
        finish=_control_image_for_every_frame,
        batches=False,
        call_context=sliding_windows,
    ),
    Family(
        "AnimateDiffSDXLPipeline",
        TEXT_TO_VIDEO,
        latent_layouts.channels_first_video,
        replace(UNET_GEOMETRY, max_frames=_motion_frames),
        arguments=TEXT_VIDEO_ARGUMENTS,
        uses_negative_prompt=has_plain_unet,
    ),
    Family(
        "StableVideoDiffusionPipeline",
        replace(IMAGE_TO_VIDEO, negative_prompt=False),
        latent_layouts.frames_first_video,
        _SVD_GEOMETRY,
        # It has no prompt. Its guidance increases from the first frame to the last.
        arguments={
            "image": "image",
            "width": "width",
            "height": "height",
            "num_frames": "num_frames",
            "fps": "fps",
            "guidance_scale": "max_guidance_scale",
        },
    ),
    Family(
        "CogVideoXPipeline",
        TEXT_TO_VIDEO,
        latent_layouts.frames_first_video,
        _COGVIDEOX_GEOMETRY,
        arguments=TEXT_VIDEO_ARGUMENTS,
        max_tokens=_cogvideox_max_tokens,
    ),
    replace(_LTX, related=("LTXImageToVideoPipeline",)),
    replace(
        _LTX,
        pipeline_class="LTXImageToVideoPipeline",
        mode=IMAGE_TO_VIDEO,
        arguments={**_LTX.arguments, "image": "image"},
        previews=False,  # the scheduler does not get the first frame, which is the input image
    ),
    Family(
        "HunyuanVideoPipeline",
        # The model is guidance-distilled, as Flux is.
        replace(TEXT_TO_VIDEO, negative_prompt=False),
        latent_layouts.channels_first_video,
        _HUNYUAN_GEOMETRY,
        arguments=TEXT_VIDEO_ARGUMENTS,
        sigmas=linear_sigmas_without_zero,
        uses_guidance_scale=embeds_guidance,
    ),
    _HUNYUAN_15,
    replace(
        _HUNYUAN_15,
        pipeline_class="HunyuanVideo15ImageToVideoPipeline",
        mode=IMAGE_TO_VIDEO,
        arguments={**_HUNYUAN_15_ARGUMENTS, "image": "image"},
        call_context=image_size_of_plan,
    ),
    Family(
        "CogVideoXImageToVideoPipeline",
        IMAGE_TO_VIDEO,
        latent_layouts.frames_first_video,
        _COGVIDEOX_GEOMETRY,
        arguments={**TEXT_VIDEO_ARGUMENTS, "image": "image"},
        max_tokens=_cogvideox_max_tokens,
    ),
    Family(
        "LTXConditionPipeline",
        TEXT_TO_VIDEO,
        latent_layouts.channels_first_video,
        _LTX_GEOMETRY,
        arguments={**_LTX.arguments, "image": "image"},
        other_modes=(IMAGE_TO_VIDEO,),
        batches=False,
        previews=False,  # the samples of its scheduler are packed, and the result is not
        step_arguments=("per_token_timesteps",),
    ),
    replace(_LTX2, related=("LTX2ImageToVideoPipeline",)),
    replace(
        _LTX2,
        pipeline_class="LTX2ImageToVideoPipeline",
        mode=IMAGE_TO_VIDEO,
        arguments={**_LTX2.arguments, "image": "image"},
        fixed_arguments=IMAGE_COMPRESSION,
    ),
    Family(
        "MochiPipeline",
        TEXT_TO_VIDEO,
        latent_layouts.channels_first_video,
        _MOCHI_GEOMETRY,
        arguments=TEXT_VIDEO_ARGUMENTS,
    ),
)
