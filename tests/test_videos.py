"""Videos of a tiny AnimateDiff pipeline.

Covers the frames in every wire pipeline over both protocols, videos longer than the motion modules support,
cancellation within one step, and memory after failed and cancelled requests.
"""

import asyncio
import gc
import weakref
from typing import Any

import grpc.aio
import numpy as np
import pytest
import torch
from diffusers import AnimateDiffPipeline

from codec_pixels.device import Device
from codec_pixels.device_thread import DeviceThread
from codec_wire import WireFormat, encode
from codec_wire.decoder import LatentDecoder
from codec_wire.errors import OutOfMemory
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.latents import LatentFrame, LatentStreamHeader
from codec_wire.pipelines import PIPELINES
from codec_wire.protobuf_envelope import frame_from_message, header_from_message
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from tests.support.factories import load_from_factory
from tests.support.held_sampler import (
    HELD_STEP,
    hold_sampler,
    wait_for_device_thread,
    wait_until_cancelled,
    wait_until_no_jobs,
)
from tests.support.oracle import reference_messages
from tests.support.serving import Servers, read_stream, run_http_gateway, run_servers

pytestmark = pytest.mark.slow

Stream = tuple[LatentStreamHeader, list[LatentFrame]]
VIDEOS = "/v1/videos/generations"
BODY = {"prompt": "a sea", "modality": "video-latents", "size": "64x64", "steps": 2, "frames": 24, "fps": 8}
BODY |= {"keyframe_interval": 10, "seed": 3}


@pytest.fixture(scope="module")
def video_model(device: Device) -> LoadedModel:
    return load_from_factory("tests.support.families.videos:build_animatediff", device)


@pytest.fixture
def video_engine(video_model: LoadedModel, device_thread: DeviceThread) -> DiffusersEngine:
    return DiffusersEngine(video_model, device_thread)


def grpc_request(body: dict[str, Any]) -> pb.GenerateRequest:
    width, height = (int(side) for side in body["size"].split("x"))
    fields = {name: value for name, value in body.items() if name not in ("size", "modality", "stream_format")}
    size = pb.PixelSize(width=width, height=height)
    return pb.GenerateRequest(**fields, size=size, modality=pb.MODALITY_VIDEO_LATENTS)


async def generate_over_grpc(servers: Servers, body: dict[str, Any]) -> Stream:
    header, *frames = [message async for message in servers.stub.Generate(grpc_request(body))]
    return header_from_message(header.header), [frame_from_message(message.frame) for message in frames]


async def generate_over_http(http: Any, body: dict[str, Any], wire_format: WireFormat = WireFormat.MSGPACK) -> bytes:
    response = await http.post(VIDEOS, json=body | {"stream_format": wire_format})
    assert response.status == 200, await response.text()
    content: bytes = await response.read()
    return content


@pytest.mark.parametrize("pipeline", PIPELINES)
async def test_frames_are_identical_over_all_protocols_and_equal_the_reference(
    pipeline: str, video_engine: DiffusersEngine, video_model: LoadedModel
) -> None:
    body = BODY | {"pipeline": pipeline}
    async with (
        run_servers(video_engine, video_model.info) as servers,
        run_http_gateway(servers.grpc_address) as (_, gateway),
    ):
        header, frames = await generate_over_grpc(servers, body)
        assert (header.fps, header.total_frames, header.shape) == (8, 24, (4, 8, 8))
        assert [frame.seq for frame in frames] == list(range(24))
        assert [frame.done for frame in frames] == [False] * 23 + [True]
        delta = PIPELINES[pipeline].delta
        assert [frame.keyframe for frame in frames] == [not delta or seq % 10 == 0 for seq in range(24)]
        for http in (servers.http, gateway):
            for wire_format in WireFormat:
                content = await generate_over_http(http, body, wire_format)
                assert read_stream(content, wire_format) == (header, frames)
        # The reference encoder is given the latents of the raw stream.
        raw_header, raw = await generate_over_grpc(servers, BODY | {"pipeline": "raw"})
    decoder = LatentDecoder(raw_header)
    latents = [decoder.decode(frame) for frame in raw]
    keyframes = [frame.keyframe for frame in frames]
    expected = reference_messages(header, latents, keyframes, WireFormat.MSGPACK)
    sent = [encode(header, WireFormat.MSGPACK), *(encode(frame, WireFormat.MSGPACK) for frame in frames)]
    assert sent == expected
    assert np.std([latent.mean() for latent in latents]) > 0, "equal frames would hide errors"


async def test_first_frame_depends_on_the_number_of_frames(
    video_engine: DiffusersEngine, video_model: LoadedModel
) -> None:
    """It differs if the motion modules are used: they relate the frames of a video to each other."""
    async with run_servers(video_engine, video_model.info) as servers:
        (_, short), (_, long) = [await generate_over_grpc(servers, BODY | {"frames": frames}) for frames in (2, 8)]
        again = await generate_over_grpc(servers, BODY | {"frames": 8})
    assert short[0].data != long[0].data
    assert again[1] == long


