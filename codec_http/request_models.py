"""Pydantic models of the JSON request bodies.

The pydantic models validate requests. The OpenAPI schemas are generated from the pydantic models.

Each pydantic model extends GenerationRequest with the HTTP spelling of some fields and with the parameters of OpenAI's
API.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError

from codec_http.file_field import MAX_BASE64_CHARACTERS, decode_file_field
from codec_http.image_events import GENERATION_EVENTS, ImageEvents
from codec_http.size_field import BOTH_SIZES_SCHEMA, RESOLUTION_SCHEMA, SIZE_SCHEMA, parse_resolution, parse_size
from codec_pixels.images import ImageFormat
from codec_wire import WireFormat
from codec_wire.http import GENERATION_PATHS
from codec_wire.integers import parse_integer
from codec_wire.latents import Modality
from codec_wire.request import VIDEO_FIELDS, GenerationRequest, PositiveUint32

MAX_N = 10
"""Maximum number of images or videos in one request for rendered pixels."""
MAX_PARTIAL_IMAGES = 3
"""Maximum number of partial images for each image of a request, as in OpenAI's API."""


def _require_modality(modality: Modality) -> Callable[[object], object]:
    """Return a validator that accepts only `modality`.

    If the validator rejects a modality, the error message names the endpoint of the rejected modality.
    """

    def validate(value: object) -> object:
        if value == modality:
            return modality
        if value in tuple(Modality):
            other = Modality(str(value))
            reason = f"should be {modality} on this endpoint; send {other} requests to {GENERATION_PATHS[other]}"
        else:
            reason = f"should be one of {', '.join(Modality)}"
        raise PydanticCustomError("modality", "{reason}", {"reason": reason})

    return validate


def _reject_url(value: object) -> object:
    if value == "url":
        raise PydanticCustomError("url", "should be b64_json: this server does not store files, so it has no URLs")
    return value


_Size = tuple[PositiveUint32, PositiveUint32] | None
_StreamFormat = Annotated[WireFormat, Field(strict=False)]
_ImageModality = Annotated[
    Modality, BeforeValidator(_require_modality(Modality.IMAGE)), WithJsonSchema({"const": str(Modality.IMAGE)})
]
VideoModality = Annotated[
    Modality, BeforeValidator(_require_modality(Modality.VIDEO)), WithJsonSchema({"const": str(Modality.VIDEO)})
]


def _adapt_schema(*, omit: Sequence[str] = (), require_any: Sequence[str] = ()) -> Callable[[dict[str, Any]], None]:
    """Return a `json_schema_extra` function that removes the fields `omit` from a schema.

    The fields `omit` are valid in GenerationRequest, but the endpoint of the schema rejects them. The schema requires
    at least one of the fields `require_any`. The schema does not allow the field `size` together with the alias
    `resolution`.
    """

    def adapt(schema: dict[str, Any]) -> None:
        for name in omit:
            schema["properties"].pop(name)
        if require_any:
            schema["anyOf"] = [{"required": [name]} for name in require_any]
        schema["not"] = BOTH_SIZES_SCHEMA

    return adapt


LATENTS_MARKERS = ("stream_format", "modality", "latent_space", "pipeline")
"""Names of fields that mark a request for latents.

A request for latents contains at least one of the fields LATENTS_MARKERS, unless the Accept header names a media type
of latent streams.
"""
_LATENTS_ONLY = ("modality", "latent_space", "pipeline")
"""The names in LATENTS_MARKERS that are fields of GenerationRequest."""


def _file_annotations(field: str) -> tuple[BeforeValidator, WithJsonSchema]:
    """Return the validator and the JSON schema of the file field `field`."""
    schema = {"type": "string", "contentEncoding": "base64", "maxLength": MAX_BASE64_CHARACTERS}
    return BeforeValidator(partial(decode_file_field, field)), WithJsonSchema(schema)


_IMAGE, _CONTROL_IMAGE = _file_annotations("image"), _file_annotations("control_image")
_MASK, _LATENTS = _file_annotations("mask"), _file_annotations("latents")


class GenerationBody(GenerationRequest):
    """Common fields of all request bodies."""

    image: Annotated[bytes | None, *_IMAGE] = Field(
        default=None,
        repr=False,
        description="Input image (PNG, JPEG or WebP) for models that support one, as base64 or as a base64 data URL.",
    )
    control_image: Annotated[bytes | None, *_CONTROL_IMAGE] = Field(
        default=None,
        repr=False,
        description="ControlNet conditioning image (PNG, JPEG or WebP), as base64 or as a base64 data URL.",
    )
    mask: Annotated[bytes | None, *_MASK] = Field(
        default=None,
        repr=False,
        description="Inpainting mask (PNG, JPEG or WebP) of the size of `image`, as base64 or as a base64 data URL. "
        "White pixels are repainted, black pixels are kept. Only for models that support inpainting.",
    )
    latents: Annotated[bytes | None, *_LATENTS] = Field(
        default=None,
        repr=False,
        description="Latents from which the generation starts, instead of `image`. The value is a latent stream with "
        "one image in the latent space of the model, as base64. The stream may have any wire format and content "
        "coding.",
    )

    size: Annotated[_Size, BeforeValidator(parse_size), WithJsonSchema(SIZE_SCHEMA)] = Field(
        default=None,
        description='Size in pixels as "WIDTHxHEIGHT", or "auto" for the default size of the model. Default: auto.',
    )
    resolution: Annotated[_Size, BeforeValidator(parse_resolution), WithJsonSchema(RESOLUTION_SCHEMA)] = Field(
        default=None, description="Alias of `size`. A single number is the side of a square."
    )
    user: str | None = Field(default=None, description="Accepted for compatibility with OpenAI's API and ignored.")
    quality: Literal["auto", "standard", "hd", "high", "medium", "low"] = Field(
        default="auto",
        description="Accepted for compatibility with OpenAI's API and ignored. Use `steps` to trade speed for quality.",
    )
    style: str | None = Field(
        default=None,
        description="Accepted for compatibility with OpenAI's API and ignored. Describe the style in `prompt`.",
    )
    moderation: Literal["auto", "low"] = Field(
        default="auto",
        description="Accepted for compatibility with OpenAI's API and ignored, because this server does not filter "
        "content.",
    )


