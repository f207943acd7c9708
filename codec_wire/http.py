"""HTTP headers, paths and media types that a server and a client of the Codec protocol must share."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from codec_wire import errors
from codec_wire.errors import CodecError, RetryableError
from codec_wire.events import PromptTruncation
from codec_wire.latents import Modality
from codec_wire.wire_format import WireFormat

LATENT_MAP_HEADER = "Codec-Latent-Map"
ZSTD_DICTIONARY_HEADER = "Codec-Zstd-Dict"
MAP_PIN_HEADER = "X-Codec-Map"
CLIENT_VERSION_HEADER = "Codec-Client-Version"
MODEL_HEADER = "Codec-Model"
SEED_HEADER = "Codec-Seed"
PROMPT_TRUNCATED_HEADER = "Codec-Prompt-Truncated"
PARAMETERS_HEADER = "Codec-Parameters"
MODE_HEADER = "Codec-Mode"
GENERATION_MS_HEADER = "X-Codec-Generation-Ms"
REQUEST_ID_HEADER = "X-Request-Id"
ERROR_TRAILER = "Codec-Error"
"""HTTP trailer that reports why a latent stream failed after the stream header was sent.

The value has the form "<code>: <message>" and is encoded by the function header_value.
"""

RESPONSE_HEADERS: Mapping[str, str] = {
    LATENT_MAP_HEADER: "sha256:<hex> of the latent-space map that describes the latents.",
    ZSTD_DICTIONARY_HEADER: "sha256:<hex> of the zstd dictionary; present if Content-Encoding is zstd.",
    MODEL_HEADER: "Name of the model that generates. Characters other than printable ASCII are percent-encoded.",
    SEED_HEADER: "Seed of the noise. If the server selected a random seed, it is this seed. With `n`, it is the seed "
    "of the first image or video.",
    PROMPT_TRUNCATED_HEADER: "Number of tokens at the end of a prompt that a text encoder of the model ignored, for "
    "example prompt.text_encoder=12, negative_prompt.text_encoder_2=3. Absent if no tokens were ignored.",
    PARAMETERS_HEADER: "JSON object in ASCII with the parameters of the request, including defaults but without "
    "prompts and images, and with the device, number of CPU threads and library versions of the server process.",
    MODE_HEADER: "Mode in which the model generates: reference or fast. Fast mode is followed by its switches and by "
    "the measured similarity of its images to those of reference mode, or by the word unmeasured. For example: fast; "
    'switches="compile=full"; ssim=0.9712; psnr_db=33.1000',
    GENERATION_MS_HEADER: "Time to generate and decode, in milliseconds. Sent only with rendered images and videos, "
    "because the headers of a latent stream are sent before the generation ends.",
    REQUEST_ID_HEADER: "Id of the request in the server's log. It is the id in the request header, or else a new id.",
}
"""Descriptions of the protocol headers of a generation response, keyed by the names of the headers.

