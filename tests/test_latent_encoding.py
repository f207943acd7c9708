"""Latents of the encode endpoints equal those of the VAE called directly, over every protocol; and the round trip."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from numpy.typing import NDArray
from PIL import Image

from codec_pixels.device import Device
from codec_pixels.device_thread import DeviceThread
from codec_pixels.videos import encode_video
from codec_wire import WireFormat
from codec_wire.decoder import LatentDecoder
from codec_wire.encoder import LatentEncoder
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.latents import Modality
from codec_wire.protobuf_envelope import frame_from_message, header_from_message
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.vae_engine import DiffusersVae
from core.probe import sample_image
from tests.support.factories import load_from_factory
from tests.support.pipeline_pixels import bundle_with_dtype
from tests.support.serving import Servers, bundle_of, read_stream, run_http_gateway, run_servers

pytestmark = pytest.mark.slow

ENCODE, DECODE = "/v1/latents/encode", "/v1/latents/decode"
PIPELINES = ("raw", "int8", "int4", "int8-adaptive", "int4-adaptive")
VIDEO_PIPELINES = (*PIPELINES, "delta+int8", "delta+int4")


def photo() -> NDArray[np.uint8]:
    """Return smooth pixels, uint8 [48, 64, 3]."""
    with Image.open(io.BytesIO(sample_image(3))) as image:
        return np.asarray(image.resize((64, 48)))


def png_of(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def latents_of(model: LoadedModel, thread: DeviceThread) -> NDArray[np.float16]:
    """Encode the photo with diffusers alone, on the device thread, and scale the latents as the pipeline does."""
    vae = model.pipeline.vae

    @torch.inference_mode()
    def encode() -> Any:
        values = VaeImageProcessor().preprocess(Image.fromarray(photo()))
        return vae.encode(values).latent_dist.mode() * vae.config.scaling_factor

    latents: NDArray[np.float16] = thread.submit(encode).result()[0].to(torch.float16).numpy()
    return latents


async def encode_over_grpc(servers: Servers, **fields: Any) -> Any:
    header, *frames = [message async for message in servers.stub.Encode(pb.EncodeRequest(**fields))]
    return header_from_message(header.header), [frame_from_message(message.frame) for message in frames]


@pytest.mark.parametrize("pipeline", PIPELINES)
async def test_image_has_the_latents_of_the_vae_in_every_pipeline(
    engine: DiffusersEngine, tiny_model: LoadedModel, device_thread: DeviceThread, pipeline: str
) -> None:
    expected, file = latents_of(tiny_model, device_thread), png_of(photo())
    vae = DiffusersVae(tiny_model, device_thread)
    async with (
        run_servers(engine, tiny_model.info, vae=vae) as servers,
        run_http_gateway(servers.grpc_address) as (_, gateway),
    ):
        header, frames = await encode_over_grpc(servers, file=file, pipeline=pipeline)
        assert frames == [LatentEncoder(header).encode(expected, keyframe=True, last=True)]
        for http in (servers.http, gateway):
            for wire_format in WireFormat:
                response = await http.post(f"{ENCODE}?pipeline={pipeline}&stream_format={wire_format}", data=file)
                assert response.status == 200, await response.text()
                assert response.content_type == f"application/x-{wire_format}"
                assert read_stream(await response.read(), wire_format) == (header, frames)


@pytest.mark.parametrize("pipeline", VIDEO_PIPELINES)
async def test_video_has_the_latents_of_its_frames(
    engine: DiffusersEngine, tiny_model: LoadedModel, device_thread: DeviceThread, pipeline: str
) -> None:
    frames = np.stack([np.roll(photo(), 8 * shift, axis=1) for shift in range(5)])
    file = encode_video(frames, 12, {})
    vae = DiffusersVae(tiny_model, device_thread)
    bundle = bundle_of(replace(tiny_model.info, modalities=(Modality.IMAGE, Modality.VIDEO)))
    async with run_servers(engine, tiny_model.info, vae=vae, bundle=bundle) as servers:
        response = await servers.http.post(f"{ENCODE}?pipeline={pipeline}&keyframe_interval=2", data=file)
        assert response.status == 200, await response.text()
        body = await response.read()
        header, encoded = read_stream(body, WireFormat.MSGPACK)
        assert (header.fps, header.total_frames, header.shape) == (12, 5, (4, 6, 8))
        delta = pipeline.startswith("delta")
        assert [frame.keyframe for frame in encoded] == [not delta or seq % 2 == 0 for seq in range(5)]
        decoder = LatentDecoder(header)
        assert len([decoder.decode(frame) for frame in encoded]) == 5
        again = await servers.http.post(f"{ENCODE}?pipeline={pipeline}&keyframe_interval=2", data=file)
        assert await again.read() == body
        assert (await servers.http.post(DECODE, data=body)).content_type == "video/mp4"


async def test_round_trip_equals_that_of_the_vae(
    engine: DiffusersEngine, tiny_model: LoadedModel, device_thread: DeviceThread
) -> None:
    vae = tiny_model.pipeline.vae

    @torch.inference_mode()
    def round_trip() -> Any:
        values = VaeImageProcessor().preprocess(Image.fromarray(photo()))
        latents = (vae.encode(values).latent_dist.mode() * vae.config.scaling_factor).to(torch.float16).float()
        decoded = vae.decode(latents / vae.config.scaling_factor).sample
        return VaeImageProcessor().postprocess(decoded, "np")[0]

    expected = (device_thread.submit(round_trip).result() * 255).round().astype(np.uint8)
    async with run_servers(engine, tiny_model.info, vae=DiffusersVae(tiny_model, device_thread)) as servers:
        encoded = await (await servers.http.post(ENCODE, data=png_of(photo()))).read()
        decoded = await (await servers.http.post(DECODE, data=encoded)).read()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(decoded))), expected)


FAMILIES = ("build_svd", "build_cogvideox", "build_wan", "build_ltx", "build_hunyuan")
IMAGE_FAMILIES = ("build_sd3", "build_flux", "build_sana")


@pytest.mark.parametrize("factory", [*FAMILIES, *IMAGE_FAMILIES])
async def test_every_vae_encodes_what_it_decodes(device: Device, device_thread: DeviceThread, factory: str) -> None:
    module = "videos" if factory in FAMILIES else "images"
    model = load_from_factory(f"tests.support.families.{module}:{factory}", device)
    info, side = model.info, 2 * model.info.size_multiple
    frames = np.zeros((2 + 2 * info.frame_multiple, side, side, 3), np.uint8)
    file = encode_video(frames, 12, {}) if factory in FAMILIES else png_of(frames[0])
    engine, vae = DiffusersEngine(model, device_thread), DiffusersVae(model, device_thread)
    async with run_servers(engine, info, vae=vae, bundle=bundle_with_dtype(model, "fp32")) as servers:
        response = await servers.http.post(ENCODE, data=file)
        assert response.status == 200, await response.text()
        body = await response.read()
        header, _ = read_stream(body, WireFormat.MSGPACK)
        # The last frame is left out if the number of frames must be 1 more than a multiple.
        num_frames = 1 if factory in IMAGE_FAMILIES else len(frames) - (len(frames) - 1) % info.frame_multiple
        assert header.total_frames == info.latent_frames(num_frames)
        response = await servers.http.post(DECODE, data=body, headers={"Accept": "application/x-npy"})
        assert np.load(io.BytesIO(await response.read())).shape == (num_frames, side, side, 3)


@pytest.mark.parametrize("factory", ["tiny_sd:build_pipeline", "tiny_sdxl:build_sdxl", "families.images:build_sd3"])
def test_scaling_of_the_encoder_is_the_inverse_of_that_of_the_decoder(device: Device, factory: str) -> None:
    from codec_pixels.latent_scaling import scaling_of

    model = load_from_factory(f"tests.support.{factory}", device)
    vae = model.pipeline.vae
    scaling = scaling_of(model.family.pipeline_class, type(vae).__name__, vae)
    values = torch.randn(1, model.info.latent_channels, 4, 4)
    assert torch.allclose(scaling.unscale(vae, scaling.scale(vae, values)), values, atol=1e-5)
