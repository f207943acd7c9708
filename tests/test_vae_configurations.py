"""Pixels of Stable Diffusion 1, XL and 3 and of Flux with every combination of scaling settings of the VAE.

Each pipeline class applies only some of them. The client and the server must apply the same ones: their pixels are
compared with those that the pipeline itself returns. Tolerance in 8-bit levels: 1 for latents in fp32; 0.5 in the mean
for rendered images, whose latents are cast to fp16.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec_client import decode_to_frames
from codec_pixels.device import Device
from codec_pixels.device_thread import DeviceThread
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import ModelSource, load
from tests.support.clients import make_client
from tests.support.families.cases import CASES
from tests.support.pipeline_pixels import (
    HEIGHT,
    PROMPT,
    SEED,
    STEPS,
    WIDTH,
    bundle_with_dtype,
    expected_pixels,
    request_fields,
)
from tests.support.rendering import image_pixels, post_json
from tests.support.serving import run_servers

PLAYGROUND = {
    "latents_mean": (-1.6574, 1.886, -1.383, 2.5155),
    "latents_std": (8.4927, 5.9022, 6.5498, 5.2299),
    "scaling_factor": 0.5,
}
"""The VAE settings of Playground v2.5, which is an SDXL pipeline."""
NONE: dict[str, Any] = {"latents_mean": None, "latents_std": None, "shift_factor": None}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "neither": NONE,
    "mean and deviation": NONE | PLAYGROUND,
    "only a mean": NONE | {"latents_mean": PLAYGROUND["latents_mean"]},
    "shift": NONE | {"shift_factor": 0.8},
    "all": PLAYGROUND | {"shift_factor": 0.8},
}
FAMILIES = (
    "StableDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLControlNetPipeline",
    "StableDiffusion3Pipeline",
    "FluxPipeline",
)


def configuration_for(name: str, vae: Any) -> dict[str, Any]:
    """Return the settings for a VAE of a family: one value per channel, and a shift where diffusers requires one."""
    settings = dict(CONFIGURATIONS[name])
    repeats = vae.config.latent_channels // 4
    for key in ("latents_mean", "latents_std"):
        settings[key] = settings[key] and settings[key] * repeats
    if repeats > 1 and settings["shift_factor"] is None:
        settings["shift_factor"] = 0.0
    return settings


@pytest.mark.slow
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
@pytest.mark.parametrize("family", FAMILIES)
async def test_client_and_server_apply_the_vae_settings_that_the_pipeline_applies(
    family: str, configuration: str, tmp_path: Path, device: Device, device_thread: DeviceThread
) -> None:
    case = CASES[family]
    pipeline = case.build()
    pipeline.vae.register_to_config(**configuration_for(configuration, pipeline.vae))
    pipeline.save_pretrained(tmp_path / "model")
    expected = device_thread.submit(expected_pixels, family, case, pipeline).result()
    model = load(ModelSource("model", None, tmp_path), device)
    engine = DiffusersEngine(model, device_thread)
    async with (
        run_servers(engine, model.info, bundle=bundle_with_dtype(model, "fp32")) as servers,
        make_client(servers, "http", tmp_path / "cache") as client,
    ):
        generation = await client.generate(PROMPT, **request_fields(case))
        latent_map = (await client.latent_map(generation.map_hash)).latent_map
        rendered = None
        if not case.images:
            body = {"prompt": PROMPT, "size": f"{WIDTH}x{HEIGHT}", "steps": STEPS, "seed": SEED}
            rendered = image_pixels((await post_json(servers.http, body))["data"][0])
    for path in ("model", "model/vae"):
        pixels = decode_to_frames(generation.latents, latent_map, path=tmp_path / path, device="cpu")
        assert np.abs(pixels.astype(int) - expected).max() <= 1, path
    if rendered is not None:
        assert np.abs(rendered.astype(int) - expected[0]).max() <= 1
