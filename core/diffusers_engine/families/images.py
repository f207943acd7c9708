"""Rows of the family table for pipeline classes that generate images."""

from dataclasses import replace
from typing import Any

from codec_wire.latents import Modality
from core.diffusers_engine.families import latent_layouts
from core.diffusers_engine.families.contexts import seeded
from core.diffusers_engine.families.family import TEXT_ARGUMENTS, Family, Geometry
from core.diffusers_engine.families.guidance import always, has_plain_unet
from core.model import GenerationMode
from core.plan import StreamPlan

SAMPLE_SIZE = 64
"""Side of the latents, in latent cells, for a UNet without a configured sample size.

The latents of Stable Diffusion 1 have this side for images of 512x512 pixels.
"""

TEXT_TO_IMAGE = GenerationMode(Modality.IMAGE)
IMAGE_TO_IMAGE = GenerationMode(Modality.IMAGE, image=True, strength=True, latents=True)
CONTROL_TO_IMAGE = GenerationMode(Modality.IMAGE, control_image=True)
CONTROL_IMAGE_TO_IMAGE = replace(IMAGE_TO_IMAGE, control_image=True)

INPAINTING = replace(IMAGE_TO_IMAGE, mask=True, latents=False)
"""Mode of inpainting.

Input latents are not allowed for inpainting, because inpainting classes apply the mask to the pixels of an image.
"""

IMAGE_ARGUMENTS = {**TEXT_ARGUMENTS, "image": "image", "strength": "strength"}
IMAGE_ARGUMENTS_WITHOUT_SIZE = {
    field: name for field, name in IMAGE_ARGUMENTS.items() if field not in ("width", "height")
}
"""Argument names of pipeline classes that use the size of the input image, as a dictionary by field of the plan.

The input image is scaled to the plan's size before the pipeline is called.
"""
INPAINTING_ARGUMENTS = {**IMAGE_ARGUMENTS, "mask": "mask_image"}
CONTROL_ARGUMENTS = {**TEXT_ARGUMENTS, "control_image": "image"}
CONTROL_IMAGE_ARGUMENTS = {**IMAGE_ARGUMENTS, "control_image": "control_image"}


def _unet_size(pipeline: Any) -> tuple[int, int]:
    cells = pipeline.unet.config.sample_size or getattr(pipeline, "default_sample_size", SAMPLE_SIZE)
    height, width = (cells, cells) if isinstance(cells, int) else cells
    return width * pipeline.vae_scale_factor, height * pipeline.vae_scale_factor


def _transformer_size(pipeline: Any) -> tuple[int, int]:
    side = int(pipeline.transformer.config.sample_size) * pipeline.vae_scale_factor
    return side, side


def _transformer_patch(pipeline: Any) -> int:
    return int(pipeline.transformer.config.patch_size)


def _embedded_cells(pipeline: Any) -> int:
    return int(pipeline.transformer.config.pos_embed_max_size) * _transformer_patch(pipeline)


def _embedded_square(pipeline: Any) -> int:
    # AuraFlow's setting is the number of positions in a square.
    return int(int(pipeline.transformer.config.pos_embed_max_size) ** 0.5) * _transformer_patch(pipeline)


