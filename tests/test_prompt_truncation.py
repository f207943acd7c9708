"""Ignored ends of prompts are reported by every protocol, and by a gateway."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from codec_wire.events import PromptTruncation
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.http import PROMPT_TRUNCATED_HEADER, parse_truncations, truncation_headers
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from tests.support.serving import Servers, run_http_gateway, run_servers

LATENTS = {"prompt": "x" * 80, "stream_format": "msgpack", "size": "64x64", "steps": 1}
PATH = "/v1/images/generations"


@pytest.fixture
async def servers(engine: DiffusersEngine, tiny_model: LoadedModel) -> AsyncIterator[Servers]:
    async with run_servers(engine, tiny_model.info) as running:
        yield running


async def header_of(session: aiohttp.ClientSession, body: dict[str, object]) -> str | None:
    async with session.post(PATH, json=body) as response:
        assert response.status == 200, await response.text()
        await response.read()
        if PROMPT_TRUNCATED_HEADER in response.headers:
            return response.headers[PROMPT_TRUNCATED_HEADER]
        return None


async def test_http_reports_truncated_prompts_in_a_header(servers: Servers) -> None:
    assert await header_of(servers.http, LATENTS) == "prompt.text_encoder=5"
    both = LATENTS | {"negative_prompt": "y" * 76}
    assert await header_of(servers.http, both) == "prompt.text_encoder=5, negative_prompt.text_encoder=1"
    assert await header_of(servers.http, LATENTS | {"prompt": "x" * 75}) is None


async def test_header_is_sent_with_rendered_pixels(servers: Servers) -> None:
    body = {"prompt": "x" * 80, "size": "64x64", "steps": 1, "n": 2}
    assert await header_of(servers.http, body) == "prompt.text_encoder=5"


async def test_grpc_reports_truncated_prompts_with_the_header_message(servers: Servers) -> None:
    request = pb.GenerateRequest(prompt="x" * 80, size=pb.PixelSize(width=64, height=64), steps=1)
    messages = [message async for message in servers.stub.Generate(request)]
    expected = pb.PromptTruncation(field="prompt", encoder="text_encoder", dropped_tokens=5)
    assert list(messages[0].prompt_truncations) == [expected]
    assert not any(message.prompt_truncations for message in messages[1:])


async def test_gateway_forwards_truncations(servers: Servers) -> None:
    async with run_http_gateway(servers.grpc_address) as (_, session):
        assert await header_of(session, LATENTS) == "prompt.text_encoder=5"


def test_header_value_is_parsed_to_the_same_truncations() -> None:
    truncations = (
        PromptTruncation("prompt", "text_encoder", 5),
        PromptTruncation("negative_prompt", "text_encoder_2", 7),
    )
    assert parse_truncations(truncation_headers(truncations)[PROMPT_TRUNCATED_HEADER]) == truncations
    assert parse_truncations(None) == parse_truncations("nonsense, a=1, b.c=x") == ()
    assert truncation_headers(()) == {}
