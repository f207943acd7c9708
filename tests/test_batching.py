"""Concurrent requests on a real sampler run as one batch, and each of them gets the image that it gets alone."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from codec_golden.metrics import psnr_db, ssim_of_frames
from codec_pixels.device_thread import DeviceThread
from codec_pixels.fair_queue import BatchLimits
from codec_pixels.vae import decode_latents
from codec_wire import WireFormat
from codec_wire.errors import OutOfMemory
from codec_wire.pipelines import torch_math
from core.diffusers_engine import engine as engine_module
from core.diffusers_engine.batch import BatchMember
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.sampler import sample_batch
from tests.support.grpc_requests import request
from tests.support.held_sampler import WAIT_S, hold_sampler, wait_until_no_jobs
from tests.support.http_requests import IMAGES, LATENTS
from tests.support.serving import Servers, read_stream, run_http_gateway, run_servers

pytestmark = pytest.mark.slow

Latents = NDArray[np.float16]
COUNT = 8
STEPS = 6
MIN_PSNR_DB, MIN_SSIM = 60.0, 0.9999
"""Measured: at least 73 dB and 0.999998 to the image of the request alone."""
MAX_OTHER_PSNR_DB = 25.0
"""Measured: at most 14 dB and an SSIM of 0.14 to the image of another request."""


def prompt_of(number: int) -> str:
    return f"{'a very ' * number}snowy mountain"


async def over_http(servers: Servers, number: int) -> Latents:
    """Return the latents of a request, [4, 8, 8]."""
    body = {"prompt": prompt_of(number), "seed": number, "stream_format": "msgpack", "size": "64x64", "steps": STEPS}
    async with servers.http.post(IMAGES, json=body | {"pipeline": "raw"}) as response:
        _, (frame,) = read_stream(await response.read(), WireFormat.MSGPACK)
        return np.frombuffer(frame.data, np.float16).reshape(4, 8, 8)


async def over_grpc(servers: Servers, number: int) -> Latents:
    """Return the latents of the same request over gRPC."""
    call = servers.stub.Generate(request(prompt=prompt_of(number), seed=number, steps=STEPS, pipeline="raw"))
    messages = [message async for message in call]
    return np.frombuffer(messages[-1].frame.data, np.float16).reshape(4, 8, 8)


def send(servers: Servers, numbers: Sequence[int]) -> list[asyncio.Task[Latents]]:
    """Send requests at the same time, every second one over gRPC."""
    return [asyncio.create_task((over_grpc if number % 2 else over_http)(servers, number)) for number in numbers]


@asynccontextmanager
async def device_held(engine: DiffusersEngine, servers: Servers, count: int) -> AsyncIterator[None]:
    """Keep the device busy until `count` jobs are queued."""
    released = threading.Event()
    engine._thread.submit(released.wait, WAIT_S)
    try:
        yield
        async with asyncio.timeout(WAIT_S):
            while servers.service.queued_jobs < count:
                await asyncio.sleep(0.01)
    finally:
        released.set()


@asynccontextmanager
async def running(model: LoadedModel, thread: DeviceThread, limits: BatchLimits) -> AsyncIterator[tuple[Any, Servers]]:
    engine = DiffusersEngine(model, thread, limits)
    async with run_servers(engine, model.info) as servers:
        yield engine, servers


async def batch_sizes(http: aiohttp.ClientSession) -> dict[float, float]:
    """Return the number of requests by the upper limit of their batch size."""
    async with http.get("/metrics") as response:
        families = text_string_to_metric_families(await response.text())
    (family,) = (family for family in families if family.name == "codec_batch_size")
    buckets = (sample for sample in family.samples if sample.name == "codec_batch_size_bucket")
    return {float(bucket.labels["le"]): bucket.value for bucket in buckets}


@pytest.fixture
async def alone(tiny_model: LoadedModel, device_thread: DeviceThread) -> list[Latents]:
    """The latents of the requests on a server without batches, which are requested at the same time."""
    async with running(tiny_model, device_thread, BatchLimits()) as (engine, servers):
        async with device_held(engine, servers, COUNT):
            tasks = send(servers, range(COUNT))
        latents = await asyncio.gather(*tasks)
        sizes = await batch_sizes(servers.http)
        assert sizes[1.0] == sizes[float("inf")] == COUNT, "nothing is batched unless it is configured"
        return latents


def pixels_of(model: LoadedModel, latents: Latents) -> NDArray[np.uint8]:
    tensor = torch_math.to_tensor(latents[np.newaxis])
    return decode_latents(model.pipeline.vae, tensor, model.family.pipeline_class)


def require_own_images(model: LoadedModel, found: dict[int, Latents], alone: list[Latents]) -> None:
    """Check that each latent in `found` has the pixels of the request with its number, and of no other."""
    expected = [pixels_of(model, latents) for latents in alone]
    for number, latents in found.items():
        pixels = pixels_of(model, latents)
        assert psnr_db(expected[number], pixels) > MIN_PSNR_DB
        assert min(ssim_of_frames(expected[number], pixels)) > MIN_SSIM
        others = [psnr_db(other, pixels) for index, other in enumerate(expected) if index != number]
        assert max(others) < MAX_OTHER_PSNR_DB


async def test_eight_concurrent_requests_get_their_own_images(
    tiny_model: LoadedModel, device_thread: DeviceThread, alone: list[Latents]
) -> None:
    async with running(tiny_model, device_thread, BatchLimits(COUNT, 0.0)) as (engine, servers):
        async with device_held(engine, servers, COUNT):
            tasks = send(servers, range(COUNT))
        started_at = time.monotonic()
        found = await asyncio.gather(*tasks)
        elapsed_s = time.monotonic() - started_at
        sizes = await batch_sizes(servers.http)
        assert sizes[4.0] == 0
        assert sizes[8.0] == COUNT
        # The time of the batch is divided among its jobs; otherwise Retry-After would be too long.
        assert servers.service.admission.seconds_per_cost * 64 * 64 * STEPS * COUNT <= elapsed_s
        await wait_until_no_jobs(servers)
    require_own_images(tiny_model, dict(enumerate(found)), alone)


async def test_gateway_divides_the_time_of_a_batch_among_its_requests(
    tiny_model: LoadedModel, device_thread: DeviceThread
) -> None:
    count = 4
    async with (
        running(tiny_model, device_thread, BatchLimits(count, 0.0)) as (engine, servers),
        run_http_gateway(servers.grpc_address) as (gateway, http),
    ):
        async with device_held(engine, servers, count):
            tasks = [
                asyncio.create_task(http.post(IMAGES, json={**LATENTS, "prompt": prompt_of(number), "steps": STEPS}))
                for number in range(count)
            ]
        started_at = time.monotonic()
        for response in await asyncio.gather(*tasks):
            assert response.status == 200
            await response.read()
        elapsed_s = time.monotonic() - started_at
        assert (await batch_sizes(http))[2.0] == 0
        assert (await batch_sizes(http))[4.0] == count
        assert gateway.admission.seconds_per_cost * 64 * 64 * STEPS * count <= elapsed_s


async def test_three_cancelled_requests_of_eight_leave_five_right(
    tiny_model: LoadedModel, device_thread: DeviceThread, alone: list[Latents]
) -> None:
    cancelled = (0, 3, 6)  # over HTTP, gRPC, HTTP
    rows: list[int] = []

    def count_rows(_module: object, arguments: tuple[Any, ...]) -> None:
        rows.append(len(arguments[0]))

    hook = tiny_model.pipeline.unet.register_forward_pre_hook(count_rows)
    try:
        async with running(tiny_model, device_thread, BatchLimits(COUNT, 0.0)) as (engine, servers):
            with hold_sampler(tiny_model) as sampler:
                async with device_held(engine, servers, COUNT):
                    tasks = send(servers, range(COUNT))
                await sampler.reached.wait()
                for number in cancelled:
                    tasks[number].cancel()
                async with asyncio.timeout(WAIT_S):
                    while len(servers.service._jobs) > COUNT - len(cancelled):
                        await asyncio.sleep(0.01)
                assert servers.service.admission.jobs == COUNT, "the device still works on the cancelled ones"
                sampler.release()
                results = await asyncio.gather(*tasks, return_exceptions=True)
            await wait_until_no_jobs(servers)
    finally:
        hook.remove()
    # With guidance, two rows for each job. The device works on the cancelled jobs until the end of their third step.
    assert rows == [2 * COUNT] * 3 + [2 * (COUNT - len(cancelled))] * 3
    found = {number: result for number, result in enumerate(results) if not isinstance(result, BaseException)}
    assert set(found) == set(range(COUNT)) - set(cancelled)
    require_own_images(tiny_model, found, alone)


async def test_members_of_a_failed_batch_run_one_by_one(
    tiny_model: LoadedModel, device_thread: DeviceThread, alone: list[Latents], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_at_the_end(model: LoadedModel, members: Sequence[BatchMember]) -> None:
        sample_batch(model, members)
        raise OutOfMemory("the device has too little memory")

    monkeypatch.setattr(engine_module, "sample_batch", fail_at_the_end)
    async with running(tiny_model, device_thread, BatchLimits(2, 0.0)) as (engine, servers):
        async with device_held(engine, servers, 2):
            call = servers.stub.Generate(
                request(prompt=prompt_of(1), seed=1, steps=STEPS, pipeline="raw", progress=True)
            )
            (task,) = send(servers, [0])
            reading = asyncio.create_task(_read_all(call))
        messages, first = await reading, await task
        assert (await batch_sizes(servers.http))[1.0] == 2
    steps = [message.progress.step for message in messages if message.HasField("progress")]
    assert steps == list(range(1, STEPS + 1)), "the steps of the failed batch are not reported again"
    second = np.frombuffer(messages[-1].frame.data, np.float16).reshape(4, 8, 8)
    assert np.array_equal(first, alone[0])
    assert np.array_equal(second, alone[1])


async def _read_all(call: Any) -> list[Any]:
    return [message async for message in call]
