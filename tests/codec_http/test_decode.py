"""The decode endpoint: formats, invalid bodies, and its job."""

import asyncio
import gzip
import io
import resource
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import brotli
import numpy as np
import pytest
import zstandard

from codec_wire import WireFormat, encode
from codec_wire.decompression import ZSTD_WINDOW_BYTES
from codec_wire.latents import FinishReason
from core.pixel_format import PixelFormat
from tests.support.dictionaries import DICTIONARY, bundle_with_dictionary
from tests.support.fake_engine import FakeEngine
from tests.support.fake_vae import FakeVae
from tests.support.http_requests import IMAGES, LATENTS, read_error
from tests.support.latent_streams import body_of, random_stream
from tests.support.serving import MODEL, VIDEO_MODEL, run_servers

DECODE = "/v1/latents/decode"
IMAGE = body_of(random_stream("int8"))
VIDEO = body_of(random_stream("delta+int4", 4))
NPY = {"Accept": "application/x-npy"}


@pytest.mark.parametrize(
    ("accept", "image", "video"),
    [
        (None, "image/png", "video/mp4"),
        ("*/*", "image/png", "video/mp4"),
        ("image/*, video/*", "image/png", "video/mp4"),
        ("image/webp, image/png;q=0.5, video/mp4", "image/webp", "video/mp4"),
        ("image/*, image/png;q=0, video/*", "image/jpeg", "video/mp4"),
        ("application/x-npy", "application/x-npy", "application/x-npy"),
        ("text/html, */*;q=0.1", "image/png", "video/mp4"),
    ],
)
async def test_accept_selects_the_format(accept: str | None, image: str, video: str) -> None:
    headers = {} if accept is None else {"Accept": accept}
    async with run_servers(FakeEngine(), vae=FakeVae(free_running=True)) as servers:
        for body, expected in ((IMAGE, image), (VIDEO, video)):
            response = await servers.http.post(DECODE, data=body, headers=headers)
            assert (response.status, response.content_type) == (200, expected)
            assert "Accept" in response.headers["Vary"]


async def test_format_that_is_not_available_returns_406() -> None:
    async with run_servers(FakeEngine(), vae=FakeVae()) as servers:
        for body, accept, available in (
            (IMAGE, "video/mp4", "PNG"),
            (VIDEO, "image/png", "MP4"),
            (IMAGE, "text/html", "PNG"),
        ):
            response = await servers.http.post(DECODE, data=body, headers={"Accept": accept})
            assert response.status == 406
            assert available in (await response.json())["error"]["message"]


async def test_array_has_the_shape_of_the_video() -> None:
    async with run_servers(FakeEngine(), vae=FakeVae(free_running=True)) as servers:
        response = await servers.http.post(DECODE, data=VIDEO, headers=NPY)
        body = await response.read()
        assert response.content_length == len(body)
        assert np.load(io.BytesIO(body)).shape == (4, 48, 64, 3)


async def test_query_selects_model_and_quality() -> None:
    vae = FakeVae(free_running=True)
    async with run_servers(FakeEngine(), vae=vae) as servers:
        path = f"{DECODE}?model={MODEL.aliases[0]}&quality=70"
        response = await servers.http.post(path, data=IMAGE, headers={"Accept": "image/jpeg"})
        assert response.status == 200
        assert (vae.plans[0].pixel_format, vae.plans[0].quality) == (PixelFormat.JPEG, 70)
        for query, status in (("model=other", 404), ("quality=101", 400), ("quality=x", 400), ("qualty=1", 400)):
            assert (await servers.http.post(f"{DECODE}?{query}", data=IMAGE)).status == status


async def test_server_without_a_vae_returns_415() -> None:
    async with run_servers(FakeEngine()) as servers:
        response = await servers.http.post(DECODE, data=IMAGE)
        assert response.status == 415
        assert (await read_error(response))["supported_modalities"] == ["image-latents"]


async def test_map_pin_that_differs_returns_409() -> None:
    async with run_servers(FakeEngine(), vae=FakeVae(free_running=True)) as servers:
        held = servers.service.models.require_default().bundle.hash
        for pin, status in ((held, 200), (f"sha256:{'0' * 64}", 409)):
            response = await servers.http.post(DECODE, data=IMAGE, headers={"X-Codec-Map": pin})
            assert response.status == status


