"""The TypeScript client in web/client: its own tests, and the same results as the Python client."""

import base64
import hashlib
import json
import random
import re
import shutil
import urllib.request
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from codec_client import HttpClient, LatentStreamDecoder, latent_to_rgb
from codec_wire.codings import find_coding
from codec_wire.errors import StreamError
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.latents import Modality
from codec_wire.maps.latent_rgb import LatentRgb
from codec_wire.request import GenerationRequest
from core.map_store import RGB_FILE, bundle_folder
from tests.support.browser import needs_chromium
from tests.support.npm import npm
from tests.support.processes import Addresses, start_server
from tests.support.web_client import CLIENT, build_client, node

VECTORS = resources.files("codec_golden").joinpath("vectors")
REQUEST = {"prompt": "a sea", "size": "64x32", "steps": 2, "seed": 7}
PIPELINES = ("raw", "int8", "int4", "int8-adaptive", "int4-adaptive")


@pytest.fixture(scope="module")
def built_client() -> None:
    """The client, built."""
    build_client()


@pytest.fixture(scope="module")
def server(models_dir: Path) -> Iterator[Addresses]:
    """A server of the small model that accepts one generation at a time."""
    matrix = LatentRgb(
        latent_space="tiny-sd-vae", matrix=((0.2, 0, 0), (0, 0.3, 0), (0, 0, 0.1), (0.1,) * 3), bias=(0.5,) * 3
    )
    (bundle_folder(models_dir, "tiny-sd-vae") / RGB_FILE).write_bytes(matrix.serialize())
    arguments = ("--models-dir", str(models_dir), "--model", "tiny-sd", "--latent-space", "tiny-sd-vae")
    with start_server(*arguments, "--max-jobs", "1") as addresses:
        yield addresses


@pytest.mark.slow
def test_typescript_client_passes_its_own_tests(built_client: None) -> None:
    npm(CLIENT, "run", "typecheck")
    npm(CLIENT, "test")


