"""Pixels of the decode endpoints equal those of decoding in process, over every protocol and for every stream."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from codec_client import LatentStreamDecoder, PixelDecoder
from codec_pixels.device import Device
from codec_pixels.device_thread import DeviceThread
from codec_wire import WireFormat
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.http import ZSTD_DICTIONARY_HEADER
from codec_wire.latents import Modality
from codec_wire.protobuf_envelope import frame_to_message, header_to_message
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.vae_engine import DiffusersVae
from tests.support.dictionaries import DICTIONARY, DIGEST, with_dictionary
from tests.support.factories import load_from_factory
from tests.support.ffmpeg import read_frames
from tests.support.http_requests import IMAGES, VIDEOS
from tests.support.latent_streams import body_of, random_stream
from tests.support.pipeline_pixels import bundle_with_dtype
from tests.support.serving import Servers, bundle_of, read_stream, run_http_gateway, run_servers

pytestmark = pytest.mark.slow

DECODE = "/v1/latents/decode"
NPY = {"Accept": "application/x-npy"}
PIPELINES = ("raw", "int8", "int4", "int8-adaptive", "int4-adaptive", "delta+int8", "delta+int4")
CODINGS = ("identity", "gzip", "br", "zstd")
VIDEO = {"prompt": "a sea", "size": "32x24", "steps": 2, "frames": 3, "keyframe_interval": 2, "fps": 12}


@pytest.fixture(scope="module")
def video_model(device: Device) -> LoadedModel:
    return load_from_factory("tests.support.families.videos:build_animatediff", device)


@pytest.fixture(scope="module")
def thread(device: Device) -> Iterator[DeviceThread]:
    executor = device.new_executor()
    yield executor
    executor.shutdown()


def pixels_in_process(
    body: bytes, wire_format: WireFormat, encoding: str, model: LoadedModel, thread: DeviceThread
) -> NDArray[np.uint8]:
    """Decode a body as a client does, on the device thread: the number of CPU threads changes the pixels."""
    stream = LatentStreamDecoder(wire_format, encoding=encoding, dictionary=DICTIONARY if encoding == "zstd" else None)
    latents = list(stream.feed(body))
    stream.close()
    decoder = PixelDecoder(None, vae=model.pipeline.vae, pipeline_class=model.family.pipeline_class)
    return thread.submit(decoder.frames, latents).result()


def read_npy(body: bytes) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = np.load(io.BytesIO(body))
    return pixels


async def generate(http: Any, path: str, fields: dict[str, Any], wire_format: WireFormat, coding: str) -> Any:
    headers = {"Accept-Encoding": coding} | ({ZSTD_DICTIONARY_HEADER: DIGEST} if coding == "zstd" else {})
    response = await http.post(path, json=fields | {"stream_format": wire_format}, headers=headers)
    assert response.status == 200, await response.text()
    assert response.headers.get("Content-Encoding", "identity") == coding
    return response


@pytest.mark.parametrize("wire_format", WireFormat)
@pytest.mark.parametrize("pipeline", PIPELINES)
async def test_generated_video_decodes_to_the_pixels_of_in_process_decoding(
    video_model: LoadedModel, thread: DeviceThread, pipeline: str, wire_format: WireFormat
) -> None:
    bundle = with_dictionary(bundle_of(video_model.info), pipeline, wire_format=wire_format)
    engine, vae = DiffusersEngine(video_model, thread), DiffusersVae(video_model, thread)
    async with (
        run_servers(engine, video_model.info, bundle=bundle, vae=vae) as servers,
        run_http_gateway(servers.grpc_address) as (_, gateway),
    ):
        for coding in CODINGS:
            fields = VIDEO | {"pipeline": pipeline}
            generated = await generate(servers.http, VIDEOS, fields, wire_format, coding)
            body = await generated.read()
            expected = pixels_in_process(body, wire_format, coding, video_model, thread)
            assert expected.shape == (3, 24, 32, 3)
            headers = NPY | {name: generated.headers[name] for name in ("Content-Type",)}
            if coding != "identity":
                headers["Content-Encoding"] = coding
            for http in (servers.http, gateway):
                response = await http.post(DECODE, data=body, headers=headers)
                assert response.status == 200, await response.text()
                assert response.headers["Codec-Latent-Map"] == bundle.hash
                assert np.array_equal(read_npy(await response.read()), expected), coding
            assert np.array_equal(await decode_body_over_grpc(servers, body, coding), expected), coding


async def decode_body_over_grpc(servers: Servers, body: bytes, coding: str) -> NDArray[np.uint8]:
    def requests() -> Iterator[pb.DecodeRequest]:
        yield pb.DecodeRequest(options=pb.DecodeOptions(content_encoding=coding), body=body[:7])
        for start in range(7, len(body), 1000):
            yield pb.DecodeRequest(body=body[start : start + 1000])

    return await read_rgb(servers.stub.Decode(requests()))


async def read_rgb(call: Any) -> NDArray[np.uint8]:
    size, *frames = [message async for message in call]
    shape = (size.size.num_frames, size.size.height, size.size.width, 3)
    return np.frombuffer(b"".join(frame.data for frame in frames), np.uint8).reshape(shape)


async def test_image_equals_the_rendered_image_of_the_same_request(
    engine: DiffusersEngine, tiny_model: LoadedModel, device_thread: DeviceThread
) -> None:
    fields = {"prompt": "a snowy mountain", "size": "64x48", "steps": 3, "seed": 7}
    vae = DiffusersVae(tiny_model, device_thread)
    async with run_servers(engine, tiny_model.info, vae=vae) as servers:
        rendered = await (await servers.http.post(IMAGES, json=fields)).json()
        generated = await generate(servers.http, IMAGES, fields | {"pipeline": "raw"}, WireFormat.MSGPACK, "identity")
        body = await generated.read()
        response = await servers.http.post(DECODE, data=body)
        assert response.content_type == "image/png"
        decoded = np.asarray(Image.open(io.BytesIO(await response.read())))
        assert decoded.shape == (48, 64, 3)
        assert np.array_equal(decoded, np.asarray(Image.open(io.BytesIO(base64_of(rendered)))))
        header, frames = read_stream(body, WireFormat.MSGPACK)
        requests = [
            pb.DecodeRequest(header=header_to_message(header)),
            *(pb.DecodeRequest(frame=frame_to_message(frame)) for frame in frames),
        ]
        assert np.array_equal((await read_rgb(servers.stub.Decode(iter(requests))))[0], decoded)


def base64_of(rendered: dict[str, Any]) -> bytes:
    return base64.b64decode(rendered["data"][0]["b64_json"])


async def test_video_is_returned_as_mp4_and_decodes_in_batches(
    tiny_model: LoadedModel, device_thread: DeviceThread, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("core.diffusers_engine.vae_engine.BATCH_PIXELS", 64 * 48 * 2)
    body = body_of(random_stream("delta+int8", 5))
    vae = DiffusersVae(tiny_model, device_thread)
    async with run_servers(DiffusersEngine(tiny_model, device_thread), tiny_model.info, vae=vae) as servers:
        response = await servers.http.post(DECODE, data=body)
        assert response.content_type == "video/mp4"
        (tmp_path / "video.mp4").write_bytes(await response.read())
        assert len(read_frames(tmp_path / "video.mp4", 64, 48)) == 5
        response = await servers.http.post(DECODE, data=body, headers=NPY)
        expected = pixels_in_process(body, WireFormat.MSGPACK, "identity", tiny_model, device_thread)
        assert np.array_equal(read_npy(await response.read()), expected)


FAMILIES = ("build_svd", "build_cogvideox", "build_wan", "build_ltx", "build_hunyuan")


@pytest.mark.parametrize("factory", FAMILIES)
async def test_vae_that_decodes_all_frames_together_gives_the_same_pixels(
    device: Device, thread: DeviceThread, factory: str
) -> None:
    model = load_from_factory(f"tests.support.families.videos:{factory}", device)
    info = model.info
    frames = info.latent_frames(1 + 2 * info.frame_multiple)
    cells = info.size_multiple // info.spatial_factor
    shape = (info.latent_channels, 2 * cells, 3 * cells)
    body = body_of(random_stream("raw", frames, latent_space=info.latent_space, shape=shape))
    assert Modality.VIDEO in info.modalities
    engine, vae, bundle = DiffusersEngine(model, thread), DiffusersVae(model, thread), bundle_with_dtype(model, "fp16")
    async with run_servers(engine, info, vae=vae, bundle=bundle) as servers:
        response = await servers.http.post(DECODE, data=body, headers=NPY)
        assert response.status == 200, await response.text()
        pixels = read_npy(await response.read())
    assert np.array_equal(pixels, pixels_in_process(body, WireFormat.MSGPACK, "identity", model, thread))
    assert len(pixels) == 1 + 2 * info.frame_multiple
