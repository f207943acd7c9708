"""Every family, from a directory through real servers to pixels: they are those that the pipeline itself returns.

This is what notices a forgotten unpacking, shift, mean or deviation. Compared at 8 bits: streams of a map with dtype
fp32 may differ by one level, for the order of two divisions differs; those of fp16 by half a level in the mean.
"""

import base64
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

from codec_wire import WireFormat
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.protobuf_envelope import frame_of, header_of
from core.decoder import LatentDecoder
from core.diffusers_engine.device import Device
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.families import FAMILIES
from core.diffusers_engine.loading import LoadedModel, ModelSource, load
from core.diffusers_engine.pixels import VAES, decode_latents, load_vae
from core.latents import LatentFrame, LatentStreamHeader
from core.maps import LatentMapBundle
from core.maps.build import map_of_model
from core.sample_picture import sample_picture
from tests.support.families.cases import CASES, Case, class_of
from tests.support.serving import Servers, read_stream, servers_over

WIDTH, HEIGHT, STEPS, SEED = 64, 96, 3, 5


def test_every_row_is_tested_here() -> None:
    assert {class_of(name) for name in CASES} == set(FAMILIES)


def bundle_with(model: LoadedModel, dtype: str) -> LatentMapBundle:
    made = map_of_model(model.info, model.vae_scale_factor, model.vae_class)
    document = json.loads(made.document) | {"dtype": dtype}
    return LatentMapBundle.from_parts(json.dumps(document).encode(), made.assets)


def picture(number: int) -> bytes:
    """A picture of the very size that is asked for, so that nothing of it is scaled or cut."""
    with Image.open(io.BytesIO(sample_picture(number))) as opened:
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


async def over_http(servers: Servers, case: Case) -> tuple[LatentStreamHeader, list[LatentFrame]]:
    kind = "images" if case.frames is None else "videos"
    body: dict[str, Any] = {"prompt": "a sea at dawn", "size": f"{WIDTH}x{HEIGHT}", "steps": STEPS, "seed": SEED}
    if case.frames is not None:
        body |= {"frames": case.frames, "fps": 12}
    for number, (field, data) in enumerate(pictures_of(case).items()):
        body[field] = ("data:image/png;base64," if number == 0 else "") + base64.b64encode(data).decode()
    answer = await servers.http.post(f"/v1/{kind}/generations", json=body | {"stream_format": "protobuf"})
    assert answer.status == 200, await answer.text()
    return read_stream(await answer.read(), WireFormat.PROTOBUF)


async def over_grpc(servers: Servers, case: Case) -> tuple[LatentStreamHeader, list[LatentFrame]]:
    fields: dict[str, Any] = dict(pictures_of(case))
    if case.frames is not None:
        fields |= {"frames": case.frames, "fps": 12, "modality": pb.MODALITY_VIDEO_LATENTS}
    size = pb.PixelSize(width=WIDTH, height=HEIGHT)
    request = pb.GenerateRequest(prompt="a sea at dawn", size=size, steps=STEPS, seed=SEED, **fields)
    header, *frames = [message async for message in servers.stub.Generate(request)]
    return header_of(header.header), [frame_of(message.frame) for message in frames]


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
    for dtype, ask in (("fp32", over_http), ("fp16", over_grpc)):
        bundle = bundle_with(model, dtype)
        async with servers_over(engine, model.info, bundle=bundle) as servers:
            header, frames = await ask(servers, case)
        assert len(frames) == header.total_frames == case.latent_frames
        assert (header.fps is None) == (case.frames is None)
        decoder = LatentDecoder(header)
        latents = np.stack([decoder.decode(frame) for frame in frames])
        assert latents.shape == (case.latent_frames, *header.shape)
        # As a client does: with the map and the VAE alone.
        assert bundle.latent_map.decoder is not None
        vae = load_vae(bundle.latent_map.decoder.model_class, str(tmp_path / "model" / "vae"))
        difference = np.abs(decode_latents(vae, latents).astype(int) - expected)
        assert difference.shape == ((case.frames or 1), HEIGHT, WIDTH, 3)
        if dtype == "fp32":
            assert difference.max() <= 1
            assert difference.mean() < 0.01
        else:
            assert difference.mean() < 0.5


def test_every_vae_of_a_family_can_be_decoded() -> None:
    assert {type(case.build().vae).__name__ for case in CASES.values()} == set(VAES)
