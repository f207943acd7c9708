"""Families that make videos."""

from dataclasses import replace
from typing import Any

from codec_wire.latents import Modality
from core.diffusers_engine.families import latent_layouts
from core.diffusers_engine.families.family import TEXT_VIDEO, Family, Geometry
from core.diffusers_engine.families.images import UNET
from core.diffusers_engine.families.long_videos import sliding_windows
from core.model import Form

FROM_TEXT = Form(Modality.VIDEO)
FROM_IMAGE = Form(Modality.VIDEO, image=True)


def _spatial(pipeline: Any) -> int:
    return int(pipeline.vae_scale_factor_spatial)


def _temporal(pipeline: Any) -> int:
    return int(pipeline.vae_scale_factor_temporal)


def _cog_size(pipeline: Any) -> tuple[int, int]:
    config, factor = pipeline.transformer.config, _spatial(pipeline)
    return int(config.sample_width) * factor, int(config.sample_height) * factor


def _wan_transformer(pipeline: Any) -> Any:
    # Of its two networks, one for each half of the noise, a model may leave out the first.
    return pipeline.transformer if pipeline.transformer is not None else pipeline.transformer_2


# The last sizes are the defaults of the pipelines' own calls: their configurations name none.
_SVD = Geometry(
    lambda _pipeline: (1024, 576),
    # Each level of its UNet but the last halves the sides, and it pads nothing.
    patch=lambda pipeline: int(2 ** (len(pipeline.unet.config.block_out_channels) - 1)),
)
_COG = Geometry(
    _cog_size,
    spatial=_spatial,
    patch=lambda pipeline: int(pipeline.transformer.config.patch_size),
    temporal=_temporal,
    group=2,  # its VAE decodes two by two after the first
)
_WAN = Geometry(
    lambda _pipeline: (832, 480),
    channels=lambda pipeline: int(pipeline.vae.config.z_dim),
    spatial=_spatial,
    patch=lambda pipeline: int(_wan_transformer(pipeline).config.patch_size[1]),
    temporal=_temporal,
)
_LTX = Geometry(
    lambda _pipeline: (704, 512),
    spatial=lambda pipeline: int(pipeline.vae_spatial_compression_ratio),
    patch=lambda pipeline: max(1, 32 // int(pipeline.vae_spatial_compression_ratio)),
    temporal=lambda pipeline: int(pipeline.vae_temporal_compression_ratio),
)
_HUNYUAN = Geometry(
    lambda _pipeline: (1280, 720),
    spatial=_spatial,
    patch=lambda pipeline: int(pipeline.transformer.config.patch_size),
    temporal=_temporal,
)

_LTX_FROM_TEXT = Family(
    "LTXPipeline",
    FROM_TEXT,
    latent_layouts.packed_frames,
    _LTX,
    arguments={**TEXT_VIDEO, "fps": "frame_rate"},
    beside=("LTXImageToVideoPipeline",),
)

VIDEO_FAMILIES = (
    Family(
        "AnimateDiffPipeline",
        FROM_TEXT,
        latent_layouts.channels_first,
        UNET,
        arguments=TEXT_VIDEO,
        around=sliding_windows,
    ),
    Family(
        "StableVideoDiffusionPipeline",
        replace(FROM_IMAGE, negative_prompt=False),
        latent_layouts.frames_first,
        _SVD,
        # It knows no words. Its guidance grows from the first frame to the last.
        arguments={
            "image": "image",
            "width": "width",
            "height": "height",
            "pictures": "num_frames",
            "fps": "fps",
            "guidance_scale": "max_guidance_scale",
        },
    ),
    Family("CogVideoXPipeline", FROM_TEXT, latent_layouts.frames_first, _COG, arguments=TEXT_VIDEO),
    Family("WanPipeline", FROM_TEXT, latent_layouts.channels_first, _WAN, arguments=TEXT_VIDEO),
    _LTX_FROM_TEXT,
    replace(
        _LTX_FROM_TEXT,
        pipeline_class="LTXImageToVideoPipeline",
        form=FROM_IMAGE,
        arguments={**_LTX_FROM_TEXT.arguments, "image": "image"},
        beside=(),
    ),
    Family(
        "HunyuanVideoPipeline",
        # Its guidance is distilled, as that of Flux.
        replace(FROM_TEXT, negative_prompt=False),
        latent_layouts.channels_first,
        _HUNYUAN,
        arguments=TEXT_VIDEO,
    ),
)
