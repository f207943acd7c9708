"""Reading and validation of the body of POST /v1/videos, which is JSON or a form."""

import asyncio
from typing import Annotated, Any, get_args

from aiohttp import hdrs, web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from codec_http.body_receiver import Body, receive_body
from codec_http.file_field import FILE_FIELDS, MAX_BASE64_CHARACTERS, decode_file_field
from codec_http.json_body import parse_json_object
from codec_http.multipart import MULTIPART, form_fields, parse_multipart
from codec_http.request_body import INLINE_BYTES, parse_body
from codec_http.request_models import GenerationBody, VideoModality
from codec_http.route import JSON
from codec_http.size_field import BOTH_SIZES_SCHEMA
from codec_http.state import BODY_PARSER, SERVICE
from codec_wire.errors import FieldError, InvalidRequest, UnsupportedMediaType, truncated_repr
from codec_wire.http import GENERATION_PATHS
from codec_wire.latents import Modality
from codec_wire.request import GenerationRequest

_REFERENCE = "input_reference"
LATENTS_ONLY = ("latent_space", "pipeline", "keyframe_interval", "preview_every")
"""Fields of GenerationRequest that apply only to streams of latents."""

_ENCODED_FILES = (*FILE_FIELDS, _REFERENCE, f"{_REFERENCE}[image_url]")
"""Names of the parts of a form that may contain a file as base64 text."""


def _parse_seconds(value: object) -> object:
    """Return the number of seconds that `value` represents.

    The value may be text, because OpenAI's client sends text such as "4".
    """
    if isinstance(value, str) and len(value) <= 32:
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _decode_reference(value: object) -> object:
    """Return the image file in `value`: a file of a form, base64 text, or an object with `image_url`."""
    if isinstance(value, dict):
        if set(value) != {"image_url"}:
            raise PydanticCustomError(
                "reference",
                "should be an image file, or an object that has only the key image_url (the object cannot refer to a "
                "stored file, because this server stores none)",
            )
        value = value["image_url"]
        if isinstance(value, str) and not value.lower().startswith("data:"):
            raise PydanticCustomError(
                "reference",
                "should have a data URL as image_url (data:image/png;base64,...), because this server "
                "downloads no files",
            )
    return decode_file_field(_REFERENCE, value)


def _adapt_schema(schema: dict[str, Any]) -> None:
    for name in ("modality", *LATENTS_ONLY):
        schema["properties"].pop(name)
    schema["not"] = BOTH_SIZES_SCHEMA


class VideoJobBody(GenerationBody):
    """Request to generate a video as a job.

    The fields are those of OpenAI's videos API and of requests for rendered videos.
    """

    model_config = ConfigDict(json_schema_extra=_adapt_schema)
    modality: VideoModality = Modality.VIDEO
    seconds: Annotated[
        float | None,
        BeforeValidator(_parse_seconds),
        Field(gt=0, allow_inf_nan=False),
        WithJsonSchema({"type": ["number", "string"], "exclusiveMinimum": 0, "pattern": r"^[0-9]*\.?[0-9]+$"}),
    ] = Field(
        default=None,
        description="Duration of the video in seconds, as a number or as text. The number of frames is the supported "
        "number nearest to `seconds` x `fps`. Instead of `frames`.",
    )
    input_reference: Annotated[
        bytes | None,
        BeforeValidator(_decode_reference),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string", "contentEncoding": "base64", "maxLength": MAX_BASE64_CHARACTERS},
                    {
                        "type": "object",
                        "properties": {"image_url": {"type": "string", "pattern": "^data:"}},
                        "required": ["image_url"],
                        "additionalProperties": False,
                    },
                ]
            }
        ),
    ] = Field(
        default=None,
        repr=False,
        description="Input image (PNG, JPEG or WebP) for models that support one, as `image`: a file in a form, base64 "
        "text, a base64 data URL, or an object whose `image_url` is such a URL.",
    )

    def generation_request(self) -> GenerationRequest:
        """Return this request as a GenerationRequest, in which the fields of OpenAI's API are converted or omitted.

        Raises InvalidRequest if two fields contradict each other. Raises InvalidRequest also for a field that is only
        valid in requests for latents. The error names one field.
        """
        for name in LATENTS_ONLY:
            if name in self.model_fields_set:
                raise InvalidRequest(
                    name, f"is only valid in requests for latents (POST {GENERATION_PATHS[Modality.VIDEO]})"
                )
        values = {name: getattr(self, name) for name in GenerationRequest.model_fields}
        if self.seconds is not None:
            for name, value in (("frames", self.num_frames), ("duration_seconds", self.duration_seconds)):
                if value is not None:
                    raise InvalidRequest("seconds", f"must not be combined with {name}, got both")
            values["duration_seconds"] = self.seconds
        if self.input_reference is not None:
            if self.image is not None:
                raise InvalidRequest(_REFERENCE, "must not be combined with image, got both")
            values["image"] = self.input_reference
        return GenerationRequest.model_construct(**values)

    def named_as_sent(self, error: FieldError) -> FieldError:
        """Return `error` with the field name that the client used."""
        names = {"duration_seconds": ("seconds", self.seconds), "image": (_REFERENCE, self.input_reference)}
        name, value = names.get(str(error.field), ("", None))
        if value is None:
            return error
        return type(error)(name, error.message.removeprefix(f"{error.field}: "))


async def read_video_job(request: web.Request) -> VideoJobBody:
    """Return the validated body of `request`, which is JSON or multipart/form-data.

    Raises UnsupportedMediaType if the body is neither JSON nor a form. Also raises the errors of receive_body,
    parse_multipart and parse_body.
    """
    app = request.app
    if request.content_type not in (JSON, MULTIPART):
        raise UnsupportedMediaType(
            f"Content-Type must be {JSON} or {MULTIPART}, got {truncated_repr(request.content_type)}"
        )
    with app[SERVICE].admission.memory.reserve() as reservation:
        body = await receive_body(request, reservation)
        parse = _parse_form if request.content_type == MULTIPART else _parse_json
        content_type = request.headers[hdrs.CONTENT_TYPE]
        if body.size <= INLINE_BYTES:
            return parse(content_type, body)
        # One at a time, so that the memory for parsing does not depend on the number of requests.
        return await asyncio.get_running_loop().run_in_executor(app[BODY_PARSER], parse, content_type, body)


def text_fields(model: type[BaseModel]) -> set[str]:
    """Return the names of those fields of `model` that accept any text.

    If a field has an alias, the alias is returned, because requests contain the alias.
    """
    return {
        info.alias or name
        for name, info in model.model_fields.items()
        if str in (info.annotation, *get_args(info.annotation))
    }


def _parse_form(content_type: str, body: Body) -> VideoJobBody:
    parts = parse_multipart(content_type, body.take(), _ENCODED_FILES)
    return parse_body(VideoJobBody, form_fields(parts, text_fields(VideoJobBody)))


def _parse_json(_content_type: str, body: Body) -> VideoJobBody:
    return parse_body(VideoJobBody, parse_json_object(body.take()))
