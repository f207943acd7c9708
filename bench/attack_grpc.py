"""The attacks of bench.attacks on the gRPC port, by clients that use gRPC."""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import grpc.aio
from grpc_health.v1 import health_pb2

from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb

SERVICE = "/codec.latents.v1.LatentService"
WATCH = "/grpc.health.v1.Health/Watch"
MIB = 2**20
HOLD_S = 5.0
"""Time for which clients that send nothing stay connected, in seconds."""
RESPONSE_TIMEOUT_S = 60.0


async def outcomes(calls: Iterable[Awaitable[str]]) -> str:
    """Run `calls` at the same time, and return how many of them had each outcome."""
    counts = Counter(await asyncio.gather(*calls))
    return ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))


def channel(port: int) -> grpc.aio.Channel:
    """Return a channel with a separate connection."""
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1))
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options)


async def _status(call: Any, hold_s: float) -> str:
    """Read the responses of `call` for at most `hold_s` seconds, and return the status of the call."""
    try:
        async with asyncio.timeout(hold_s):
            async for _ in call:
                pass
            return str((await call.code()).name)
    except TimeoutError:
        call.cancel()
        return "open"
    except grpc.RpcError as error:
        return str(error.code().name)


def large_messages(
    method: str, message: Callable[[], bytes], count: int, compression: grpc.Compression | None = None
) -> Callable[[int], Awaitable[str]]:
    """Return an attack of `count` clients at once, each of which sends one message to `method`."""

    async def client(port: int, data: bytes) -> str:
        async with channel(port) as connected:
            if method == "Decode":
                stream: Any = connected.stream_stream(f"{SERVICE}/{method}")
                return await _status(stream(iter([data]), compression=compression), RESPONSE_TIMEOUT_S)
            unary: Any = connected.unary_stream(f"{SERVICE}/{method}")
            return await _status(unary(data, compression=compression), RESPONSE_TIMEOUT_S)

    async def run(port: int) -> str:
        data = message()
        return await outcomes(client(port, data) for _ in range(count))

    return run


def held_calls(path: str, request: bytes | None, connections: int, calls: int) -> Callable[[int], Awaitable[str]]:
    """Return an attack of `connections` clients, each of which keeps `calls` calls open after sending `request`."""

    async def messages() -> AsyncIterator[bytes]:
        if request is not None:
            yield request
        await asyncio.sleep(2 * HOLD_S)

    async def client(connected: grpc.aio.Channel) -> str:
        call: Any = connected.stream_stream(path)
        return await _status(call(messages()), HOLD_S)

    async def run(port: int) -> str:
        channels = [channel(port) for _ in range(connections)]
        try:
            return await outcomes(client(one) for one in channels for _ in range(calls))
        finally:
            for one in channels:
                await one.close()

    return run


def _png(size: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + bytes(size)


def two_images() -> bytes:
    """Return a Generate request with two broken images of 7 MiB."""
    image = _png(7 * MIB)
    return pb.GenerateRequest(prompt="x", image=image, control_image=image).SerializeToString()


def large_file() -> bytes:
    """Return an Encode request with a broken image of 15 MiB."""
    return pb.EncodeRequest(file=_png(15 * MIB)).SerializeToString()


def large_body() -> bytes:
    """Return a Decode request with 16 MiB of random bytes, which are not a latent stream."""
    return pb.DecodeRequest(body=b"\x82" + os.urandom(16 * MIB)).SerializeToString()


def large_frame() -> bytes:
    """Return a Decode request with a frame of 16 MiB that has no header before it."""
    return pb.DecodeRequest(frame=pb.DecodeRequest().frame.__class__(data=bytes(16 * MIB))).SerializeToString()


def zeros() -> bytes:
    """Return a Generate request with an image of zeros, which gzip compresses to about 16 kB."""
    return pb.GenerateRequest(prompt="x", image=bytes(16 * MIB)).SerializeToString()


def watch_request() -> bytes:
    """Return a request to watch the health of the server."""
    return health_pb2.HealthCheckRequest().SerializeToString()
