"""Reader of the Server-Sent Events in the HTTP response to a generation request."""

from collections.abc import AsyncGenerator

import aiohttp

from codec_client.errors import UnexpectedAnswer
from codec_client.http_errors import reported_error
from codec_client.stream import ResponseState
from codec_wire import StreamReader, WireFormat, encode
from codec_wire.errors import MalformedMessage, StreamFailed
from codec_wire.events import Frame, Preview, Started, Step, StreamEvent, preview_header
from codec_wire.http import PROMPT_TRUNCATED_HEADER, parse_truncations
from codec_wire.latents import FinishReason, LatentFrame, LatentStreamHeader
from codec_wire.server_sent_events import (
    EVENT_STREAM,
    ServerSentEventReader,
    message_bytes,
)


async def read_events(
    response: aiohttp.ClientResponse, state: ResponseState, wire_format: WireFormat
) -> AsyncGenerator[StreamEvent, None]:
    """Yield the events of `response`.

    `wire_format` is the wire format of the messages in the events. Events with an unknown name are skipped.

    Raises the CodecError that the server reports in an event. Raises UnexpectedAnswer if the response is not an event
    stream, and StreamError if an event is invalid.
    """
    if response.content_type != EVENT_STREAM:
        raise UnexpectedAnswer(f"{response.url} sent the Content-Type {response.content_type}, expected {EVENT_STREAM}")
    events, stream = ServerSentEventReader(), StreamReader(wire_format)
    header: LatentStreamHeader | None = None
    async for chunk in response.content.iter_any():
        state.received_bytes += len(chunk)
        for name, data in events.feed(chunk):
            match name:
                case "header" | "frame":
                    for message in stream.feed(message_bytes(data)):
                        if isinstance(message, LatentStreamHeader):
                            header = message
                            yield Started(message, parse_truncations(response.headers.get(PROMPT_TRUNCATED_HEADER)))
                        elif message.finish_reason is not FinishReason.ERROR:  # otherwise, the error is the next event
                            yield Frame(message)
                case "preview" if header is not None:
                    step, total = _position(data)
                    yield Preview(step, total, _preview_frame(header, message_bytes(data), wire_format))
                case "progress":
                    yield Step(*_position(data))
                case "error":
                    raise reported_error(data) or StreamFailed("the generation failed; see the log of the server")
    stream.close()


def _position(data: dict[str, object]) -> tuple[int, int]:
    """Return the number of completed sampling steps and the total number of sampling steps that an event states.

    Raises MalformedMessage if either number is not an integer.
    """
    step, total = data.get("step"), data.get("total_steps")
    if not isinstance(step, int) or not isinstance(total, int):
        raise MalformedMessage(f"step and total_steps must be integers, got {step!r} and {total!r}")
    return step, total


def _preview_frame(header: LatentStreamHeader, message: bytes, wire_format: WireFormat) -> LatentFrame:
    reader = StreamReader(wire_format)
    found = list(reader.feed(encode(preview_header(header), wire_format) + message))
    frame = found[-1]
    if len(found) != 2 or not isinstance(frame, LatentFrame):
        raise MalformedMessage("a preview event must contain exactly one frame")
    return frame
