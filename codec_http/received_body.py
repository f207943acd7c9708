"""Reading of latent streams in request bodies.

The chunks of a stream are decompressed and checked with bounded memory.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from aiohttp import hdrs, web

from codec_http.body_receiver import body_pieces
from codec_wire.codings import IDENTITY
from codec_wire.errors import InvalidRequest
from codec_wire.http import MEDIA_TYPES
from codec_wire.message_decoder import Message
from core.received_stream import LATENTS_FIELD, BodyReader

MAX_INLINE_BYTES = 4096
"""Maximum size in bytes of an uncompressed chunk that is read on the event loop.

For a chunk of at most 4096 bytes, starting a thread would take longer than reading the chunk.
"""


async def received_messages(request: web.Request, dictionaries: Mapping[str, bytes]) -> AsyncGenerator[Message, None]:
    """Yield the header and the frames of the latent stream in the body of `request`, as they are received.

    If the Content-Type does not name a wire format, the wire format is detected from the first byte of the stream.
    `dictionaries` contains the available zstd dictionaries by hash. Raises UnsupportedCoding if the content coding is
    not supported. Raises RequestTimeout if the body is received too slowly. Raises InvalidRequest with the byte
    position of the error if the stream is invalid or incomplete.
    """
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, IDENTITY)
    reader = BodyReader(MEDIA_TYPES.get(request.content_type), encoding, dictionaries)
    is_plain = encoding.strip().lower() == IDENTITY
    try:
        async with aclosing(body_pieces(request)) as chunks:
            async for chunk in chunks:
                if is_plain and len(chunk) <= MAX_INLINE_BYTES:
                    messages = reader.feed(chunk)
                else:
                    messages = await asyncio.to_thread(reader.feed, chunk)
                for message in messages:
                    yield message
    except web.RequestPayloadError:
        raise InvalidRequest(LATENTS_FIELD, "the request body is incomplete or not correctly chunked") from None
    for message in await asyncio.to_thread(reader.close):
        yield message
