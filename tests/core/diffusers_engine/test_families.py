"""Each family of the table, from disk to frames: what is streamed is what the pipeline itself returns."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from core.diffusers_engine.device import Device
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.families import FAMILIES
from core.diffusers_engine.loading import ModelSource, load
from core.engine import Frame, Job
from core.maps.build import map_of_model
from core.plan import plan
from core.request import GenerationRequest
from scripts.build_standin import build_pipeline
from tests.support.tiny_sdxl import build_sdxl

BUILDERS: dict[str, Any] = {"StableDiffusionPipeline": build_pipeline, "StableDiffusionXLPipeline": build_sdxl}


def test_every_family_is_tested_here() -> None:
    assert set(BUILDERS) == set(FAMILIES)


@pytest.mark.parametrize("name", BUILDERS)
async def test_frames_are_the_latents_that_the_pipeline_returns(
    name: str, tmp_path: Path, device: Device, device_thread: ThreadPoolExecutor
) -> None:
    pipeline = BUILDERS[name]()
    pipeline.save_pretrained(tmp_path / "model")
    pipeline.set_progress_bar_config(disable=True)
    # On the same thread: the number of CPU threads is part of what makes the bits.
    expected = (
        device_thread.submit(
            pipeline,
            "a sea at dawn",
            width=128,
            height=64,
            num_inference_steps=3,
            generator=torch.Generator().manual_seed(5),
            output_type="latent",
        )
        .result()
        .images
    )
    model = load(ModelSource("model", None, tmp_path), device)
    assert model.family.pipeline_class == name
    bundle = map_of_model(model.info, model.vae_scale_factor, model.vae_class)
    assert bundle.latent_map.vae_scale_factor == pytest.approx(pipeline.vae.config.scaling_factor)
    request = GenerationRequest(prompt="a sea at dawn", size=(128, 64), steps=3, seed=5)
    what = plan(request, bundle, model.info)
    engine = DiffusersEngine(model, device_thread)
    frames = [event.frame async for event in engine.generate(what, Job()) if isinstance(event, Frame)]
    assert what.header.shape == (4, 8, 16)
    assert [frame.data for frame in frames] == [expected[0].to(torch.float16).numpy().tobytes()]
