"""An uploaded picture becomes a video, on a real, tiny Stable Video Diffusion; a bad one is refused with the reason."""

import asyncio
import base64
import io
import json
import resource
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc.aio
import pytest
from grpc import StatusCode

from codec_http.image_field import MAX_BASE64_CHARACTERS
from codec_http.server import MAX_BODY_BYTES
from codec_pixels.device import Device
from codec_wire import WireFormat
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.input_image import MAX_IMAGE_BYTES
from core.probe import sample_image
from tests.support.factories import load_from_factory
from tests.support.http_requests import VIDEOS
from tests.support.serving import read_stream, run_http_gateway, run_servers

BODY = {"prompt": "x", "stream_format": "msgpack", "size": "64x64", "steps": 1, "frames": 3}
PICTURE = sample_image(1)


@pytest.fixture(scope="module")
def svd(device: Device) -> LoadedModel:
    return load_from_factory("tests.support.families.videos:build_svd", device)


@pytest.fixture
def animating(svd: LoadedModel, device_thread: ThreadPoolExecutor) -> DiffusersEngine:
    return DiffusersEngine(svd, device_thread)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


async def test_every_spelling_of_a_picture_gives_the_same_stream(animating: DiffusersEngine, svd: LoadedModel) -> None:
    spellings = [
        text(PICTURE),
        f"data:image/png;base64,{text(PICTURE)}",
        base64.encodebytes(PICTURE).decode(),  # lines of 76
    ]
    async with run_servers(animating, svd.info) as servers, run_http_gateway(servers.grpc_address) as (_, gateway):
        bodies = set()
        for http in (servers.http, gateway):
            for spelling in spellings:
                answer = await http.post(VIDEOS, json=BODY | {"image": spelling})
                assert answer.status == 200, await answer.text()
                bodies.add(await answer.read())
        assert len(bodies) == 1
        header, frames = read_stream(bodies.pop(), WireFormat.MSGPACK)
        assert (header.shape, len(frames)) == ((4, 8, 8), 3)
        size, video = pb.PixelSize(width=64, height=64), pb.MODALITY_VIDEO_LATENTS
        request = pb.GenerateRequest(prompt="x", size=size, steps=1, frames=3, modality=video, image=PICTURE)
        messages = [message async for message in servers.stub.Generate(request)]
        assert [message.frame.data for message in messages[1:]] == [frame.data for frame in frames]
        other = await servers.http.post(VIDEOS, json=BODY | {"image": text(sample_image(2))})
        assert read_stream(await other.read(), WireFormat.MSGPACK)[1] != frames


async def post(http: Any, fields: dict[str, Any]) -> tuple[int, bytes]:
    """Post a body that may be large: read from a file, so that sending it does not hold the event loop."""
    body = io.BytesIO(json.dumps(BODY | fields).encode())
    async with http.post(VIDEOS, data=body, headers={"Content-Type": "application/json"}) as answer:
        return answer.status, await answer.read()


def bomb() -> bytes:
    """A valid png header that promises 3.6 gigapixels."""
    data = bytearray(sample_image(0, 8))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    return bytes(data)


BROKEN = {
    "cut": PICTURE[: len(PICTURE) // 2],
    "bomb": bomb(),
    "none": b"hello",
    "gif": b"GIF89a" + bytes(100),
    "large": b"\x89PNG\r\n\x1a\n" + bytes(MAX_IMAGE_BYTES),
}
WORDS = {
    "cut": "broken png",
    "bomb": "pixels",
    "none": "must be a picture",
    "gif": "must be a picture",
    "large": "at most",
}


@pytest.mark.parametrize("way", ["http", "gateway", "grpc"])
@pytest.mark.parametrize("fault", BROKEN)
async def test_a_bad_picture_is_refused_before_the_stream_begins(
    way: str, fault: str, animating: DiffusersEngine, svd: LoadedModel
) -> None:
    data = BROKEN[fault]
    async with run_servers(animating, svd.info) as servers, run_http_gateway(servers.grpc_address) as (_, gateway):
        if way == "grpc":
            request = pb.GenerateRequest(prompt="x", image=data, modality=pb.MODALITY_VIDEO_LATENTS, frames=3)
            with pytest.raises(grpc.aio.AioRpcError, match=WORDS[fault]) as caught:
                await servers.stub.Generate(request).read()
            assert caught.value.code() is StatusCode.INVALID_ARGUMENT
        else:
            http = servers.http if way == "http" else gateway
            status, content = await post(http, {"image": text(data)})
            error = json.loads(content)["error"]
            assert (status, error["param"]) == (400, "image")
            assert WORDS[fault] in error["message"]
        assert servers.service.admission.jobs == 0


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (5, "base64 or a data URL"),
        ("", "must be a picture"),
        ("no base64!", "no base64"),
        ("übel", "no base64"),
        ("data:image/png,xyz", "data URL in base64"),
        ("AAA", "no base64"),
    ],
)
async def test_what_is_no_base64_is_refused(
    value: object, words: str, animating: DiffusersEngine, svd: LoadedModel
) -> None:
    async with run_servers(animating, svd.info) as servers:
        answer = await servers.http.post(VIDEOS, json=BODY | {"image": value})
        error = (await answer.json())["error"]
        assert (answer.status, error["param"]) == (400, "image")
        assert words in error["message"]


async def test_a_model_that_begins_with_a_picture_says_so(animating: DiffusersEngine, svd: LoadedModel) -> None:
    async with run_servers(animating, svd.info) as servers:
        answer = await servers.http.post(VIDEOS, json=BODY)
        error = (await answer.json())["error"]
        assert (answer.status, error["param"]) == (400, "image")
        assert "is required" in error["message"]
        info = await (await servers.http.get("/codec/info")).json()
        assert info["models"][0]["forms"] == ["video-latents from a prompt and image"]


async def test_a_body_over_the_limit_is_413(animating: DiffusersEngine, svd: LoadedModel) -> None:
    async with run_servers(animating, svd.info) as servers:
        status, _ = await post(servers.http, {"image": "A" * MAX_BODY_BYTES})
        assert status == 413


async def test_the_largest_pictures_fit_in_a_body_and_a_message(animating: DiffusersEngine, svd: LoadedModel) -> None:
    """A png of exactly the bound: what is after its end is padding that decoders pass over."""
    largest = PICTURE + bytes(MAX_IMAGE_BYTES - len(PICTURE))
    assert len(text(largest)) <= MAX_BASE64_CHARACTERS
    async with run_servers(animating, svd.info) as servers, run_http_gateway(servers.grpc_address) as (_, gateway):
        for http in (servers.http, gateway):
            status, content = await post(http, {"image": text(largest)})
            assert status == 200, content
            assert len(read_stream(content, WireFormat.MSGPACK)[1]) == 3


async def test_memory_stays_bounded_under_many_bombs(animating: DiffusersEngine, svd: LoadedModel) -> None:
    """24 at once, each promising 14 GB of pixels: the process grows by less than the bodies of a few of them."""
    async with run_servers(animating, svd.info) as servers:

        async def refused(data: bytes) -> bool:
            return (await post(servers.http, {"image": text(data)}))[0] == 400

        assert await refused(bomb())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        padded = bomb() + bytes(1_000_000)
        assert await asyncio.gather(*(refused(padded) for _ in range(24))) == [True] * 24
        grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown_kb < 400_000  # client and server share this process: 24 bodies, encoded, sent and parsed
