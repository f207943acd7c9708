"""Pydantic model of the body of POST /v1/images/edits, which may be a form or JSON."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema

from codec_http.file_field import MAX_BASE64_CHARACTERS, decode_file_field
from codec_http.image_events import EDIT_EVENTS
from codec_http.request_models import RENDERED_IMAGES_SCHEMA, RenderedImagesBody
from codec_wire.errors import InvalidRequest

_FILE_SCHEMA = {"type": "string", "contentEncoding": "base64", "maxLength": MAX_BASE64_CHARACTERS}
_FILE_OR_URL_SCHEMA = {
    "oneOf": [
        _FILE_SCHEMA,
        {"type": "object", "properties": {"image_url": _FILE_SCHEMA}, "required": ["image_url"]},
    ]
}
_IMAGE_SCHEMA = {
    "oneOf": [
        *_FILE_OR_URL_SCHEMA["oneOf"],
        {"type": "array", "items": _FILE_OR_URL_SCHEMA, "minItems": 1, "maxItems": 1},
    ]
}


def _one_image(value: object) -> object:
    """Return the only item of `value` if `value` is a list, otherwise `value`."""
    if not isinstance(value, list):
        return value
    if len(value) != 1:
        raise InvalidRequest("image", f"must be one image, got {len(value)}: the models edit one image at a time")
    return value[0]


def _file(field: str, value: object) -> object:
    """Return the file in `value`.

    `value` may be bytes, base64 text, or an object with a data URL in `image_url`.
    """
    if isinstance(value, Mapping) and set(value) == {"image_url"}:
        value = value["image_url"]
        if isinstance(value, str) and value[:5].lower() != "data:":
            raise InvalidRequest(field, f"image_url must be a base64 data URL, got {value[:80]!r}")
    return value if isinstance(value, bytes) else decode_file_field(field, value)


class EditBody(RenderedImagesBody):
    """OpenAI-style request to edit an image.

    A form contains `image` and `mask` as files. A JSON body contains `image` and `mask` as base64, as base64 data URLs,
    or as objects with a data URL in `image_url`. Fields that apply only to latents are not allowed.
    """

    model_config = ConfigDict(json_schema_extra=RENDERED_IMAGES_SCHEMA)
    events: ClassVar = EDIT_EVENTS
    image: Annotated[
        bytes,
        BeforeValidator(lambda value: _file("image", _one_image(value))),
        WithJsonSchema(_IMAGE_SCHEMA),
    ] = Field(repr=False, description="The image to edit: PNG, JPEG or WebP. `images` and `image[]` are aliases.")
    mask: Annotated[
        bytes | None, BeforeValidator(lambda value: _file("mask", value)), WithJsonSchema(_FILE_OR_URL_SCHEMA)
    ] = Field(
        default=None,
        repr=False,
        description="Image with an alpha channel and the size of `image`: PNG or WebP. Its transparent pixels are "
        "repainted, its opaque pixels are kept. Default: the whole image is edited.",
    )
    input_fidelity: Literal["high", "low"] | None = Field(
        default=None,
        description="Accepted for compatibility with OpenAI's API and ignored. Use `strength` to select how much of "
        "the image is changed.",
    )


EDIT_TEXT_FIELDS = frozenset(
    name for name, field in EditBody.model_fields.items() if field.annotation in (str, str | None)
)
"""Names of the fields whose values in a form are kept as text, even if the text looks like a number."""


def edit_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Return `fields` with the key `images` renamed to `image`.

    Raises InvalidRequest if `fields` contains both `image` and `images`.
    """
    if fields.get("images") is None:
        return fields
    if fields.get("image") is not None:
        raise InvalidRequest("images", "must not be combined with image; got both")
    return {"image" if name == "images" else name: value for name, value in fields.items()}