UNET_GEOMETRY = Geometry(_unet_size)
TRANSFORMER_GEOMETRY = Geometry(_transformer_size, patch=_transformer_patch)
# SanaPipeline accepts only multiples of 32 pixels, whatever the spatial factor of its VAE is.
_SANA_GEOMETRY = Geometry(_transformer_size, patch=lambda pipeline: max(1, 32 // int(pipeline.vae_scale_factor)))

# The safety checker needs pixels, which are not decoded during generation, so its 1.2 GB are not loaded.
_NO_SAFETY_CHECKER = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}

# Resolution binning would change the requested size, and caption cleaning depends on optional packages.
_NO_BINNING = {"use_resolution_binning": False, "clean_caption": False}

_MASK_INPUTS = ("mask", "masked_image_latents")


def _without_intermediate_timesteps(arguments: dict[str, Any], plan: StreamPlan) -> dict[str, Any]:
    # Only 2 steps have an intermediate timestep.
    return arguments if plan.steps == 2 else {**arguments, "intermediate_timesteps": None}


_SDXL_INPUTS = ("prompt_embeds", "add_text_embeds", "add_time_ids")

_SD = Family(
    "StableDiffusionPipeline",
    TEXT_TO_IMAGE,
    latent_layouts.image,
    UNET_GEOMETRY,
    load_arguments=_NO_SAFETY_CHECKER,
    guidance_inputs=("prompt_embeds",),
    uses_negative_prompt=has_plain_unet,
    removable_rows=True,
)
_SDXL = Family(
    "StableDiffusionXLPipeline",
    TEXT_TO_IMAGE,
    latent_layouts.image,
    UNET_GEOMETRY,
    guidance_inputs=_SDXL_INPUTS,
    uses_negative_prompt=has_plain_unet,
    removable_rows=True,
)
_SD3 = Family(
    "StableDiffusion3Pipeline",
    TEXT_TO_IMAGE,
    latent_layouts.image,
    replace(TRANSFORMER_GEOMETRY, max_cells=_embedded_cells),
    guidance_inputs=("prompt_embeds", "pooled_prompt_embeds"),
    removable_rows=True,
    max_tokens=lambda _pipeline: 512,
)
_LCM = Family(
    "LatentConsistencyModelPipeline",
    replace(TEXT_TO_IMAGE, negative_prompt=False),
    latent_layouts.image,
    UNET_GEOMETRY,
    load_arguments=_NO_SAFETY_CHECKER,
    timesteps_arguments=("original_inference_steps",),
)
_PIXART = Family(
    "PixArtAlphaPipeline",
    TEXT_TO_IMAGE,
    latent_layouts.image,
    TRANSFORMER_GEOMETRY,
    fixed_arguments=_NO_BINNING,
    legacy_callback=True,
)

IMAGE_FAMILIES = (
    replace(_SD, related=("StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline")),
    replace(
        _SD,
        pipeline_class="StableDiffusionImg2ImgPipeline",
        mode=IMAGE_TO_IMAGE,
        arguments=IMAGE_ARGUMENTS_WITHOUT_SIZE,
    ),
    replace(
        _SD,
        pipeline_class="StableDiffusionInpaintPipeline",
        mode=INPAINTING,
        arguments=INPAINTING_ARGUMENTS,
        guidance_inputs=("prompt_embeds", *_MASK_INPUTS),
        removable_rows=False,  # its callback cannot change the noise and the latents of the input image
    ),
    replace(
        _SD,
        pipeline_class="StableDiffusionControlNetPipeline",
        mode=CONTROL_TO_IMAGE,
        arguments=CONTROL_ARGUMENTS,
        related=("StableDiffusionControlNetImg2ImgPipeline",),
        guidance_inputs=("prompt_embeds", "image"),
    ),
    replace(
        _SD,
        pipeline_class="StableDiffusionControlNetImg2ImgPipeline",
        mode=CONTROL_IMAGE_TO_IMAGE,
        arguments=CONTROL_IMAGE_ARGUMENTS,
        guidance_inputs=("prompt_embeds", "control_image"),
        uses_negative_prompt=always,
    ),
    replace(_SDXL, related=("StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline")),
    replace(
        _SDXL,
        pipeline_class="StableDiffusionXLImg2ImgPipeline",
        mode=IMAGE_TO_IMAGE,
        arguments=IMAGE_ARGUMENTS_WITHOUT_SIZE,
    ),
    replace(
        _SDXL,
        pipeline_class="StableDiffusionXLInpaintPipeline",
        mode=INPAINTING,
        arguments=INPAINTING_ARGUMENTS,
        guidance_inputs=(*_SDXL_INPUTS, *_MASK_INPUTS),
        removable_rows=False,
    ),
    replace(
        _SDXL,
        pipeline_class="StableDiffusionXLControlNetPipeline",
        mode=CONTROL_TO_IMAGE,
        arguments=CONTROL_ARGUMENTS,
        guidance_inputs=(*_SDXL_INPUTS, "image"),
    ),
    # StableDiffusion3InpaintPipeline is missing: it decodes latents without the shift of the VAE (docs/families.md).
    replace(_SD3, related=("StableDiffusion3Img2ImgPipeline",)),
    replace(
        _SD3,
        pipeline_class="StableDiffusion3Img2ImgPipeline",
        mode=IMAGE_TO_IMAGE,
        arguments=IMAGE_ARGUMENTS,
        scales_noise=True,
        guidance_inputs=None,  # its callback cannot change the pooled embeddings
        removable_rows=False,
    ),
    _PIXART,
    replace(_PIXART, pipeline_class="PixArtSigmaPipeline"),
    replace(_LCM, related=("LatentConsistencyModelImg2ImgPipeline",)),
    replace(
        _LCM,
        pipeline_class="LatentConsistencyModelImg2ImgPipeline",
        mode=replace(IMAGE_TO_IMAGE, negative_prompt=False, latents=False),
        arguments=IMAGE_ARGUMENTS_WITHOUT_SIZE,
        timesteps_arguments=("original_inference_steps", "strength"),
    ),
    replace(
        _SD3,
        pipeline_class="StableDiffusion3ControlNetPipeline",
        mode=CONTROL_TO_IMAGE,
        arguments={**TEXT_ARGUMENTS, "control_image": "control_image"},
        call_context=seeded,
        guidance_inputs=None,
        removable_rows=False,
        batches=False,  # the encoded control image is sampled for all members together
    ),
    Family(
        "AuraFlowPipeline",
        TEXT_TO_IMAGE,
        latent_layouts.image,
        replace(TRANSFORMER_GEOMETRY, patch=lambda _pipeline: 2, max_cells=_embedded_square),
    ),
    Family(
        "SanaSprintPipeline",
        replace(TEXT_TO_IMAGE, negative_prompt=False),
        latent_layouts.image,
        _SANA_GEOMETRY,
        fixed_arguments=_NO_BINNING,
        finish=_without_intermediate_timesteps,
    ),
    Family("SanaPipeline", TEXT_TO_IMAGE, latent_layouts.image, _SANA_GEOMETRY, fixed_arguments=_NO_BINNING),
)
