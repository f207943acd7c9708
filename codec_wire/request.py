"""The generation request of the HTTP and gRPC protocols, with the types and bounds of the request fields."""

import secrets
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from codec_wire.errors import InvalidRequest, truncated_repr
from codec_wire.extra import ExtraParameters, OptionalExtra
from codec_wire.integers import parse_integer
from codec_wire.latents import MAX_UINT32, Modality
from codec_wire.pipelines import PIPELINES
from codec_wire.request_lora import RequestLora, RequestLoras

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

DEFAULT_STEPS = 25
DEFAULT_SEED = 42
DEFAULT_FPS = 24
DEFAULT_NUM_FRAMES = 24
DEFAULT_KEYFRAME_INTERVAL = 24
NUM_SEEDS = 2**64
"""Number of valid seeds. A seed is from 0 to NUM_SEEDS - 1."""
RANDOM_SEED = -1
"""Value of `seed` that selects a random seed."""
_RANDOM_SEEDS = 2**32
"""Random seeds are below this number, so that all clients can represent the seeds and other tools accept the seeds."""
DEFAULT_STRENGTH = 0.8
PromptSyntax = Literal["plain", "compel"]
PLAIN_SYNTAX, COMPEL_SYNTAX = get_args(PromptSyntax)


def _parse_seed(value: object) -> object:
    """Return the seed in `value`, or a random seed if `value` is RANDOM_SEED.

    Raises PydanticCustomError if `value` is an integer that is not a seed.
    """
    seed = parse_integer(value)
    if not isinstance(seed, int) or isinstance(seed, bool):
        return seed
    if not RANDOM_SEED <= seed < NUM_SEEDS:
        # pydantic's own message rounds bounds that are as large as NUM_SEEDS
        raise PydanticCustomError(
            "seed", "should be from 0 to {largest}, or -1 for a random seed", {"largest": str(NUM_SEEDS - 1)}
        )
    return secrets.randbelow(_RANDOM_SEEDS) if seed == RANDOM_SEED else seed


_SEED_SCHEMA = {"type": ["integer", "null"], "minimum": RANDOM_SEED, "exclusiveMaximum": NUM_SEEDS}
PositiveUint32 = Annotated[int, Field(ge=1, le=MAX_UINT32), BeforeValidator(parse_integer)]


