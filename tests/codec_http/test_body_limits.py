"""Limits on request bodies: content codings, JSON outside the images, fields, memory and time."""

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from codec_http import body_receiver
from codec_http.file_field import MAX_BASE64_CHARACTERS, decode_file_field
from codec_http.json_body import MAX_FIELDS, MAX_JSON_BYTES, parse_json_object
from codec_http.negotiation import MAX_ENTRIES, parse_quality_values
from codec_wire.errors import InvalidRequest, TooLarge
from codec_wire.latents import Modality
from core.model import GenerationMode
from core.probe import sample_image
from tests.support.fake_engine import FakeEngine
from tests.support.grpc_requests import request
from tests.support.http_requests import IMAGES, JSON, LATENTS, read_error, request_head
from tests.support.raw_http import exchange
from tests.support.serving import MODEL, Servers, run_servers

IMAGE_MODEL = replace(MODEL, modes=(GenerationMode(Modality.IMAGE), GenerationMode(Modality.IMAGE, image=True)))
IMAGE = sample_image(0) + bytes(100_000)
"""An image whose base64 text is larger than MAX_JSON_BYTES. Decoders ignore bytes after its end."""
BASE64 = base64.b64encode(IMAGE).decode()


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "zstd", "identity, gzip", "x"])
async def test_body_with_a_content_coding_returns_415(coding: str) -> None:
    data = gzip.compress(json.dumps(LATENTS).encode())
    async with run_servers(FakeEngine()) as servers:
        response = await servers.http.post(IMAGES, data=data, headers=JSON | {"Content-Encoding": coding})
        assert response.status == 415
        error = await read_error(response)
        assert error["code"] == "unsupported_coding"
        assert "identity" in error["message"]
        # The connection can be used again.
        assert (await servers.http.get("/livez")).status == 200


@pytest.mark.parametrize("path", [IMAGES, "/v1/latents/decode", "/v1/latents/encode"])
async def test_body_that_is_compressed_for_its_transfer_returns_415(path: str) -> None:
    fields = b"Host: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
    async with run_servers(FakeEngine()) as servers:
        data = b"POST " + path.encode() + b" HTTP/1.1\r\n" + fields + b"2\r\n{}\r\n0\r\n\r\n"
        (response,) = await exchange(servers, data)
        error = json.loads(response.body)["error"]
        assert (response.status, error["code"]) == (415, "unsupported_coding")
        assert "Transfer-Encoding of a request must be chunked, got 'gzip, chunked'" in error["message"]


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
async def test_identity_is_not_a_content_coding(coding: str) -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        response = await servers.http.post(IMAGES, json=LATENTS, headers={"Content-Encoding": coding})
        assert response.status == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "x" * MAX_JSON_BYTES},
        {"prompt": [[]] * (MAX_JSON_BYTES // 4)},
        {"a" * MAX_JSON_BYTES: 1},
        {str(number): number for number in range(MAX_JSON_BYTES // 10)},
        {"image": BASE64, "prompt": "x" * MAX_JSON_BYTES},
        {"image": BASE64, "control_image": BASE64, "user": "x" * MAX_JSON_BYTES},
    ],
)
async def test_too_much_json_outside_the_images_returns_413(fields: dict[str, Any]) -> None:
    async with run_servers(FakeEngine()) as servers:
        response = await servers.http.post(IMAGES, data=json.dumps(LATENTS | fields).encode(), headers=JSON)
        assert (response.status, (await read_error(response))["code"]) == (413, "too_large")


async def test_too_many_fields_and_too_long_names_return_400() -> None:
    async with run_servers(FakeEngine()) as servers:
        for fields in ({str(number): 0 for number in range(MAX_FIELDS)}, {"n" * 100: 1}):
            response = await servers.http.post(IMAGES, json=LATENTS | fields)
            error = await read_error(response)
            assert (response.status, error["param"]) == (400, "body")
            assert len(error["message"]) < 300


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"image": BASE64, "prompt": "x"}),
        json.dumps({"prompt": "x", "image": BASE64}, indent=4),
        json.dumps({"prompt": "x", "image": BASE64}).replace("/", "\\/"),  # as PHP writes it
        "\ufeff" + json.dumps({"prompt": "x", "image": BASE64}),
        '{"image": "", "prompt": "x", "image"\n:\t"' + BASE64 + '"}',  # the last one counts
        json.dumps({"prompt": "x", "image": "short", "control_image": BASE64}).replace(
            '"short"', json.dumps(BASE64[:-4] + "\n" + BASE64[-4:])
        ),
    ],
)
def test_images_are_found_in_every_spelling_of_json(text: str) -> None:
    body = parse_json_object(bytearray(text.encode()))
    assert body.pop("prompt") == "x"
    assert {value.replace("\n", "") for value in body.values()} == {BASE64}
    assert body == {name: value for name, value in json.loads(text.lstrip("\ufeff")).items() if name != "prompt"}


