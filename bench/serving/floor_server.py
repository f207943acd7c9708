"""The smallest servers that give an image request to a second thread and encode it there.

    python -m bench.serving.floor_server http|grpc

They send the bytes of a workload, like the peers, but encode the latents for every request on a device thread. They do
not validate, plan, admit, cancel, log or count requests. Each prints a line with its port as soon as it is ready, and
stops at SIGTERM.
"""

import asyncio
import sys
import threading
from queue import SimpleQueue
from typing import Any

import torch
from aiohttp import web

from bench.serving.peers import CONTENT_TYPE, run_handler, run_method
from bench.serving.workload import IMAGE
from codec_http.body_encoder import LatentsResponse
from codec_wire import WireFormat, encode
from codec_wire.encoder import LatentEncoder
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.latents import LatentDtype, LatentFrame, LatentStreamHeader
from codec_wire.protobuf_envelope import frame_to_message, header_to_message

HEADER = LatentStreamHeader(IMAGE.latent_space, IMAGE.shape, LatentDtype.FP16, IMAGE.pipeline, None, None, 1)


class EncodingThread:
    """A thread that encodes constant latents for the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._latent = torch.from_numpy(IMAGE.latents())[0]
        self._futures: SimpleQueue[asyncio.Future[LatentFrame]] = SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    async def encode(self) -> LatentFrame:
        """Return the frame, which the thread encodes for this call."""
        future: asyncio.Future[LatentFrame] = self._loop.create_future()
        self._futures.put(future)
        return await future

    def _run(self) -> None:
        torch.set_num_threads(1)
        while True:
            future = self._futures.get()
            frame = LatentEncoder(HEADER).encode(self._latent, keyframe=True, last=True)
            self._loop.call_soon_threadsafe(future.set_result, frame)


async def serve_http() -> None:
    """Run an aiohttp handler that sends the header and the frame in one write."""
    thread = EncodingThread()

    async def generate(request: web.Request) -> web.StreamResponse:
        await request.read()
        frame = await thread.encode()
        response = LatentsResponse(headers={"Content-Type": CONTENT_TYPE})
        await response.prepare(request)
        await response.write_eof(encode(HEADER, WireFormat.MSGPACK) + encode(frame, WireFormat.MSGPACK))
        return response

    await run_handler(IMAGE, generate)


async def serve_grpc() -> None:
    """Run a gRPC method that sends initial metadata, the header and the frame."""
    thread = EncodingThread()

    async def generate(_request: pb.GenerateRequest, context: Any) -> None:
        frame = await thread.encode()
        await context.send_initial_metadata((("model", "constant"),))
        await context.write(pb.GenerateResponse(header=header_to_message(HEADER)))
        await context.write(pb.GenerateResponse(frame=frame_to_message(frame)))

    await run_method(generate)


if __name__ == "__main__":
    asyncio.run({"http": serve_http, "grpc": serve_grpc}[sys.argv[1]]())
