"""Files below /.well-known/codec, and pinning of latent-space maps."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from yarl import URL

from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.maps.bundle import sha256
from core.decoder_file import DECODER_FILE, find_decoder
from core.map_store import bundle_folder
from tests.support.dictionaries import DICTIONARY, DIGEST, bundle_with_dictionary
from tests.support.fake_engine import FakeEngine
from tests.support.serving import LATENT_SPACE, MODEL, SCALES, Servers, bundle_of, run_servers

WELL_KNOWN = "/.well-known/codec"


async def test_index_leads_to_every_file_that_a_stream_needs() -> None:
    async with run_servers(FakeEngine(), bundle=bundle_with_dictionary()) as servers:
        index = await (await servers.http.get(f"{WELL_KNOWN}/index.json")).json()
        assert (index["codec_version"], index["maps"]) == ("0.3", [])
        (entry,) = index["latents"]
        assert (entry["id"], entry["hash"]) == (LATENT_SPACE, servers.service.models.require_default().bundle.hash)
        document = await (await servers.http.get(entry["url"])).read()
        assert sha256(document) == entry["hash"]
        scales = json.loads(document)["pipelines"][1]["static_scales"]
        assert await (await servers.http.get(scales["url"])).read() == SCALES
        hex_digest = DIGEST.removeprefix("sha256:")
        assert await (await servers.http.get(f"{WELL_KNOWN}/dicts/{hex_digest}.zstd")).read() == DICTIONARY


async def test_files_have_cors_and_cache_headers() -> None:
    async with run_servers(FakeEngine()) as servers:
        path = f"{WELL_KNOWN}/latents/{LATENT_SPACE}.json"
        response = await servers.http.get(path)
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Cache-Control"] == "public, max-age=300, stale-while-revalidate=86400"
        assert response.headers["Content-Type"].startswith("application/json")
        etag = response.headers["ETag"]
        for known in (etag, f'"other", {etag}', f"W/{etag}"):
            again = await servers.http.get(path, headers={"If-None-Match": known})
            assert (again.status, await again.read()) == (304, b"")
            assert again.headers["ETag"] == etag
        assert (await servers.http.get(path, headers={"If-None-Match": '"other"'})).status == 200


@pytest.mark.parametrize("kind", ["latents/{}.json", "dicts/{}.zstd", "scales/{}.bin", "decoders/{}.onnx", "{}"])
@pytest.mark.parametrize(
    "name",
    ["..", "../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "/etc/passwd", "//etc", "a%00b", "x" * 7000, "%C3%BC", "%"],
)
async def test_path_traversal_returns_400_or_404(kind: str, name: str) -> None:
    async with run_servers(FakeEngine(), bundle=bundle_with_dictionary()) as servers:
        path = f"{WELL_KNOWN}/{kind.format(name)}"
        response = await servers.http.get(URL(path, encoded=True))
        assert response.status in (400, 404)
        assert b"root:" not in await response.read()


RAW_PATHS = [
    b"/.well-known/codec/latents/../../../etc/passwd.json",
    b"/.well-known/codec/dicts/../../../../etc/passwd",
    b"/.well-known/codec/dicts/%2e%2e/%2e%2e/%2e%2e/etc/passwd.zstd",
    b"/.well-known/codec/scales/..%2f..%2fetc%2fpasswd.bin",
    b"/.well-known/codec/scales/%252e%252e%252fetc.bin",
    b"/.well-known//codec//index.json",
    b"//.well-known/codec/index.json",
    b"//etc/passwd",
    b"/.well-known/codec/latents//etc/passwd.json",
    b"/.well-known/codec/latents/%2fetc%2fpasswd.json",
    b"/.well-known/codec/latents/a%00.json",
    b"/.well-known/codec/latents/a\x00.json",
    b"/.well-known/codec/latents/%c3%bc%e2%80%ae.json",
    "/.well-known/codec/latents/ü.json".encode(),
    b"/.well-known/codec/latents/\xff\xfe.json",
    b"/.well-known/codec/latents/%ff%fe.json",
    b"/.well-known/codec/dicts/" + b"a" * 64 + b".zstd",
    b"/.well-known/codec/dicts/" + b"a" * 6000 + b".zstd",
    b"/.well-known/codec/dicts/" + b"a" * 100_000 + b".zstd",
    b"/.well-known/codec/dicts/*.zstd",
    b"/.well-known/codec/..\\..\\etc\\passwd",
    b"http://elsewhere/.well-known/codec/../../etc/passwd",
    b"file:///etc/passwd",
    b"/etc/passwd",
    b"..",
    b"*",
]


@pytest.mark.parametrize("path", RAW_PATHS, ids=[f"{number}" for number in range(len(RAW_PATHS))])
async def test_path_traversal_over_a_raw_socket_is_rejected(path: bytes) -> None:
    """Send the path over a raw socket, because client libraries normalize paths."""
    async with run_servers(FakeEngine(), bundle=bundle_with_dictionary()) as servers:
        assert servers.http._base_url is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", servers.http._base_url.port)
        writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        status, body = int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]
        assert status in (400, 404, 414), answer[:200]
        assert b"root:" not in body
        assert b"Traceback" not in body
        bundle = servers.service.models.require_default().bundle
        for data in (bundle.document, *bundle.assets.values()):
            assert data not in answer
        assert (await servers.http.get(f"{WELL_KNOWN}/index.json")).status == 200


async def test_dictionary_is_not_served_as_scales() -> None:
    async with run_servers(FakeEngine(), bundle=bundle_with_dictionary()) as servers:
        hex_digest = DIGEST.removeprefix("sha256:")
        assert (await servers.http.get(f"{WELL_KNOWN}/scales/{hex_digest}.bin")).status == 404


async def test_exported_decoder_is_published_and_may_be_cached_forever(tmp_path: Path) -> None:
    bundle = bundle_of(MODEL)
    bundle.write(bundle_folder(tmp_path, LATENT_SPACE))
    decoder_path = bundle_folder(tmp_path, LATENT_SPACE) / DECODER_FILE
    decoder_path.write_bytes(b"an ONNX model")
    async with run_servers(FakeEngine(), bundle=bundle) as servers:
        assert (await (await servers.http.get("/codec/info")).json())["decoders"] == []
        models = servers.service.models
        models.replace([replace(models.require_default(), decoder=find_decoder(tmp_path, bundle))])
        info = await (await servers.http.get("/codec/info")).json()
        assert info["decoders"] == info["models"][0]["decoders"]
        (entry,) = info["decoders"]
        url = entry.pop("url")
        assert entry == {"family": "onnx", "hash": sha256(b"an ONNX model"), "size_bytes": 13}
        response = await servers.http.get(url)
        assert (response.status, await response.read()) == (200, b"an ONNX model")
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Content-Type"] == "application/octet-stream"
        again = await servers.http.get(url, headers={"If-None-Match": response.headers["ETag"]})
        assert (again.status, await again.read()) == (304, b"")
        part = await servers.http.get(url, headers={"Range": "bytes=3-6"})
        assert (part.status, await part.read()) == (206, b"ONNX")
        assert (await servers.http.get(url.replace(entry["hash"][7:], "0" * 64))).status == 404
        decoder_path.write_bytes(b"a newer model")
        replaced = await servers.http.get(url)
        assert replaced.status == 404
        assert "has changed since the server was started" in (await replaced.json())["error"]["message"]
        assert replaced.headers["Cache-Control"] == "no-store"


BODY = {"prompt": "a sea", "stream_format": "msgpack", "size": "64x64", "steps": 1}
OTHER = "sha256:" + "0" * 64


def pins_for(servers: Servers) -> list[str]:
    ours = servers.service.models.require_default().bundle.hash
    return [ours, ours.upper().replace("SHA256", "sha256"), f"https://x/map.json;sha256={ours.removeprefix('sha256:')}"]


async def test_request_that_pins_the_served_map_succeeds() -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        for pin in pins_for(servers):
            response = await servers.http.post("/v1/images/generations", json=BODY, headers={"X-Codec-Map": pin})
            assert response.status == 200, pin
            await response.read()
            call = servers.stub.Generate(pb.GenerateRequest(prompt="x", steps=1), metadata=[("x-codec-map", pin)])
            assert [message async for message in call]


async def test_request_that_pins_another_map_returns_409_with_both_hashes() -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        ours = servers.service.models.require_default().bundle.hash
        response = await servers.http.post("/v1/images/generations", json=BODY, headers={"X-Codec-Map": OTHER})
        assert response.status == 409
        message = (await response.json())["error"]["message"]
        assert ours in message
        assert OTHER in message
        call = servers.stub.Generate(pb.GenerateRequest(prompt="x"), metadata=[("x-codec-map", OTHER)])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert ours in str(caught.value.details())


@pytest.mark.parametrize("pin", ["", "sha256:12", "md5:" + "0" * 64, OTHER + "0"])
async def test_invalid_map_pin_returns_400(pin: str) -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        response = await servers.http.post("/v1/images/generations", json=BODY, headers={"X-Codec-Map": pin})
        assert response.status == 400
        assert (await response.json())["error"]["param"] == "X-Codec-Map"