class LatentsBody(GenerationBody):
    """Request for a stream of latents.

    A request is for latents if its body contains `stream_format`, `modality`, `latent_space` or `pipeline`, or if its
    Accept header names a media type of latent streams.
    """

    stream_format: _StreamFormat | None = Field(
        default=None,
        description="Serialization of the stream. Default: the format named in the Accept header, otherwise msgpack.",
    )
    n: Annotated[Literal[1], BeforeValidator(parse_integer)] = Field(
        default=1, description="Number of generations. A latent stream contains exactly one."
    )
    stream: bool = Field(default=True, description="Accepted and ignored, because latents are always streamed.")


class ImageLatentsBody(LatentsBody):
    """Request for the latents of one image.

    The body contains `stream_format`, `modality`, `latent_space` or `pipeline`, unless the Accept header names a media
    type of latent streams.
    """

    model_config = ConfigDict(json_schema_extra=_adapt_schema(omit=tuple(VIDEO_FIELDS), require_any=LATENTS_MARKERS))
    modality: _ImageModality = Field(default=Modality.IMAGE, description="This endpoint generates image latents only.")


class VideoLatentsBody(LatentsBody):
    """Request for the latents of one video.

    The body contains `stream_format`, `modality`, `latent_space` or `pipeline`, unless the Accept header names a media
    type of latent streams.
    """

    model_config = ConfigDict(json_schema_extra=_adapt_schema(require_any=LATENTS_MARKERS))
    modality: VideoModality = Field(default=Modality.VIDEO, description="This endpoint generates video latents only.")


class RenderedBody(GenerationBody):
    """Request for pixels. Fields that apply only to latents are not allowed."""

    n: Annotated[int, Field(ge=1, le=MAX_N), BeforeValidator(parse_integer)] = Field(
        default=1,
        description="Number of images or videos. The first uses `seed`, the next `seed` + 1, and so on.",
    )
    response_format: Annotated[Literal["b64_json"], BeforeValidator(_reject_url)] = Field(
        default="b64_json",
        description="Files are returned in the response as base64. `url` is not supported, because the server does not "
        "store files.",
    )
    output_format: str
    safety_identifier: str | None = Field(
        default=None, description="Accepted for compatibility with OpenAI's API and ignored."
    )


RENDERED_IMAGES_SCHEMA = _adapt_schema(omit=(*_LATENTS_ONLY, *VIDEO_FIELDS, "preview_every"))
"""Changes to the JSON schema of a request for rendered images."""


class RenderedImagesBody(RenderedBody):
    """OpenAI-style request for images. Fields that apply only to latents are not allowed."""

    model_config = ConfigDict(json_schema_extra=RENDERED_IMAGES_SCHEMA)
    events: ClassVar[ImageEvents] = GENERATION_EVENTS
    modality: _ImageModality = Modality.IMAGE
    output_format: ImageFormat = Field(default="png", description="File format of the images. PNG is lossless.")
    output_compression: Annotated[int | None, Field(ge=0, le=100), BeforeValidator(parse_integer)] = Field(
        default=None,
        description="Quality of JPEG and WebP files; 100 is the best. Default: 100. PNG files allow only 100.",
    )
    background: Literal["auto", "opaque"] = Field(
        default="auto", description="Images are always opaque; both values are equivalent."
    )
    stream: bool = Field(
        default=False,
        description="Send Server-Sent Events: partial images during sampling, and each image as soon as it is "
        "finished.",
    )
    partial_images: Annotated[int, Field(ge=0, le=MAX_PARTIAL_IMAGES), BeforeValidator(parse_integer)] = Field(
        default=0,
        description="Number of partial images to send while an image is sampled, at evenly spaced steps. The number "
        "must be 0 unless `stream` is true. A partial image is the model's estimate of the result.",
    )

    @field_validator("partial_images")
    @classmethod
    def _require_stream(cls, value: int, info: ValidationInfo) -> int:
        if value and not info.data.get("stream"):
            raise PydanticCustomError("stream", "should be 0 unless stream is true")
        return value

    @field_validator("output_compression")
    @classmethod
    def _reject_compression_of_png(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value not in (None, 100) and info.data.get("output_format") == "png":
            raise PydanticCustomError("png", "should be omitted or 100 for png, which is lossless")
        return value


class RenderedVideosBody(RenderedBody):
    """OpenAI-style request for videos. Fields that apply only to latents are not allowed."""

    model_config = ConfigDict(
        json_schema_extra=_adapt_schema(omit=(*_LATENTS_ONLY, "keyframe_interval", "preview_every"))
    )
    modality: VideoModality = Modality.VIDEO
    output_format: Literal["mp4"] = Field(default="mp4", description="File format of the videos: MP4 with H.264.")
    stream: Literal[False] = Field(
        default=False, description="Rendered videos cannot be streamed, in contrast to rendered images and latents."
    )
