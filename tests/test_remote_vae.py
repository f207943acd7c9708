"""Unmodified `remote_decode` and `remote_encode` of diffusers return what the VAE returns in process."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.remote_utils import remote_decode, remote_encode
from PIL import Image

from codec_pixels.device import Device
from codec_pixels.device_thread import DeviceThread
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.tensor_vae import DiffusersTensorVae
from core.diffusers_engine.vae_engine import DiffusersVae
from tests.support.factories import load_from_factory
from tests.support.pipeline_pixels import bundle_with_dtype
from tests.support.serving import http_address, run_http_gateway, run_servers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["tiny_sd:build_pipeline", "tiny_sdxl:build_sdxl", "families.images:build_flux"])
def model(request: pytest.FixtureRequest, device: Device) -> LoadedModel:
    return load_from_factory(f"tests.support.{request.param}", device)


@pytest.fixture(scope="module")
def thread(device: Device) -> Iterator[DeviceThread]:
    executor = device.new_executor()
    yield executor
    executor.shutdown()


async def call_remote(
    model: LoadedModel, thread: DeviceThread, function: Callable[..., Any], path: str, *args: Any, **kwargs: Any
) -> Any:
    """Call a blocking client function against a server of `model`."""
    engine, vae = DiffusersEngine(model, thread), DiffusersVae(model, thread)
    tensor_vae, bundle = DiffusersTensorVae(model, thread), bundle_with_dtype(model, "fp16")
    async with run_servers(engine, model.info, bundle=bundle, vae=vae, tensor_vae=tensor_vae) as servers:
        return await asyncio.to_thread(function, http_address(servers) + path, *args, **kwargs)


def latents_for(model: LoadedModel) -> torch.Tensor:
    return torch.randn(1, model.info.latent_channels, 6, 8, generator=torch.Generator().manual_seed(1))


def scaling_for(model: LoadedModel) -> dict[str, Any]:
    config = model.pipeline.vae.config
    return {"scaling_factor": config.scaling_factor, "shift_factor": config.shift_factor}


def decoded_locally(model: LoadedModel, thread: DeviceThread, latents: torch.Tensor) -> torch.Tensor:
    vae = model.pipeline.vae

    @torch.inference_mode()
    def decode() -> torch.Tensor:
        shift = vae.config.shift_factor
        values = latents.to(vae.dtype) / vae.config.scaling_factor
        pixels: torch.Tensor = vae.decode(values if shift is None else values + shift).sample
        return pixels.clone()

    return thread.submit(decode).result()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
async def test_decoded_tensor_equals_that_of_the_vae(
    model: LoadedModel, thread: DeviceThread, dtype: torch.dtype
) -> None:
    latents = latents_for(model).to(dtype)
    expected = decoded_locally(model, thread, latents)
    fields = scaling_for(model) | {"output_type": "pt", "return_type": "pt"}
    pixels = await call_remote(model, thread, remote_decode, "/hf/decode", tensor=latents, **fields)
    assert torch.equal(pixels, expected)
    fields["partial_postprocess"] = True
    pixels = await call_remote(model, thread, remote_decode, "/hf/decode", tensor=latents, **fields)
    images = VaeImageProcessor().postprocess(expected, "np")
    assert np.array_equal(pixels.numpy(), (images * 255).round().astype(np.uint8))


async def test_decoded_image_equals_that_of_the_image_processor(model: LoadedModel, thread: DeviceThread) -> None:
    latents = latents_for(model)
    (expected,) = VaeImageProcessor().postprocess(decoded_locally(model, thread, latents), "pil")
    fields = scaling_for(model)
    image = await call_remote(model, thread, remote_decode, "/hf/decode", latents, image_format="png", **fields)
    assert np.array_equal(np.asarray(image), np.asarray(expected))
    image = await call_remote(model, thread, remote_decode, "/hf/decode", latents, **fields)
    assert (image.format, image.size) == ("jpeg", expected.size)
    fields |= {"output_type": "pt", "processor": VaeImageProcessor()}
    image = await call_remote(model, thread, remote_decode, "/hf/decode", latents, **fields)
    assert np.array_equal(np.asarray(image), np.asarray(expected))


async def test_packed_latents_are_unpacked(device: Device, thread: DeviceThread) -> None:
    flux = load_from_factory("tests.support.families.images:build_flux", device)
    latents = latents_for(flux)
    channels = flux.info.latent_channels
    packed = flux.pipeline._pack_latents(latents, 1, channels, 6, 8)
    factor = flux.info.spatial_factor
    fields = scaling_for(flux) | {"output_type": "pt", "return_type": "pt"}
    fields |= {"height": 6 * factor, "width": 8 * factor}
    pixels = await call_remote(flux, thread, remote_decode, "/hf/decode", packed, **fields)
    assert torch.equal(pixels, decoded_locally(flux, thread, latents))


async def test_encoded_latents_equal_those_of_the_vae(model: LoadedModel, thread: DeviceThread) -> None:
    vae, factor = model.pipeline.vae, model.info.spatial_factor
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (3 * factor * 2, 4 * factor * 2, 3), dtype=np.uint8))
    values = VaeImageProcessor(vae_scale_factor=factor).preprocess(image)

    @torch.inference_mode()
    def encode(values: torch.Tensor) -> torch.Tensor:
        latents: torch.Tensor = vae.encode(values).latent_dist.mode()
        shift = vae.config.shift_factor
        scaled: torch.Tensor = (latents if shift is None else latents - shift) * vae.config.scaling_factor
        return scaled.clone()

    # The image processor returns a tensor with the channels last, and the memory format changes the last bits. The
    # client reads freed memory if it is given such a tensor.
    contiguous = values.contiguous()
    for pixels, seen in ((image, values), (contiguous, contiguous)):
        expected = thread.submit(encode, seen).result()
        latents = await call_remote(model, thread, remote_encode, "/hf/encode", pixels, **scaling_for(model))
        assert torch.equal(latents, expected)


async def test_video_is_decoded_to_a_tensor_or_a_file(device: Device, thread: DeviceThread) -> None:
    wan = load_from_factory("tests.support.families.videos:build_wan", device)
    latents = torch.randn(1, wan.info.latent_channels, 2, 4, 4)
    fields = {"do_scaling": False, "output_type": "pt", "return_type": "pt"}
    pixels = await call_remote(wan, thread, remote_decode, "/hf/decode", latents, **fields)

    @torch.inference_mode()
    def decode() -> torch.Tensor:
        expected: torch.Tensor = wan.pipeline.vae.decode(latents).sample
        return expected.clone()

    assert torch.equal(pixels, thread.submit(decode).result())
    fields |= {"output_type": "mp4", "return_type": "mp4"}
    assert b"ftyp" in (await call_remote(wan, thread, remote_decode, "/hf/decode", latents, **fields))[:16]


INVALID: list[dict[str, Any]] = [
    {"shape": [1, 4, 6, 8], "dtype": "float32"},
    {"shape": [1, 4, 6, 8], "dtype": "float64"},
    {"shape": [2**9, 4, 2**9, 2**9], "dtype": "float16"},
    {"shape": [], "dtype": "float16"},
    {"shape": [1, 3, 2, 2], "dtype": "float16"},
    {"shape": [1, 4, 1], "dtype": "float16"},
    {"shape": ["x"], "dtype": "float16"},
    {"shape": [1, 4, 1, 1], "dtype": "float16", "scaling_factor": "0"},
    {"shape": [1, 4, 1, 1], "dtype": "float16", "output_type": "gif"},
    {"shape": [1, 4, 1, 1], "dtype": "float16", "output_type": "mp4"},
]


async def test_invalid_tensor_returns_400(
    engine: DiffusersEngine, tiny_model: LoadedModel, device_thread: DeviceThread
) -> None:
    vae, tensor_vae = DiffusersVae(tiny_model, device_thread), DiffusersTensorVae(tiny_model, device_thread)
    async with (
        run_servers(engine, tiny_model.info, vae=vae, tensor_vae=tensor_vae) as servers,
        run_http_gateway(servers.grpc_address) as (_, gateway),
    ):
        for fields in INVALID:
            query = [(name, str(one)) for name, value in fields.items() for one in _listed(value)]
            response = await servers.http.post("/hf/decode", params=query, data=bytes(8))
            assert response.status == 400, (fields, await response.text())
        assert (await servers.http.post("/hf/encode", data=b"GIF89a")).status == 400
        query = [("shape", "1"), ("shape", "4"), ("shape", "1"), ("shape", "1"), ("dtype", "float16")]
        assert (await servers.http.post("/hf/decode", params=query, data=bytes(8))).status == 200
        assert (await gateway.post("/hf/decode", params=query, data=bytes(8))).status == 415


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
