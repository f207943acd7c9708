"""Videos from a real, tiny AnimateDiff pipeline: every pipeline over both protocols, and stopped within one step."""

import asyncio
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc.aio
import numpy as np
import pytest
import torch
from diffusers import AnimateDiffPipeline

from codec_pixels.device import Device
from codec_wire import WireFormat, encode
from codec_wire.decoder import LatentDecoder
from codec_wire.errors import OutOfMemory
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.latents import LatentFrame, LatentStreamHeader
from codec_wire.pipelines import PIPELINES
from codec_wire.protobuf_envelope import frame_of, header_of
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from tests.support.factories import load_from_factory
from tests.support.held_sampler import HELD_STEP, hold_sampler, wait_for_device_thread, wait_until_no_jobs
from tests.support.oracle import reference_messages
from tests.support.serving import Servers, read_stream, run_http_gateway, run_servers

Stream = tuple[LatentStreamHeader, list[LatentFrame]]
VIDEOS = "/v1/videos/generations"
BODY = {"prompt": "a sea", "modality": "video-latents", "size": "64x64", "steps": 2, "frames": 24, "fps": 8}
BODY |= {"keyframe_interval": 10, "seed": 3}


@pytest.fixture(scope="module")
def moving(device: Device) -> LoadedModel:
    return load_from_factory("tests.support.families.videos:build_animatediff", device)


@pytest.fixture
def videos(moving: LoadedModel, device_thread: ThreadPoolExecutor) -> DiffusersEngine:
    return DiffusersEngine(moving, device_thread)


def message_of(body: dict[str, Any]) -> pb.GenerateRequest:
    width, height = (int(side) for side in body["size"].split("x"))
    fields = {name: value for name, value in body.items() if name not in ("size", "modality", "stream_format")}
    size = pb.PixelSize(width=width, height=height)
    return pb.GenerateRequest(**fields, size=size, modality=pb.MODALITY_VIDEO_LATENTS)


async def over_grpc(servers: Servers, body: dict[str, Any]) -> Stream:
    header, *frames = [message async for message in servers.stub.Generate(message_of(body))]
    return header_of(header.header), [frame_of(message.frame) for message in frames]


async def over_http(http: Any, body: dict[str, Any], wire_format: WireFormat = WireFormat.MSGPACK) -> bytes:
    answer = await http.post(VIDEOS, json=body | {"stream_format": wire_format})
    assert answer.status == 200, await answer.text()
    content: bytes = await answer.read()
    return content


@pytest.mark.parametrize("pipeline", PIPELINES)
async def test_24_frames_in_every_pipeline_over_both_protocols(
    pipeline: str, videos: DiffusersEngine, moving: LoadedModel
) -> None:
    body = BODY | {"pipeline": pipeline}
    async with run_servers(videos, moving.info) as servers, run_http_gateway(servers.grpc_address) as (_, gateway):
        header, frames = await over_grpc(servers, body)
        assert (header.fps, header.total_frames, header.shape) == (8, 24, (4, 8, 8))
        assert [frame.seq for frame in frames] == list(range(24))
        assert [frame.done for frame in frames] == [False] * 23 + [True]
        delta = PIPELINES[pipeline].delta
        assert [frame.keyframe for frame in frames] == [not delta or seq % 10 == 0 for seq in range(24)]
        for http in (servers.http, gateway):
            for wire_format in WireFormat:
                content = await over_http(http, body, wire_format)
                assert read_stream(content, wire_format) == (header, frames)
        # What the published encoder makes of the raw stream's latents.
        raw_header, raw = await over_grpc(servers, BODY | {"pipeline": "raw"})
    decoder = LatentDecoder(raw_header)
    latents = [decoder.decode(frame) for frame in raw]
    keyframes = [frame.keyframe for frame in frames]
    expected = reference_messages(header, latents, keyframes, WireFormat.MSGPACK)
    sent = [encode(header, WireFormat.MSGPACK), *(encode(frame, WireFormat.MSGPACK) for frame in frames)]
    assert sent == expected
    assert np.std([latent.mean() for latent in latents]) > 0, "frames that do not differ would show nothing"


async def test_latents_of_neighbours_depend_on_each_other(videos: DiffusersEngine, moving: LoadedModel) -> None:
    """Frames made together are not frames made alone: the motion modules are there and are used."""
    async with run_servers(videos, moving.info) as servers:
        (_, short), (_, long) = [await over_grpc(servers, BODY | {"frames": frames}) for frames in (2, 8)]
        again = await over_grpc(servers, BODY | {"frames": 8})
    assert short[0].data != long[0].data
    assert again[1] == long


