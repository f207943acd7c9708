"""Serialization and compression of response bodies that are written in parts."""

import asyncio
from dataclasses import dataclass, field

from aiohttp import web

from codec_wire import WireFormat, encode
from codec_wire.compression import Compressor, IdentityCompressor
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

    async def encode(self, message: LatentStreamHeader | LatentFrame) -> bytes:
        """Serialize and compress `message`, and return the next bytes of the body.

        A client that has received the returned bytes can decode `message`.
        """
        return await self.compress(encode(message, self.wire_format))
