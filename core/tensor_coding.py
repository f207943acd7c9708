"""Decoding and encoding of plain tensors as admitted jobs. See core.tensor_vae."""

from dataclasses import dataclass
from math import prod

from codec_wire.errors import InvalidRequest
from codec_wire.latents import Modality
from core.deadline import before_deadline
from core.engine import Job
from core.input_image import InputImage
from core.model import ModelInfo
from core.plan import RENDERING_STEPS
from core.public_errors import to_public_error
from core.rendered_plan import MAX_RENDERED_PIXELS
from core.service import LatentService
from core.tensor_vae import PixelLayout, TensorData, TensorScaling, modality_of_shape


@dataclass(frozen=True, slots=True)
class TensorDecodeRequest:
    """A request to decode latents [B, C, h, w] or [1, C, F, h, w] to pixels.

    The request contains the scaling of the latents and the layout of the pixels. `model` is the name or alias of a
    model, or None for the default model.
    """

    latents: TensorData
    scaling: TensorScaling
    layout: PixelLayout
    model: str | None = None


async def decode_tensor(service: LatentService, request: TensorDecodeRequest, job: Job) -> TensorData:
    """Admit a job that decodes latents, run the job, and return the pixels. Raises a CodecError if the job fails."""
    latents = request.latents
    modality = modality_of_shape(latents.shape)
    served = service.models.with_vae(None, modality, request.model)
    vae, info = served.require_tensor_vae(), served.model
    job.record.describe_model(info.name, modality)
    _require_shape(latents, info.latent_channels, info)
    frames = latents.shape[2] if len(latents.shape) == 5 else 1
    num_frames = latents.shape[0] * (1 + (frames - 1) * info.temporal_factor)
    height, width = (side * info.spatial_factor for side in latents.shape[-2:])
    with service.active(job, _cost(width, height, num_frames, info)):
        try:
            return await before_deadline(vae.decode_tensor(latents, request.scaling, request.layout, job), job)
        except Exception as error:
            raise to_public_error(error) from None


async def encode_tensor(
    service: LatentService, model: str | None, pixels: TensorData | InputImage, scaling: TensorScaling, job: Job
) -> TensorData:
    """Admit a job that encodes an image or pixels, run the job, and return the latents.

    Raises a CodecError if the job fails.
    """
    modality = Modality.IMAGE if isinstance(pixels, InputImage) else modality_of_shape(pixels.shape)
    served = service.models.with_vae(None, modality, model)
    vae, info = served.require_tensor_vae(), served.model
    job.record.describe_model(info.name, modality)
    num_frames = 1
    if isinstance(pixels, InputImage):
        width, height = pixels.width, pixels.height
        if max(width, height) > info.limits.max_side or min(width, height) < info.spatial_factor:
            raise InvalidRequest(
                "image",
                f"width and height must be from {info.spatial_factor} to {info.limits.max_side}, got {width}x{height}",
            )
    else:
        _require_shape(pixels, 3, info)
        height, width = pixels.shape[-2:]
        num_frames = prod(pixels.shape) // (3 * height * width)
    with service.active(job, _cost(width, height, num_frames, info)):
        try:
            return await before_deadline(vae.encode_tensor(pixels, scaling, job), job)
        except Exception as error:
            raise to_public_error(error) from None


def _require_shape(tensor: TensorData, channels: int, info: ModelInfo) -> None:
    shape = tensor.shape
    unit = 1 if channels == info.latent_channels else info.spatial_factor
    limit = info.limits.max_side if unit > 1 else info.limits.max_side // info.spatial_factor
    if (
        len(shape) not in (4, 5)
        or shape[1] != channels
        or (len(shape) == 5 and shape[0] != 1)
        or any(side < 1 for side in shape)
        or any(side % unit or side > limit for side in shape[-2:])
    ):
        raise InvalidRequest(
            "shape",
            f"must be [batch, {channels}, height, width] for images or [1, {channels}, frames, height, width] for a "
            f"video, got {list(shape)}. Height and width must be multiples of {unit} up to {limit}",
        )


def _cost(width: int, height: int, num_frames: int, info: ModelInfo) -> int:
    """Return the cost of a job: the product of the numbers of pixels, latent frames and steps.

    Raises InvalidRequest if the image or video has too many pixels.
    """
    pixels = width * height * num_frames
    if pixels > MAX_RENDERED_PIXELS:
        raise InvalidRequest("shape", f"must have at most {MAX_RENDERED_PIXELS} pixels, got {pixels}")
    return pixels // info.temporal_factor * RENDERING_STEPS
