"""The attacks of bench.attacks: requests that are cheap for a client, and clients that are slow."""

import asyncio
import base64
import gzip
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import brotli
import grpc

from bench.attack_grpc import (
    SERVICE,
    WATCH,
    held_calls,
    large_body,
    large_file,
    large_frame,
    large_messages,
    two_images,
    watch_request,
    zeros,
)
from bench.attack_http2 import (
    empty_data,
    endless_header,
    flood,
    header_of_references,
    message_byte_by_byte,
    pings,
    reset_streams,
    settings,
)
from codec_wire.http import EDITS_PATH

PATH = "/v1/images/generations"
HOLD_S = 5.0
"""Time for which slow clients stay connected, in seconds."""
MIB = 2**20
RESPONSE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack. `run` executes it on a port and returns its outcome. The server may open `files` file descriptors.

    The port is that of the gRPC server if `over_grpc` is true, otherwise that of the HTTP server.
    """

    name: str
    run: Callable[[int], Awaitable[str]]
    files: int = 4096
    over_grpc: bool = False


def head(length: int, extra: str = "", path: str = PATH, content_type: str = "application/json") -> bytes:
    """Return the header of a generation request whose body has `length` bytes."""
    fields = f"Content-Type: {content_type}\r\nContent-Length: {length}\r\n{extra}"
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode()


async def post(port: int, body: bytes, extra: str = "") -> str:
    """Send a generation request and return the status of the response."""
    return await _send(port, head(len(body), extra) + body)


async def _send(port: int, data: bytes) -> str:
    """Send the request `data` and return the status of the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        async with asyncio.timeout(RESPONSE_TIMEOUT_S):
            status = (await reader.readline()).split()
        return status[1].decode() if len(status) > 1 else "closed"
    except OSError:
        return "closed"
    finally:
        writer.close()


def body(name: str, make: Callable[[], tuple[bytes, str]]) -> Attack:
    """Return the attack that sends one request with the body and the additional header fields that `make` returns."""

    async def run(port: int) -> str:
        return await post(port, *make())

    return Attack(name, run)


def _nested(count: int) -> bytes:
    return b'{"prompt":[' + b"[]," * count + b"[]]}"


def _brotli_bomb() -> tuple[bytes, str]:
    return brotli.compress(_nested(7 * MIB), quality=9), "Content-Encoding: br\r\n"


def _gzip_bomb() -> tuple[bytes, str]:
    return gzip.compress(_nested(7 * MIB), 9), "Content-Encoding: gzip\r\n"


def _unknown_keys() -> tuple[bytes, str]:
    return b"{" + b",".join(b'"%d":0' % number for number in range(1_900_000)) + b"}", ""


def _long_key() -> tuple[bytes, str]:
    return b'{"' + b"k" * 20 * MIB + b'":0}', ""


def _escaped_image() -> tuple[bytes, str]:
    return b'{"prompt":"x","image":"' + b"\\/" * 450_000 + b'"}', ""


def _image(data: bytes) -> tuple[bytes, str]:
    fields = {"prompt": "x", "stream_format": "msgpack", "image": base64.b64encode(data).decode()}
    return json.dumps(fields).encode(), ""


def _accept() -> tuple[bytes, str]:
    return b'{"prompt":"x"}', f"Accept: {'a,' * 30_000}\r\n" * 14


async def _form(port: int) -> str:
    data = b"\n" * 900_000
    return await _send(port, head(len(data), path=EDITS_PATH, content_type="multipart/form-data; boundary=x") + data)


async def _many(port: int, count: int, client: Callable[[int], Awaitable[str]]) -> str:
    outcomes = Counter(await asyncio.gather(*(client(port) for _ in range(count))))
    return ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))


