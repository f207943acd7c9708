"""Reconstruction of the body of a latent stream from the frames that a client receives."""

from typing import Any

from codec_client.stream import ReceivedStream
from codec_wire import WireFormat, encode


async def receive_body(stream: ReceivedStream, wire_format: WireFormat) -> tuple[bytes, list[Any]]:
    """Read `stream` to its end. Return the uncompressed body and the latent frames [C, h, w] of `stream`.

    Call this function inside the `async with` block of `stream`. Raises the errors of `stream` if the stream fails.
    """
    parts, latents = [encode(stream.header, wire_format)], []
    async for latent in stream:
        latents.append(latent)
        if stream.frame is not None:
            parts.append(encode(stream.frame, wire_format))
    return b"".join(parts), latents
