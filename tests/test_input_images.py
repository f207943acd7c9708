"""Input images in requests over HTTP, the gateway and gRPC, with a tiny Stable Video Diffusion pipeline.

Covers the encodings of the image field, images that are rejected, the size limits and the memory that attacks can use.
"""

import asyncio
import base64
import io
import json
import resource
from typing import Any

import grpc.aio
import pytest
from grpc import StatusCode

from codec_http.body_receiver import MAX_BODY_BYTES
from codec_http.file_field import MAX_BASE64_CHARACTERS
from codec_pixels.device import Device
from codec_pixels.device_thread import DeviceThread
from codec_wire import WireFormat
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.input_image import MAX_IMAGE_BYTES
from core.probe import sample_image
from tests.support.factories import load_from_factory
from tests.support.http_requests import VIDEOS
from tests.support.serving import read_stream, run_http_gateway, run_servers

pytestmark = pytest.mark.slow

BODY = {"prompt": "x", "stream_format": "msgpack", "size": "64x64", "steps": 1, "frames": 3}
IMAGE = sample_image(1)


@pytest.fixture(scope="module")
def svd_model(device: Device) -> LoadedModel:
    return load_from_factory("tests.support.families.videos:build_svd", device)


@pytest.fixture
def svd_engine(svd_model: LoadedModel, device_thread: DeviceThread) -> DiffusersEngine:
    return DiffusersEngine(svd_model, device_thread)


def to_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def test_every_encoding_of_an_image_gives_the_same_stream(
    svd_engine: DiffusersEngine, svd_model: LoadedModel
) -> None:
    encodings = [
        to_base64(IMAGE),
        f"data:image/png;base64,{to_base64(IMAGE)}",
        base64.encodebytes(IMAGE).decode(),  # lines of 76
    ]
    async with (
        run_servers(svd_engine, svd_model.info) as servers,
        run_http_gateway(servers.grpc_address) as (_, gateway),
    ):
        bodies = set()
        for http in (servers.http, gateway):
            for encoding in encodings:
                response = await http.post(VIDEOS, json=BODY | {"image": encoding})
                assert response.status == 200, await response.text()
                bodies.add(await response.read())
        assert len(bodies) == 1
        header, frames = read_stream(bodies.pop(), WireFormat.MSGPACK)
        assert (header.shape, len(frames)) == ((4, 8, 8), 3)
        size, video = pb.PixelSize(width=64, height=64), pb.MODALITY_VIDEO_LATENTS
        request = pb.GenerateRequest(prompt="x", size=size, steps=1, frames=3, modality=video, image=IMAGE)
        messages = [message async for message in servers.stub.Generate(request)]
        assert [message.frame.data for message in messages[1:]] == [frame.data for frame in frames]
        other = await servers.http.post(VIDEOS, json=BODY | {"image": to_base64(sample_image(2))})
        assert read_stream(await other.read(), WireFormat.MSGPACK)[1] != frames


async def post(http: Any, fields: dict[str, Any]) -> tuple[int, bytes]:
    """POST BODY with additional fields; return status and content. Large bodies do not block the event loop."""
    body = io.BytesIO(json.dumps(BODY | fields).encode())
    async with http.post(VIDEOS, data=body, headers={"Content-Type": "application/json"}) as response:
        return response.status, await response.read()


def decompression_bomb() -> bytes:
    """Return a PNG file whose header declares 60,000x60,000 pixels."""
    data = bytearray(sample_image(0, 8))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    return bytes(data)


