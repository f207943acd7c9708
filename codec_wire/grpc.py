"""Definitions that the gRPC client and the gRPC server share, in addition to the .proto schema.

This module contains metadata keys, channel options, the conversion of messages to events, and the conversion of status
details to errors.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from codec_wire.errors import CodecError
from codec_wire.events import Frame, Preview, PromptTruncation, Started, Step, StreamEvent
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.http import (
    LATENT_MAP_HEADER,
    MAP_PIN_HEADER,
    MODE_HEADER,
    MODEL_HEADER,
    PARAMETERS_HEADER,
    REQUEST_ID_HEADER,
    SEED_HEADER,
)
from codec_wire.latents import FinishReason, LatentFrame, Modality
from codec_wire.protobuf_envelope import (
    encode_frame_field,
    frame_from_message,
    header_from_message,
    parse_frame_field,
)
from codec_wire.remote_errors import error_from_code

ERROR_DOMAIN = "codec-diffusers"
MAP_HASH_KEY = LATENT_MAP_HEADER.lower()
"""Key of the latent-space map's hash (sha256:<hex>) in the initial metadata and in the trailing metadata."""
RETRY_AFTER_KEY = "retry-after"
"""Key in the trailing metadata whose value is the number of seconds after which a client may retry.

Proxies read this key.
"""
RETRY_PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""Key in the trailing metadata whose value is the number of milliseconds after which a gRPC client with a retry policy
retries."""
MODEL_KEY = MODEL_HEADER.lower()
"""Key of the model's name in the initial metadata. The function http.header_value encodes the name."""
SEED_KEY = SEED_HEADER.lower()
"""Key in the initial metadata whose value is the seed of the noise."""
REQUEST_ID_KEY = REQUEST_ID_HEADER.lower()
"""Key of the request id in the request metadata and in the trailing metadata.

The server's log contains the request id.
"""
PARAMETERS_KEY = PARAMETERS_HEADER.lower()
"""Key of the generation parameters in the initial metadata.

The value is a JSON object with the parameters of the request and the parameters of the server process.
"""
MODE_KEY = MODE_HEADER.lower()
"""Key of the model's mode in the initial metadata.

The value contains the mode (reference or fast), the switches of the model, and the measured effect of the switches on
images.
"""
BATCH_SIZE_KEY = "codec-batch-size"
"""Key in the trailing metadata whose value is the number of generations that were sampled together in one batch.

A gateway needs the number of generations in a batch to estimate the time that a generation takes.
"""
MAP_PIN_KEY = MAP_PIN_HEADER.lower()
"""Key in the request metadata whose value is the hash of the latent-space map that the client uses."""

MODALITIES = {
    Modality.IMAGE: pb.MODALITY_IMAGE_LATENTS,
    Modality.VIDEO: pb.MODALITY_VIDEO_LATENTS,
}

MAX_MESSAGE_BYTES = 256 * 1024 * 1024
CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    # The default limit of 4 MiB applies to messages that a client receives; a raw frame of a large video exceeds it.
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.http2.max_pings_without_data", 0),
    # By default a client waits up to two minutes before it reconnects.
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]

_STATUS_DETAILS_KEY = "grpc-status-details-bin"


_FRAME_TAG = bytes([pb.GenerateResponse.FRAME_FIELD_NUMBER << 3 | 2])
"""Tag of the field `frame` of GenerateResponse, which is length-delimited."""


def serialized_frame(frame: LatentFrame) -> bytes:
    """Return the serialized GenerateResponse with `frame`.

    The data of the frame are copied only once. A protobuf object would copy them three times.
    """
    return encode_frame_field(_FRAME_TAG, frame)


def event_from_bytes(message: bytes) -> StreamEvent | None:
    """Return the event in a serialized GenerateResponse. See event_from_message.

    The data of a frame are copied only once. The protobuf library would copy them twice.

    Raises DecodeError if `message` is not a GenerateResponse. Also raises the errors of `event_from_message`.
    """
    frame = parse_frame_field(_FRAME_TAG, message)
    if frame is not None:
        return _frame_event(frame)
    if len(message) <= _MAX_CACHED_BYTES:
        return _small_event_from_bytes(message)
    return event_from_message(pb.GenerateResponse.FromString(message))


_MAX_CACHED_BYTES = 1024


@lru_cache(maxsize=256)
def _small_event_from_bytes(message: bytes) -> StreamEvent | None:
    """Return the event in a serialized GenerateResponse.

    Results are cached, because streams with the same shape and encoding pipeline usually have equal headers.
    """
    return event_from_message(pb.GenerateResponse.FromString(message))


def _frame_event(frame: LatentFrame) -> Frame | None:
    return None if frame.finish_reason is FinishReason.ERROR else Frame(frame)


def event_from_message(message: pb.GenerateResponse) -> StreamEvent | None:
    """Return the event in a response message, or None for an error frame or an event of an unknown kind.

    After an error frame, the call ends with an error status. The receiver creates its own error frame from the error
    status.
    """
    kind = message.WhichOneof("event")
    if kind == "header":
        truncations = (
            PromptTruncation(item.field, item.encoder, item.dropped_tokens) for item in message.prompt_truncations
        )
        return Started(header_from_message(message.header), tuple(truncations))
    if kind == "progress":
        return Step(message.progress.step, message.progress.total_steps)
    if kind == "preview":
        preview = message.preview
        return Preview(preview.step, preview.total_steps, frame_from_message(preview.frame))
    if kind != "frame":
        return None  # sent by a newer server
    return _frame_event(frame_from_message(message.frame))


def error_from_status(
    trailing_metadata: Iterable[tuple[str, str | bytes]], code: int, message: str
) -> CodecError | None:
    """Return the error described by the status details in the trailing metadata of a call.

    `code` and `message` are the status code and the status message of the call. Return None if the details were not
    written by a server of this project, or if the code in the details is not `code`.
    """
    packed = dict(trailing_metadata).get(_STATUS_DETAILS_KEY)
    status, info, retry = status_pb2.Status(), error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    try:
        status.ParseFromString(packed if isinstance(packed, bytes) else b"")
        for detail in status.details:
            _ = detail.Unpack(info) or detail.Unpack(retry)
    except DecodeError:
        return None
    if info.domain != ERROR_DOMAIN or status.code != code:
        return None
    return error_from_code(
        info.reason.lower(),
        message,
        field=info.metadata.get("field"),
        retry_after_s=int(retry.retry_delay.seconds) or None,
        supported=tuple(name for name in info.metadata.get("supported", "").split(",") if name),
    )
