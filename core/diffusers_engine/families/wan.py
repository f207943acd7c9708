"""Rows of the family table for Wan, and for other models that use the transformer and the VAE of Wan."""

from dataclasses import replace
from typing import Any

from core.diffusers_engine.families import latent_layouts
from core.diffusers_engine.families.family import TEXT_VIDEO_ARGUMENTS, Family, Geometry
from core.diffusers_engine.families.videos import IMAGE_TO_VIDEO, TEXT_TO_VIDEO, spatial, temporal

_IMAGE_ARGUMENTS = {**TEXT_VIDEO_ARGUMENTS, "image": "image"}
_NO_BINNING = {"use_resolution_binning": False, "clean_caption": False}


def _transformer(pipeline: Any) -> Any:
    # Wan 2.2 has two transformers, for high and low noise. A model may contain only the second one.
    return pipeline.transformer if pipeline.transformer is not None else pipeline.transformer_2


def _max_tokens(pipeline: Any) -> int:
    # Transformers with embeddings of the input image take all tokens before the last 512 as those of the image.
    return 512 if _transformer(pipeline).config.added_kv_proj_dim is None else 0


def _rotary_cells(pipeline: Any) -> int:
    config = _transformer(pipeline).config
    return int(config.rope_max_seq_len) * int(config.patch_size[1])


def _rotary_frames(pipeline: Any) -> int:
    config = _transformer(pipeline).config
    return 1 + (int(config.rope_max_seq_len) * int(config.patch_size[0]) - 1) * temporal(pipeline)


_GEOMETRY = Geometry(
    lambda _pipeline: (832, 480),
    channels=lambda pipeline: int(pipeline.vae.config.z_dim),
    spatial=spatial,
    patch=lambda pipeline: int(_transformer(pipeline).config.patch_size[1]),
    temporal=temporal,
    max_cells=_rotary_cells,
    max_frames=_rotary_frames,
)
_SKYREELS_GEOMETRY = replace(_GEOMETRY, default_size=lambda _pipeline: (960, 544))

_WAN = Family(
    "WanPipeline",
    TEXT_TO_VIDEO,
    latent_layouts.channels_first_video,
    _GEOMETRY,
    arguments=TEXT_VIDEO_ARGUMENTS,
    guidance_inputs=(),
    max_tokens=_max_tokens,
)
_SKYREELS = replace(_WAN, pipeline_class="SkyReelsV2Pipeline", geometry=_SKYREELS_GEOMETRY, guidance_inputs=None)

WAN_FAMILIES = (
    _WAN,
    replace(
        _WAN,
        pipeline_class="WanImageToVideoPipeline",
        mode=IMAGE_TO_VIDEO,
        arguments=_IMAGE_ARGUMENTS,
        guidance_inputs=None,
        batches=False,  # it repeats every input image for every generator
        previews=False,  # Wan 2.2 5B replaces the first frame in the input of the transformer only
    ),
    replace(
        _WAN,
        pipeline_class="WanVACEPipeline",
        latents=latent_layouts.channels_first_video_after_references,
        arguments={**TEXT_VIDEO_ARGUMENTS, "image": "reference_images"},
        other_modes=(IMAGE_TO_VIDEO,),
        guidance_inputs=None,
        batches=False,
    ),
    _SKYREELS,
    replace(
        _SKYREELS,
        pipeline_class="SkyReelsV2ImageToVideoPipeline",
        mode=IMAGE_TO_VIDEO,
        arguments=_IMAGE_ARGUMENTS,
        batches=False,
    ),
    Family(
        "SanaVideoPipeline",
        TEXT_TO_VIDEO,
        latent_layouts.channels_first_video,
        replace(_GEOMETRY, channels=lambda pipeline: int(pipeline.transformer.config.in_channels)),
        arguments={**TEXT_VIDEO_ARGUMENTS, "num_frames": "frames"},
        fixed_arguments=_NO_BINNING,
    ),
)
