"""One test case per row of the family table: a tiny pipeline, and the arguments for calling it directly."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from core.diffusers_engine.families.videos import IMAGE_COMPRESSION
from tests.support.families import flux, images, kandinsky, ltx2, newer_images, newer_videos, qwen, videos, wan
from tests.support.tiny_sd import build_pipeline
from tests.support.tiny_sdxl import build_sdxl


@dataclass(frozen=True)
class Case:
    """A pipeline and how to request the same image or video from the server and from the pipeline itself.

    build: returns the pipeline to serve.
    arguments: additional arguments for calling the pipeline directly.
    images: maps each request field that takes an image to the pipeline's argument.
    num_frames, latent_frames: lengths of the video and of its latents; for images, num_frames is unset.
    has_size, has_prompt: whether the pipeline takes width and height, and a prompt.
    caches_prompt: whether embeddings of a prompt can be reused.
    frames_argument: the pipeline's argument for the number of frames.
    repeats_images: whether the pipeline takes an image for each frame, for which the server repeats the given one.
    requires: a package without which the class cannot be called.
    prepare: called with the pipeline before it is called directly.
    """

    build: Callable[[], Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    num_frames: int | None = None
    latent_frames: int = 1
    has_size: bool = True
    has_prompt: bool = True
    caches_prompt: bool = True
    frames_argument: str = "num_frames"
    requires: str | None = None
    repeats_images: bool = False
    prepare: Callable[[Any], object] = lambda _pipeline: None


# For `images`.
IMAGE, CONTROL = {"image": "image"}, {"control_image": "image"}
INPAINTING = {"image": "image", "mask": "mask_image"}
BOTH = {"image": "image", "control_image": "control_image"}
CONTROL_IMAGE = {"control_image": "control_image"}
FTFY = "ftfy"  # several Wan pipelines clean their prompts with it
# For `arguments`: the values that the server uses.
STRENGTH = {"strength": 0.8}
EXACT_AREA = {"_auto_resize": False, "max_area": 64 * 96}
EXACT_SIZE_AND_PROMPT = {"use_resolution_binning": False, "clean_caption": False}

CASES: dict[str, Case] = {
    "StableDiffusionPipeline": Case(build_pipeline),
    "StableDiffusionImg2ImgPipeline": Case(build_pipeline, STRENGTH, IMAGE, has_size=False),
    "StableDiffusionInpaintPipeline": Case(build_pipeline, STRENGTH, INPAINTING),
    "StableDiffusionInpaintPipeline, nine channels": Case(images.build_sd_inpainting, STRENGTH, INPAINTING),
    "StableDiffusionControlNetPipeline": Case(images.build_controlnet, {}, CONTROL),
    "StableDiffusionControlNetImg2ImgPipeline": Case(images.build_controlnet, STRENGTH, BOTH),
    "StableDiffusionXLPipeline": Case(build_sdxl),
    "StableDiffusionXLImg2ImgPipeline": Case(build_sdxl, STRENGTH, IMAGE, has_size=False),
    "StableDiffusionXLInpaintPipeline": Case(build_sdxl, STRENGTH, INPAINTING),
    "StableDiffusionXLControlNetPipeline": Case(images.build_controlnet_xl, {}, CONTROL),
    "StableDiffusion3Pipeline": Case(images.build_sd3),
    "StableDiffusion3Img2ImgPipeline": Case(images.build_sd3, STRENGTH, IMAGE),
    "FluxPipeline": Case(images.build_flux),
    "FluxImg2ImgPipeline": Case(images.build_flux, STRENGTH, IMAGE),
    "FluxInpaintPipeline": Case(images.build_flux, STRENGTH, INPAINTING),
    "FluxFillPipeline": Case(flux.build_flux_fill, STRENGTH, INPAINTING),
    "FluxKontextPipeline": Case(flux.build_kontext, EXACT_AREA),
    "FluxKontextPipeline, image": Case(flux.build_kontext, EXACT_AREA, IMAGE),
    "FluxControlNetPipeline": Case(flux.build_flux_controlnet, {}, CONTROL_IMAGE),
    "FluxControlPipeline": Case(flux.build_flux_control, {}, CONTROL_IMAGE),
    "Flux2Pipeline": Case(flux.build_flux2),
    "Flux2Pipeline, image": Case(flux.build_flux2, {}, IMAGE),
    "Flux2KleinPipeline": Case(flux.build_flux2_klein),
    "Flux2KleinPipeline, image": Case(flux.build_flux2_klein, {}, IMAGE),
    "ChromaPipeline": Case(flux.build_chroma),
    "ChromaImg2ImgPipeline": Case(flux.build_chroma, STRENGTH, IMAGE),
    "QwenImageInpaintPipeline": Case(qwen.build_qwen_image, STRENGTH, INPAINTING),
    "ZImageInpaintPipeline": Case(qwen.build_z_image, STRENGTH, INPAINTING),
    "QwenImagePipeline": Case(qwen.build_qwen_image),
    "QwenImageImg2ImgPipeline": Case(qwen.build_qwen_image, STRENGTH, IMAGE),
    "QwenImageEditPipeline": Case(qwen.build_qwen_image_edit, {}, IMAGE, caches_prompt=False),
    "QwenImageEditPlusPipeline": Case(qwen.build_qwen_image_edit_plus, {}, IMAGE, caches_prompt=False),
    "ZImagePipeline": Case(qwen.build_z_image),
    "ZImageImg2ImgPipeline": Case(qwen.build_z_image, STRENGTH, IMAGE),
    "LatentConsistencyModelPipeline": Case(newer_images.build_lcm),
    "LatentConsistencyModelImg2ImgPipeline": Case(newer_images.build_lcm, STRENGTH, IMAGE, has_size=False),
    "StableDiffusion3ControlNetPipeline": Case(
        newer_images.build_sd3_controlnet, {}, CONTROL_IMAGE, prepare=lambda _pipeline: torch.manual_seed(5)
    ),
    "AuraFlowPipeline": Case(newer_images.build_aura_flow),
    "SanaSprintPipeline": Case(
        newer_images.build_sana_sprint, {**EXACT_SIZE_AND_PROMPT, "intermediate_timesteps": None}
    ),
    "Lumina2Pipeline": Case(newer_images.build_lumina2),
    "CogView4Pipeline": Case(newer_images.build_cogview4),
    "HiDreamImagePipeline": Case(newer_images.build_hidream, prepare=newer_images.prepare_hidream),
    "HunyuanImagePipeline": Case(newer_images.build_hunyuan_image),
    "HunyuanImagePipeline, distilled": Case(newer_images.build_distilled_hunyuan_image),
    "PixArtAlphaPipeline": Case(images.build_pixart_alpha, EXACT_SIZE_AND_PROMPT),
    "PixArtSigmaPipeline": Case(images.build_pixart_sigma, EXACT_SIZE_AND_PROMPT),
    "SanaPipeline": Case(images.build_sana, EXACT_SIZE_AND_PROMPT),
    "AnimateDiffPipeline": Case(videos.build_animatediff, num_frames=5, latent_frames=5),
    "AnimateDiffControlNetPipeline": Case(
        newer_videos.build_animatediff_controlnet,
        images={"control_image": "conditioning_frames"},
        num_frames=5,
        latent_frames=5,
        repeats_images=True,
    ),
    "AnimateDiffSDXLPipeline": Case(newer_videos.build_animatediff_xl, num_frames=5, latent_frames=5),
    "StableVideoDiffusionPipeline": Case(
        videos.build_svd, {"fps": 12}, IMAGE, num_frames=5, latent_frames=5, has_prompt=False
    ),
    "CogVideoXPipeline": Case(videos.build_cogvideox, num_frames=9, latent_frames=3),
    "CogVideoXPipeline, temporal patches": Case(lambda: videos.build_cogvideox(2), num_frames=9, latent_frames=3),
    "WanPipeline": Case(videos.build_wan, num_frames=9, latent_frames=3),
    "WanPipeline, two transformers": Case(wan.build_wan_22, num_frames=9, latent_frames=3),
    "WanImageToVideoPipeline": Case(
        wan.build_wan_image_to_video, {}, IMAGE, num_frames=9, latent_frames=3, requires=FTFY
    ),
    "WanImageToVideoPipeline, first frame": Case(
        wan.build_wan_image_to_video_22, {}, IMAGE, num_frames=9, latent_frames=3, requires=FTFY
    ),
    "WanVACEPipeline": Case(wan.build_wan_vace, num_frames=9, latent_frames=3, requires=FTFY),
    "WanVACEPipeline, image": Case(
        wan.build_wan_vace, {}, {"image": "reference_images"}, num_frames=9, latent_frames=3, requires=FTFY
    ),
    "SkyReelsV2Pipeline": Case(wan.build_skyreels, num_frames=9, latent_frames=3, requires=FTFY),
    "SkyReelsV2ImageToVideoPipeline": Case(
        wan.build_skyreels_image_to_video, {}, IMAGE, num_frames=9, latent_frames=3, requires=FTFY
    ),
    "SanaVideoPipeline": Case(
        wan.build_sana_video, EXACT_SIZE_AND_PROMPT, num_frames=9, latent_frames=3, frames_argument="frames"
    ),
    "SanaVideoPipeline, VAE of LTX-2": Case(
        lambda: wan.build_sana_video(ltx2.build_ltx2_vae()),
        EXACT_SIZE_AND_PROMPT,
        num_frames=5,
        latent_frames=3,
        frames_argument="frames",
    ),
    "HunyuanVideo15Pipeline": Case(newer_videos.build_hunyuan_15, num_frames=5, latent_frames=2),
    "HunyuanVideo15ImageToVideoPipeline": Case(
        newer_videos.build_hunyuan_15_image_to_video, {}, IMAGE, num_frames=5, latent_frames=2, has_size=False
    ),
    "CogVideoXImageToVideoPipeline": Case(
        newer_videos.build_cogvideox_image_to_video, {}, IMAGE, num_frames=9, latent_frames=3
    ),
    "LTXConditionPipeline": Case(newer_videos.build_ltx_condition, {"frame_rate": 12}, num_frames=17, latent_frames=3),
    "LTXConditionPipeline, image": Case(
        newer_videos.build_ltx_condition, {"frame_rate": 12}, IMAGE, num_frames=17, latent_frames=3
    ),
    "LTX2Pipeline": Case(ltx2.build_ltx2, {"frame_rate": 12}, num_frames=5, latent_frames=3),
    "LTX2ImageToVideoPipeline": Case(
        ltx2.build_ltx2, {"frame_rate": 12, **IMAGE_COMPRESSION}, IMAGE, num_frames=5, latent_frames=3
    ),
    "MochiPipeline": Case(newer_videos.build_mochi, num_frames=13, latent_frames=3),
    "LTXPipeline": Case(videos.build_ltx, {"frame_rate": 12}, num_frames=17, latent_frames=3),
    "LTXPipeline, timestep conditioning": Case(
        lambda: videos.build_ltx(timestep_conditioning=True), {"frame_rate": 12}, num_frames=17, latent_frames=3
    ),
    "LTXImageToVideoPipeline": Case(videos.build_ltx, {"frame_rate": 12}, IMAGE, num_frames=17, latent_frames=3),
    "Kandinsky5T2VPipeline": Case(kandinsky.build_kandinsky_video, num_frames=9, latent_frames=3, requires=FTFY),
    "Kandinsky5I2VPipeline": Case(
        kandinsky.build_kandinsky_image_to_video, {}, IMAGE, num_frames=17, latent_frames=5, requires=FTFY
    ),
    "Kandinsky5T2IPipeline": Case(kandinsky.build_kandinsky_image, requires=FTFY, prepare=kandinsky.allow_test_size),
    "Kandinsky5I2IPipeline": Case(
        kandinsky.build_kandinsky_edit,
        {},
        IMAGE,
        caches_prompt=False,
        requires=FTFY,
        prepare=kandinsky.allow_test_size,
    ),
    "HunyuanVideoPipeline": Case(videos.build_hunyuan, num_frames=9, latent_frames=3),
}
"""Cases by the name of the pipeline class, with a variant after a comma."""


def pipeline_class_name(name: str) -> str:
    """Return the pipeline class of a case."""
    return name.partition(",")[0]


def builder_of(name: str) -> str:
    """Return the function that builds the pipeline of the case `name`, as MODULE:FUNCTION."""
    build = CASES[name].build
    return f"{build.__module__}:{build.__qualname__}"
