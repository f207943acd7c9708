"""A FastAPI server that generates with a plain pipeline, like other Codec servers.

    python -m bench.throughput_peer THREADS

The pipeline runs on one thread, so that it serves one request at a time. The published reference encoder builds the
messages. The server prints a line with the port as soon as it is ready, and stops at SIGTERM.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from numpy.typing import NDArray

from bench.serving.peers import CONTENT_TYPE, run_fastapi
from bench.serving.workload import SPATIAL_FACTOR, Workload
from codec_pixels.known_models import EMBEDDED
from codec_pixels.library_logging import silence_libraries
from codec_scenes import MODEL_FOLDER

PATH = "/v1/images/generations"
CHANNELS = 4
PIPELINE = "int8-adaptive"


def load_pipeline() -> Any:
    """Return the pipeline of the embedded model in fp32, the dtype of `serve` on a CPU."""
    silence_libraries()
    from diffusers import DiffusionPipeline  # noqa: PLC0415 - takes seconds

    pipeline = DiffusionPipeline.from_pretrained(MODEL_FOLDER, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def arguments_of(body: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the pipeline for the JSON body of a request."""
    width, height = map(int, body["size"].split("x"))
    return {
        "prompt": body["prompt"],
        "num_inference_steps": body["steps"],
        "width": width,
        "height": height,
        "generator": torch.Generator("cpu").manual_seed(body["seed"]),
    }


def build_app(pipeline: Any, threads: int) -> FastAPI:
    """Return an application that streams the latents of each request. The pipeline runs on `threads` CPU threads."""
    app = FastAPI()
    executor = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,))

    def sample(body: dict[str, Any]) -> NDArray[np.float16]:
        latents = pipeline(**arguments_of(body), output_type="latent").images
        return latents.numpy().astype(np.float16)  # type: ignore[no-any-return]

    @app.post(PATH)
    async def generate(request: Request) -> StreamingResponse:
        body = await request.json()
        latents = await asyncio.get_running_loop().run_in_executor(executor, sample, body)
        height, width = latents.shape[2:]
        assert body["size"] == f"{width * SPATIAL_FACTOR}x{height * SPATIAL_FACTOR}"
        workload = Workload(EMBEDDED.latent_space, (CHANNELS, height, width), PIPELINE)

        async def messages() -> AsyncIterator[bytes]:
            for message in workload.messages("msgpack", latents):
                yield message

        return StreamingResponse(messages(), media_type=CONTENT_TYPE)

    return app


def main() -> None:
    """Run the server."""
    asyncio.run(run_fastapi(build_app(load_pipeline(), int(sys.argv[1]))))


if __name__ == "__main__":
    main()
