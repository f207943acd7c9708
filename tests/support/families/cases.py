"""Every row of the family table: how to build a tiny pipeline of its class, and how its own call asks for the same."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.families import images, videos
from tests.support.tiny_sd import build_pipeline
from tests.support.tiny_sdxl import build_sdxl


@dataclass(frozen=True)
class Case:
    """`build` makes the pipeline that is served, `own` further arguments of the class's own call.

    `pictures` maps fields of a request to arguments of that call; `frames` and `latent_frames` are a video's.
    """

    build: Callable[[], Any]
    own: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)
    frames: int | None = None
    latent_frames: int = 1
    sized: bool = True
    prompted: bool = True


IMAGE, CONTROL = {"image": "image"}, {"control_image": "image"}
BOTH = {"image": "image", "control_image": "control_image"}
# What the server asks for by default.
STRENGTH = {"strength": 0.8}
AS_ASKED = {"use_resolution_binning": False, "clean_caption": False}

CASES: dict[str, Case] = {
    "StableDiffusionPipeline": Case(build_pipeline),
    "StableDiffusionImg2ImgPipeline": Case(build_pipeline, STRENGTH, IMAGE, sized=False),
    "StableDiffusionControlNetPipeline": Case(images.build_controlnet, {}, CONTROL),
    "StableDiffusionControlNetImg2ImgPipeline": Case(images.build_controlnet, STRENGTH, BOTH),
    "StableDiffusionXLPipeline": Case(build_sdxl),
    "StableDiffusionXLImg2ImgPipeline": Case(build_sdxl, STRENGTH, IMAGE, sized=False),
    "StableDiffusionXLControlNetPipeline": Case(images.build_controlnet_xl, {}, CONTROL),
    "StableDiffusion3Pipeline": Case(images.build_sd3),
    "StableDiffusion3Img2ImgPipeline": Case(images.build_sd3, STRENGTH, IMAGE),
    "FluxPipeline": Case(images.build_flux),
    "FluxImg2ImgPipeline": Case(images.build_flux, STRENGTH, IMAGE),
    "PixArtAlphaPipeline": Case(images.build_pixart_alpha, AS_ASKED),
    "PixArtSigmaPipeline": Case(images.build_pixart_sigma, AS_ASKED),
    "SanaPipeline": Case(images.build_sana, AS_ASKED),
    "AnimateDiffPipeline": Case(videos.build_animatediff, frames=5, latent_frames=5),
    "StableVideoDiffusionPipeline": Case(
        videos.build_svd, {"fps": 12}, IMAGE, frames=5, latent_frames=5, prompted=False
    ),
    "CogVideoXPipeline": Case(videos.build_cogvideox, frames=9, latent_frames=3),
    "CogVideoXPipeline, padded": Case(lambda: videos.build_cogvideox(2), frames=9, latent_frames=3),
    "WanPipeline": Case(videos.build_wan, frames=9, latent_frames=3),
    "LTXPipeline": Case(videos.build_ltx, {"frame_rate": 12}, frames=17, latent_frames=3),
    "LTXPipeline, timed": Case(
        lambda: videos.build_ltx(timestep_conditioning=True), {"frame_rate": 12}, frames=17, latent_frames=3
    ),
    "LTXImageToVideoPipeline": Case(videos.build_ltx, {"frame_rate": 12}, IMAGE, frames=17, latent_frames=3),
    "HunyuanVideoPipeline": Case(videos.build_hunyuan, frames=9, latent_frames=3),
}
"""By the class whose row is under test; after a comma, what is special."""


def class_of(name: str) -> str:
    """Return the pipeline class of a case."""
    return name.partition(",")[0]