HEADER, (FRAME,) = random_stream("raw")
ERROR_FRAME = replace(FRAME, data=b"", finish_reason=FinishReason.ERROR)
INVALID: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "truncated header": (IMAGE[:50], "at byte 0"),
    "truncated frame": (IMAGE[:-1], "at byte"),
    "trailing bytes": (IMAGE + b"\x80", "1 bytes follow the last frame"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG image, not a latent stream"),
    "JSON": (b'{"prompt": "a sea"}', "JSON, not a latent stream"),
    "text": (b"hello, this is text", "text, not a latent stream"),
    "error frame": (body_of((HEADER, [ERROR_FRAME])), "the sender reported an error"),
    "short frame": (body_of((HEADER, [replace(FRAME, data=FRAME.data[:-2])])), "must have 384 bytes, got 382"),
    "wrong sequence": (body_of((HEADER, [replace(FRAME, seq=1)])), "expected frame 0, got frame 1"),
    "not finite": (body_of((HEADER, [replace(FRAME, data=b"\xff\x7f" * 192)])), "NaN or Inf"),
    "no done": (body_of((HEADER, [replace(FRAME, done=False, finish_reason=None)])), "frame 0: done must be true"),
    "two headers": (body_of((HEADER, []))[:] + body_of((HEADER, [FRAME])), "at byte"),
    "too large": (body_of((replace(HEADER, shape=(4, 257, 8)), [])), "up to 256"),
    "wrong channels": (body_of((replace(HEADER, shape=(16, 6, 8)), [])), "shape must be [4, height, width]"),
    "bomb header": (body_of((replace(HEADER, total_frames=2**32 - 1, fps=1), [])), "more than max_bytes"),
    "many frames": (body_of((replace(HEADER, total_frames=721, fps=1), [])), "at most 720"),
    "frames without fps": (body_of((replace(HEADER, total_frames=2), [])), "fps is required"),
    "unknown length": (body_of((replace(HEADER, total_frames=None, fps=1), [])), "total_frames is required"),
}


@pytest.mark.parametrize("name", INVALID)
async def test_invalid_stream_returns_400_with_the_reason(name: str) -> None:
    body, reason = INVALID[name]
    async with run_servers(FakeEngine(), vae=FakeVae()) as servers:
        response = await servers.http.post(DECODE, data=body)
        error = await read_error(response)
        assert (response.status, error["param"]) == (400, "latents"), error
        assert reason in error["message"]
        assert servers.service.admission.jobs == 0


async def test_position_of_the_fault_is_the_beginning_of_its_message() -> None:
    header_length = len(encode(HEADER, WireFormat.MSGPACK))
    async with run_servers(FakeEngine(), vae=FakeVae()) as servers:
        response = await servers.http.post(DECODE, data=INVALID["not finite"][0])
        assert f"at byte {header_length}: " in (await read_error(response))["message"]


async def test_latent_space_that_is_not_served_returns_404() -> None:
    body = body_of(random_stream(latent_space="a/b"))
    async with run_servers(FakeEngine(), vae=FakeVae()) as servers:
        response = await servers.http.post(DECODE, data=body)
        assert response.status == 404
        assert (await read_error(response))["param"] == "latent_space"


async def test_zstd_body_names_its_dictionary() -> None:
    compressor = zstandard.ZstdCompressor(dict_data=zstandard.ZstdCompressionDict(DICTIONARY))
    body, headers = compressor.compress(IMAGE), {"Content-Encoding": "zstd"}
    async with run_servers(FakeEngine(), vae=FakeVae(free_running=True), bundle=bundle_with_dictionary()) as servers:
        assert (await servers.http.post(DECODE, data=body, headers=headers)).status == 200
        plain = zstandard.ZstdCompressor().compress(IMAGE)
        assert (await servers.http.post(DECODE, data=plain, headers=headers)).status == 200
    async with run_servers(FakeEngine(), vae=FakeVae()) as servers:
        response = await servers.http.post(DECODE, data=body, headers=headers)
        assert response.status == 400
        assert "dictionary" in (await read_error(response))["message"]


async def test_coding_that_does_not_match_the_body_returns_400() -> None:
    async with run_servers(FakeEngine(), vae=FakeVae()) as servers:
        for encoding in ("gzip", "br", "zstd", "compress"):
            response = await servers.http.post(DECODE, data=IMAGE, headers={"Content-Encoding": encoding})
            assert response.status == 400, encoding
        truncated = gzip.compress(IMAGE)[:-5]
        response = await servers.http.post(DECODE, data=truncated, headers={"Content-Encoding": "gzip"})
        assert "gzip body is incomplete" in (await read_error(response))["message"]


