"""The openai package as a client: images, its exception types, and its retries."""

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import openai
import pytest
from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent
from PIL import Image

from codec_http.server import HttpServer
from codec_pixels.device_thread import DeviceThread
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from tests.support.fake_engine import FakeEngine
from tests.support.processes import Addresses
from tests.support.rendering import RENDERING, raw_pixels
from tests.support.serving import Servers, run_servers


@asynccontextmanager
async def openai_client(servers: Servers, **options: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    server = servers.servers[0]
    assert isinstance(server, HttpServer)
    address = f"http://127.0.0.1:{server.port}/v1"
    async with openai.AsyncOpenAI(base_url=address, api_key="none", **options) as client:
        yield client


async def test_image_equals_the_decoded_raw_stream(
    engine: DiffusersEngine, tiny_model: LoadedModel, device_thread: DeviceThread
) -> None:
    name = tiny_model.info.name
    async with run_servers(engine, tiny_model.info) as servers, openai_client(servers) as client:
        response = await client.images.generate(
            model=name, prompt="a snowy mountain", size="64x64", n=2, extra_body={"steps": 3, "seed": 11}
        )
        assert response.data is not None
        assert len(response.data) == 2
        for seed, image in zip((11, 12), response.data, strict=True):
            actual = Image.open(io.BytesIO(base64.b64decode(image.b64_json or "")))
            body = {"prompt": "a snowy mountain", "size": "64x64", "steps": 3, "seed": seed}
            expected = await raw_pixels(servers.http, body, tiny_model, device_thread)
            assert np.array_equal(np.asarray(actual), expected)
        assert (response.output_format, response.size) == ("png", "64x64")


@pytest.mark.slow
async def test_request_without_size_gets_the_default_size(engine: DiffusersEngine, tiny_model: LoadedModel) -> None:
    async with run_servers(engine, tiny_model.info) as servers, openai_client(servers) as client:
        response = await client.images.generate(prompt="a sea")
        assert response.data is not None
        image = Image.open(io.BytesIO(base64.b64decode(response.data[0].b64_json or "")))
        assert image.size == tiny_model.info.default_size


async def test_invalid_requests_raise_the_exceptions_of_the_package() -> None:
    async with run_servers(FakeEngine(free_running=True), RENDERING) as servers, openai_client(servers) as client:
        with pytest.raises(openai.NotFoundError, match="'dall-e-9' not found; .* tiny-sd, little") as caught:
            await client.images.generate(model="dall-e-9", prompt="x")
        assert (caught.value.param, caught.value.code) == ("model", "not_found")
        with pytest.raises(openai.BadRequestError, match="does not store files"):
            await client.images.generate(prompt="x", response_format="url")
        with pytest.raises(openai.BadRequestError, match="output_compression"):
            await client.images.generate(prompt="x", output_compression=101)


@pytest.mark.slow
async def test_overload_raises_rate_limit_error_and_the_retry_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.admission.random.random", lambda: 0.0)  # of the random delay in Retry-After
    engine = FakeEngine()
    small: dict[str, Any] = {"prompt": "x", "size": "64x64", "extra_body": {"steps": 1}}
    async with run_servers(engine, RENDERING, max_jobs=1) as servers, openai_client(servers) as client:
        running = asyncio.create_task(client.images.generate(**small))
        await engine.wait_until_started(1)
        with pytest.raises(openai.RateLimitError, match="the queue is full") as caught:
            await client.with_options(max_retries=0).images.generate(**small)
        assert caught.value.response.headers["retry-after"] == "1"

        before = asyncio.get_running_loop().time()
        retrying = asyncio.create_task(client.images.generate(**small))
        await wait_for_rejection(servers, retrying)
        engine.release_steps(2)
        assert (await running).data
        assert (await retrying).data
        # It waited for the 1 s of Retry-After, not for its default of half a second.
        assert asyncio.get_running_loop().time() - before >= 1.0


async def wait_for_rejection(servers: Servers, task: asyncio.Task[Any]) -> None:
    """Wait until the server has rejected the request of `task`, which it must do while the first job is active."""
    await asyncio.sleep(0.3)
    assert not task.done()
    assert servers.service.admission.jobs == 1


STREAMED: dict[str, Any] = {
    "prompt": "a sea",
    "size": "64x64",
    "extra_body": {"steps": 6, "seed": 3},
    "output_format": "webp",
}


def check_stream(events: list[Any], expected: str | None) -> None:
    """Check that there are two partial images and then the image `expected`, with the fields that the types need."""
    kinds: list[Any] = [ImageGenPartialImageEvent, ImageGenPartialImageEvent, ImageGenCompletedEvent]
    assert [type(event) for event in events] == kinds
    for kind, event in zip(kinds, events, strict=True):
        # The types of older versions list the sizes of OpenAI's own models.
        kind.model_validate(event.to_dict() | {"size": "1024x1024"}, strict=True)
    assert [event.partial_image_index for event in events[:2]] == [0, 1]
    assert {(event.size, event.output_format) for event in events} == {("64x64", "webp")}
    assert events[-1].b64_json == expected
    images = [np.asarray(Image.open(io.BytesIO(base64.b64decode(event.b64_json))), float) for event in events]
    assert abs(images[0] - images[2]).mean() > abs(images[1] - images[2]).mean() > 0


@pytest.mark.slow
async def test_stream_has_partial_images_and_the_same_image_as_without(embedded_server: Addresses) -> None:
    async with openai.AsyncOpenAI(base_url=f"{embedded_server.http}/v1", api_key="none") as client:
        response = await client.images.generate(**STREAMED)
        assert response.data is not None
        stream = await client.images.generate(**STREAMED, stream=True, partial_images=2)
        check_stream([event async for event in stream], response.data[0].b64_json)


@pytest.mark.slow
def test_blocking_stream_has_partial_images_and_the_same_image_as_without(embedded_server: Addresses) -> None:
    with openai.OpenAI(base_url=f"{embedded_server.http}/v1", api_key="none") as client:
        response = client.images.generate(**STREAMED)
        assert response.data is not None
        check_stream(list(client.images.generate(**STREAMED, stream=True, partial_images=2)), response.data[0].b64_json)


async def test_failure_of_a_stream_raises_an_error_of_the_package() -> None:
    engine = FakeEngine(free_running=True)
    engine.fail_with = RuntimeError("secret")
    async with run_servers(engine, RENDERING) as servers, openai_client(servers) as client:
        stream = await client.images.generate(prompt="x", size="64x64", stream=True)
        with pytest.raises(openai.APIError, match="internal error") as caught:
            await anext(stream)
        assert caught.value.code == "internal"
        with pytest.raises(openai.BadRequestError, match="partial_images: is not supported by tiny-sd"):
            await client.images.generate(prompt="x", stream=True, partial_images=1)


async def test_models_are_listed_and_retrieved() -> None:
    async with run_servers(FakeEngine(), RENDERING) as servers, openai_client(servers) as client:
        assert [model.id async for model in client.models.list()] == ["tiny-sd"]
        assert (await client.models.retrieve("little")).id == "little"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("sd9")