INVALID_IMAGES = {
    "truncated": IMAGE[: len(IMAGE) // 2],
    "decompression bomb": decompression_bomb(),
    "no image": b"hello",
    "unidentified": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1" + bytes(9),
    "gif": b"GIF89a" + bytes(100),
    "too large": b"\x89PNG\r\n\x1a\n" + bytes(MAX_IMAGE_BYTES),
}
MESSAGES = {
    "truncated": "broken png",
    "decompression bomb": "pixels",
    "no image": "must be a",
    "unidentified": "is a broken png file: its content cannot be identified",
    "gif": "must be a",
    "too large": "at most",
}


@pytest.mark.parametrize("protocol", ["http", "gateway", "grpc"])
@pytest.mark.parametrize("fault", INVALID_IMAGES)
async def test_invalid_image_is_rejected_before_the_stream_starts(
    protocol: str, fault: str, svd_engine: DiffusersEngine, svd_model: LoadedModel
) -> None:
    data = INVALID_IMAGES[fault]
    async with (
        run_servers(svd_engine, svd_model.info) as servers,
        run_http_gateway(servers.grpc_address) as (_, gateway),
    ):
        if protocol == "grpc":
            request = pb.GenerateRequest(prompt="x", image=data, modality=pb.MODALITY_VIDEO_LATENTS, frames=3)
            with pytest.raises(grpc.aio.AioRpcError, match=MESSAGES[fault]) as caught:
                await servers.stub.Generate(request).read()
            assert caught.value.code() is StatusCode.INVALID_ARGUMENT
        else:
            http = servers.http if protocol == "http" else gateway
            status, content = await post(http, {"image": to_base64(data)})
            error = json.loads(content)["error"]
            assert (status, error["param"]) == (400, "image")
            assert MESSAGES[fault] in error["message"]
        assert servers.service.admission.jobs == 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, "must be a base64 string"),
        ("", "must be a"),
        ("no base64!", "must be valid base64"),
        ("übel", "must be valid base64"),
        ("data:image/png,xyz", "must start with data:<media type>;base64"),
        ("AAA", "must be valid base64"),
    ],
)
async def test_image_field_that_is_not_base64_is_rejected(
    value: object, message: str, svd_engine: DiffusersEngine, svd_model: LoadedModel
) -> None:
    async with run_servers(svd_engine, svd_model.info) as servers:
        response = await servers.http.post(VIDEOS, json=BODY | {"image": value})
        error = (await response.json())["error"]
        assert (response.status, error["param"]) == (400, "image")
        assert message in error["message"]


async def test_model_that_requires_an_image_reports_it(svd_engine: DiffusersEngine, svd_model: LoadedModel) -> None:
    async with run_servers(svd_engine, svd_model.info) as servers:
        response = await servers.http.post(VIDEOS, json=BODY)
        error = (await response.json())["error"]
        assert (response.status, error["param"]) == (400, "image")
        assert "is required" in error["message"]
        info = await (await servers.http.get("/codec/info")).json()
        assert info["models"][0]["forms"] == ["video-latents from a prompt and image"]


async def test_body_over_the_size_limit_returns_413(svd_engine: DiffusersEngine, svd_model: LoadedModel) -> None:
    async with run_servers(svd_engine, svd_model.info) as servers:
        status, _ = await post(servers.http, {"image": "A" * MAX_BODY_BYTES})
        assert status == 413


async def test_image_of_the_maximum_size_is_accepted(svd_engine: DiffusersEngine, svd_model: LoadedModel) -> None:
    """A PNG padded to exactly the maximum size; decoders ignore bytes after its end."""
    largest = IMAGE + bytes(MAX_IMAGE_BYTES - len(IMAGE))
    assert len(to_base64(largest)) <= MAX_BASE64_CHARACTERS
    async with (
        run_servers(svd_engine, svd_model.info) as servers,
        run_http_gateway(servers.grpc_address) as (_, gateway),
    ):
        for http in (servers.http, gateway):
            status, content = await post(http, {"image": to_base64(largest)})
            assert status == 200, content
            assert len(read_stream(content, WireFormat.MSGPACK)[1]) == 3


async def test_memory_stays_bounded_under_many_decompression_bombs(
    svd_engine: DiffusersEngine, svd_model: LoadedModel
) -> None:
    """24 requests at once, each with an image that would need 14 GB: the process grows by less than 400 MB."""
    async with run_servers(svd_engine, svd_model.info) as servers:

        async def is_rejected(data: bytes) -> bool:
            return (await post(servers.http, {"image": to_base64(data)}))[0] == 400

        assert await is_rejected(decompression_bomb())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        padded = decompression_bomb() + bytes(1_000_000)
        assert await asyncio.gather(*(is_rejected(padded) for _ in range(24))) == [True] * 24
        grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown_kb < 400_000  # this process contains both client and server, with 24 bodies each
