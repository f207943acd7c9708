"""Serialization and compression of response bodies that are written in parts."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from codec_wire import WireFormat, encode
from codec_wire.compression import Compressor, IdentityCompressor
from codec_wire.formats import frame_parts
from codec_wire.latents import LatentFrame, LatentStreamHeader
from core.request_record import RequestRecord, current_record

MAX_INLINE_BYTES = 4096
"""Maximum size in bytes of a message that is compressed on the event loop.

For a message of at most 4096 bytes, starting a thread would take longer than the compression.
"""


class LatentsResponse(web.StreamResponse):
    """A response whose HTTP header is sent together with the first bytes of the body.

    This class uses an internal setting of aiohttp, because aiohttp otherwise sends the header and the body in two
    writes.
    """

    _send_headers_immediately = False


async def write_in_parts(request: web.Request, response: web.StreamResponse, parts: Sequence[bytes]) -> None:
    """Write the concatenated `parts` to `response`, the response to `request`.

    In a chunked body, aiohttp would copy the concatenated parts again to add the size of the chunk (RFC 9112, section
    7.1). This function adds the size itself.
    """
    writer: Any = request.writer
    if not writer.chunked:
        await response.write(b"".join(parts))
        return
    chunk = b"".join((b"%x\r\n" % sum(map(len, parts)), *parts, b"\r\n"))
    writer.chunked = False
    try:
        await writer.write(chunk, drain=False)  # does not wait, so that no other code finds the changed attribute
    finally:
        writer.chunked = True
    del chunk
    await writer.drain()


@dataclass(frozen=True, slots=True)
class BodyCompressor:
    """Compressor of a response body that is written in parts."""

    compressor: Compressor
    record: RequestRecord = field(default_factory=current_record, kw_only=True)
    """Record of the request, to which the number of sent bytes is added."""

    async def compress(self, data: bytes) -> bytes:
        """Compress `data` and return the next bytes of the body.

        A client that has received the returned bytes can decode all of `data`.

        Large parts are compressed in a thread so that the compression does not block the event loop.
        """
        if len(data) < MAX_INLINE_BYTES or isinstance(self.compressor, IdentityCompressor):
            data = self.compressor.compress(data)
        else:
            data = await asyncio.to_thread(self.compressor.compress, data)
        self.record.bytes_out += len(data)
        return data

    def finish(self) -> bytes:
        """Return the last bytes of the body. After this call, no more data can be compressed."""
        data = self.compressor.finish()
        self.record.bytes_out += len(data)
        return data


@dataclass(frozen=True, slots=True)
class StreamBodyEncoder(BodyCompressor):
    """Serializer and compressor of the messages of one response body."""

    wire_format: WireFormat

    async def encode_parts(self, frame: LatentFrame) -> tuple[bytes, ...]:
        """Return the same bytes as `encode`, but in parts, so that the data of an uncompressed frame are not copied."""
        if not isinstance(self.compressor, IdentityCompressor):
            return (await self.encode(frame),)
        parts = frame_parts(frame, self.wire_format)
        self.record.bytes_out += sum(map(len, parts))
        return parts

    def encode(self, message: LatentStreamHeader | LatentFrame) -> Awaitable[bytes]:
        """Serialize and compress `message`, and return the next bytes of the body.

        A client that has received the returned bytes can decode `message`.
        """
        return self.compress(encode(message, self.wire_format))
