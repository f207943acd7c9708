"""Pydantic models of the events of streamed images, with the names and keys of OpenAI's API."""

import json
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from codec_http.response_models import ErrorDetail, ResponseModel
from codec_pixels.images import ImageFormat
from codec_wire.server_sent_events import ERROR, server_sent_event


class InputTokens(ResponseModel):
    """Counts of input tokens: one count for images, and one count for text."""

    image_tokens: int = Field(default=0, description="Always 0.")
    text_tokens: int = Field(default=0, description="Always 0.")


class Usage(ResponseModel):
    """Number of tokens of a request.

    The server does not count tokens, but clients of OpenAI's API require the fields of this object.
    """

    input_tokens: int = Field(default=0, description="Always 0.")
    input_tokens_details: InputTokens = InputTokens()
    output_tokens: int = Field(default=0, description="Always 0.")
    total_tokens: int = Field(default=0, description="Always 0.")


class ImageEvent(ResponseModel):
    """Common fields of all events that contain an image."""

    b64_json: str = Field(description="The file in base64.")
    background: Literal["opaque"] = Field(default="opaque", description="Images are always opaque.")
    created_at: int = Field(description="Time of the event in seconds since 1970-01-01 UTC.")
    output_format: ImageFormat = Field(description="File format.")
    quality: Literal["auto"] = Field(default="auto", description="Always auto: the server ignores `quality`.")
    size: str = Field(description='Size in pixels as "WIDTHxHEIGHT".')
    seed: int = Field(description="Seed of the image.")


class PartialImageEvent(ImageEvent):
    """Event with a preview of an image that is still being sampled."""

    type: Literal["image_generation.partial_image", "image_edit.partial_image"]
    partial_image_index: int = Field(
        description="Number of partial images of the same image that were sent before this one."
    )


class CompletedImageEvent(ImageEvent):
    """Event with a finished image. The image has the same bytes as in a response that is not streamed."""

    type: Literal["image_generation.completed", "image_edit.completed"]
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class ImageEvents:
    """Names of the Server-Sent Events that an endpoint sends."""

    partial: Literal["image_generation.partial_image", "image_edit.partial_image"]
    completed: Literal["image_generation.completed", "image_edit.completed"]


GENERATION_EVENTS = ImageEvents("image_generation.partial_image", "image_generation.completed")
EDIT_EVENTS = ImageEvents("image_edit.partial_image", "image_edit.completed")


def encode_image_event(event: PartialImageEvent | CompletedImageEvent) -> bytes:
    """Return `event` as a Server-Sent Event."""
    return server_sent_event(event.type, event.model_dump_json())


def encode_error_event(detail: ErrorDetail) -> bytes:
    """Return the Server-Sent Event that ends a failed stream. `detail` describes the error."""
    return server_sent_event(ERROR, json.dumps({"type": ERROR, "error": detail.model_dump(exclude_unset=True)}))