@pytest.mark.slow
@needs_chromium
def test_conformance_vectors_pass_in_chromium(built_client: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMIUM", shutil.which("chromium") or "")
    npm(CLIENT, "run", "test:chromium")


@pytest.mark.slow
@pytest.mark.parametrize("wire_format", ["msgpack", "protobuf"])
def test_dictionary_of_the_typescript_client_decompresses_a_response(
    wire_format: str, built_client: None, embedded_server: Addresses
) -> None:
    found = json.loads(node("dictionary.mjs", embedded_server.http, "int8", wire_format))
    body = json.dumps(REQUEST | {"pipeline": "int8", "stream_format": wire_format}).encode()
    headers = {"Content-Type": "application/json", "Accept-Encoding": "zstd"}
    request = urllib.request.Request(f"{embedded_server.http}/v1/images/generations", body, headers)
    with urllib.request.urlopen(request) as response:
        assert response.headers["Codec-Zstd-Dict"] == found["hash"]
        compressed = response.read()
    decompressor = find_coding("zstd").decompressor(base64.b64decode(found["data"]))
    decoder = LatentStreamDecoder()
    frames = [frame for part in decompressor.expand(compressed) for frame in decoder.feed(part)]
    decoder.close()
    assert [frame.shape for frame in frames] == [(4, 4, 8)]


@pytest.mark.slow
@pytest.mark.parametrize("wire_format", ["msgpack", "protobuf"])
def test_typescript_client_receives_what_the_python_client_receives(
    wire_format: str, built_client: None, server: Addresses, tmp_path: Path
) -> None:
    requests = json.dumps([REQUEST | {"pipeline": pipeline} for pipeline in PIPELINES])
    found = [json.loads(line) for line in node("receive.mjs", server.http, requests, wire_format).splitlines()]
    with HttpClient(server.http, cache_dir=tmp_path).blocking() as client:
        matrix = client.latent_rgb()
        for pipeline, received in zip(PIPELINES, found, strict=True):
            expected = client.generate("a sea", size=(64, 32), steps=2, seed=7, pipeline=pipeline)
            values, colours = base64.b64decode(received.pop("values")), np.array(received.pop("colours"))
            (latents,) = expected.latents
            assert values == latents.astype("<f4").tobytes()
            # The Python client computes colours in float32.
            assert np.abs(colours.reshape(4, 8, 4)[..., :3] - latent_to_rgb(latents, matrix)).max() <= 1
            assert received == {
                "shape": [4, 4, 8],
                "pipeline": pipeline,
                "map": ["tiny-sd-vae", expected.map_hash],
                "seed": "7",
                "frames": 1,
            }


@pytest.mark.slow
def test_aborting_in_the_typescript_client_frees_its_place_on_the_server(built_client: None, server: Addresses) -> None:
    long = REQUEST | {"steps": 250, "size": "512x512", "pipeline": "int8"}
    found = json.loads(node("abort.mjs", server.http, json.dumps(long), json.dumps(REQUEST)))
    refused = found["refused"]
    assert (refused["name"], refused["code"]) == ("Overloaded", "overloaded")
    assert refused["retryAfterS"] >= 1
    assert found["aborted"] == "AbortError"
    assert found["frames"] == 1
    with urllib.request.urlopen(f"{server.http}/metrics") as response:
        metrics = response.read().decode()
    assert re.search(r'codec_requests_total\{.*outcome="cancelled".*\} 1\.0', metrics), metrics


def damaged_bodies(count: int) -> Iterator[bytes]:
    """Yield every vector, complete and refused, and `count` damaged copies, which are always the same."""
    index = json.loads(VECTORS.joinpath("index.json").read_bytes())
    names = [entry[key] for entry in index["streams"] for key in ("msgpack", "protobuf")]
    originals = [VECTORS.joinpath(name).read_bytes() for name in names if not name.startswith("rounding/")]
    yield from originals
    yield from (VECTORS.joinpath(entry["msgpack"]).read_bytes() for entry in index["refused"])
    rng = random.Random(20)
    for _ in range(count):
        body = bytearray(rng.choice(originals))
        for _ in range(rng.randint(1, 3)):
            # Most bytes are data; damage the header and the fields of frames as often.
            position = rng.randrange(rng.choice((len(body), 130)))
            match rng.randrange(4):
                case 0:
                    body[position : position + 1] = bytes((rng.randrange(256),))
                case 1:
                    body[position:position] = bytes((rng.choice((0, 1, 0x7F, 0x80, 0xC0, 0xCB, 0xFF)),))
                case 2:
                    del body[position : position + rng.randint(1, 9)]
                case 3:
                    body[position : position + 1] = bytes((body[position % len(body)] ^ 1 << rng.randrange(8),))
        yield bytes(body)


def decoded_in_python(body: bytes) -> str:
    """Return what decode.mjs prints for `body`. It is received byte by byte, so that limits apply at once."""
    decoder, floats = LatentStreamDecoder(), hashlib.sha256()
    try:
        for start in range(len(body)):
            for latents in decoder.feed(body[start : start + 1]):
                floats.update(latents.astype("<f4").tobytes())
        decoder.close()
    except StreamError as error:
        return f"{type(error).__name__} {error.offset}"
    return floats.hexdigest()


@pytest.mark.slow
def test_damaged_streams_have_the_same_result_in_both_languages(built_client: None) -> None:
    bodies = list(damaged_bodies(1500))
    lines = "".join(f"{base64.b64encode(body).decode()}\n" for body in bodies)
    expected = [decoded_in_python(body) for body in bodies]
    found = node("decode.mjs", text=lines).splitlines()
    assert [triple for triple in zip(bodies, expected, found, strict=True) if triple[1] != triple[2]] == []
    kinds = {outcome.partition(" ")[0] for outcome in expected}
    assert {"MalformedMessage", "MessageTooLarge", "SequenceError", "TruncatedStream"} <= kinds


def test_typescript_request_has_every_field_of_a_request() -> None:
    source = (CLIENT / "src" / "request.ts").read_text()
    interfaces = source[source.index("interface CommonFields") : source.index("export type GenerationRequest")]
    fields = set(re.findall(r"^  (\w+)\??:", interfaces, re.MULTILINE))
    wire_names = {info.alias or name for name, info in GenerationRequest.model_fields.items()}
    assert fields == wire_names
    assert all(f'"{modality}"' in source for modality in Modality)


def test_typescript_grpc_request_writes_every_field_of_the_message() -> None:
    source = (CLIENT / "src" / "grpc-request.ts").read_text()
    body = source[source.index("new FieldWriter") : source.index(".finish()")]
    written = [int(number) for number in re.findall(r"\.\w+\((\d+),", body)]
    assert written == sorted(field.number for field in pb.GenerateRequest.DESCRIPTOR.fields)
