"""The JSON bodies of the two endpoints as types: what validates them is what documents them.

Each is a request of the core. Here stands what HTTP spells in its own way, and what OpenAI's image requests add.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError

from codec_http.image_field import MAX_TEXT, picture_bytes
from codec_pixels.images import ImageFormat
from codec_wire import WireFormat
from codec_wire.latents import Modality
from codec_wire.request import VIDEO_FIELDS, GenerationRequest, PositiveUint32

ENDPOINTS = {Modality.IMAGE: "/v1/images/generations", Modality.VIDEO: "/v1/videos/generations"}
MAX_PICTURES = 10
AUTO = "auto"
_SIZE = re.compile(r"([0-9]{1,6})[xX]([0-9]{1,6})")


def _size_of(value: object) -> object:
    """Return (width, height) in pixels of "WIDTHxHEIGHT", None for "auto"."""
    if value is None or value == AUTO:
        return None
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise PydanticCustomError("size", 'should be "WIDTHxHEIGHT" in pixels, e.g. "512x512"')
    return int(match[1]), int(match[2])


def _size_of_side(value: object) -> object:
    """Return (width, height) in pixels of "WIDTHxHEIGHT", or of one number for a square."""
    square = isinstance(value, int) and not isinstance(value, bool)
    return (value, value) if square else _size_of(value)


def _only(modality: Modality) -> Callable[[object], object]:
    """Return what refuses every other modality, and says where it is made."""

    def check(value: object) -> object:
        if value == modality:
            return modality
        if value in tuple(Modality):
            other = Modality(str(value))
            reason = f"should be {modality} here: {other} is made at {ENDPOINTS[other]}"
        else:
            reason = f"should be one of {', '.join(Modality)}"
        raise PydanticCustomError("modality", "{reason}", {"reason": reason})

    return check


def _not_a_url(value: object) -> object:
    if value == "url":
        raise PydanticCustomError("url", "should be b64_json: no picture is kept here, so none has a URL")
    return value


_SIZE_SCHEMA = {"type": "string", "pattern": f"^({_SIZE.pattern}|{AUTO})$", "examples": ["512x512"]}
_SIDE_SCHEMA = {"anyOf": [_SIZE_SCHEMA, {"type": "integer", "minimum": 1}]}
_Pixels = tuple[PositiveUint32, PositiveUint32] | None
_Format = Annotated[WireFormat, Field(strict=False)]
_ImageModality = Annotated[
    Modality, BeforeValidator(_only(Modality.IMAGE)), WithJsonSchema({"const": str(Modality.IMAGE)})
]
_VideoModality = Annotated[
    Modality, BeforeValidator(_only(Modality.VIDEO)), WithJsonSchema({"const": str(Modality.VIDEO)})
]


def _shows_all_but(*names: str, needs_one_of: Sequence[str] = ()) -> Callable[[dict[str, Any]], None]:
    """Return what leaves fields out of a model's schema: those that the core refuses for what is asked.

    Of those in `needs_one_of` one must be there, or the body is one of another kind.
    """

    def adapt(schema: dict[str, Any]) -> None:
        for name in names:
            schema["properties"].pop(name)
        if needs_one_of:
            schema["anyOf"] = [{"required": [name]} for name in needs_one_of]

    return adapt


_SAYS_LATENTS = ("stream_format", "modality")


def _picture_in(field: str) -> tuple[BeforeValidator, WithJsonSchema]:
    """Return how a picture is read from JSON and how that is documented."""
    documented = {"type": "string", "contentEncoding": "base64", "maxLength": MAX_TEXT}
    return BeforeValidator(partial(picture_bytes, field)), WithJsonSchema(documented)


_IMAGE, _CONTROL_IMAGE = _picture_in("image"), _picture_in("control_image")


class Body(GenerationRequest):
    """What every body may hold."""

    image: Annotated[bytes | None, *_IMAGE] = Field(
        default=None, repr=False, description="Picture to start from, where the model takes one: base64 or a data URL."
    )
    control_image: Annotated[bytes | None, *_CONTROL_IMAGE] = Field(
        default=None, repr=False, description="Picture that guides a ControlNet: base64 or a data URL."
    )

    size: Annotated[_Pixels, BeforeValidator(_size_of), WithJsonSchema(_SIZE_SCHEMA)] = Field(
        default=None, description='"WIDTHxHEIGHT" in pixels, or "auto" for the model\'s own.'
    )
    resolution: Annotated[_Pixels, BeforeValidator(_size_of_side), WithJsonSchema(_SIDE_SCHEMA)] = Field(
        default=None, description="Another name of size; one number is a square."
    )
    user: str | None = Field(default=None, description="A note of the caller's own. Not read.")


class LatentsBody(Body):
    """Asks for a stream of latents: `stream_format` or `modality` says so."""

    stream_format: _Format | None = Field(
        default=None, description="Format of the stream. Default: what Accept names, or msgpack."
    )
    n: Literal[1] = Field(default=1, description="A latent stream holds one generation.")


class ImageLatents(LatentsBody):
    """Latents of one image."""

    model_config = ConfigDict(json_schema_extra=_shows_all_but(*VIDEO_FIELDS, needs_one_of=_SAYS_LATENTS))
    modality: _ImageModality = Field(default=Modality.IMAGE, description="What is made here.")


class VideoLatents(LatentsBody):
    """Latents of one video."""

    model_config = ConfigDict(json_schema_extra=_shows_all_but(needs_one_of=_SAYS_LATENTS))
    modality: _VideoModality = Field(default=Modality.VIDEO, description="What is made here.")


class RenderedBody(Body):
    """Asks for pixels: neither `stream_format` nor `modality` is given."""

    n: int = Field(default=1, ge=1, le=MAX_PICTURES, description="How many, with the seeds seed, seed + 1, …")
    response_format: Annotated[Literal["b64_json"], BeforeValidator(_not_a_url)] = Field(
        default="b64_json",
        description="Files come within the answer, as base64; url is refused, for nothing is kept here.",
    )
    output_format: str
    stream: Literal[False] = Field(default=False, description="Pixels are not streamed; latents are.")
    safety_identifier: str | None = Field(default=None, description="A note of the caller's own. Not read.")


class RenderedImages(RenderedBody):
    """Pictures, as OpenAI's clients ask for them."""

    model_config = ConfigDict(json_schema_extra=_shows_all_but("modality", "pipeline", *VIDEO_FIELDS))
    modality: _ImageModality = Modality.IMAGE
    output_format: ImageFormat = Field(default="png", description="PNG is exact.")
    output_compression: int | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Quality of jpeg and webp; 100, the default, is the best. Refused for png.",
    )
    quality: Literal["auto", "standard"] = Field(
        default="auto", description="There is one; steps says how much work is done."
    )
    background: Literal["auto", "opaque"] = Field(default="auto", description="Pictures are opaque.")
    partial_images: Literal[0] = Field(default=0, description="None are sent.")

    @field_validator("output_compression")
    @classmethod
    def _is_for_lossy_formats(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value not in (None, 100) and info.data.get("output_format") == "png":
            raise PydanticCustomError("png", "should be left out, or 100, for png, which loses nothing")
        return value


class RenderedVideos(RenderedBody):
    """Videos, asked for in the same way."""

    model_config = ConfigDict(json_schema_extra=_shows_all_but("modality", "pipeline", "keyframe_interval"))
    modality: _VideoModality = Modality.VIDEO
    output_format: Literal["mp4"] = Field(default="mp4", description="H.264.")
