"""The request field `loras` through servers, a gateway, the clients and the command line."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from PIL import Image

from codec_client import GrpcClient, HttpClient
from codec_grpc.configuration import configuration_of_service
from codec_pixels.device import Device
from codec_pixels.device_thread import DeviceThread
from codec_pixels.parameters import KEYWORD
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.probe import sample_image
from tests.support.commands import invoke
from tests.support.http_requests import IMAGES, read_error, request_latents
from tests.support.loras import UNET_AND_TEXT, load_with_loras, write_lora
from tests.support.pipeline_pixels import bundle_with_dtype
from tests.support.serving import Servers, http_address, run_http_gateway, run_servers

FIELDS: dict[str, Any] = {"prompt": "a sea", "size": "64x64", "steps": 3, "seed": 5, "stream_format": "msgpack"}
INK = [{"name": "ink", "scale": 1.0}]
FOG = [{"name": "fog", "scale": 0.5}]
BOTH = [{"name": "fog", "scale": 0.75}, {"name": "dot", "scale": -1.0}]
SETS = (None, INK, FOG, BOTH)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with five LoRA files."""
    path = tmp_path_factory.mktemp("loras")
    for seed, name in enumerate(("ink", "fog", "dot", "sun", "ice")):
        write_lora(path, name, seed=seed, targets=UNET_AND_TEXT)
    (path / "bad.safetensors").write_bytes(b"not weights")
    (path / ".hidden.safetensors").write_bytes(b"")
    (path / "notes.txt").write_text("no LoRA weights")
    (path / "folder.safetensors").mkdir()
    return path


NAMES = ["bad", "dot", "fog", "ice", "ink", "sun"]


@pytest.fixture(scope="module")
def model(folder: Path, device: Device) -> LoadedModel:
    """The small pipeline. Two of the five LoRA files fit into its memory for LoRA weights."""
    size = max(file.stat().st_size for file in folder.glob("*.safetensors") if file.is_file())
    return load_with_loras(folder, device, max_bytes=2 * size)


@pytest.fixture
async def servers(model: LoadedModel, device_thread: DeviceThread) -> AsyncIterator[Servers]:
    bundle = bundle_with_dtype(model, "fp32")
    async with run_servers(DiffusersEngine(model, device_thread), model.info, bundle=bundle) as running:
        yield running


async def latents_of(http: Any, loras: list[dict[str, Any]] | None = None, **fields: Any) -> Any:
    """Return the latents of a request, and check the LoRA weights in the response parameters."""
    body = FIELDS | fields | ({} if loras is None else {"loras": loras})
    latents, headers = await request_latents(http, body)
    assert json.loads(headers["Codec-Parameters"]).get("loras") == loras
    return latents


async def test_alternating_loras_under_load_equal_those_alone_and_memory_is_bounded(
    servers: Servers, model: LoadedModel
) -> None:
    loaded = model.lora_adapters
    assert loaded is not None
    alone = [await latents_of(servers.http, loras) for loras in SETS]
    assert len({latents.tobytes() for latents in alone}) == len(SETS)
    counts: set[int] = set()
    for _ in range(3):
        results = await asyncio.gather(*(latents_of(servers.http, loras) for loras in SETS * 3))
        counts.add(len(loaded.names))
        for received, expected in zip(results, alone * 3, strict=True):
            np.testing.assert_array_equal(received, expected)
    for name in ("sun", "ice", "ink", "dot", "sun"):
        await latents_of(servers.http, [{"name": name, "scale": 1.0}])
        counts.add(len(loaded.names))
        assert loaded.nbytes <= loaded._directory.max_bytes
    assert max(counts) == 2
    np.testing.assert_array_equal(await latents_of(servers.http), alone[0])


async def test_gateway_and_clients_send_loras(servers: Servers, folder: Path) -> None:
    expected = await latents_of(servers.http, BOTH)
    async with run_http_gateway(servers.grpc_address) as (_, gateway):
        np.testing.assert_array_equal(await latents_of(gateway, BOTH), expected)
        for http in (servers.http, gateway):
            for path in ("/v1/models", "/codec/info"):
                content = await (await http.get(path)).json()
                (described,) = content["data" if path == "/v1/models" else "models"]
                assert described["available_loras"] == NAMES
        response = await gateway.post(IMAGES, json=FIELDS | {"loras": [{"name": "inc"}]})
        error = await read_error(response)
        assert (response.status, error["param"]) == (400, "loras[0].name")
        assert error["message"] == "loras[0].name: 'inc' not found; did you mean 'ink' or 'ice'?"
        configuration = configuration_of_service(servers.service)
        new = write_lora(folder, "new", seed=9)
        try:  # the gateway does not know the new file
            await latents_of(gateway, [{"name": "new", "scale": 1.0}])
            assert configuration_of_service(servers.service) == configuration
        finally:
            new.unlink()
    for client_class, address in ((HttpClient, http_address(servers)), (GrpcClient, servers.grpc_address)):
        async with client_class(address) as client:
            generation = await client.generate("a sea", size=(64, 64), steps=3, seed=5, loras=BOTH)
            np.testing.assert_array_equal(generation.latents[0], expected)
            assert generation.parameters["loras"] == BOTH


