"""Checks of the size and length of a requested image or video."""

from codec_wire.errors import InvalidRequest, truncated_repr
from codec_wire.latents import Modality
from codec_wire.request import DEFAULT_FPS, DEFAULT_NUM_FRAMES, VIDEO_FIELDS, GenerationRequest
from core.input_latents import InputLatents
from core.model import ModelInfo


def require_at_most(field: str, value: int, limit: int) -> None:
    """Raise InvalidRequest for `field` if `value` is greater than `limit`."""
    if value > limit:
        raise InvalidRequest(field, f"must be at most {limit} on this server, got {value}")


def require_size(request: GenerationRequest, model: ModelInfo) -> tuple[int, int]:
    """Return (width, height) of `request` in pixels, or the default size of `model` if the request has no size.

    Raises InvalidRequest if the model does not support the size.
    """
    width, height = request.size or model.default_size
    multiple, limit = model.size_multiple, model.limits.max_side
    if width % multiple or height % multiple or not multiple <= min(width, height) or max(width, height) > limit:
        raise InvalidRequest(
            "size", f"width and height must be multiples of {multiple} from {multiple} to {limit}, got {width}x{height}"
        )
    if model.max_pixels is not None and width * height > model.max_pixels:
        raise InvalidRequest(
            "size",
            f"must have at most {model.max_pixels} pixels for {model.name}, got {width}x{height} "
            f"({width * height} pixels)",
        )
    if model.has_fixed_size and (width, height) != model.default_size:
        raise InvalidRequest(
            "size",
            "must be {}x{}, the only size of {}, got {}x{}".format(*model.default_size, model.name, width, height),
        )
    return width, height


def with_size_of(latents: InputLatents, request: GenerationRequest, model: ModelInfo) -> GenerationRequest:
    """Return a copy of `request` whose size in pixels corresponds to the shape of `latents`.

    Raises InvalidRequest if the latents do not fit the request or model.
    """
    header = latents.header
    if header.latent_space_id != model.latent_space:
        raise InvalidRequest(
            "latents",
            f"must be in the latent space {model.latent_space} of {model.name}, got "
            f"{truncated_repr(header.latent_space_id)}",
        )
    if header.fps is not None or header.total_frames not in (None, 1):
        raise InvalidRequest("latents", "must be a latent stream of one image, got a video")
    if len(header.shape) != 3 or header.shape[0] != model.latent_channels:
        raise InvalidRequest(
            "latents", f"shape must be [{model.latent_channels}, height, width], got {list(header.shape)}"
        )
    size = (header.shape[2] * model.spatial_factor, header.shape[1] * model.spatial_factor)
    if request.size is not None and request.size != size:
        width, height = request.size
        raise InvalidRequest(
            "latents",
            f"shape must be {list(model.latent_shape(width, height))} for {width}x{height}, got {list(header.shape)}",
        )
    return request.model_copy(update={"size": size})


def require_timing(request: GenerationRequest, model: ModelInfo) -> tuple[int | None, int]:
    """Return (frames per second, number of video frames) of `request`, or (None, 1) for an image.

    Raises InvalidRequest if the number of video frames is not valid for `model`.
    """
    if request.modality is Modality.IMAGE:
        for field, name in VIDEO_FIELDS.items():
            if getattr(request, name) is not None:
                raise InvalidRequest(field, f"is only allowed for {Modality.VIDEO}, got modality {request.modality}")
        return None, 1
    fps = request.fps or DEFAULT_FPS
    limit = model.limits.max_frames
    if request.duration_seconds is not None:
        if request.num_frames is not None:
            raise InvalidRequest("duration_seconds", "must not be combined with frames, got both")
        # Checked before the multiplication, so that a huge duration does not become a huge integer.
        if request.duration_seconds > limit / fps:
            raise InvalidRequest(
                "duration_seconds", f"must be at most {limit / fps:g} at {fps} fps, got {request.duration_seconds:g}"
            )
        return fps, model.nearest_num_frames(round(request.duration_seconds * fps))
    if request.num_frames is None:
        return fps, model.nearest_num_frames(DEFAULT_NUM_FRAMES)
    require_at_most("frames", request.num_frames, limit)
    if request.num_frames < model.min_frames:
        raise InvalidRequest(
            "frames", f"must be at least {model.min_frames} for {model.name}, got {request.num_frames}"
        )
    if (request.num_frames - 1) % model.frame_multiple:
        nearest = model.nearest_num_frames(request.num_frames)
        raise InvalidRequest(
            "frames",
            f"must be 1 more than a multiple of {model.frame_multiple}, e.g. {nearest}, got {request.num_frames}",
        )
    return fps, request.num_frames
