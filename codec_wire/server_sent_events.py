"""Encoding and incremental parser of the Server-Sent Events (WHATWG HTML, 9.2) of a generation.

The data of every event is a JSON object. The JSON object contains messages of the latent stream as base64 strings.
"""

import base64
import json
from collections.abc import Iterator
from typing import Any

from codec_wire import WireFormat, encode
from codec_wire.errors import MalformedMessage, truncated_repr
from codec_wire.events import Frame, Preview, Started, StreamEvent
from codec_wire.latents import LatentFrame, LatentStreamHeader

EVENT_STREAM = "text/event-stream"
"""Media type of a response that contains Server-Sent Events."""
HEADER, PROGRESS, PREVIEW, FRAME, ERROR = "header", "progress", "preview", "frame", "error"
"""Names of the events. An `error` event contains the body of an error response and is the last event."""
MAX_EVENT_BYTES = 512 * 1024 * 1024
"""Maximum size of a received event in bytes. An event can contain a frame as a base64 string."""


def server_sent_event(name: str, data: str) -> bytes:
    """Return the bytes of one Server-Sent Event. `data` must not contain line breaks."""
    return f"event: {name}\ndata: {data}\n\n".encode()


def encode_event(event: StreamEvent, wire_format: WireFormat) -> bytes:
    """Return `event` as the bytes of a Server-Sent Event.

    A header or frame in the event is encoded in `wire_format`. The concatenated messages of all header and frame events
    are the body of the latent stream.
    """
    if isinstance(event, Started):
        return _event(HEADER, {"message": _text(event.header, wire_format)})
    if isinstance(event, Frame):
        return _event(FRAME, {"message": _text(event.frame, wire_format)})
    position = {"step": event.index, "total_steps": event.total}
    if isinstance(event, Preview):
        return _event(PREVIEW, position | {"message": _text(event.frame, wire_format)})
    return _event(PROGRESS, position)


def _event(name: str, data: dict[str, Any]) -> bytes:
    return server_sent_event(name, json.dumps(data))


def _text(message: LatentStreamHeader | LatentFrame, wire_format: WireFormat) -> str:
    return base64.b64encode(encode(message, wire_format)).decode()


class ServerSentEventReader:
    """Incremental parser of Server-Sent Events that are received in chunks of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
        """Add `chunk` and yield the name and the data of every complete event.

        Raises MalformedMessage if the data of an event is not a JSON object, or if an event is too large.
        """
        self._buffer += chunk
        while (end := self._buffer.find(b"\n\n")) >= 0:
            text = bytes(self._buffer[:end])
            del self._buffer[: end + 2]
            yield _parse(text)
        if len(self._buffer) > MAX_EVENT_BYTES:
            raise MalformedMessage(f"an event has more than {MAX_EVENT_BYTES} bytes")


def _parse(text: bytes) -> tuple[str, dict[str, Any]]:
    fields = dict(line.split(b": ", 1) for line in text.split(b"\n") if b": " in line)
    try:
        data = json.loads(fields[b"data"])
    except (KeyError, ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise MalformedMessage(f"the data of an event must be a JSON object, got {truncated_repr(text)}")
    return fields.get(b"event", b"message").decode(errors="replace"), data


def message_bytes(data: dict[str, Any]) -> bytes:
    """Return the bytes of the stream message in `data`, which is the data of a header, preview or frame event.

    Raises MalformedMessage if the data does not contain a base64 string.
    """
    try:
        return base64.b64decode(data["message"], validate=True)
    except (KeyError, ValueError, TypeError):
        raise MalformedMessage(f"the message of an event must be a base64 string, got {truncated_repr(data)}") from None
