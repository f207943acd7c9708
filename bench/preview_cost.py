"""CPU time of a preview by its parts. Used by `python -m bench.previews`.

The difference between a generation with previews and one without is smaller than the noise of the measurement.
Therefore two parts are measured separately: the clean estimate between the steps of the real scheduler, and the work
after it (encoding, the queue to the event loop, the protocol) in a server whose sampler only waits.
"""

import asyncio
import functools
import statistics
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any
from unittest import mock

import grpc
import torch
from torch import Tensor

from codec_pixels.device_thread import DeviceThread
from codec_pixels.images import encode_image
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub
from codec_wire.http import GENERATION_PATHS
from codec_wire.latents import Modality
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.rendering import render
from core.diffusers_engine.sampler import sample
from core.engine import Job
from core.plan import StreamPlan
from tests.support.serving import Servers, bundle_of, http_address, run_servers

STEP_S = 0.002
"""Duration of a step of the waiting sampler. It is long enough that the event loop wakes up for every preview."""
STEPS = 200
REPETITIONS = 15


def estimate_s(model: LoadedModel, plan: StreamPlan) -> float:
    """Return the median CPU time in seconds from the end of a scheduler's step until its clean estimate is known."""
    scheduler_class = type(model.pipeline.scheduler)
    step, ended, found = scheduler_class.step, 0.0, []

    @functools.wraps(step)
    def recording_step(*args: Any, **kwargs: Any) -> Any:
        nonlocal ended
        result = step(*args, **kwargs)
        ended = time.thread_time()
        return result

    def on_preview(_done: int, _total: int, _estimate: Tensor) -> None:
        found.append(time.thread_time() - ended)

    with mock.patch.object(scheduler_class, "step", recording_step):
        for _ in range(3):
            sample(model, plan, Job(), lambda _done, _total: None, on_preview=on_preview)
    return statistics.median(found)


def partial_image_s(model: LoadedModel, plan: StreamPlan) -> float:
    """Return the median CPU time in seconds to decode a partial image and to write its PNG file."""
    latents = torch.zeros((1, *plan.header.shape))
    found = []
    for _ in range(5):
        before = time.process_time()
        encode_image(render(model, plan, latents, Job()).frames[0], "png", {})
        found.append(time.process_time() - before)
    return statistics.median(found)


def sending_s(model: LoadedModel, thread: DeviceThread) -> dict[str, float]:
    """Return the median CPU time in seconds to encode and to send a preview, by protocol.

    The CPU time is that of the whole server process. Other processes read the responses.
    """
    latents = torch.randn((1, *model.info.latent_shape(256, 256)), generator=torch.Generator().manual_seed(7))

    def wait(_model: Any, plan: StreamPlan, _job: Job, on_step: Any, _inputs: Any, *, on_preview: Any) -> Tensor:
        for done in range(1, plan.steps + 1):
            time.sleep(STEP_S)
            if plan.previews_step(done, plan.steps):
                on_preview(done, plan.steps, latents)
            on_step(done, plan.steps)
        return latents

    with mock.patch("core.diffusers_engine.engine.sample", wait):
        return asyncio.run(_sending_s(DiffusersEngine(model, thread), model))


async def _sending_s(engine: DiffusersEngine, model: LoadedModel) -> dict[str, float]:
    found: dict[str, list[float]] = {"HTTP": [], "gRPC": []}
    info = replace(model.info, accepts_steps=None)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        async with run_servers(engine, info, bundle=bundle_of(info)) as servers:
            for _ in range(REPETITIONS):
                for protocol, times in found.items():
                    without, every = [await _cpu_s(servers, pool, protocol, previews) for previews in (False, True)]
                    times.append((every - without) / (STEPS - 1))
    return {protocol: statistics.median(times[1:]) for protocol, times in found.items()}


async def _cpu_s(servers: Servers, pool: ProcessPoolExecutor, protocol: str, previews: bool) -> float:
    """Return the CPU time of this process for one request, in seconds. With `previews`, every step has a preview."""
    read: Callable[[str, bool], int] = _read_http if protocol == "HTTP" else _read_grpc
    address = http_address(servers) if protocol == "HTTP" else servers.grpc_address
    before = time.process_time()
    received = await asyncio.get_running_loop().run_in_executor(pool, read, address, previews)
    assert received == (STEPS - 1 if previews else 0)
    return time.process_time() - before


def _read_http(address: str, previews: bool) -> int:
    """Request a generation and return the number of its previews."""
    body = f'{{"prompt": "x", "size": "256x256", "steps": {STEPS}, "pipeline": "raw"'
    headers = {"Content-Type": "application/json"}
    if previews:
        body += ', "preview_every": 1'
        headers["Accept"] = "text/event-stream"
    url = f"{address}{GENERATION_PATHS[Modality.IMAGE]}"
    with urllib.request.urlopen(urllib.request.Request(url, f"{body}}}".encode(), headers), timeout=60) as response:
        return int(response.read().count(b"event: preview\n"))


def _read_grpc(address: str, previews: bool) -> int:
    """Request a generation and return the number of its previews."""
    message = pb.GenerateRequest(
        prompt="x", size=pb.PixelSize(width=256, height=256), steps=STEPS, preview_every=1 if previews else None
    )
    with grpc.insecure_channel(address) as channel:
        return sum(response.HasField("preview") for response in LatentServiceStub(channel).Generate(message))
