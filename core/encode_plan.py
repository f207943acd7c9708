"""Validation of a request to encode an image or a video to latents."""

from dataclasses import dataclass

from codec_wire.errors import InvalidRequest
from codec_wire.latents import LatentStreamHeader, Modality
from codec_wire.maps import LatentMapBundle
from codec_wire.request import parse_request
from core.input_image import InputImage, read_input_image
from core.input_video import InputVideo, is_mp4, read_input_video
from core.model import ModelInfo
from core.orientation import swaps_sides
from core.pipeline_limits import require_keyframe_interval, require_pipeline
from core.plan import RENDERING_STEPS
from core.rendered_plan import MAX_RENDERED_PIXELS
from core.size_limits import require_size

FILE_FIELD = "file"
"""Name of the field with the received file, for error messages."""


@dataclass(frozen=True, slots=True)
class EncodeRequest:
    """A request to encode an image or a video. A field with the value None selects the default value of the field.

    `model` and `latent_space` select the VAE. `size` is (width, height) in pixels. `map_pin` is the hash of the
    latent-space map that the client requires. The VAE returns a distribution of latents. `seed` selects a random sample
    from the distribution of latents that the VAE returns. Without `seed`, the mode (the most probable value) of the
    distribution of latents is used.
    """

    file: bytes
    model: str | None = None
    latent_space: str | None = None
    pipeline: str = "raw"
    size: tuple[int, int] | None = None
    keyframe_interval: int | None = None
    seed: int | None = None
    map_pin: str | None = None


@dataclass(frozen=True, slots=True)
class EncodePlan:
    """A validated request with all default values, and the header of the resulting latent stream.

    `width` and `height` are in pixels. `num_frames` is the number of video frames, and `latent_frames` is the number of
    frames in the latent stream. For an image, `num_frames` and `latent_frames` are 1.
    """

    model: str
    header: LatentStreamHeader
    map_hash: str
    modality: Modality
    file: InputImage | InputVideo
    width: int
    height: int
    num_frames: int
    latent_frames: int
    keyframe_interval: int
    seed: int | None

    @property
    def cost(self) -> int:
        """Estimated cost of this job on the device: the product of the numbers of pixels, latent frames and steps."""
        return self.width * self.height * self.latent_frames * RENDERING_STEPS

    def is_keyframe(self, seq: int) -> bool:
        """Return whether latent frame `seq` is a keyframe.

        Only encoding pipelines whose name begins with delta have frames that are not keyframes.
        """
        return not self.header.pipeline_spec.delta or seq % self.keyframe_interval == 0


def modality_of_file(data: bytes) -> Modality:
    """Return VIDEO if `data` is an MP4 file, otherwise IMAGE."""
    return Modality.VIDEO if is_mp4(data) else Modality.IMAGE


def plan_encode(request: EncodeRequest, bundle: LatentMapBundle, model: ModelInfo) -> EncodePlan:
    """Return the plan for encoding a file on `model`. `bundle` contains the latent-space map of the model.

    The number of encoded video frames is 1 more than a multiple of the model's `frame_multiple`. Surplus frames at the
    end of the video are not encoded. Raises InvalidRequest if the request is not valid. The InvalidRequest names the
    invalid field.
    """
    modality = modality_of_file(request.file)
    file: InputImage | InputVideo
    if modality is Modality.VIDEO:
        file = read_input_video(FILE_FIELD, request.file)
        fps, num_frames = file.fps, file.num_frames - (file.num_frames - 1) % model.frame_multiple
    else:
        file = read_input_image(FILE_FIELD, request.file)
        fps, num_frames = None, 1
    if num_frames > model.limits.max_frames:
        raise InvalidRequest(
            FILE_FIELD, f"must be a video of at most {model.limits.max_frames} frames, got {num_frames}"
        )
    fields = parse_request(
        {
            "prompt": "-",
            "modality": modality,
            "pipeline": request.pipeline,
            "size": request.size or _default_size(file, model),
            "keyframe_interval": request.keyframe_interval,
        }
    )
    width, height = require_size(fields, model)
    if width * height * num_frames > MAX_RENDERED_PIXELS:
        raise InvalidRequest(
            FILE_FIELD,
            f"must have at most {MAX_RENDERED_PIXELS} pixels in all frames together, got {num_frames} frames of "
            f"{width}x{height}; request a smaller size",
        )
    pipeline = require_pipeline(fields, bundle)
    latent_frames = model.latent_frames(num_frames)
    return EncodePlan(
        model=model.name,
        header=LatentStreamHeader(
            latent_space_id=model.latent_space,
            shape=model.latent_shape(width, height),
            dtype=bundle.latent_map.dtype,
            pipeline=pipeline.name,
            scales=bundle.static_scales(pipeline.name),
            fps=fps,
            total_frames=latent_frames,
        ),
        map_hash=bundle.hash,
        modality=modality,
        file=file,
        width=width,
        height=height,
        num_frames=num_frames,
        latent_frames=latent_frames,
        keyframe_interval=require_keyframe_interval(fields, pipeline),
        seed=request.seed,
    )


def _default_size(file: InputImage | InputVideo, model: ModelInfo) -> tuple[int, int]:
    """Return (width, height) in pixels of the upright image or video, reduced to a size that the model supports."""
    width, height = file.width, file.height
    if isinstance(file, InputImage) and swaps_sides(file.data):
        width, height = height, width
    multiple, limit = model.size_multiple, model.limits.max_side
    scale = min(1.0, limit / max(width, height))
    return tuple(max(multiple, int(side * scale) // multiple * multiple) for side in (width, height))  # type: ignore[return-value]