def test_image_name_inside_a_string_is_not_a_field() -> None:
    value = '"image": "' + "A" * 100 + '", \\"image": "'
    body = {"prompt": value, "image": BASE64, "user": value}
    assert parse_json_object(json.dumps(body).encode()) == body


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"image": "' + "A" * MAX_JSON_BYTES, InvalidRequest),  # has no closing quote
        ('{"image": "' + "A" * MAX_JSON_BYTES + '\\""}', InvalidRequest),
        ('{"image": "' + "A" * MAX_JSON_BYTES + '"', InvalidRequest),
        ('{"image": "' + "A" * MAX_JSON_BYTES + '\n"}', InvalidRequest),
        ('{"prompt": "' + '"image": ' * MAX_JSON_BYTES, TooLarge),
        ('"' * 4 * MAX_JSON_BYTES, TooLarge),
        ('{"image":' + " " * MAX_JSON_BYTES + '"A"}', TooLarge),
    ],
)
def test_damaged_large_body_is_rejected(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_json_object(text.encode())


async def test_two_images_of_the_maximum_size_fit_into_a_body() -> None:
    largest = "A" * MAX_BASE64_CHARACTERS
    body = json.dumps({"image": largest, "control_image": largest, "prompt": "x" * 60_000}).encode()
    assert len(body) <= body_receiver.MAX_BODY_BYTES
    assert parse_json_object(body)["control_image"] == largest


def test_only_the_first_entries_of_a_long_accept_header_are_read() -> None:
    header = ", ".join(f"text/{number}" for number in range(MAX_ENTRIES + 1))
    names = [name for name, _ in parse_quality_values(header)]
    assert (len(names), names[-1]) == (MAX_ENTRIES, f"text/{MAX_ENTRIES - 1}")


def test_base64_with_padding_inside_is_rejected_also_between_the_decoded_pieces() -> None:
    piece = "A" * (2**18 - 4)
    assert decode_file_field("image", piece + "AAA=") == bytes((2**18 - 4) * 3 // 4 + 2)
    assert decode_file_field("image", piece + "AAAA" + piece + "AA==") == bytes((2**19 - 4) * 3 // 4 + 1)
    with pytest.raises(InvalidRequest, match="valid base64"):
        decode_file_field("image", piece + "AAA=" + piece + "AAAA")


@asynccontextmanager
async def unfinished_upload(servers: Servers, size: int, sent: int) -> AsyncIterator[asyncio.StreamReader]:
    """Send the header of a request with a body of `size` bytes, and the first `sent` bytes of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", servers.http_port)
    writer.write(request_head(IMAGES, size) + b'{"image": "' + b"A" * (sent - 11))
    await writer.drain()
    try:
        yield reader
    finally:
        writer.close()


async def wait_for_memory(servers: Servers, used: int) -> None:
    async with asyncio.timeout(10):
        while servers.service.admission.memory.used != used:
            await asyncio.sleep(0.01)


async def test_bodies_of_all_unfinished_uploads_are_limited_together() -> None:
    size = 400_000
    async with run_servers(FakeEngine(free_running=True), IMAGE_MODEL, max_request_bytes=1_000_000) as servers:
        async with unfinished_upload(servers, size, size - 1), unfinished_upload(servers, size, size - 1):
            await wait_for_memory(servers, 2 * (size - 1))
            response = await servers.http.post(IMAGES, data=b"x" * size, headers=JSON)
            assert response.status == 429
            assert int(response.headers["Retry-After"]) >= 1
            assert "bytes of memory" in (await read_error(response))["message"]
            assert (await servers.http.post(IMAGES, json=LATENTS)).status == 200
        await wait_for_memory(servers, 0)
        assert (await servers.http.post(IMAGES, json=LATENTS | {"image": BASE64})).status == 200
        await wait_for_memory(servers, 0)


async def test_body_that_can_never_fit_into_the_memory_returns_413() -> None:
    async with run_servers(FakeEngine(), max_request_bytes=100_000) as servers:
        response = await servers.http.post(IMAGES, data=b"x" * 200_000, headers=JSON)
        assert response.status == 413


@pytest.mark.parametrize("protocol", ["http", "grpc"])
async def test_input_images_of_active_jobs_count_until_the_jobs_end(protocol: str) -> None:
    engine = FakeEngine()
    async with run_servers(engine, IMAGE_MODEL, max_request_bytes=1_000_000) as servers:
        if protocol == "http":
            response = await servers.http.post(IMAGES, json=LATENTS | {"image": BASE64})
            assert await response.content.readany()
        else:
            call = servers.stub.Generate(request(image=IMAGE))
            assert await call.read()
        assert servers.service.admission.memory.used == len(IMAGE)
        engine.release_steps(2)
        assert await (response.read() if protocol == "http" else call.read())
        await wait_for_memory(servers, 0)


async def test_body_that_stops_arriving_returns_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_receiver, "PAUSE_TIMEOUT_S", 0.05)
    async with run_servers(FakeEngine()) as servers:
        async with unfinished_upload(servers, 1000, 100) as reader, asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
            assert b'"code":"request_timeout"' in await reader.readuntil(b"}}")
        await wait_for_memory(servers, 0)


async def test_body_that_arrives_too_slowly_returns_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_receiver, "BODY_TIMEOUT_S", 0.2)
    async with run_servers(FakeEngine()) as servers:
        reader, writer = await asyncio.open_connection("127.0.0.1", servers.http_port)
        writer.write(request_head(IMAGES, 100_000))
        async with asyncio.timeout(10):
            response = asyncio.create_task(reader.readline())
            while not response.done():
                writer.write(b" ")
                await asyncio.sleep(0.02)
        assert (await response).startswith(b"HTTP/1.1 408 ")
        writer.close()
