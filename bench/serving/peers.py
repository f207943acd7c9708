"""The servers that ours is compared with. All send the bytes of a workload to every request.

    python -m bench.serving.peers NAME [WORKLOAD]

Prints a line of JSON with the port as soon as it is ready, and stops at SIGTERM.
"""

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import grpc.aio
import numpy as np
import uvicorn
from aiohttp import web
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from bench.serving.workload import Workload, by_name
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["LatentService"].full_name
CONTENT_TYPE = "application/x-msgpack"


def report_port(port: int) -> None:
    """Print the port for the parent process."""
    print(json.dumps({"port": port}), flush=True)


async def wait_for_sigterm() -> None:
    """Return at SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()


async def serve_fastapi(workload: Workload) -> None:
    """Run FastAPI on uvicorn: both messages are built for every request by the published reference encoder."""
    app = FastAPI()
    latents = workload.latents().astype(np.float16)

    @app.post(workload.path)
    async def generate(request: Request) -> StreamingResponse:
        await request.json()

        async def messages() -> AsyncIterator[bytes]:
            for message in workload.messages("msgpack", latents):
                yield message

        return StreamingResponse(messages(), media_type=CONTENT_TYPE)

    # asyncio sets TCP_NODELAY only on sockets that are created with this protocol number.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
    report_port(listener.getsockname()[1])
    await server.serve(sockets=[listener])


async def serve_aiohttp(workload: Workload) -> None:
    """Run an aiohttp handler that writes each message of the stream, which are built in advance."""
    messages = list(workload.messages("msgpack"))

    async def generate(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse(headers={"Content-Type": CONTENT_TYPE})
        await response.prepare(request)
        for message in messages:
            await response.write(message)
        await response.write_eof()
        return response

    app = web.Application()
    app.router.add_post(workload.path, generate)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    report_port(runner.addresses[0][1])
    await wait_for_sigterm()
    await runner.cleanup()


async def serve_grpc(workload: Workload) -> None:
    """Run a gRPC method that yields the messages of the stream, which are built in advance and serialized each time."""
    messages = [pb.GenerateResponse.FromString(message) for message in workload.grpc_messages()]

    async def generate(_request: pb.GenerateRequest, _context: object) -> AsyncIterator[pb.GenerateResponse]:
        for message in messages:
            yield message

    handler = grpc.unary_stream_rpc_method_handler(
        generate,
        request_deserializer=pb.GenerateRequest.FromString,
        response_serializer=pb.GenerateResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Generate": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    report_port(port)
    await wait_for_sigterm()
    await server.stop(None)


PEERS: dict[str, Callable[[Workload], Awaitable[None]]] = {
    "fastapi": serve_fastapi,
    "aiohttp": serve_aiohttp,
    "grpc": serve_grpc,
}


async def main(name: str, workload: str = "image") -> None:
    """Run the peer `name` for `workload` until SIGTERM."""
    await PEERS[name](by_name(workload))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
