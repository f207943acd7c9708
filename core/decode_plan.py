"""Validation of the header of a received latent stream, before the frames are read."""

from dataclasses import dataclass

from codec_wire.errors import InvalidRequest, NotAcceptable
from codec_wire.latents import LatentStreamHeader, Modality
from core.model import ModelInfo
from core.pixel_format import PixelFormat
from core.plan import RENDERING_STEPS
from core.received_stream import LATENTS_FIELD
from core.rendered_plan import MAX_RENDERED_FPS

MAX_QUALITY = 100


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """The options of a request to decode latents, without the stream.

    `image_formats` and `video_formats` are the acceptable formats of the pixels in order of preference. `model` is the
    name or alias of a model, or None to select a model by the latent space of the stream. `map_pin` is the hash of the
    latent-space map that the client requires, or None to accept every map. `quality` is the quality of JPEG and WebP
    files, from 0 to 100.
    """

    image_formats: tuple[PixelFormat, ...]
    video_formats: tuple[PixelFormat, ...]
    model: str | None = None
    map_pin: str | None = None
    quality: int = MAX_QUALITY


@dataclass(frozen=True, slots=True)
class DecodePlan:
    """A validated header of a latent stream, with the sizes and the format of the pixels that the stream decodes to.

    `width` and `height` are in pixels. `latent_frames` is the number of frames in the stream. `num_frames` is the
    number of images or video frames that the stream decodes to.
    """

    model: str
    header: LatentStreamHeader
    map_hash: str
    modality: Modality
    width: int
    height: int
    latent_frames: int
    num_frames: int
    pixel_format: PixelFormat
    quality: int

    @property
    def cost(self) -> int:
        """Estimated cost of this job on the device: the product of the numbers of pixels, latent frames and steps."""
        return self.width * self.height * self.latent_frames * RENDERING_STEPS


def modality_of(header: LatentStreamHeader) -> Modality:
    """Return VIDEO if the header of a stream has `fps`, otherwise IMAGE."""
    return Modality.IMAGE if header.fps is None else Modality.VIDEO


def plan_decode(request: DecodeRequest, header: LatentStreamHeader, map_hash: str, model: ModelInfo) -> DecodePlan:
    """Return the plan for decoding a stream with the header `header` on `model`.

    `map_hash` is the hash of the model's latent-space map.

    Raises InvalidRequest if the header does not match the model or exceeds the limits of the model. Raises
    NotAcceptable if the server cannot return the modality of the stream (image or video) in any of the requested
    formats.
    """
    if not 0 <= request.quality <= MAX_QUALITY:
        raise InvalidRequest("quality", f"must be from 0 to {MAX_QUALITY}, got {request.quality}")
    modality = modality_of(header)
    latent_frames = _latent_frames(header, modality)
    width, height = _size(header, model)
    num_frames = 1 + (latent_frames - 1) * model.temporal_factor
    if num_frames > model.limits.max_frames or (num_frames - 1) % model.frame_multiple:
        raise InvalidRequest(
            LATENTS_FIELD,
            f"the number of video frames must be 1 more than a multiple of {model.frame_multiple} and at most "
            f"{model.limits.max_frames}, but total_frames {latent_frames} decodes to {num_frames} video frames",
        )
    pixel_format = _pixel_format(request, modality)
    if pixel_format is PixelFormat.MP4 and header.fps is not None and header.fps > MAX_RENDERED_FPS:
        raise InvalidRequest(LATENTS_FIELD, f"fps must be from 1 to {MAX_RENDERED_FPS} for mp4, got {header.fps}")
    return DecodePlan(
        model=model.name,
        header=header,
        map_hash=map_hash,
        modality=modality,
        width=width,
        height=height,
        latent_frames=latent_frames,
        num_frames=num_frames,
        pixel_format=pixel_format,
        quality=request.quality,
    )


def _latent_frames(header: LatentStreamHeader, modality: Modality) -> int:
    if header.total_frames is not None:
        if modality is Modality.IMAGE and header.total_frames != 1:
            raise InvalidRequest(
                LATENTS_FIELD,
                f"fps is required in the header of a video, got total_frames {header.total_frames} without fps",
            )
        return header.total_frames
    if modality is Modality.VIDEO:
        raise InvalidRequest(LATENTS_FIELD, "total_frames is required in the header of a video")
    return 1


def _size(header: LatentStreamHeader, model: ModelInfo) -> tuple[int, int]:
    """Return the (width, height) in pixels of the images or video frames that a stream with this header decodes to.

    Raises InvalidRequest if the model does not support the shape in the header.
    """
    factor, limit = model.spatial_factor, model.limits.max_side
    cells = model.size_multiple // factor
    if (
        len(header.shape) != 3
        or header.shape[0] != model.latent_channels
        or any(side % cells or side * factor > limit for side in header.shape[1:])
    ):
        raise InvalidRequest(
            LATENTS_FIELD,
            f"shape must be [{model.latent_channels}, height, width] for {model.latent_space}, got "
            f"{list(header.shape)}. Height and width must be multiples of {cells} up to {limit // factor}",
        )
    return header.shape[2] * factor, header.shape[1] * factor


def _pixel_format(request: DecodeRequest, modality: Modality) -> PixelFormat:
    acceptable = request.image_formats if modality is Modality.IMAGE else request.video_formats
    if not acceptable:
        available = "PNG, JPEG, WebP" if modality is Modality.IMAGE else "MP4"
        raise NotAcceptable(
            f"the client accepts no format to which {modality} can be decoded: {available} or a NumPy array "
            "(application/x-npy)"
        )
    return acceptable[0]