async def _slow_client(port: int, data: bytes) -> str:
    """Send `data`, an incomplete request, wait, and return how the server reacted."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return "not connected"
    try:
        writer.write(data)
        await writer.drain()
        async with asyncio.timeout(HOLD_S):
            status = (await reader.readline()).split()
        return status[1].decode() if len(status) > 1 else "closed"
    except TimeoutError:
        return "open"
    except OSError:
        return "closed"
    finally:
        writer.close()


async def _unfinished_uploads(port: int) -> str:
    size = 21 * MIB
    start = head(size) + b'{"image":"' + bytes(size - 1000).replace(b"\0", b"A")
    return await _many(port, 50, lambda port: _slow_client(port, start))


async def _large_images(port: int) -> str:
    data, _ = _image(b"\x89PNG\r\n\x1a\n" + bytes(7 * MIB))
    return await _many(port, 50, lambda port: post(port, data))


async def _idle(port: int) -> str:
    return await _many(port, 1400, lambda port: _slow_client(port, b""))


async def _slow_headers(port: int) -> str:
    return await _many(port, 1400, lambda port: _slow_client(port, b"POST / HTTP/1.1\r\nHost: localhost\r\nX: "))


async def _few_files(port: int) -> str:
    return await _many(port, 330, lambda port: _slow_client(port, b""))


async def _nothing(_: int) -> str:
    await asyncio.sleep(HOLD_S)
    return ""


def over_grpc(name: str, run: Callable[[int], Awaitable[str]]) -> Attack:
    """Return an attack on the gRPC port."""
    return Attack(name, run, over_grpc=True)


ATTACKS = (
    Attack("none", _nothing),
    body("192 bytes of br, 21 MB of []", _brotli_bomb),
    body("21 kB of gzip, 21 MB of []", _gzip_bomb),
    body("900 kB of []", lambda: (_nested(300_000), "")),
    body("1.9 million unknown keys", _unknown_keys),
    body("a key of 20 MB", _long_key),
    body("an escaped image of 900 kB", _escaped_image),
    body("a JPEG of 700 kB of fill bytes", lambda: _image(b"\xff\xd8" + b"\xff" * 700_000)),
    body("Accept headers of 840 kB", _accept),
    Attack("a form of 900 kB of line breaks", _form),
    Attack("50 unfinished uploads of 21 MiB", _unfinished_uploads),
    Attack("50 images of 7 MiB", _large_images),
    over_grpc("50 times two images of 7 MiB over gRPC", large_messages("Generate", two_images, 50)),
    over_grpc("50 files of 15 MiB to Encode over gRPC", large_messages("Encode", large_file, 50)),
    over_grpc("50 bodies of 16 MiB to Decode over gRPC", large_messages("Decode", large_body, 50)),
    over_grpc("50 frames of 16 MiB to Decode over gRPC", large_messages("Decode", large_frame, 50)),
    over_grpc("200 images of 16 MiB in 16 kB of gzip", large_messages("Generate", zeros, 200, grpc.Compression.Gzip)),
    over_grpc("2,000 calls without a message", held_calls(f"{SERVICE}/Generate", None, 20, 100)),
    over_grpc("2,000 health checks without a message", held_calls(WATCH, None, 20, 100)),
    over_grpc("20,000 watches of the health", held_calls(WATCH, watch_request(), 40, 500)),
    over_grpc("HTTP/2: reset streams", flood(reset_streams)),
    over_grpc("HTTP/2: a header without an end", flood(endless_header)),
    over_grpc("HTTP/2: headers of references", flood(header_of_references)),
    over_grpc("HTTP/2: settings", flood(settings)),
    over_grpc("HTTP/2: pings", flood(pings)),
    over_grpc("HTTP/2: frames without data", flood(empty_data)),
    over_grpc("HTTP/2: a message byte by byte", flood(message_byte_by_byte)),
    Attack("1,400 idle connections", _idle),
    Attack("1,400 unfinished headers", _slow_headers),
    Attack("330 idle connections, 256 files", _few_files, files=256),
    Attack("330 idle gRPC connections, 256 files", _few_files, files=256, over_grpc=True),
)
