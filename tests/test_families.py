"""Pixels of every pipeline family, decoded by the client, compared with the pixels that the pipeline itself returns.

Each tiny pipeline is loaded from a directory, served over HTTP and gRPC, and its latents are decoded with the map and
the VAE alone. A forgotten unpacking, shift, mean or standard deviation makes these tests fail. Tolerances in 8-bit
levels: 1 for fp32 latents, because two divisions are applied in another order, and 0.5 in the mean for fp16 latents.
The members of a batch get the latents that they get alone, also after one of them has been cancelled.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec_client import decode_to_frames
from codec_pixels.device import Device
from codec_pixels.device_thread import DeviceThread
from codec_pixels.latent_scaling import PIPELINE_SCALINGS
from codec_pixels.vae import VAE_DECODERS
from codec_wire.latents import Modality
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.families import FAMILIES
from core.diffusers_engine.loader import ModelSource, load
from tests.support.batches import TOLERANCE, largest_differences, plans_of
from tests.support.clients import make_client
from tests.support.families.cases import CASES, Case, pipeline_class_name
from tests.support.pipeline_pixels import (
    HEIGHT,
    PROMPT,
    WIDTH,
    bundle_with_dtype,
    expected_pixels,
    input_images,
    request_fields,
)
from tests.support.serving import run_servers

pytestmark = pytest.mark.slow


def test_every_family_has_a_case() -> None:
    assert {pipeline_class_name(name) for name in CASES} == set(FAMILIES)
    assert set(PIPELINE_SCALINGS) <= set(FAMILIES)


def test_every_supported_vae_has_a_case() -> None:
    builders = {case.build for case in CASES.values()}
    assert {type(build().vae).__name__ for build in builders} == set(VAE_DECODERS)


@pytest.mark.parametrize("name", CASES)
async def test_decoded_latents_equal_the_pixels_of_the_pipeline(
    name: str, tmp_path: Path, device: Device, device_thread: DeviceThread
) -> None:
    case = CASES[name]
    if case.requires is not None:
        pytest.importorskip(case.requires)
    pipeline = case.build()
    source = saved(pipeline, tmp_path)
    # On the device thread, because the number of CPU threads changes the result.
    expected = device_thread.submit(expected_pixels, name, case, pipeline).result()
    assert expected.std() > 5, "a uniform image would hide errors"
    model = load(source, device)
    engine = DiffusersEngine(model, device_thread)
    received = []
    for dtype, protocol in (("fp32", "http"), ("fp16", "grpc")):
        async with (
            run_servers(engine, model.info, bundle=bundle_with_dtype(model, dtype)) as servers,
            make_client(servers, protocol, tmp_path / "cache") as client,
        ):
            generation = await client.generate(PROMPT, **request_fields(case))
            latent_map = (await client.latent_map(generation.map_hash)).latent_map
        received.append(generation.latents)
        assert generation.latents.shape == (case.latent_frames, *generation.header.shape)
        assert generation.header.total_frames == case.latent_frames
        assert (generation.header.fps is None) == (case.num_frames is None)
        pixels = decode_to_frames(generation.latents, latent_map, path=tmp_path / "model", device="cpu")
        difference = np.abs(pixels.astype(int) - expected)
        assert difference.shape == ((case.num_frames or 1), HEIGHT, WIDTH, 3)
        if dtype == "fp32":
            assert difference.max() <= 1
            assert difference.mean() < 0.01
        else:
            assert difference.mean() < 0.5
    # The second generation has used the embeddings of the first one.
    assert bool(model.prompts.hits) == (case.has_prompt and case.caches_prompt)
    np.testing.assert_array_equal(received[0].astype(np.float16), received[1])
    if not FAMILIES[pipeline_class_name(name)].batches:
        return
    # Also tested here, because building and loading a pipeline takes longer.
    plans = plans_of(model, **batch_fields(case))
    changed, distance = device_thread.submit(largest_differences, model, plans, cancelled_after=1).result()
    assert changed < TOLERANCE
    assert distance > 100 * TOLERANCE


def saved(pipeline: Any, folder: Path) -> ModelSource:
    """Write `pipeline` to the directory model in `folder`, and return a source that loads it."""
    pipeline.save_pretrained(folder / "model")
    path = folder / "model" / "model_index.json"
    # The class that the published models name.
    path.write_text(
        re.sub(r'"core\.[\w.]+",(\s+)"ImageTextProcessor"', r'"transformers",\1"Qwen2VLProcessor"', path.read_text())
    )
    return ModelSource("model", None, folder)


def batch_fields(case: Case) -> dict[str, Any]:
    video = {} if case.num_frames is None else {"modality": Modality.VIDEO, "num_frames": case.num_frames, "fps": 12}
    return {**video, **input_images(case)}