async def test_videos_longer_than_the_motion_modules_support_are_generated_in_windows(
    video_engine: DiffusersEngine, video_model: LoadedModel
) -> None:
    """The limit is 32 frames. A long video does not change the videos generated after it."""
    async with run_servers(video_engine, video_model.info) as servers:
        before = await generate_over_grpc(servers, BODY)
        header, frames = await generate_over_grpc(servers, BODY | {"frames": 50})
        again = await generate_over_grpc(servers, BODY | {"frames": 50})
        after = await generate_over_grpc(servers, BODY)
        response = await servers.http.post(VIDEOS, json=BODY | {"frames": 721, "stream_format": "msgpack"})
        assert (response.status, (await response.json())["error"]["param"]) == (400, "frames")
    assert (header.total_frames, len(frames)) == (50, 50)
    assert (header, frames) == again
    assert len({frame.data for frame in frames}) == 50
    assert before == after


@pytest.mark.parametrize("error", [OutOfMemory, RuntimeError])
async def test_failed_long_video_does_not_change_later_videos(
    error: type[Exception], video_engine: DiffusersEngine, video_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_servers(video_engine, video_model.info) as servers:
        before = await generate_over_grpc(servers, BODY)
        with monkeypatch.context() as patched:

            def fail(*_arguments: object, **_named: object) -> None:
                raise error("failed on purpose")

            patched.setattr(AnimateDiffPipeline, "prepare_latents", fail)
            with pytest.raises(grpc.aio.AioRpcError):
                await generate_over_grpc(servers, BODY | {"frames": 50})
        assert await generate_over_grpc(servers, BODY) == before


@pytest.mark.parametrize("protocol", ["http", "gateway", "grpc"])
async def test_disconnecting_stops_a_video_within_one_step(
    protocol: str, video_engine: DiffusersEngine, video_model: LoadedModel
) -> None:
    body = BODY | {"steps": 30, "stream_format": "msgpack"}

    async def disconnect(http: Any) -> None:
        response = await http.post(VIDEOS, json=body)
        await sampler.reached.wait()
        response.close()

    async with run_servers(video_engine, video_model.info) as servers:
        with hold_sampler(video_model) as sampler:
            if protocol == "http":
                await disconnect(servers.http)
            elif protocol == "gateway":
                async with run_http_gateway(servers.grpc_address) as (_, gateway):
                    await disconnect(gateway)
                    await wait_until_cancelled(servers)
            else:
                call = servers.stub.Generate(grpc_request(body))
                await call.read()
                await sampler.reached.wait()
                call.cancel()
            await wait_until_cancelled(servers)
            sampler.release()
            await wait_until_no_jobs(servers)
            await wait_for_device_thread(video_engine)
            assert sampler.steps == HELD_STEP
        assert len((await generate_over_grpc(servers, BODY))[1]) == 24


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_video_cancelled_while_sending_keeps_no_tensor_alive(
    protocol: str, video_engine: DiffusersEngine, video_model: LoadedModel
) -> None:
    """The tensors are freed without the garbage collector, so nothing holds them in a reference cycle."""
    inputs: list[weakref.ref[torch.Tensor]] = []

    def watch(_module: object, arguments: tuple[torch.Tensor, ...]) -> None:
        inputs.append(weakref.ref(arguments[0]))

    hook = video_model.pipeline.unet.register_forward_pre_hook(watch)
    body = BODY | {"size": "256x256", "steps": 1, "pipeline": "raw", "stream_format": "msgpack"}
    gc.collect()
    gc.disable()
    try:
        async with run_servers(video_engine, video_model.info) as servers:
            if protocol == "http":
                response = await servers.http.post(VIDEOS, json=body)
                await response.content.readexactly(20_000)  # part of the third frame
                response.close()
            else:
                call = servers.stub.Generate(grpc_request(body))
                for _ in range(3):
                    await call.read()
                call.cancel()
            await wait_until_no_jobs(servers)
            await wait_for_device_thread(video_engine)
            assert inputs
            await wait_until_freed(inputs)
    finally:
        gc.enable()
        hook.remove()


async def wait_until_freed(references: list[weakref.ref[torch.Tensor]]) -> None:
    """Wait until no object is alive; a frame being encoded on another thread may still hold one for a moment."""
    async with asyncio.timeout(5):
        while any(reference() is not None for reference in references):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("endpoint", ["images", "videos"])
async def test_memory_does_not_grow_with_cancelled_requests(
    endpoint: str,
    video_engine: DiffusersEngine,
    video_model: LoadedModel,
    engine: DiffusersEngine,
    tiny_model: LoadedModel,
) -> None:
    chosen_engine, model = (engine, tiny_model) if endpoint == "images" else (video_engine, video_model)
    fields = ("prompt", "size", "seed")
    body = {name: BODY[name] for name in fields} | {"stream_format": "msgpack", "steps": 30, "size": "128x128"}
    async with run_servers(chosen_engine, model.info) as servers:
        tensor_bytes = []
        for _ in range(4):
            for _ in range(3):
                response = await servers.http.post(f"/v1/{endpoint}/generations", json=body)
                response.close()
            await wait_until_no_jobs(servers)
            await wait_for_device_thread(chosen_engine)
            gc.collect()
            tensor_bytes.append(sum(tensor.nbytes for tensor in gc.get_objects() if type(tensor) is torch.Tensor))
    assert max(tensor_bytes) <= tensor_bytes[0] + 1_000_000