async def test_more_frames_than_the_motion_modules_know_are_made_in_windows(
    videos: DiffusersEngine, moving: LoadedModel
) -> None:
    """The modules know 32. What comes after is made as if no long video had been."""
    async with run_servers(videos, moving.info) as servers:
        before = await over_grpc(servers, BODY)
        header, frames = await over_grpc(servers, BODY | {"frames": 50})
        again = await over_grpc(servers, BODY | {"frames": 50})
        after = await over_grpc(servers, BODY)
        answer = await servers.http.post(VIDEOS, json=BODY | {"frames": 721, "stream_format": "msgpack"})
        assert (answer.status, (await answer.json())["error"]["param"]) == (400, "frames")
    assert (header.total_frames, len(frames)) == (50, 50)
    assert (header, frames) == again
    assert len({frame.data for frame in frames}) == 50
    assert before == after


@pytest.mark.parametrize("stopped_by", [OutOfMemory, RuntimeError])
async def test_a_long_video_that_fails_leaves_the_model_as_it_was(
    stopped_by: type[Exception], videos: DiffusersEngine, moving: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_servers(videos, moving.info) as servers:
        before = await over_grpc(servers, BODY)
        with monkeypatch.context() as patched:

            def fail(*_arguments: object, **_named: object) -> None:
                raise stopped_by("out of luck")

            patched.setattr(AnimateDiffPipeline, "prepare_latents", fail)
            with pytest.raises(grpc.aio.AioRpcError):
                await over_grpc(servers, BODY | {"frames": 50})
        assert await over_grpc(servers, BODY) == before


@pytest.mark.parametrize("way", ["http", "gateway", "grpc"])
async def test_leaving_stops_a_video_within_one_step(way: str, videos: DiffusersEngine, moving: LoadedModel) -> None:
    body = BODY | {"steps": 30, "stream_format": "msgpack"}

    async def leave(http: Any) -> None:
        answer = await http.post(VIDEOS, json=body)
        await sampler.reached.wait()
        answer.close()

    async with run_servers(videos, moving.info) as servers:
        with hold_sampler(moving) as sampler:
            if way == "http":
                await leave(servers.http)
            elif way == "gateway":
                async with run_http_gateway(servers.grpc_address) as (_, gateway):
                    await leave(gateway)
                    await wait_until_no_jobs(servers)
            else:
                call = servers.stub.Generate(message_of(body))
                await call.read()
                await sampler.reached.wait()
                call.cancel()
            await wait_until_no_jobs(servers)
            sampler.release()
            await wait_for_device_thread(videos)
            assert sampler.steps == HELD_STEP
        assert len((await over_grpc(servers, BODY))[1]) == 24


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_a_video_that_is_left_in_mid_stream_keeps_no_tensor_alive(
    protocol: str, videos: DiffusersEngine, moving: LoadedModel
) -> None:
    """Without the help of the garbage collector; left while frames are sent, after sampling."""
    seen: list[weakref.ref[torch.Tensor]] = []

    def watch(_module: object, arguments: tuple[torch.Tensor, ...]) -> None:
        seen.append(weakref.ref(arguments[0]))

    hook = moving.pipeline.unet.register_forward_pre_hook(watch)
    body = BODY | {"size": "256x256", "steps": 1, "pipeline": "raw", "stream_format": "msgpack"}
    gc.collect()
    gc.disable()
    try:
        async with run_servers(videos, moving.info) as servers:
            if protocol == "http":
                answer = await servers.http.post(VIDEOS, json=body)
                await answer.content.readexactly(20_000)  # into the third frame
                answer.close()
            else:
                call = servers.stub.Generate(message_of(body))
                for _ in range(3):
                    await call.read()
                call.cancel()
            await wait_until_no_jobs(servers)
            await wait_for_device_thread(videos)
            assert seen
            await until_gone(seen)
    finally:
        gc.enable()
        hook.remove()


async def until_gone(references: list[weakref.ref[torch.Tensor]]) -> None:
    """A frame that is being encoded on another thread may hold them for a moment longer."""
    async with asyncio.timeout(5):
        while any(reference() is not None for reference in references):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("endpoint", ["images", "videos"])
async def test_memory_is_back_at_its_level_after_many_are_left(
    endpoint: str, videos: DiffusersEngine, moving: LoadedModel, engine: DiffusersEngine, tiny_model: LoadedModel
) -> None:
    serving, model = (engine, tiny_model) if endpoint == "images" else (videos, moving)
    fields = ("prompt", "size", "seed")
    body = {name: BODY[name] for name in fields} | {"stream_format": "msgpack", "steps": 30, "size": "128x128"}
    async with run_servers(serving, model.info) as servers:
        living = []
        for _ in range(4):
            for _ in range(3):
                answer = await servers.http.post(f"/v1/{endpoint}/generations", json=body)
                answer.close()
            await wait_until_no_jobs(servers)
            await wait_for_device_thread(serving)
            gc.collect()
            living.append(sum(tensor.nbytes for tensor in gc.get_objects() if type(tensor) is torch.Tensor))
    assert max(living) <= living[0] + 1_000_000
