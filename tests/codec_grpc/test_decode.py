"""The Decode method: the two ways to send a stream, formats, errors and cancellation."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.protobuf_envelope import frame_to_message, header_to_message
from core.pixel_format import PixelFormat
from tests.support.fake_engine import FakeEngine
from tests.support.fake_vae import FakeVae
from tests.support.latent_streams import body_of, decode_requests_of, random_stream
from tests.support.serving import run_http_gateway, run_servers

IMAGE, VIDEO = random_stream("int8"), random_stream("delta+int8", 4)


async def test_first_response_states_the_size() -> None:
    async with run_servers(FakeEngine(), vae=FakeVae(free_running=True)) as servers:
        call = servers.stub.Decode(decode_requests_of(VIDEO))
        metadata = dict(await call.initial_metadata())
        assert metadata["codec-latent-map"] == servers.service.models.require_default().bundle.hash
        size, *frames = [message async for message in call]
        assert size.size == pb.DecodedSize(width=64, height=48, num_frames=4, fps=12)
        assert [len(frame.data) for frame in frames] == [64 * 48 * 3] * 4


async def test_body_may_follow_the_options_in_chunks_of_any_size() -> None:
    body = body_of(VIDEO)
    async with run_servers(FakeEngine(), vae=FakeVae(free_running=True)) as servers:
        for size in (1, 100, len(body)):
            chunks = [pb.DecodeRequest(body=body[start : start + size]) for start in range(0, len(body), size)]
            chunks[0].options.model = "little"
            assert len([message async for message in servers.stub.Decode(iter(chunks))]) == 5


async def test_options_select_format_and_quality() -> None:
    vae = FakeVae(free_running=True)
    formats = [
        pb.PIXEL_FORMAT_RGB,
        pb.PIXEL_FORMAT_PNG,
        pb.PIXEL_FORMAT_JPEG,
        pb.PIXEL_FORMAT_WEBP,
        pb.PIXEL_FORMAT_MP4,
    ]
    async with run_servers(FakeEngine(), vae=vae) as servers:
        for number in formats:
            call = servers.stub.Decode(decode_requests_of(VIDEO, pb.DecodeOptions(format=number, quality=50)))
            assert [message async for message in call]
    assert [plan.pixel_format for plan in vae.plans] == list(PixelFormat)
    assert {plan.quality for plan in vae.plans} == {50}


FRAME = pb.DecodeRequest(frame=frame_to_message(IMAGE[1][0]))
HEADER = pb.DecodeRequest(header=header_to_message(IMAGE[0]))
INVALID: dict[str, tuple[list[pb.DecodeRequest], str]] = {
    "no messages": ([], "must contain a latent stream"),
    "only options": ([pb.DecodeRequest(options=pb.DecodeOptions(model="little"))], "the stream is empty"),
    "header alone": ([HEADER], "without a last frame"),
    "frame first": ([FRAME], "its header is missing"),
    "two headers": ([HEADER, HEADER], "second header"),
    "frame after the last": ([HEADER, FRAME, FRAME], "was received after the last frame"),
    "mixed": ([HEADER, pb.DecodeRequest(body=b"x")], "must not be combined"),
    "text": ([pb.DecodeRequest(body=b"hello, this is text")], "text, not a latent stream"),
    "header without fields": ([pb.DecodeRequest(header=pb.DecodeRequest().header)], "dtype"),
    "unknown format": ([pb.DecodeRequest(options=pb.DecodeOptions(format=99))], "must be one of rgb, png"),  # type: ignore[arg-type]
    "mp4 of an image": (
        list(decode_requests_of(IMAGE, pb.DecodeOptions(format=pb.PIXEL_FORMAT_MP4))),
        "no format to which image-latents can be decoded: PNG, JPEG, WebP",
    ),
    "quality": (list(decode_requests_of(IMAGE, pb.DecodeOptions(quality=101))), "from 0 to 100"),
}


@pytest.mark.parametrize("name", INVALID)
async def test_invalid_request_is_invalid_argument(name: str) -> None:
    requests, reason = INVALID[name]
    async with run_servers(FakeEngine(), vae=FakeVae()) as servers:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await servers.stub.Decode(iter(requests)).read()
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT, raised.value.details()
        assert reason in (raised.value.details() or "")
        assert servers.service.admission.jobs == 0


async def test_message_that_is_not_protobuf_is_invalid_argument() -> None:
    async with run_servers(FakeEngine(), vae=FakeVae()) as servers:
        channel: Any = servers.channel
        call = channel.stream_stream("/codec.latents.v1.LatentService/Decode")(iter([b"\xff\xff"]))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_cancelled_call_stops_decoding() -> None:
    vae = FakeVae()
    async with run_servers(FakeEngine(), vae=vae) as servers:
        call = servers.stub.Decode(decode_requests_of(VIDEO))
        vae.release_frames(1)
        assert (await call.read()).HasField("size")
        assert (await call.read()).data
        call.cancel()
        await asyncio.wait_for(vae.closed.wait(), 10)
        await asyncio.wait_for(servers.service.admission.wait_idle(), 10)
        assert vae.decoded == 1


async def test_client_that_never_sends_a_message_ends_at_the_deadline() -> None:
    async def nothing() -> AsyncIterator[pb.DecodeRequest]:
        await asyncio.sleep(10)
        yield HEADER

    async with run_servers(FakeEngine(), vae=FakeVae(), request_timeout_s=0.2) as servers:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await servers.stub.Decode(nothing()).read()
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_gateway_cancels_the_upstream_call() -> None:
    vae = FakeVae()
    async with (
        run_servers(FakeEngine(), vae=vae) as servers,
        run_http_gateway(servers.grpc_address) as (gateway, http),
    ):
        vae.release_frames(1)
        response = await http.post("/v1/latents/decode", data=body_of(VIDEO), headers={"Accept": "application/x-npy"})
        assert await response.content.readany()
        response.close()
        await asyncio.wait_for(vae.closed.wait(), 10)
        for service in (gateway, servers.service):
            await asyncio.wait_for(service.admission.wait_idle(), 10)


async def test_gateway_returns_the_errors_of_the_upstream_server() -> None:
    async with run_servers(FakeEngine()) as servers, run_http_gateway(servers.grpc_address) as (_, http):
        response = await http.post("/v1/latents/decode", data=body_of(IMAGE))
        assert response.status == 415
    vae = FakeVae(free_running=True)
    vae.fail_at = 0
    async with run_servers(FakeEngine(), vae=vae) as servers, run_http_gateway(servers.grpc_address) as (_, http):
        response = await http.post("/v1/latents/decode", data=body_of(IMAGE))
        assert response.status == 500
        assert "secret" not in await response.text()
