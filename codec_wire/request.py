"""What a client asks for, as typed fields with their bounds. Both protocols build it and nothing else does."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from codec_wire.errors import InvalidRequest, truncated_repr
from codec_wire.latents import MAX_UINT32, Modality
from codec_wire.pipelines import PIPELINES

DEFAULT_STEPS = 25
DEFAULT_SEED = 42
DEFAULT_FPS = 24
DEFAULT_FRAMES = 24
DEFAULT_KEYFRAME_INTERVAL = 24
SEEDS = 2**64
"""How many seeds there are: 0 and up."""
DEFAULT_STRENGTH = 0.8

PositiveUint32 = Annotated[int, Field(ge=1, le=MAX_UINT32)]


class GenerationRequest(BaseModel):
    """One generation. None means that the model's own default is taken.

    `size` is (width, height) in pixels; `num_frames` counts video frames and is named `frames` on
    the wire; `duration_seconds` is in seconds and gives the frame count at `fps`; `image` and `control_image` are files (png, jpeg, webp); `strength` in (0, 1] is how far the result may
    be from `image`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    prompt: str = Field(min_length=1, description="What to draw.")
    negative_prompt: str | None = Field(default=None, description="What to keep out.")
    model: str | None = Field(default=None, description="A name of a model that is served. Default: the server's own.")
    modality: Modality = Field(default=Modality.IMAGE, description="What kind of latents is asked for.")
    latent_space: str | None = Field(
        default=None, description="Latent space that the client decodes; another than the model's is refused."
    )
    pipeline: str = Field(
        default="raw",
        description="Pipeline that makes the frames' bytes. The latent-space map says which there are.",
        examples=list(PIPELINES),
    )
    size: tuple[PositiveUint32, PositiveUint32] | None = Field(default=None, description="Size in pixels.")
    steps: PositiveUint32 = Field(default=DEFAULT_STEPS, description="Sampler steps.")
    seed: int = Field(
        default=DEFAULT_SEED, ge=0, lt=SEEDS, description="Seed of the noise. It decides, whatever the load."
    )
    guidance_scale: float | None = Field(
        default=None,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="Classifier-free guidance. Default: the pipeline's own.",
    )
    fps: PositiveUint32 | None = Field(default=None, description=f"Frames per second. Default: {DEFAULT_FPS}.")
    num_frames: PositiveUint32 | None = Field(
        default=None, alias="frames", description=f"Number of frames. Default: {DEFAULT_FRAMES}."
    )
    duration_seconds: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="Length in seconds, instead of frames."
    )
    keyframe_interval: PositiveUint32 | None = Field(
        default=None,
        description=f"Frames from one keyframe to the next. Default: {DEFAULT_KEYFRAME_INTERVAL}, or the map's limit.",
    )
    image: bytes | None = Field(
        default=None, repr=False, description="Picture to start from, where the model takes one: png, jpeg or webp."
    )
    control_image: bytes | None = Field(
        default=None, repr=False, description="Picture that guides a ControlNet: png, jpeg or webp."
    )
    strength: float | None = Field(
        default=None,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description=f"How far the result may be from image. Default: {DEFAULT_STRENGTH}.",
    )


VIDEO_FIELDS = ("fps", "frames", "duration_seconds", "keyframe_interval")
"""Wire names of the fields that apply only to videos."""

RequestT = TypeVar("RequestT", bound=GenerationRequest)


def parse_request(values: Mapping[str, object]) -> GenerationRequest:
    """Return the request that loose `values` hold. See parse_request_as."""
    return parse_request_as(GenerationRequest, values)


def parse_request_as(kind: type[RequestT], values: Mapping[str, object]) -> RequestT:
    """Return the request of that kind that loose `values` hold; a field that is None counts as absent.

    Raises InvalidRequest naming the first field at fault, what came and what is allowed.
    """
    present = {name: value for name, value in values.items() if value is not None}
    try:
        return kind.model_validate(present, by_alias=True, by_name=False)
    except ValidationError as error:
        # A name that is none may well be a misspelling of one that is missed.
        first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    field = str(first["loc"][0])
    if first["type"] == "missing":
        raise InvalidRequest(field, "is required")
    if first["type"] == "extra_forbidden":
        raise unknown_field_error(field, (known.alias or name for name, known in kind.model_fields.items()))
    reason = first["msg"].partition(" should ")[2] or first["msg"]
    raise InvalidRequest(field, f"must {reason}, got {truncated_repr(first['input'])}")


def unknown_field_error(name: str, known: Iterable[str]) -> InvalidRequest:
    """Return the error for a field that requests do not have, with the nearest name where one is near."""
    known = sorted(known)
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(known)}"
    return InvalidRequest(truncated_repr(name).strip("'\""), f"is not a field of a request; {hint}")
