"""decode, decode_to_file and encode of the clients, async, blocking and in process, against real servers."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from codec_client import Generation, LatentStreamDecoder, PixelDecoder, ServerUnreachable, UnexpectedAnswer
from codec_client.received_pixels import ReceivedPixels
from codec_pixels.device_thread import DeviceThread
from codec_pixels.videos import encode_video
from codec_server.in_process import InProcessClient
from codec_wire import WireFormat, errors
from codec_wire.codings import CODINGS
from core.api_keys import ApiKeys
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.vae_engine import DiffusersVae
from core.probe import sample_image
from core.settings import Settings
from tests.support.clients import make_client
from tests.support.dictionaries import DICTIONARY, DIGEST, with_dictionary
from tests.support.fake_engine import FakeEngine
from tests.support.fake_vae import FakeVae
from tests.support.latent_streams import body_of, random_stream
from tests.support.serving import Servers, bundle_of, run_servers, run_servers_for

PROTOCOLS = ("http", "grpc")
PIPELINES = ("raw", "int8", "int4", "int8-adaptive", "int4-adaptive", "delta+int8", "delta+int4")


@asynccontextmanager
async def model_servers(model: LoadedModel, thread: DeviceThread) -> AsyncIterator[Servers]:
    bundle = with_dictionary(bundle_of(model.info))
    engine, vae = DiffusersEngine(model, thread), DiffusersVae(model, thread)
    async with run_servers(engine, model.info, bundle=bundle, vae=vae) as servers:
        yield servers


def pixels_in_process(latents: Any, model: LoadedModel, thread: DeviceThread) -> NDArray[np.uint8]:
    """Decode as decode_to_images does, on the device thread: the number of CPU threads changes the pixels."""
    decoder = PixelDecoder(None, vae=model.pipeline.vae, pipeline_class=model.family.pipeline_class)
    return thread.submit(decoder.frames, latents).result()


def compressed(body: bytes, coding: str) -> bytes:
    compressor = CODINGS[coding].compressor(DICTIONARY)
    return compressor.compress(body) + compressor.finish()


@pytest.mark.slow
async def test_every_pipeline_format_and_coding_decodes_to_the_pixels_of_in_process_decoding(
    tiny_model: LoadedModel, device_thread: DeviceThread, tmp_path: Path
) -> None:
    async with (
        model_servers(tiny_model, device_thread) as servers,
        make_client(servers, "http", tmp_path) as http,
        make_client(servers, "grpc", tmp_path) as grpc,
    ):
        map_hash = servers.service.models.require_default().bundle.hash
        for pipeline in PIPELINES:
            stream = random_stream(pipeline, 3 if pipeline.startswith("delta") else 1)
            decoder = LatentStreamDecoder()
            latents = np.stack(list(decoder.feed(body_of(stream))))
            expected = pixels_in_process(latents, tiny_model, device_thread)
            for client in (http, grpc):
                for wire_format in WireFormat:
                    for coding in CODINGS:
                        body = compressed(body_of(stream, wire_format), coding)
                        encoding = coding if coding == "br" else None  # the others are detected
                        decoded = await client.decode(body, encoding=encoding)
                        assert np.array_equal(decoded.frames, expected), (pipeline, wire_format, coding)
                        assert decoded.map_hash == map_hash
                decoded = await client.decode(Generation(stream[0], latents, None))
                assert np.array_equal(decoded.frames, expected), pipeline
                assert [image.size for image in decoded.images()] == [(64, 48)] * len(latents)


@pytest.mark.slow
async def test_blocking_client_decodes_files_and_arrays_like_the_async_one(
    tiny_model: LoadedModel, device_thread: DeviceThread, tmp_path: Path
) -> None:
    image, video = body_of(random_stream()), body_of(random_stream("delta+int8", 3))

    def decode_all(servers: Servers, protocol: str) -> list[Any]:
        with make_client(servers, protocol, tmp_path).blocking() as client:
            return [
                client.decode(image).frames.tobytes(),
                client.decode(client.encode(sample_image(3), size=(64, 48), pipeline="int8")).frames.tobytes(),
                *(client.decode_to_file(image, name, quality=80) for name in ("png", "jpeg", "webp")),
                client.decode_to_file(video, "mp4"),
            ]

    async with model_servers(tiny_model, device_thread) as servers:
        for protocol in PROTOCOLS:
            async with make_client(servers, protocol, tmp_path) as client:
                expected = [
                    (await client.decode(image)).frames.tobytes(),
                    (
                        await client.decode(await client.encode(sample_image(3), size=(64, 48), pipeline="int8"))
                    ).frames.tobytes(),
                    *[await client.decode_to_file(image, name, quality=80) for name in ("png", "jpeg", "webp")],
                    await client.decode_to_file(video, "mp4"),
                ]
            actual = await asyncio.to_thread(decode_all, servers, protocol)
            assert actual == expected
            pixels = np.frombuffer(expected[0], np.uint8).reshape(48, 64, 3)
            with Image.open(io.BytesIO(expected[2])) as png:
                assert np.array_equal(np.asarray(png), pixels)
            assert [Image.open(io.BytesIO(file)).format for file in expected[3:5]] == ["JPEG", "WEBP"]
            assert expected[5][4:8] == b"ftyp"


@pytest.mark.slow
async def test_encoding_is_that_of_the_vae_and_the_same_for_every_client(
    tiny_model: LoadedModel, device_thread: DeviceThread, tmp_path: Path
) -> None:
    import torch
    from diffusers.image_processor import VaeImageProcessor

    photo = Image.open(io.BytesIO(sample_image(3))).convert("RGB").resize((64, 48))
    vae = tiny_model.pipeline.vae

    @torch.inference_mode()
    def encode() -> Any:
        latents = vae.encode(VaeImageProcessor().preprocess(photo)).latent_dist.mode() * vae.config.scaling_factor
        return latents.to(torch.float16).numpy()

    expected = device_thread.submit(encode).result()
    round_trip = pixels_in_process(expected, tiny_model, device_thread)
    video = encode_video(np.stack([np.asarray(photo)] * 5), 12, {})
    async with model_servers(tiny_model, device_thread) as servers:
        for protocol in PROTOCOLS:
            async with make_client(servers, protocol, tmp_path) as client:
                encoded = await client.encode(photo)
                assert np.array_equal(encoded.latents, expected)
                assert (encoded.header.pipeline, encoded.header.total_frames) == ("raw", 1)
                assert np.array_equal((await client.decode(encoded)).frames, round_trip)
                sample = await client.encode(photo, seed=5)
                assert np.array_equal(sample.latents, (await client.encode(photo, seed=5)).latents)
                assert not np.array_equal(sample.latents, expected)
                encoded = await client.encode(video, pipeline="int8-adaptive")
                assert (encoded.header.fps, encoded.latents.shape) == (12, (5, 4, 6, 8))


@pytest.mark.slow
async def test_client_in_this_process_decodes_and_encodes_like_a_server(tmp_path: Path) -> None:
    settings = Settings(pipeline="tests.support.tiny_sd:build_pipeline", threads=1, calibration_images=0)
    async with InProcessClient(settings, cache_dir=tmp_path) as local:
        await local.load()
        encoded = await local.encode(sample_image(3), size=(64, 48))
        async with run_servers_for(local.service) as servers, make_client(servers, "http", tmp_path) as remote:
            assert np.array_equal((await remote.encode(sample_image(3), size=(64, 48))).latents, encoded.latents)
            pixels = await remote.decode(encoded)
            assert np.array_equal((await local.decode(encoded)).frames, pixels.frames)
            assert (await local.decode(encoded)).map_hash == pixels.map_hash
            assert await local.decode_to_file(encoded, "png") == await remote.decode_to_file(encoded, "png")


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_errors_of_the_latent_service_have_the_types_of_generation(protocol: str, tmp_path: Path) -> None:
    image, video = body_of(random_stream()), body_of(random_stream("raw", 3))
    fake = FakeVae(free_running=True)
    async with (
        run_servers(FakeEngine(), vae=fake) as servers,
        make_client(servers, protocol, tmp_path) as client,
        make_client(servers, protocol, tmp_path, pinned_map=DIGEST) as pinned,
    ):
        with pytest.raises(errors.InvalidRequest, match="latents: at byte"):
            await client.decode(image[:-9])
        with pytest.raises(errors.InvalidRequest, match="a PNG image"):
            await client.decode(sample_image(1))
        with pytest.raises(errors.NotFound):
            await client.decode(image, model="other")
        with pytest.raises(errors.NotAcceptable):
            await client.decode_to_file(image, "mp4")
        with pytest.raises(errors.NotAcceptable):
            await client.decode_to_file(video, "png")
        with pytest.raises(errors.InvalidRequest, match="quality"):
            await client.decode_to_file(image, "jpeg", quality=101)
        with pytest.raises(errors.InvalidRequest, match="file"):
            await client.encode(b"hello")
        with pytest.raises(errors.InvalidRequest, match="quality: must be from 0 to 100, got -1"):
            await client.decode_to_file(image, "jpeg", quality=-1)
        with pytest.raises(errors.InvalidRequest, match="file_format: must be one of png, jpeg, webp, mp4, got 'jpg'"):
            await client.decode_to_file(image, "jpg")  # type: ignore[arg-type]
        with pytest.raises(errors.InvalidRequest, match="pipeline"):
            await client.encode(sample_image(1), pipeline="zip")
        out_of_range: list[dict[str, Any]] = [
            {"size": (2**40, 8)},
            {"seed": -2},
            {"seed": 2**64},
            {"keyframe_interval": -1},
        ]
        for argument in out_of_range:
            with pytest.raises(errors.InvalidRequest, match=next(iter(argument))):
                await client.encode(sample_image(1), **argument)
        for call in (pinned.decode(image), pinned.encode(sample_image(1))):
            with pytest.raises(errors.MapMismatch):
                await call
        fake.fail_at = 0
        with pytest.raises(errors.CodecError) as caught:
            await client.decode(image)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_server_without_a_vae_refuses_with_unsupported_modality(protocol: str, tmp_path: Path) -> None:
    async with run_servers(FakeEngine()) as servers, make_client(servers, protocol, tmp_path) as client:
        for call in (client.decode(body_of(random_stream())), client.encode(sample_image(1))):
            with pytest.raises(errors.UnsupportedModality):
                await call


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_api_key_is_sent_and_required(protocol: str, tmp_path: Path) -> None:
    image = body_of(random_stream())
    keys = ApiKeys("k3y-0123456789", None)
    async with (
        run_servers(FakeEngine(), vae=FakeVae(free_running=True), api_keys=keys) as servers,
        make_client(servers, protocol, tmp_path, api_key="k3y-0123456789") as client,
        make_client(servers, protocol, tmp_path) as stranger,
    ):
        assert (await client.decode(image)).frames.shape == (1, 48, 64, 3)
        assert (await client.encode(sample_image(1))).latents.ndim == 4
        for call in (stranger.decode(image), stranger.encode(sample_image(1))):
            with pytest.raises(errors.Unauthenticated):
                await call


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_overloaded_server_is_retried_and_the_timeout_covers_all_attempts(protocol: str, tmp_path: Path) -> None:
    image, vae = body_of(random_stream()), FakeVae()
    async with (
        run_servers(FakeEngine(), vae=vae, max_jobs=1) as servers,
        make_client(servers, protocol, tmp_path, retries=8) as client,
        make_client(servers, protocol, tmp_path, retries=0, timeout_s=1) as impatient,
    ):
        first = asyncio.create_task(impatient.decode(image))
        while not vae.plans:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(client.decode(image))
        with pytest.raises(errors.Overloaded):
            async with make_client(servers, protocol, tmp_path, retries=0) as third:
                await third.encode(sample_image(1))
        with pytest.raises(errors.DeadlineExceeded, match="did not finish within 1 s"):
            await first
        vae.release_frames(2)
        assert (await second).frames.shape == (1, 48, 64, 3)


async def test_unreachable_server_raises_server_unreachable(tmp_path: Path) -> None:
    async with run_servers(FakeEngine()) as servers:
        clients = [make_client(servers, protocol, tmp_path, retries=0) for protocol in PROTOCOLS]
    for client in clients:
        async with client:
            for call in (client.decode(body_of(random_stream())), client.encode(sample_image(1))):
                with pytest.raises(ServerUnreachable):
                    await call


@pytest.mark.parametrize(
    "received",
    [
        ReceivedPixels(bytearray(11), (1, 2, 2, 3)),
        ReceivedPixels(bytearray(12), (1, -1, 2, 3)),
        ReceivedPixels(bytearray(12), (2, 2, 3)),
        ReceivedPixels(bytearray(0), (0, 2, 2, 3)),
        ReceivedPixels(bytearray(12)),
    ],
)
def test_pixels_of_another_shape_are_rejected(received: ReceivedPixels) -> None:
    with pytest.raises(UnexpectedAnswer, match="which do not match the shape"):
        received.frames()


@pytest.mark.parametrize("array", [None, np.zeros((1, 2, 2, 3)), np.asfortranarray(np.zeros((1, 2, 2, 3), np.uint8))])
def test_file_that_is_not_an_array_of_pixels_is_rejected(array: NDArray[Any] | None) -> None:
    file = io.BytesIO()
    if array is None:
        file.write(b"hello")
    else:
        np.save(file, array)
    with pytest.raises(UnexpectedAnswer):
        ReceivedPixels(bytearray(file.getvalue())).read_npy_header()


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': (",
        b"{'descr': '|u1+', 'fortran_order': False, 'shape': (1,)}",
        b"{[]: 1}",
        b"{1: 2, 'descr': 3}",
        b"-" * 5000 + b"1",
    ],
    ids=["open bracket", "dtype", "list as key", "keys of two types", "nested"],
)
def test_file_with_a_damaged_array_header_is_rejected(header: bytes) -> None:
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with pytest.raises(UnexpectedAnswer, match=r"did not send a \.npy file"):
        ReceivedPixels(bytearray(data)).read_npy_header()


def test_pixels_over_the_limit_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codec_client.received_pixels.MAX_PIXEL_BYTES", 10)
    received = ReceivedPixels()
    received.add(bytes(10))
    with pytest.raises(UnexpectedAnswer, match="more than 10 bytes"):
        received.add(b"x")
