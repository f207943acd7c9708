"""Every family, from a directory through real servers to pixels: they are those that the pipeline itself returns.

This is what notices a forgotten unpacking, shift, mean or deviation. Compared at 8 bits: streams of a map with dtype
fp32 may differ by one level, for the order of two divisions differs; those of fp16 by half a level in the mean.
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
from codec_pixels.vae import VAE_DECODERS
from codec_wire.latents import Modality
from codec_wire.maps import LatentMapBundle
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.families import FAMILIES
from core.diffusers_engine.loader import LoadedModel, ModelSource, load
from core.probe import sample_image
from tests.support.clients import make_client
from tests.support.families.cases import CASES, Case, class_of
from tests.support.serving import run_servers

WIDTH, HEIGHT, STEPS, SEED = 64, 96, 3, 5


def test_every_row_is_tested_here() -> None:
    assert {class_of(name) for name in CASES} == set(FAMILIES)


def bundle_with(model: LoadedModel, dtype: str) -> LatentMapBundle:
    made = map_from_model(model.info, model.vae_scale_factor, model.vae_class)
    document = json.loads(made.document) | {"dtype": dtype}
    return LatentMapBundle.from_parts(json.dumps(document).encode(), made.assets)


def picture(number: int) -> bytes:
    """A picture of the very size that is asked for, so that nothing of it is scaled or cut."""
    with Image.open(io.BytesIO(sample_image(number))) as opened:
        buffer = io.BytesIO()
        opened.resize((WIDTH, HEIGHT)).save(buffer, "PNG")
    return buffer.getvalue()


def pictures_of(case: Case) -> dict[str, bytes]:
    return {name: picture(number) for number, name in enumerate(case.pictures)}


def own_pixels(name: str, case: Case, pipeline: Any) -> NDArray[np.uint8]:
    """Return what the class itself makes of the same request, [pictures, H, W, 3]."""
    pipeline_class = getattr(diffusers, class_of(name))
    if not isinstance(pipeline, pipeline_class):
        pipeline = pipeline_class.from_pipe(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    arguments: dict[str, Any] = dict(case.own)
    for field, data in pictures_of(case).items():
        arguments[case.pictures[field]] = Image.open(io.BytesIO(data)).convert("RGB")
    if case.prompted:
        arguments["prompt"] = "a sea at dawn"
    if case.sized:
        arguments |= {"width": WIDTH, "height": HEIGHT}
    if case.frames is not None:
        arguments["num_frames"] = case.frames
    generator = torch.Generator("cpu").manual_seed(SEED)
    output = pipeline(**arguments, num_inference_steps=STEPS, generator=generator, output_type="np")
    made = output.images if case.frames is None else output.frames[0]
    return (np.asarray(made) * 255).round().astype(np.uint8)


def fields_of(case: Case) -> dict[str, Any]:
    """Return the request by the client's own names."""
    fields: dict[str, Any] = {"size": (WIDTH, HEIGHT), "steps": STEPS, "seed": SEED, "pipeline": "raw"}
    if case.frames is not None:
        fields |= {"modality": Modality.VIDEO, "frames": case.frames, "fps": 12}
    return fields | pictures_of(case)


@pytest.mark.parametrize("name", CASES)
async def test_what_leaves_the_server_decodes_to_the_pipelines_own_pixels(
    name: str, tmp_path: Path, device: Device, device_thread: ThreadPoolExecutor
) -> None:
    case = CASES[name]
    pipeline = case.build()
    pipeline.save_pretrained(tmp_path / "model")
    # On the same thread: the number of CPU threads is part of what makes the bits.
    expected = device_thread.submit(own_pixels, name, case, pipeline).result()
    assert expected.std() > 5, "a picture of one colour would show nothing"
    model = load(ModelSource("model", None, tmp_path), device)
    engine = DiffusersEngine(model, device_thread)
    for dtype, protocol in (("fp32", "http"), ("fp16", "grpc")):
        async with (
            run_servers(engine, model.info, bundle=bundle_with(model, dtype)) as servers,
            make_client(servers, protocol, tmp_path / "cache") as client,
        ):
            made = await client.generate("a sea at dawn", **fields_of(case))
            latent_map = (await client.latent_map(made.map_hash)).latent_map
        assert made.latents.shape == (case.latent_frames, *made.header.shape)
        assert made.header.total_frames == case.latent_frames
        assert (made.header.fps is None) == (case.frames is None)
        # The client has the map and the VAE alone.
        pixels = decode_to_frames(made.latents, latent_map, path=tmp_path / "model", device="cpu")
        difference = np.abs(pixels.astype(int) - expected)
        assert difference.shape == ((case.frames or 1), HEIGHT, WIDTH, 3)
        if dtype == "fp32":
            assert difference.max() <= 1
            assert difference.mean() < 0.01
        else:
            assert difference.mean() < 0.5


def test_every_vae_of_a_family_can_be_decoded() -> None:
    assert {type(case.build().vae).__name__ for case in CASES.values()} == set(VAE_DECODERS)
