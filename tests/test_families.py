"""Pixels of every pipeline family, decoded by the client, compared with the pixels that the pipeline itself returns.

Each tiny pipeline is loaded from a directory, served over HTTP and gRPC, and its latents are decoded with the map and
the VAE alone. A forgotten unpacking, shift, mean or standard deviation makes these tests fail. Tolerances in 8-bit
levels: 1 for fp32 latents, because two divisions are applied in another order, and 0.5 in the mean for fp16 latents.
"""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from codec_client import decode_to_frames
from codec_maps.model_map import map_from_model
from codec_pixels.device import Device
from codec_pixels.latent_scaling import PIPELINE_SCALINGS
from codec_pixels.vae import VAE_DECODERS
from codec_wire.latents import Modality
from codec_wire.maps import LatentMapBundle
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.families import FAMILIES
from core.diffusers_engine.loader import LoadedModel, ModelSource, load
from core.probe import sample_image
from tests.support.clients import make_client
from tests.support.families.cases import CASES, Case, pipeline_class_name
from tests.support.serving import run_servers

pytestmark = pytest.mark.slow

WIDTH, HEIGHT, STEPS, SEED = 64, 96, 3, 5


PROMPT = "a sea at dawn"


def test_every_family_has_a_case() -> None:
    assert {pipeline_class_name(name) for name in CASES} == set(FAMILIES) == set(PIPELINE_SCALINGS)


def test_every_supported_vae_has_a_case() -> None:
    assert {type(case.build().vae).__name__ for case in CASES.values()} == set(VAE_DECODERS)


def bundle_with_dtype(model: LoadedModel, dtype: str) -> LatentMapBundle:
    """Return the map of `model` with another dtype of the latents on the wire."""
    bundle = map_from_model(model.info, model.vae_scale_factor, model.vae_class)
    document = json.loads(bundle.document) | {"dtype": dtype}
    return LatentMapBundle.from_parts(json.dumps(document).encode(), bundle.assets)


def input_images(case: Case) -> dict[str, bytes]:
    """Return a PNG for each image field of the case, in the size of the output, so the server does not resize it."""
    files = {}
    for number, field in enumerate(case.images):
        with Image.open(io.BytesIO(sample_image(number))) as image:
            buffer = io.BytesIO()
            image.resize((WIDTH, HEIGHT)).save(buffer, "PNG")
        files[field] = buffer.getvalue()
    return files


def expected_pixels(name: str, case: Case, pipeline: Any) -> NDArray[np.uint8]:
    """Call the pipeline class directly and return its pixels, uint8 [frames, height, width, 3]."""
    pipeline_class = getattr(diffusers, pipeline_class_name(name))
    if not isinstance(pipeline, pipeline_class):
        pipeline = pipeline_class.from_pipe(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    arguments: dict[str, Any] = dict(case.arguments)
    for field, data in input_images(case).items():
        arguments[case.images[field]] = Image.open(io.BytesIO(data)).convert("RGB")
    if case.has_prompt:
        arguments["prompt"] = PROMPT
    if case.has_size:
        arguments |= {"width": WIDTH, "height": HEIGHT}
    if case.num_frames is not None:
        arguments["num_frames"] = case.num_frames
    generator = torch.Generator("cpu").manual_seed(SEED)
    output = pipeline(**arguments, num_inference_steps=STEPS, generator=generator, output_type="np")
    pixels = output.images if case.num_frames is None else output.frames[0]
    return (np.asarray(pixels) * 255).round().astype(np.uint8)


def request_fields(case: Case) -> dict[str, Any]:
    """Return the same request as keyword arguments of the client."""
    fields: dict[str, Any] = {"size": (WIDTH, HEIGHT), "steps": STEPS, "seed": SEED, "pipeline": "raw"}
    if case.num_frames is not None:
        fields |= {"modality": Modality.VIDEO, "frames": case.num_frames, "fps": 12}
    return fields | input_images(case)


@pytest.mark.parametrize("name", CASES)
async def test_decoded_latents_equal_the_pixels_of_the_pipeline(
    name: str, tmp_path: Path, device: Device, device_thread: ThreadPoolExecutor
) -> None:
    case = CASES[name]
    pipeline = case.build()
    pipeline.save_pretrained(tmp_path / "model")
    # On the device thread, because the number of CPU threads changes the result.
    expected = device_thread.submit(expected_pixels, name, case, pipeline).result()
    assert expected.std() > 5, "a uniform image would hide errors"
    model = load(ModelSource("model", None, tmp_path), device)
    engine = DiffusersEngine(model, device_thread)
    for dtype, protocol in (("fp32", "http"), ("fp16", "grpc")):
        async with (
            run_servers(engine, model.info, bundle=bundle_with_dtype(model, dtype)) as servers,
            make_client(servers, protocol, tmp_path / "cache") as client,
        ):
            generation = await client.generate(PROMPT, **request_fields(case))
            latent_map = (await client.latent_map(generation.map_hash)).latent_map
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