CORS permits web pages to read the protocol headers.
"""
REQUEST_HEADERS: Mapping[str, str] = {
    MAP_PIN_HEADER: "sha256:<hex> of the latent-space map that the client uses. If the server's map differs, the "
    "status is 409.",
    CLIENT_VERSION_HEADER: "If present, with any value, the client can download zstd dictionaries.",
    REQUEST_ID_HEADER: "Id of the request in the server's log: at most 128 letters, digits and characters of ._:/+=@-",
}
"""Descriptions of the optional protocol headers of a generation request, keyed by the names of the headers."""

EDITS_PATH = "/v1/images/edits"
GENERATION_PATHS: Mapping[Modality, str] = {
    Modality.IMAGE: "/v1/images/generations",
    Modality.VIDEO: "/v1/videos/generations",
}
VIDEO_JOBS_PATH = "/v1/videos"
DECODE_PATH = "/v1/latents/decode"
ENCODE_PATH = "/v1/latents/encode"
HF_DECODE_PATH = "/hf/decode"
HF_ENCODE_PATH = "/hf/encode"
MODELS_PATH = "/v1/models"
INFO_PATH = "/codec/info"
SCHEMA_PATH = "/codec/schema"
CODEC_HEALTH_PATH = "/codec/health"
HEALTH_PATH = "/health"
LIVENESS_PATH = "/livez"
READINESS_PATH = "/readyz"
METRICS_PATH = "/metrics"
WELL_KNOWN_PATH = "/.well-known/codec"
INDEX_PATH = f"{WELL_KNOWN_PATH}/index.json"


def header_value(text: str) -> str:
    """Return `text` as a value for an HTTP header or for gRPC metadata.

    Each "%" and each character that is not printable ASCII is percent-encoded.
    """
    if text.isascii() and text.isprintable() and "%" not in text:
        return text.strip()
    return "".join(char if " " <= char <= "~" and char != "%" else quote(char, safe="") for char in text).strip()


def parse_parameters(header: str | None) -> dict[str, Any]:
    """Return the generation parameters in `header`, which is the value of the HTTP header PARAMETERS_HEADER.

    The result is empty if `header` is missing or does not contain a JSON object.
    """
    try:
        found = json.loads(header or "{}")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, str | int | float | list | dict)}


def truncation_headers(truncations: Sequence[PromptTruncation]) -> dict[str, str]:
    """Return a dictionary with PROMPT_TRUNCATED_HEADER, or an empty dictionary if no prompt was truncated."""
    if not truncations:
        return {}
    items = [f"{item.field}.{item.encoder}={item.dropped_tokens}" for item in dict.fromkeys(truncations)]
    return {PROMPT_TRUNCATED_HEADER: ", ".join(items)}


def parse_truncations(header: str | None) -> tuple[PromptTruncation, ...]:
    """Return the truncated prompts that `header` lists. Malformed items are skipped.

    `header` is the value of PROMPT_TRUNCATED_HEADER, or None if a response does not have this header.
    """
    found = []
    for item in (header or "").split(","):
        names, _, count = item.strip().partition("=")
        field, _, encoder = names.partition(".")
        if encoder and count.isascii() and count.isdigit():
            found.append(PromptTruncation(field, encoder, int(count)))
    return tuple(found)


def map_path(latent_space_id: str) -> str:
    """Return the URL path of the map that describes the latent space with the id `latent_space_id`."""
    return f"{WELL_KNOWN_PATH}/latents/{latent_space_id}.json"


def latent_rgb_path(latent_space_id: str) -> str:
    """Return the URL path of the latent-to-RGB matrix for the latent space with the id `latent_space_id`."""
    return f"{WELL_KNOWN_PATH}/rgb/{latent_space_id}.json"


def dictionary_path(digest: str) -> str:
    """Return the URL path of the zstd dictionary with the hash `digest` (sha256:<hex> or <hex>)."""
    return f"{WELL_KNOWN_PATH}/dicts/{digest.removeprefix('sha256:')}.zstd"


def scales_path(digest: str) -> str:
    """Return the URL path of the static scales with the hash `digest` (sha256:<hex> or <hex>)."""
    return f"{WELL_KNOWN_PATH}/scales/{digest.removeprefix('sha256:')}.bin"


def decoder_path(digest: str) -> str:
    """Return the URL path of the ONNX decoder with the hash `digest` (sha256:<hex> or <hex>)."""
    return f"{WELL_KNOWN_PATH}/decoders/{digest.removeprefix('sha256:')}.onnx"


MEDIA_TYPES: Mapping[str, WireFormat] = {
    "application/x-msgpack": WireFormat.MSGPACK,
    "application/x-codec-msgpack": WireFormat.MSGPACK,
    "application/codec+msgpack": WireFormat.MSGPACK,
    "application/vnd.msgpack": WireFormat.MSGPACK,
    "application/x-protobuf": WireFormat.PROTOBUF,
    "application/x-codec-protobuf": WireFormat.PROTOBUF,
    "application/codec+protobuf": WireFormat.PROTOBUF,
    "application/vnd.protobuf": WireFormat.PROTOBUF,
}
"""Wire format of each media type. The first media type of a wire format is the default of the wire format."""
_DEFAULT_MEDIA_TYPES = {wire_format: name for name, wire_format in reversed(tuple(MEDIA_TYPES.items()))}
NPY_MEDIA_TYPE = "application/x-npy"
"""Media type of a NumPy array file."""
PIXEL_MEDIA_TYPES: Mapping[str, str] = {
    "rgb": NPY_MEDIA_TYPE,
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "mp4": "video/mp4",
}
"""Media type of each format of decoded pixels. The format "rgb" is a NumPy array file."""
CODEC_MEDIA_TYPES = frozenset(name for name in MEDIA_TYPES if "codec" in name)
"""Media types that only a Codec client sends in the Accept header."""
ACCEPT: Mapping[WireFormat, str] = {
    WireFormat.MSGPACK: "application/x-codec-msgpack",
    WireFormat.PROTOBUF: "application/x-codec-protobuf",
}
"""Media type that a client sends in the Accept header to request a wire format."""


def default_media_type(wire_format: WireFormat) -> str:
    """Return the Content-Type of a latent stream in the wire format `wire_format`.

    The Content-Type does not depend on the media type with which the client requested the wire format.
    """
    return _DEFAULT_MEDIA_TYPES[wire_format]


ERROR_STATUS: Mapping[type[CodecError], int] = {
    errors.InvalidRequest: HTTPStatus.BAD_REQUEST,
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.MapMismatch: HTTPStatus.CONFLICT,
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UnsupportedCoding: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.RequestTimeout: HTTPStatus.REQUEST_TIMEOUT,
    errors.NotAcceptable: HTTPStatus.NOT_ACCEPTABLE,
    errors.UnsupportedModality: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.Overloaded: HTTPStatus.TOO_MANY_REQUESTS,
    errors.NotReady: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.OutOfMemory: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.OutOfStorage: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    errors.Cancelled: 499,
}
"""HTTP status of each error class. An error class that is not a key of this mapping has the status 500.

The status 499 is only logged, because the client has disconnected.
"""


def error_status(cls: type[BaseException]) -> int:
    """Return the HTTP status of the error class `cls`.

    If ERROR_STATUS does not contain `cls`, the status of the nearest base class is returned.

    The status is 500 if ERROR_STATUS contains neither `cls` nor a base class of `cls`.
    """
    status = next((ERROR_STATUS[base] for base in cls.__mro__ if base in ERROR_STATUS), None)
    return int(HTTPStatus.INTERNAL_SERVER_ERROR if status is None else status)


def retryable_error(status: int) -> type[RetryableError] | None:
    """Return the subclass of RetryableError with the HTTP status `status`, or None if no subclass has this status.

    Use this function for a response without a Codec error code, such as a response from a proxy.
    """
    for cls, found in ERROR_STATUS.items():
        if found == status and issubclass(cls, RetryableError):
            return cls
    return None