@pytest.mark.parametrize(
    ("loras", "field", "message"),
    [
        ([{"name": "moon"}], "loras[0].name", "'moon' not found; allowed: bad, dot, fog, ice, ink, sun"),
        ([{"name": "ink"}, {"name": "Fog"}], "loras[1].name", "'Fog' not found; did you mean 'fog'?"),
        ([{"name": "../loras/ink"}], "loras[0].name", "not found"),
        ([{"name": ".hidden"}], "loras[0].name", "not found"),
        ([{"name": "folder"}], "loras[0].name", "not found"),
        ([{"name": "ink\0"}], "loras[0].name", "not found"),
        ([{"name": ""}], "loras[0].name", "at least 1 character"),
        ([{"name": "x" * 129}], "loras[0].name", "at most 128 characters"),
        ([{"name": 3}], "loras[0].name", "valid string"),
        ([{"scale": 1}], "loras[0].name", "is required"),
        ([{"name": "ink", "scale": 10.5}], "loras[0].scale", "less than or equal to 10, got 10.5"),
        ([{"name": "ink", "scale": -11}], "loras[0].scale", "greater than or equal to -10, got -11"),
        ([{"name": "ink", "scale": "1"}], "loras[0].scale", "valid number"),
        ([{"name": "ink", "weight": 1}], "loras[0].weight", "allowed: loras[0].name, loras[0].scale"),
        ([{"name": "ink"}, {"name": "ink"}], "loras", "must name each LoRA only once"),
        ([{"name": str(index)} for index in range(9)], "loras", "must have at most 8 entries"),
        (["ink"], "loras", "must be a list of objects with name and scale, got ['ink']"),
        ("ink", "loras", "must be a list of objects with name and scale, got 'ink'"),
        ([{"name": "bad"}], "loras[0].name", "'bad' cannot be applied to StableDiffusionPipeline: "),
    ],
)
async def test_invalid_loras_name_the_field_and_the_next_request_works(
    servers: Servers, loras: Any, field: str, message: str
) -> None:
    response = await servers.http.post(IMAGES, json=FIELDS | {"loras": loras})
    error = await read_error(response)
    assert (response.status, error["param"]) == (400, field), error
    assert message in error["message"]
    await latents_of(servers.http, INK)


async def test_model_without_loras_refuses_the_field(engine: DiffusersEngine, tiny_model: LoadedModel) -> None:
    async with run_servers(engine, tiny_model.info) as servers:
        described = await (await servers.http.get("/v1/models")).json()
        assert described["data"][0]["available_loras"] is None
        reason = "because this server has no directory of LoRA files (CODEC_LORA_DIR); remove the field"
        async with run_http_gateway(servers.grpc_address) as (_, gateway):
            for http, text in ((servers.http, reason), (gateway, "; remove the field")):
                error = await read_error(await http.post(IMAGES, json=FIELDS | {"loras": INK}))
                assert error["param"] == "loras"
                assert error["message"].endswith(text)


async def test_form_contains_loras_as_json_and_the_file_contains_them(servers: Servers) -> None:
    async def edit(*loras: dict[str, Any]) -> dict[str, Any]:
        form = aiohttp.FormData({"prompt": "a sea", "size": "64x64", "steps": "2", "strength": "0.5"})
        form.add_field("image", sample_image(0, 64), filename="a.png", content_type="image/png")
        if loras:
            form.add_field("loras", json.dumps(loras))
        response = await servers.http.post("/v1/images/edits", data=form)
        assert response.status == 200, await response.text()
        data = base64.b64decode((await response.json())["data"][0]["b64_json"])
        with Image.open(io.BytesIO(data)) as image:
            return {"pixels": image.tobytes(), **json.loads(image.info[KEYWORD])}

    plain, changed = await edit(), await edit(*BOTH)
    assert "loras" not in plain
    assert changed["loras"] == BOTH
    assert changed["pixels"] != plain["pixels"]


def test_commands_generate_and_reproduce_with_loras(folder: Path, models_dir: Path, tmp_path: Path) -> None:
    stream, plain = tmp_path / "a.bin", tmp_path / "b.bin"
    request = ["generate", "a sea", "--steps", "2", "--size", "64x64"]
    target = ["--model", models_dir / "tiny-sd", "--models-dir", models_dir, "--lora-dir", folder, "--threads", "1"]
    assert invoke(*request, "-o", stream, "--lora", "ink", "--lora", "fog=-0.5", *target)[0] == 0
    assert invoke(*request, "-o", plain, *target)[0] == 0
    assert stream.read_bytes() != plain.read_bytes()
    recorded = json.loads((tmp_path / "a.bin.json").read_text())
    assert recorded["loras"] == [{"name": "ink", "scale": 1.0}, {"name": "fog", "scale": -0.5}]
    assert invoke("reproduce", stream, *target) == (0, f"equal: {stream}\n")
    status, output = invoke(*request, "-o", stream, "--lora", "ink=high", *target)
    assert status != 0
    assert "lora: must be NAME or NAME=SCALE with a number as SCALE" in output
