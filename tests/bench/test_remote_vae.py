"""bench.remote_vae compares the pixels of every pipeline with those of a raw tensor, over a real server."""

import numpy as np
import pytest

from bench.remote_vae import Server, measure
from codec_pixels.device_thread import DeviceThread
from codec_wire.pipelines import PIPELINES
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.diffusers_engine.tensor_vae import DiffusersTensorVae
from core.diffusers_engine.vae_engine import DiffusersVae
from tests.support.serving import http_address, run_servers

pytestmark = pytest.mark.slow


async def test_raw_stream_has_the_pixels_of_the_tensor_and_smaller_pipelines_a_lower_ssim(
    tiny_model: LoadedModel, device_thread: DeviceThread
) -> None:
    latents = np.random.default_rng(1).standard_normal((2, 4, 6, 8)).astype(np.float16)
    engine, vae = DiffusersEngine(tiny_model, device_thread), DiffusersVae(tiny_model, device_thread)
    tensor_vae = DiffusersTensorVae(tiny_model, device_thread)
    async with run_servers(engine, tiny_model.info, vae=vae, tensor_vae=tensor_vae) as servers:
        factor = tiny_model.pipeline.vae.config.scaling_factor
        server = Server(http_address(servers), servers.service.models.require_default(), factor)
        uploads = {upload.name: upload for upload in await measure("video", [latents], list(PIPELINES), server)}
    assert [uploads[f"tensor, {name}"].size for name in ("fp32", "fp16")] == [latents.size * 4, latents.size * 2]
    assert uploads["tensor, fp16"].ssim == uploads["raw"].ssim == 1
    assert uploads["raw"].size > uploads["int8"].size > uploads["int4"].size
    assert 1 > uploads["int8-adaptive"].ssim > uploads["int4-adaptive"].ssim
    assert uploads.keys() == {"tensor, fp32", "tensor, fp16", *PIPELINES}