class GenerationRequest(BaseModel):
    """Parameters of one generation. A parameter with the value None selects the default of the model.

    `size` is (width, height) in pixels. `num_frames` is the number of video frames. The wire name of `num_frames` is
    `frames`. If `duration_seconds` is given instead of `num_frames`, the number of frames is computed from
    `duration_seconds` and `fps`. `image`, `control_image` and `mask` contain image files (png, jpeg, webp). `latents`
    is the body of a latent stream with one image, and can be given instead of `image`. `strength` is the fraction of
    the denoising steps that are applied to `image` or `latents`. The value of `strength` is above 0 and at most 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    prompt: str = Field(min_length=1, description="Text that describes the image or video.")
    negative_prompt: str | None = Field(default=None, description="Text that describes what to avoid.")
    prompt_syntax: PromptSyntax | None = Field(
        default=None,
        description="Syntax of `prompt` and `negative_prompt`. With plain, the text encoders read the prompts as they "
        "are, and ignore the end of a long prompt. With compel, `(word)1.3` and `word++` give words a weight, and "
        "long prompts are read completely. /v1/models lists the syntaxes of each model. Default: plain.",
    )
    model: str | None = Field(
        default=None,
        description="Name or alias of a served model. If the request also has a `latent_space` that is served, an "
        "unknown model is not an error: the server then selects a model with this latent space. Default: the server's "
        "default model. An empty string also selects the default.",
    )
    modality: Modality = Field(default=Modality.IMAGE, description="Kind of latents to generate.")
    latent_space: str | None = Field(
        default=None, description="Id of the latent space that the client can decode. Default: any."
    )
    pipeline: str = Field(
        default="raw",
        description="Pipeline that encodes the latents. The latent-space map lists the available pipelines.",
        examples=list(PIPELINES),
    )
    size: tuple[PositiveUint32, PositiveUint32] | None = Field(
        default=None, description="Width and height in pixels. Default: the model's own size."
    )
    steps: PositiveUint32 = Field(default=DEFAULT_STEPS, description="Number of denoising steps.")
    seed: Annotated[int, BeforeValidator(_parse_seed), Field(ge=0, lt=NUM_SEEDS), WithJsonSchema(_SEED_SCHEMA)] = Field(
        default=DEFAULT_SEED,
        description="Seed of the noise. The same seed gives the same result. -1 or null selects a random seed.",
    )
    scheduler: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Name of the scheduler that samples the latents, from the list of the model in /v1/models. "
        "Default: the model's own scheduler.",
        examples=["euler", "dpm++-2m-karras"],
    )
    loras: RequestLoras = Field(
        default=(),
        description="LoRA weights that are added to the model for this request only. /v1/models lists the names that "
        "the model accepts. Default: none.",
        examples=[[{"name": "watercolor", "scale": 0.8}]],
    )
    guidance_scale: float | None = Field(
        default=None,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="Scale of the classifier-free guidance. Default: the default of the diffusers pipeline.",
    )
    fps: PositiveUint32 | None = Field(default=None, description=f"Video frames per second. Default: {DEFAULT_FPS}.")
    num_frames: PositiveUint32 | None = Field(
        default=None, alias="frames", description=f"Number of video frames. Default: {DEFAULT_NUM_FRAMES}."
    )
    duration_seconds: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Duration of the video in seconds. Alternative to `frames`.",
    )
    keyframe_interval: PositiveUint32 | None = Field(
        default=None,
        description="Number of frames from one keyframe to the next. "
        f"Default: {DEFAULT_KEYFRAME_INTERVAL}, or the limit in the map if it is lower.",
    )
    image: bytes | None = Field(
        default=None, repr=False, description="Input image (png, jpeg or webp), if the model accepts one."
    )
    control_image: bytes | None = Field(
        default=None, repr=False, description="Conditioning image of a ControlNet (png, jpeg or webp)."
    )
    mask: bytes | None = Field(
        default=None,
        repr=False,
        description="Inpainting mask (png, jpeg or webp) of the size of `image`. White pixels are repainted, black "
        "pixels are kept. Only for models that support inpainting.",
    )
    strength: float | None = Field(
        default=None,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description=f"How much to change the input image or latents. 1 ignores the input. Default: {DEFAULT_STRENGTH}.",
    )
    latents: bytes | None = Field(
        default=None,
        repr=False,
        description="Latents to start from, instead of an input image: the body of a latent stream that contains one "
        "image in the latent space of the model.",
    )
    preview_every: PositiveUint32 | None = Field(
        default=None,
        description="Number of steps from one preview to the next. A preview contains the model's estimate of the "
        "finished latents. Default: no previews.",
    )
    extra: OptionalExtra = Field(
        default=None,
        description="Parameters that only some model families have. /v1/models lists the parameters that a model "
        "accepts. Default: the defaults of the diffusers pipeline.",
    )


VIDEO_FIELDS = {
    "fps": "fps",
    "frames": "num_frames",
    "duration_seconds": "duration_seconds",
    "keyframe_interval": "keyframe_interval",
}
"""Names of the attributes that apply only to videos, keyed by the names that the attributes have in requests."""

RequestT = TypeVar("RequestT", bound=GenerationRequest)


def parse_request(values: Mapping[str, object]) -> GenerationRequest:
    """Return the generation request that has the field values `values`. See parse_request_as."""
    return parse_request_as(GenerationRequest, values)


def parse_request_as(kind: type[RequestT], values: Mapping[str, object]) -> RequestT:
    """Return a request of class `kind` that has the field values `values`.

    The keys of `values` are the names of fields in requests (wire names), such as `frames`. Values that are None are
    ignored. An empty `model` is also ignored.

    Raises InvalidRequest if a field is not valid. The error message states the field, the received value and what is
    allowed.
    """
    present = {name: value for name, value in values.items() if value is not None and (name, value) != ("model", "")}
    try:
        return kind.model_validate(present, by_alias=True, by_name=False)
    except ValidationError as error:
        # Report an unknown field first: it may be a misspelling of a required field that is missing.
        first = min(error.errors(), key=lambda detail: detail["type"] != "extra_forbidden")
    field = _path_of(first["loc"])
    if first["type"] == "missing":
        raise InvalidRequest(field, "is required")
    if first["type"] == "extra_forbidden" and len(first["loc"]) > 1:
        nested = ExtraParameters if first["loc"][0] == "extra" else RequestLora
        raise unknown_field_error(field, nested.model_fields, parent=field.rpartition(".")[0])
    if first["type"] == "extra_forbidden":
        raise unknown_field_error(field, (info.alias or name for name, info in kind.model_fields.items()))
    raise InvalidRequest(field, f"{_requirement(first)}, got {truncated_repr(first['input'])}")


def _path_of(location: tuple[int | str, ...]) -> str:
    """Return the path of a field in a request, such as "steps" or "loras[0].scale".

    The path of an item in a tuple, such as the width in `size`, is the path of the tuple.
    """
    if not any(isinstance(part, str) for part in location[1:]):
        return str(location[0])
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location[1:])
    return f"{location[0]}{''.join(parts)}"


def _requirement(error: "ErrorDetails") -> str:
    """Return the message of a pydantic error with "must be" instead of "Input should be" or "should be"."""
    message = error["msg"]
    if error["type"] == "model_type":  # the message of pydantic contains the name of a Python class
        return "must be an object"
    if error["type"] == "less_than":  # pydantic rounds large limits
        return f"must be less than {error['ctx']['lt']}"
    rule = f" {message}".partition(" should ")[2]
    return f"must {rule}" if rule else message


def unknown_field_error(name: str, known: Iterable[str], *, parent: str = "") -> InvalidRequest:
    """Return the error for a field `name` that does not exist in requests.

    The message of the error suggests the most similar name in `known`, or lists all names if no name is similar. If the
    unknown field is in an object, `name` is the path of the field. For a field in an object, `known` contains the field
    names of the object, and `parent` is the path of the object.
    """
    prefix = f"{parent}." if parent else ""
    known = sorted(known)
    # Of a bounded number of characters, because comparing a long name takes long.
    similar = get_close_matches(name.removeprefix(prefix)[:64], known, n=1)
    hint = "allowed: " + ", ".join(prefix + one for one in known)
    if similar:
        hint = f"did you mean '{prefix}{similar[0]}'?"
    return InvalidRequest(truncated_repr(name).strip("'\""), f"is not a field of a request; {hint}")
