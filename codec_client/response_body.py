"""Reading of the body of an HTTP response, up to a maximum size."""

import aiohttp


async def read_up_to(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """Return the body of `response`. If the body has more than `max_bytes` bytes, return the first `max_bytes` bytes.

    The method `read` of aiohttp returns the bytes that were received so far, which may be only a part of the body.
    """
    data = bytearray()
    while len(data) < max_bytes and (more := await response.content.read(max_bytes - len(data))):
        data += more
    return bytes(data)
