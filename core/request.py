"""What a client asks for, as typed fields with their bounds. Both protocols build it and nothing else does."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.errors import InvalidRequest, shown
from core.latents import MAX_UINT32, Modality

DEFAULT_STEPS = 25
DEFAULT_SEED = 42
DEFAULT_FPS = 24
DEFAULT_FRAMES = 24
DEFAULT_KEYFRAME_INTERVAL = 24
DEFAULT_STRENGTH = 0.8

PositiveUint32 = Annotated[int, Field(ge=1, le=MAX_UINT32)]


class GenerationRequest(BaseModel):
    """One generation. None means that the model's own default is taken.

    `size` is (width, height) in pixels; `frames` counts pictures; `duration_seconds` is in seconds and gives `frames`
    at `fps`; `image` and `control_image` are files (png, jpeg, webp); `strength` in (0, 1] is how far the result may
    be from `image`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    prompt: str = Field(min_length=1)
    negative_prompt: str | None = None
    model: str | None = None
    modality: Modality = Modality.IMAGE
    latent_space: str | None = None
    pipeline: str = "raw"
    size: tuple[PositiveUint32, PositiveUint32] | None = None
    steps: PositiveUint32 = DEFAULT_STEPS
    seed: int = Field(default=DEFAULT_SEED, ge=0, lt=2**64)
    guidance_scale: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    fps: PositiveUint32 | None = None
    frames: PositiveUint32 | None = None
    duration_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    keyframe_interval: PositiveUint32 | None = None
    image: bytes | None = Field(default=None, repr=False)
    control_image: bytes | None = Field(default=None, repr=False)
    strength: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)


def parse_request(values: Mapping[str, object]) -> GenerationRequest:
    """Return the request that loose `values` hold; a field that is None counts as absent.

    Raises InvalidRequest naming the first field at fault, what came and what is allowed.
    """
    present = {name: value for name, value in values.items() if value is not None}
    try:
        return GenerationRequest.model_validate(present)
    except ValidationError as error:
        first = error.errors()[0]
    field = str(first["loc"][0])
    if first["type"] == "missing":
        raise InvalidRequest(field, "is required")
    if first["type"] == "extra_forbidden":
        raise unknown_field(field, GenerationRequest.model_fields)
    reason = first["msg"].removeprefix("Input ").removeprefix("should ")
    raise InvalidRequest(field, f"must {reason}, got {shown(first['input'])}")


def unknown_field(name: str, known: Iterable[str]) -> InvalidRequest:
    """Return the error for a field that requests do not have, with the nearest name where one is near."""
    known = sorted(known)
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(known)}"
    return InvalidRequest(shown(name).strip("'\""), f"is not a field of a request; {hint}")
