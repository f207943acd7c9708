"""Content codings: negotiation, decompression, and flushing after every message."""

import zlib

import brotli
import pytest
import zstandard

from codec_wire import WireFormat, encode
from tests.support.dictionaries import DICTIONARY, DIGEST, bundle_with_dictionary
from tests.support.fake_engine import FakeEngine
from tests.support.serving import read_stream, run_servers

IMAGES = "/v1/images/generations"
BODY = {"prompt": "a sea", "stream_format": "msgpack", "pipeline": "int8", "size": "64x64", "steps": 1}


def decompress(data: bytes, coding: str | None) -> bytes:
    """Decompress `data`, which may be the beginning of a body."""
    if coding == "gzip":
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data)
    if coding == "br":
        return bytes(brotli.Decompressor().process(data))
    if coding == "zstd":
        trained = zstandard.ZstdCompressionDict(DICTIONARY)
        return zstandard.ZstdDecompressor(dict_data=trained).decompressobj().decompress(data)
    return data


CODEC = {"Accept": "application/x-codec-msgpack"}


@pytest.mark.parametrize(
    ("accept_encoding", "headers", "coding"),
    [
        ("zstd", {}, "zstd"),
        ("zstd", CODEC, "zstd"),
        ("zstd, identity;q=0", {}, "zstd"),
        ("gzip, deflate, br, zstd", CODEC, "zstd"),
        ("gzip, deflate, br, zstd", {"Codec-Client-Version": "0.3"}, "zstd"),
        ("gzip, deflate, br, zstd", {"Codec-Zstd-Dict": DIGEST}, "zstd"),
        ("gzip, deflate, br, zstd", {"Codec-Zstd-Dict": "sha256:" + "0" * 64}, "br"),
        ("gzip, deflate, br, zstd", {}, "br"),
        ("gzip, zstd", {}, "gzip"),
        ("gzip, deflate, br, zstd", CODEC | {"Sec-Fetch-Mode": "cors"}, "br"),
        ("zstd", {"Sec-Fetch-Mode": "cors"}, None),
        ("gzip, br", {}, "br"),
        ("gzip;q=1, br;q=0.5", {}, "gzip"),
        ("zstd;q=0.1, gzip", CODEC, "gzip"),
        ("zstd;q=0, gzip;q=0", CODEC, None),
        ("*", {}, "br"),
        ("*;q=0.5, br;q=0", {}, "gzip"),
        ("identity", {}, None),
        ("identity, gzip;q=0.5", {}, None),
        ("gzip, *;q=0", {}, "gzip"),
        ("deflate", {}, None),
        ("", {}, None),
        ("GZIP", {}, "gzip"),
    ],
)
async def test_content_coding_is_negotiated(accept_encoding: str, headers: dict[str, str], coding: str | None) -> None:
    async with run_servers(FakeEngine(free_running=True), bundle=bundle_with_dictionary()) as servers:
        plain = await (await servers.http.post(IMAGES, json=BODY)).read()
        response = await servers.http.post(IMAGES, json=BODY, headers={"Accept-Encoding": accept_encoding} | headers)
        assert response.status == 200, await response.text()
        assert response.headers.get("Content-Encoding") == coding
        assert response.headers.get("Codec-Zstd-Dict") == (DIGEST if coding == "zstd" else None)
        named = {name.strip() for name in response.headers["Vary"].split(",")}
        assert named == {
            "Origin",
            "Accept",
            "Accept-Encoding",
            "X-Codec-Map",
            "Codec-Client-Version",
            "Codec-Zstd-Dict",
            "Sec-Fetch-Mode",
        }
        assert decompress(await response.read(), coding) == plain


@pytest.mark.parametrize("accept_encoding", ["*;q=0", "identity;q=0", "identity;q=0, br;q=0", "gzip;q=0, *;q=0"])
async def test_request_that_accepts_no_coding_returns_406(accept_encoding: str) -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        response = await servers.http.post(IMAGES, json=BODY, headers={"Accept-Encoding": accept_encoding})
        assert response.status == 406
        error = (await response.json())["error"]
        assert error["code"] == "not_acceptable"
        assert "br, gzip, identity" in error["message"]
        assert servers.service.admission.jobs == 0


@pytest.mark.parametrize("change", [{"pipeline": "raw"}, {"stream_format": "protobuf"}])
async def test_zstd_is_not_used_without_a_dictionary_for_the_format_and_pipeline(change: dict[str, str]) -> None:
    async with run_servers(FakeEngine(free_running=True), bundle=bundle_with_dictionary()) as servers:
        response = await servers.http.post(IMAGES, json=BODY | change, headers={"Accept-Encoding": "zstd"} | CODEC)
        assert "Content-Encoding" not in response.headers
        assert "Codec-Zstd-Dict" not in response.headers
        await response.read()


@pytest.mark.parametrize("coding", ["zstd", "br", "gzip", None])
async def test_header_can_be_decompressed_before_the_first_step_ends(coding: str | None) -> None:
    engine = FakeEngine()
    async with run_servers(engine, bundle=bundle_with_dictionary()) as servers:
        response = await servers.http.post(IMAGES, json=BODY, headers={"Accept-Encoding": coding or "identity"})
        data = await response.content.readany()
        assert engine.finished == 0
        header = engine.started[0].header
        assert decompress(data, coding) == encode(header, WireFormat.MSGPACK)
        engine.release_steps(1)
        data += await response.content.read()
        assert read_stream(decompress(data, coding), WireFormat.MSGPACK)[0] == header