def peak_memory_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.slow
@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
async def test_compression_bomb_returns_400_with_bounded_memory(coding: str) -> None:
    # A valid header, then a frame whose data never ends.
    start = body_of((replace(HEADER, shape=(4, 256, 256), total_frames=100, fps=1), []))
    bomb = start + encode(replace(FRAME, data=b"", done=False, finish_reason=None), WireFormat.MSGPACK)[:6]
    size = 256 * 2**20
    if coding == "gzip":
        body = gzip.compress(bomb + bytes(size), 1)
    elif coding == "br":
        body = brotli.compress(bomb + bytes(size), quality=1, lgwin=22)
    else:
        window = zstandard.ZstdCompressionParameters.from_level(3, window_log=ZSTD_WINDOW_BYTES.bit_length() - 1)
        body = zstandard.ZstdCompressor(compression_params=window).compress(bomb + bytes(size))
    async with run_servers(FakeEngine(), vae=FakeVae()) as servers:
        before = peak_memory_mib()
        response = await servers.http.post(DECODE, data=io.BytesIO(body), headers={"Content-Encoding": coding})
        assert response.status == 400, await response.text()
        assert peak_memory_mib() - before < 150


async def test_request_over_the_job_limit_returns_429_before_the_frames_are_read() -> None:
    vae = FakeVae()
    async with run_servers(FakeEngine(), vae=vae, max_jobs=1) as servers:
        running = asyncio.create_task(servers.http.post(DECODE, data=IMAGE))
        while not vae.plans:
            await asyncio.sleep(0)
        rejected = await servers.http.post(DECODE, data=body_of((HEADER, [])))
        assert rejected.status == 429
        assert (await servers.http.post(IMAGES, json=LATENTS)).status == 429
        vae.release_frames(1)
        assert (await running).status == 200


async def test_stream_that_costs_more_than_the_limit_returns_413() -> None:
    async with run_servers(FakeEngine(), vae=FakeVae(), max_cost=1000) as servers:
        assert (await servers.http.post(DECODE, data=IMAGE)).status == 413


async def test_disconnect_cancels_decoding() -> None:
    vae = FakeVae()
    async with run_servers(FakeEngine(), vae=vae) as servers:
        response = await start_decoding(servers.http, vae)
        response.close()
        await asyncio.wait_for(vae.closed.wait(), 10)
        await asyncio.wait_for(servers.service.admission.wait_idle(), 10)
        assert vae.decoded == 1


async def start_decoding(http: Any, vae: FakeVae) -> Any:
    """Send a video and return the response when its first frame has been received."""
    vae.release_frames(1)
    response = await http.post(DECODE, data=VIDEO, headers=NPY)
    assert await response.content.readexactly(128 + 48 * 64 * 3)
    return response


async def test_failure_before_the_first_frame_returns_its_status() -> None:
    vae = FakeVae(free_running=True)
    vae.fail_at = 0
    async with run_servers(FakeEngine(), vae=vae) as servers:
        response = await servers.http.post(DECODE, data=VIDEO, headers=NPY)
        assert response.status == 500
        assert "secret" not in await response.text()


async def test_failure_after_the_first_frame_ends_the_body_early() -> None:
    vae = FakeVae()
    vae.fail_at = 1
    async with run_servers(FakeEngine(), vae=vae) as servers:
        response = await start_decoding(servers.http, vae)
        vae.release_frames(1)
        with pytest.raises(Exception, match=r"payload|reset|closed"):
            await response.read()


async def test_deadline_passes_while_the_body_is_received() -> None:
    async def slow_body() -> AsyncIterator[bytes]:
        yield IMAGE[:200]
        await asyncio.sleep(10)

    async with run_servers(FakeEngine(), vae=FakeVae(), request_timeout_s=0.2) as servers:
        response = await servers.http.post(DECODE, data=slow_body())
        assert response.status == 504
        assert servers.service.admission.jobs == 0


async def test_video_model_is_preferred_for_a_video_of_the_same_latent_space() -> None:
    vae = FakeVae(free_running=True)
    async with run_servers(FakeEngine(), vae=vae) as servers:
        image = servers.service.models.require_default()
        servers.service.models.replace([image, replace(image, model=VIDEO_MODEL)])
        for body in (IMAGE, VIDEO):
            assert (await servers.http.post(DECODE, data=body)).status == 200
    assert [plan.model for plan in vae.plans] == [MODEL.name, VIDEO_MODEL.name]


async def test_sender_that_stops_early_is_decoded_to_the_frames_it_sent() -> None:
    header, (first, second, *_) = random_stream("raw", 4)
    second = replace(second, done=True, finish_reason=FinishReason.STOP)
    async with run_servers(FakeEngine(), vae=FakeVae(free_running=True)) as servers:
        response = await servers.http.post(DECODE, data=body_of((header, [first, second])), headers=NPY)
        assert np.load(io.BytesIO(await response.read())).shape == (2, 48, 64, 3)
