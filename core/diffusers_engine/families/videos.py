"""Rows of the family table for pipeline classes that generate videos."""

from dataclasses import replace
from typing import Any

from codec_wire.latents import Modality
from core.diffusers_engine.families import latent_layouts
from core.diffusers_engine.families.family import (
    TEXT_VIDEO_ARGUMENTS,
    Family,
    Geometry,
    linear_sigmas,
    linear_sigmas_without_zero,
)
from core.diffusers_engine.families.images import UNET_GEOMETRY
from core.diffusers_engine.families.long_videos import sliding_windows
from core.model import GenerationMode

TEXT_TO_VIDEO = GenerationMode(Modality.VIDEO)
IMAGE_TO_VIDEO = GenerationMode(Modality.VIDEO, image=True)


def _spatial(pipeline: Any) -> int:
    return int(pipeline.vae_scale_factor_spatial)


def _temporal(pipeline: Any) -> int:
    return int(pipeline.vae_scale_factor_temporal)


def _cogvideox_size(pipeline: Any) -> tuple[int, int]:
    config, factor = pipeline.transformer.config, _spatial(pipeline)
    return int(config.sample_width) * factor, int(config.sample_height) * factor


def _wan_transformer(pipeline: Any) -> Any:
    # Wan 2.2 has two transformers, for high and low noise. A model may contain only the second one.
    return pipeline.transformer if pipeline.transformer is not None else pipeline.transformer_2


# If the pipeline's configuration contains no default size, the numbers are those of its __call__ method.
_SVD_GEOMETRY = Geometry(
    lambda _pipeline: (1024, 576),
    # Each level of its UNet except the last halves the sides, without padding.
    patch=lambda pipeline: int(2 ** (len(pipeline.unet.config.block_out_channels) - 1)),
)
_COGVIDEOX_GEOMETRY = Geometry(
    _cogvideox_size,
    spatial=_spatial,
    patch=lambda pipeline: int(pipeline.transformer.config.patch_size),
    temporal=_temporal,
    group=2,  # its VAE decodes two latent frames at a time after the first
)
_WAN_GEOMETRY = Geometry(
    lambda _pipeline: (832, 480),
    channels=lambda pipeline: int(pipeline.vae.config.z_dim),
    spatial=_spatial,
    patch=lambda pipeline: int(_wan_transformer(pipeline).config.patch_size[1]),
    temporal=_temporal,
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
    spatial=_spatial,
    patch=lambda pipeline: int(pipeline.transformer.config.patch_size),
    temporal=_temporal,
)

_LTX = Family(
    "LTXPipeline",
    TEXT_TO_VIDEO,
    latent_layouts.packed_video,
    _LTX_GEOMETRY,
    arguments={**TEXT_VIDEO_ARGUMENTS, "fps": "frame_rate"},
    sigmas=linear_sigmas,
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
    ),
    Family(
        "WanPipeline",
        TEXT_TO_VIDEO,
        latent_layouts.channels_first_video,
        _WAN_GEOMETRY,
        arguments=TEXT_VIDEO_ARGUMENTS,
        guidance_inputs=(),
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
    ),
)
