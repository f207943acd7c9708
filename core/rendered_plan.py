"""Plans for requests whose latents are decoded to pixels on the server."""

from dataclasses import replace

from codec_wire.errors import InvalidRequest, TooLarge, UnsupportedModality
from codec_wire.http import DECODE_PATH
from codec_wire.maps import LatentMapBundle
from codec_wire.request import NUM_SEEDS, GenerationRequest
from core.model import ModelInfo
from core.plan import StreamPlan, plan
from core.request_mode import require_previews, select_mode

MAX_RENDERED_PIXELS = 2**26
"""Maximum number of pixels in all frames of an image or video together, equal to 256 frames of 512x512 pixels.

All pixels of an image or video are in memory at once.
"""

MAX_RENDERED_FPS = 1000
"""Maximum frames per second of a rendered video.

A video that is sent as latents has no limit on the frames per second.
"""


def plan_rendered(
    request: GenerationRequest, count: int, partial_images: int, bundle: LatentMapBundle, model: ModelInfo
) -> tuple[StreamPlan, ...]:
    """Return the plans for `count` rendered images or videos, with consecutive seeds that begin at `request.seed`.

    Each plan has `partial_images` previews. Each plan equals the plan of a request for one image or video with the same
    seed, so that the pixels do not depend on `count`.

    Raises the errors of core.plan.plan. Raises UnsupportedModality if this server cannot decode the model's latents.
    Raises InvalidRequest if a field is not allowed for rendered pixels. Raises TooLarge if an image or video has too
    many pixels.
    """
    first = plan(request, bundle, model)
    require_proven_pixels(model)
    if not model.renders:
        modalities = tuple(str(modality) for modality in model.modalities)
        raise UnsupportedModality(
            f"this server cannot decode the latents of {model.name} to pixels, because it is a gateway or runs "
            f"without the VAE (--no-vae). Request latents (modality {' or '.join(modalities)}), and send them to "
            f"{DECODE_PATH} of a server that has the VAE",
            modalities,
        )
    require_renderable(first)
    if first.seed + count > NUM_SEEDS:
        raise InvalidRequest(
            "seed", f"must be at most {NUM_SEEDS - count} for {count} images or videos, got {first.seed}"
        )
    if partial_images:
        require_previews("partial_images", model, select_mode(request, model))
    return tuple(
        replace(first, seed=first.seed + index, rendered=True, partial_images=partial_images) for index in range(count)
    )


def require_proven_pixels(model: ModelInfo) -> None:
    """Raise UnsupportedModality if the server could not compare decoded latents of `model` with pixels of diffusers."""
    if model.unproven_pixels is not None:
        modalities = tuple(str(modality) for modality in model.modalities)
        raise UnsupportedModality(
            f"this server does not render {model.name} to pixels, because it could not check that decoded "
            f"latents equal the pixels of the model's own pipeline ({model.unproven_pixels}). Request latents "
            f"instead (modality {' or '.join(modalities)})",
            modalities,
        )


def require_renderable(first: StreamPlan) -> None:
    """Check that the latents of the plan `first` can be rendered to a file.

    Raises InvalidRequest if a field is not allowed for rendered pixels, and TooLarge if there are too many pixels.
    """
    if first.header.pipeline_spec.bits is not None:
        raise InvalidRequest("pipeline", f"must be raw for rendered pixels, got {first.header.pipeline}")
    if first.header.fps is not None and first.header.fps > MAX_RENDERED_FPS:
        raise InvalidRequest("fps", f"must be from 1 to {MAX_RENDERED_FPS} for rendered videos, got {first.header.fps}")
    pixels = first.width * first.height * first.num_frames
    if pixels > MAX_RENDERED_PIXELS:
        raise TooLarge(
            f"{first.num_frames} frames of {first.width}x{first.height} have {pixels} pixels, but the limit for "
            f"rendering is {MAX_RENDERED_PIXELS}; request a smaller size, fewer frames, or latents"
        )
