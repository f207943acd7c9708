"""The servers that ours is compared with. In response to every request, they all send the bytes of a workload.

    python -m bench.serving.peers NAME [WORKLOAD [UPSTREAM]]

Prints a line with the port as soon as it is ready, and stops at SIGTERM. UPSTREAM is the port of a gRPC server.
"""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import numpy as np
import uvicorn
from aiohttp import web
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from bench.serving.workload import GRPC_METHOD, GRPC_SERVICE, Workload, by_name
from codec_http.listener import BACKLOG
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.grpc import CHANNEL_OPTIONS

CONTENT_TYPE = "application/x-msgpack"


def report_port(protocol: str, port: int) -> None:
    """Print the port for the parent process."""
    print(f"ready {protocol}={port}", flush=True)


async def wait_for_sigterm() -> None:
    """Return at SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


async def serve_fastapi(workload: Workload) -> None:
    """Run FastAPI on uvicorn, which builds the messages of every request with the published reference encoder.

    Other Codec servers are built like this. uvicorn uses its own parser and, like our server, the asyncio event loop.
    """
    app = FastAPI()
    latents = workload.latents().astype(np.float16)

    @app.post(workload.path)
    async def generate(request: Request) -> StreamingResponse:
        await request.json()

        async def messages() -> AsyncIterator[bytes]:
            for message in workload.messages("msgpack", latents):
                yield message

        return StreamingResponse(messages(), media_type=CONTENT_TYPE)

    await run_fastapi(app)


async def run_fastapi(app: FastAPI) -> None:
    """Serve `app` with uvicorn until SIGTERM."""
    # asyncio sets TCP_NODELAY only on sockets that are created with this protocol number.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, loop="asyncio", http="h11", log_level="error", access_log=False))
    report_port("http", listener.getsockname()[1])
    await server.serve(sockets=[listener])


async def serve_aiohttp(workload: Workload) -> None:
    """Run an aiohttp handler that writes the messages of the stream, one by one. They are built in advance."""
    messages = list(workload.messages("msgpack"))

    async def generate(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
        await response.prepare(request)
        for message in messages:
            await response.write(message)
        await response.write_eof()
        return response

    await run_handler(workload, generate)


async def serve_gateway(workload: Workload, upstream: str) -> None:
    """Run an aiohttp handler that calls the gRPC server on the port `upstream` and copies its messages unchanged."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{upstream}", options=CHANNEL_OPTIONS) as channel:
        call: Any = channel.unary_stream(GRPC_METHOD, request_serializer=pb.GenerateRequest.SerializeToString)

        async def generate(request: web.Request) -> web.StreamResponse:
            await request.json()
            response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
            await response.prepare(request)
            async for message in call(workload.grpc_request()):
                await response.write(message)
            await response.write_eof()
            return response

        await run_handler(workload, generate)


async def run_handler(workload: Workload, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
    """Serve `handler` with aiohttp until SIGTERM."""
    app = web.Application()
    app.router.add_post(workload.path, handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=BACKLOG).start()
    report_port("http", runner.addresses[0][1])
    await wait_for_sigterm()
    await runner.cleanup()


async def run_method(generate: Callable[..., Any]) -> None:
    """Serve `generate` as the gRPC method Generate until SIGTERM."""
    handler = grpc.unary_stream_rpc_method_handler(
        generate,
        request_deserializer=pb.GenerateRequest.FromString,
        response_serializer=pb.GenerateResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(GRPC_SERVICE, {"Generate": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    report_port("grpc", port)
    await wait_for_sigterm()
    await server.stop(None)


async def serve_grpc(workload: Workload) -> None:
    """Run a gRPC method that yields the messages of the stream. They are built in advance and serialized each time."""
    messages = [pb.GenerateResponse.FromString(message) for message in workload.grpc_messages()]

    async def generate(_request: pb.GenerateRequest, _context: object) -> AsyncIterator[pb.GenerateResponse]:
        for message in messages:
            yield message

    await run_method(generate)


PEERS: dict[str, Callable[..., Awaitable[None]]] = {
    "fastapi": serve_fastapi,
    "aiohttp": serve_aiohttp,
    "grpc": serve_grpc,
    "gateway": serve_gateway,
}


async def main(name: str, workload: str = "image", *arguments: str) -> None:
    """Run the peer `name` for `workload` until SIGTERM."""
    await PEERS[name](by_name(workload), *arguments)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
