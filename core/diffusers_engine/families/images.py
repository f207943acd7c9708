"""Families that make images."""

from dataclasses import replace
from typing import Any

from codec_wire.latents import Modality
from core.diffusers_engine.families import latent_layouts
from core.diffusers_engine.families.family import TEXT, Family, Geometry
from core.model import Form

SAMPLE_SIZE = 64
"""Side of the latent of a model that names none: that of SD 1, for which 512x512 is the published default."""

FROM_TEXT = Form(Modality.IMAGE)
FROM_IMAGE = Form(Modality.IMAGE, image=True, strength=True)
FROM_CONTROL = Form(Modality.IMAGE, control_image=True)
FROM_BOTH = Form(Modality.IMAGE, image=True, control_image=True, strength=True)

_IMAGE = {"image": "image", "strength": "strength"}
_IMAGE_SETS_THE_SIZE = {**{name: name for name in TEXT if name not in ("width", "height")}, **_IMAGE}


def _unet_size(pipeline: Any) -> tuple[int, int]:
    cells = pipeline.unet.config.sample_size or getattr(pipeline, "default_sample_size", SAMPLE_SIZE)
    height, width = (cells, cells) if isinstance(cells, int) else cells
    return width * pipeline.vae_scale_factor, height * pipeline.vae_scale_factor


def _transformer_size(pipeline: Any) -> tuple[int, int]:
    side = int(pipeline.transformer.config.sample_size) * pipeline.vae_scale_factor
    return side, side


def _transformer_patch(pipeline: Any) -> int:
    return int(pipeline.transformer.config.patch_size)


def _flux_size(pipeline: Any) -> tuple[int, int]:
    side = int(pipeline.default_sample_size) * pipeline.vae_scale_factor
    return side, side


UNET = Geometry(_unet_size)
_DIT = Geometry(_transformer_size, patch=_transformer_patch)
_FLUX = Geometry(_flux_size, patch=lambda _pipeline: 2)
# Its own check asks for multiples of 32, whatever its VAE's factor is.
_SANA = Geometry(_transformer_size, patch=lambda pipeline: max(1, 32 // int(pipeline.vae_scale_factor)))

# The safety checker looks at pixels, and none are made here: its 1.2 GB need not be read.
_NO_CHECKER = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}

_SD = Family(
    "StableDiffusionPipeline",
    FROM_TEXT,
    latent_layouts.pictures,
    UNET,
    load_arguments=_NO_CHECKER,
    beside=("StableDiffusionImg2ImgPipeline",),
)
_SDXL = replace(
    _SD, pipeline_class="StableDiffusionXLPipeline", load_arguments={}, beside=("StableDiffusionXLImg2ImgPipeline",)
)
_SD3 = Family(
    "StableDiffusion3Pipeline",
    FROM_TEXT,
    latent_layouts.pictures,
    _DIT,
    beside=("StableDiffusion3Img2ImgPipeline",),
)
_FLUX_FROM_TEXT = Family(
    "FluxPipeline",
    # Its guidance is distilled: a negative prompt would ask for a second run of the model at each step.
    replace(FROM_TEXT, negative_prompt=False),
    latent_layouts.packed_pictures,
    _FLUX,
    beside=("FluxImg2ImgPipeline",),
)
# Binning would change the size that was asked for, and the cleaning of captions depends on what is installed.
_AS_ASKED = {"use_resolution_binning": False, "clean_caption": False}
_PIXART = Family("PixArtAlphaPipeline", FROM_TEXT, latent_layouts.pictures, _DIT, fixed=_AS_ASKED, legacy_callback=True)

IMAGE_FAMILIES = (
    _SD,
    replace(
        _SD,
        pipeline_class="StableDiffusionImg2ImgPipeline",
        form=FROM_IMAGE,
        arguments=_IMAGE_SETS_THE_SIZE,
        beside=(),
    ),
    replace(
        _SD,
        pipeline_class="StableDiffusionControlNetPipeline",
        form=FROM_CONTROL,
        arguments={**TEXT, "control_image": "image"},
        beside=("StableDiffusionControlNetImg2ImgPipeline",),
    ),
    replace(
        _SD,
        pipeline_class="StableDiffusionControlNetImg2ImgPipeline",
        form=FROM_BOTH,
        arguments={**TEXT, **_IMAGE, "control_image": "control_image"},
        beside=(),
    ),
    _SDXL,
    replace(
        _SDXL,
        pipeline_class="StableDiffusionXLImg2ImgPipeline",
        form=FROM_IMAGE,
        arguments=_IMAGE_SETS_THE_SIZE,
        beside=(),
    ),
    replace(
        _SDXL,
        pipeline_class="StableDiffusionXLControlNetPipeline",
        form=FROM_CONTROL,
        arguments={**TEXT, "control_image": "image"},
        beside=(),
    ),
    _SD3,
    replace(
        _SD3,
        pipeline_class="StableDiffusion3Img2ImgPipeline",
        form=FROM_IMAGE,
        arguments={**TEXT, **_IMAGE},
        beside=(),
    ),
    _FLUX_FROM_TEXT,
    replace(
        _FLUX_FROM_TEXT,
        pipeline_class="FluxImg2ImgPipeline",
        form=replace(FROM_IMAGE, negative_prompt=False),
        arguments={**TEXT, **_IMAGE},
        beside=(),
    ),
    _PIXART,
    replace(_PIXART, pipeline_class="PixArtSigmaPipeline"),
    Family("SanaPipeline", FROM_TEXT, latent_layouts.pictures, _SANA, fixed=_AS_ASKED),
)
