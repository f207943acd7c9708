"""The client process. It sends requests, compares every response with the expected bytes and measures latencies.

    python -m bench.serving.load

Reads one `LoadCommand` per line from stdin, as JSON. Prints one line for each command: the latencies in seconds.
"""

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import grpc.aio

from bench.serving.workload import GRPC_METHOD, Workload, by_name
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.grpc import CHANNEL_OPTIONS

Protocol = Literal["http", "grpc"]
SendRequest = Callable[[], Awaitable[None]]

workload_of = lru_cache(by_name)


@dataclass(frozen=True, slots=True)
class LoadCommand:
    """Send `requests` requests in total from `clients` clients, each of which waits for its response.

    With `copied`, the expected body of an HTTP response is the messages of a gRPC response, which the bare gateway
    copies.
    """

    protocol: Protocol
    port: int
    workload: str
    clients: int
    requests: int
    copied: bool = False


class HttpClient:
    """One HTTP/1.1 connection on an asyncio stream, which needs little CPU time on the cores that it shares."""

    def __init__(self, workload: Workload, port: int, expected: bytes) -> None:
        """Prepare requests; `expected` is the SHA-256 of the body of every response."""
        body = workload.json_body()
        self._request = (
            f"POST {workload.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
            f"Accept-Encoding: identity\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        self._expected = expected
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self) -> None:
        """Send a request and read its response. Raises ValueError if the response is not the expected one."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=1024 * 1024)
        reader, writer = self._streams
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200 "):
            raise ValueError(f"unexpected response: {head.decode()}")
        digest = hashlib.sha256()
        if b"transfer-encoding: chunked" in head:
            while size := int(await reader.readline(), 16):
                digest.update(memoryview(await reader.readexactly(size + 2))[:-2])
            await reader.readline()
        else:
            length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length:"))
            digest.update(await reader.readexactly(int(length.split(b":")[1])))
        if digest.digest() != self._expected:
            raise ValueError("the body differs from the expected one")

    async def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()


class GrpcClient:
    """Calls on one channel, without deserializing the messages."""

    def __init__(self, workload: Workload, port: int) -> None:
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS)
        self._call: Any = self._channel.unary_stream(
            GRPC_METHOD, request_serializer=pb.GenerateRequest.SerializeToString
        )
        self._request = workload.grpc_request()
        self._expected = workload.grpc_digest

    async def send(self) -> None:
        """Send a request and read its response. Raises ValueError if the response is not the expected one."""
        digest = hashlib.sha256()
        async for message in self._call(self._request):
            digest.update(message)
        if digest.digest() != self._expected:
            raise ValueError("the messages differ from the expected ones")

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


async def send_load(command: LoadCommand) -> list[float]:
    """Return the latency of every request of `command` in seconds. Raises ValueError for an unexpected response."""
    workload = workload_of(command.workload)
    if command.protocol == "http":
        expected = workload.grpc_digest if command.copied else workload.http_digest
        clients = [HttpClient(workload, command.port, expected) for _ in range(command.clients)]
        senders: list[SendRequest] = [client.send for client in clients]
        closers = [client.close for client in clients]
    else:
        channel = GrpcClient(workload, command.port)
        senders, closers = [channel.send] * command.clients, [channel.close]
    remaining = iter(range(command.requests))
    latencies: list[float] = []

    async def send_all(send: SendRequest) -> None:
        for _ in remaining:
            start = time.perf_counter()
            await send()
            latencies.append(time.perf_counter() - start)

    try:
        await asyncio.gather(*(send_all(send) for send in senders))
    finally:
        for close in closers:
            await close()
    return latencies


def main() -> None:
    """Run commands from stdin until it is closed."""
    for line in sys.stdin:
        print(json.dumps(asyncio.run(send_load(LoadCommand(**json.loads(line))))), flush=True)


if __name__ == "__main__":
    main()
