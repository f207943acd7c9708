"""Plain requests: pixels that are those of the raw stream, files that others open, one job for all of them."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import aiohttp
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from codec_wire import WireFormat
from core.decoder import LatentDecoder
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loading import LoadedModel
from core.diffusers_engine.pixels import decode_latents
from core.engine import Event, Job, Pixels, Started
from core.errors import NotReady
from core.media.parameters import KEYWORD
from core.plan import RENDERING_STEPS, StreamPlan
from core.rendered_plan import MAX_RENDERED_PIXELS
from core.request import GenerationRequest
from tests.support.fake_engine import FakeEngine, noise_of
from tests.support.serving import MODEL, VIDEO_MODEL, gateway_over, read_stream, servers_over

IMAGES, VIDEOS = "/v1/images/generations", "/v1/videos/generations"
RENDERING = replace(MODEL, renders=True)
RENDERING_VIDEO = replace(VIDEO_MODEL, renders=True)
BODY: dict[str, Any] = {"prompt": "a snowy mountain", "size": "64x48", "steps": 3, "seed": 7}


async def answer_of(http: Any, body: dict[str, Any], path: str = IMAGES) -> dict[str, Any]:
    response = await http.post(path, json=body)
    assert response.status == 200, await response.text()
    answer: dict[str, Any] = await response.json()
    return answer


def pixels_of(file: dict[str, Any]) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(file["b64_json"]))))


async def raw_pixels(http: Any, body: dict[str, Any], model: LoadedModel, thread: ThreadPoolExecutor) -> Any:
    """Decode the raw stream of the same request as a client does, with as many CPU threads as the server has."""
    response = await http.post(IMAGES, json=body | {"stream_format": "msgpack", "pipeline": "raw"})
    header, frames = read_stream(await response.read(), WireFormat.MSGPACK)
    latents = LatentDecoder(header).decode(frames[0])
    assert latents.dtype == np.float16
    return thread.submit(decode_latents, model.pipeline.vae, latents[np.newaxis].copy()).result()[0]


async def test_pixels_are_those_that_a_client_decodes_from_the_raw_stream(
    engine: DiffusersEngine, standin: LoadedModel, device_thread: ThreadPoolExecutor
) -> None:
    more = {"negative_prompt": "fog", "guidance_scale": 3.0}
    async with servers_over(engine, standin.info) as servers:
        for changed in ({}, {"seed": 8}, more):
            answer = await answer_of(servers.http, BODY | changed)
            expected = await raw_pixels(servers.http, BODY | changed, standin, device_thread)
            assert answer["size"] == "64x48"
            assert np.array_equal(pixels_of(answer["data"][0]), expected)
            assert expected.std() > 0


async def test_n_pictures_are_those_of_the_seeds_one_by_one(engine: DiffusersEngine, standin: LoadedModel) -> None:
    async with servers_over(engine, standin.info) as servers:
        alone = [(await answer_of(servers.http, BODY | {"seed": seed}))["data"][0] for seed in (7, 8, 9)]
        together = (await answer_of(servers.http, BODY | {"n": 3}))["data"]
    assert together == alone
    assert [file["seed"] for file in together] == [7, 8, 9]
    assert len({file["b64_json"] for file in together}) == 3


async def test_a_png_says_how_it_was_made_and_making_that_again_gives_it(
    engine: DiffusersEngine, standin: LoadedModel
) -> None:
    async with servers_over(engine, standin.info) as servers:
        file = (await answer_of(servers.http, BODY | {"prompt": "сніг \0 🏔", "guidance_scale": 2.5}))["data"][0]
        image = Image.open(io.BytesIO(base64.b64decode(file["b64_json"])))
        said = json.loads(image.info[KEYWORD])
        assert image.info["Software"] == said["software"]
        assert said["latent_map"] == servers.service.require_served().bundle.hash
        fields = ("prompt", "seed", "steps", "guidance_scale", "size", "model", "latent_space")
        assert {name: said[name] for name in ("prompt", "seed", "steps")} == {
            "prompt": "сніг \0 🏔",
            "seed": 7,
            "steps": 3,
        }
        again = await answer_of(servers.http, {name: said[name] for name in fields})
        assert again["data"][0] == file


@pytest.mark.parametrize(
    ("body", "name", "most"),
    [
        ({}, "PNG", 0),
        ({"output_format": "jpeg"}, "JPEG", 2),
        ({"output_format": "webp"}, "WEBP", 12),
        ({"output_format": "jpeg", "output_compression": 10}, "JPEG", 30),
    ],
)
async def test_formats(body: dict[str, Any], name: str, most: int) -> None:
    engine = FakeEngine(free_running=True)
    async with servers_over(engine, RENDERING) as servers:
        answer = await answer_of(servers.http, BODY | body)
        assert answer["output_format"] == name.lower()
        assert abs(answer["created"] - asyncio.get_running_loop().time()) > 0
        data = base64.b64decode(answer["data"][0]["b64_json"])
        image = Image.open(io.BytesIO(data))
        assert (image.format, image.size, image.mode) == (name, (64, 48), "RGB")
        apart = np.abs(np.asarray(image).astype(int) - noise_of(engine.started[0])[0])
        assert apart.mean() <= most
        if name != "PNG":
            assert json.loads(image.getexif()[0x010E])["prompt"] == BODY["prompt"]


async def test_parameters_that_exif_cannot_hold_are_left_out() -> None:
    async with servers_over(FakeEngine(free_running=True), RENDERING) as servers:
        for output_format in ("jpeg", "webp", "png"):
            long = {"prompt": "🏔" * 8192, "negative_prompt": "🏔" * 8192, "output_format": output_format}
            answer = await answer_of(servers.http, BODY | long)
            image = Image.open(io.BytesIO(base64.b64decode(answer["data"][0]["b64_json"])))
            assert (0x010E in image.getexif()) is False
            assert (KEYWORD in image.info) is (output_format == "png")


async def test_what_openai_clients_send_and_cannot_matter_is_taken() -> None:
    harmless = {
        "n": None,
        "model": "little",
        "size": "auto",
        "response_format": "b64_json",
        "quality": "auto",
        "background": "opaque",
        "stream": False,
        "partial_images": 0,
        "user": "u-1",
        "safety_identifier": "s-1",
        "output_compression": 100,
    }
    async with servers_over(FakeEngine(free_running=True), RENDERING) as servers:
        assert (await answer_of(servers.http, BODY | harmless))["size"] == "256x256"


@pytest.mark.parametrize(
    ("change", "param", "says"),
    [
        ({"response_format": "url"}, "response_format", "no picture is kept here"),
        ({"response_format": "file"}, "response_format", "must be 'b64_json', got 'file'"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 11}, "n", "less than or equal to 10"),
        ({"n": True}, "n", "got True"),
        ({"quality": "hd"}, "quality", "'auto' or 'standard', got 'hd'"),
        ({"background": "transparent"}, "background", "'auto' or 'opaque'"),
        ({"output_format": "gif"}, "output_format", "'png', 'jpeg' or 'webp'"),
        ({"output_compression": 50}, "output_compression", "for png"),
        ({"output_format": "jpeg", "output_compression": 101}, "output_compression", "less than or equal to 100"),
        ({"style": "vivid"}, "style", "say it in the prompt"),
        ({"moderation": "low"}, "moderation", "nothing is filtered"),
        ({"stream": True}, "stream", "must be False"),
        ({"partial_images": 2}, "partial_images", "must be 0"),
        ({"svg": {"model": "x"}}, "svg", "not taken"),
        ({"pipeline": "int8"}, "pipeline", "add stream_format"),
        ({"keyframe_interval": 4}, "keyframe_interval", "add stream_format"),
        ({"fps": 4}, "fps", "video-latents alone"),
        ({"seed": 2**64 - 2, "n": 3}, "seed", "room for 3 seeds"),
        ({"promt": "x"}, "promt", "did you mean 'prompt'"),
        ({"size": "big"}, "size", '"WIDTHxHEIGHT"'),
        ({"resolution": "64x64"}, "resolution", "got both"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_by_name(change: dict[str, Any], param: str, says: str) -> None:
    engine = FakeEngine(free_running=True)
    async with servers_over(engine, RENDERING) as servers:
        response = await servers.http.post(IMAGES, json=BODY | change)
        error = (await response.json())["error"]
        assert (response.status, error["param"]) == (400, param)
        assert says in error["message"]
        assert engine.started == []


@pytest.mark.parametrize(("model", "path"), [(RENDERING, VIDEOS), (RENDERING_VIDEO, IMAGES), (MODEL, IMAGES)])
async def test_what_the_model_cannot_give_is_415(model: Any, path: str) -> None:
    async with servers_over(FakeEngine(free_running=True), model) as servers:
        response = await servers.http.post(path, json={"prompt": "x"})
        assert response.status == 415
        assert (await response.json())["error"]["supported_modalities"] == [str(made) for made in model.modalities]


async def test_a_gateway_renders_nothing_and_says_what_it_has() -> None:
    async with (
        servers_over(FakeEngine(free_running=True), RENDERING) as servers,
        gateway_over(servers.grpc_address) as (_, http),
    ):
        response = await http.post(IMAGES, json={"prompt": "a sea"})
        assert response.status == 415
        error = (await response.json())["error"]
        assert error["supported_modalities"] == ["image-latents"]
        assert "ask for its latents" in error["message"]
        info = await (await http.get("/codec/info")).json()
        assert info["rendered_formats"] == []


async def test_info_lists_the_formats() -> None:
    for model, formats in ((RENDERING, ["png", "jpeg", "webp"]), (RENDERING_VIDEO, ["mp4"]), (MODEL, [])):
        async with servers_over(FakeEngine(), model) as servers:
            assert (await (await servers.http.get("/codec/info")).json())["rendered_formats"] == formats


async def test_the_answer_is_coded_as_its_client_takes_it() -> None:
    async with servers_over(FakeEngine(free_running=True), RENDERING) as servers:
        plain = await answer_of(servers.http, BODY)
        for coding in ("gzip", "br"):
            response = await servers.http.post(
                IMAGES, json=BODY, headers={"Accept-Encoding": coding}, auto_decompress=True
            )
            assert response.headers["Content-Encoding"] == coding
            assert response.headers["Codec-Latent-Map"] == servers.service.require_served().bundle.hash
            assert (await response.json())["data"] == plain["data"]


async def test_all_pictures_are_one_job_by_count_and_by_cost() -> None:
    cost = 64 * 48 * (3 + RENDERING_STEPS)
    engine = FakeEngine()
    async with servers_over(engine, RENDERING, max_jobs=2, max_cost=2 * cost) as servers:
        too_many = await servers.http.post(IMAGES, json=BODY | {"n": 3})
        assert too_many.status == 413
        both = asyncio.create_task(servers.http.post(IMAGES, json=BODY | {"n": 2}))
        await engine.until_started(1)
        assert servers.service.admission.jobs == 1
        full = await servers.http.post(IMAGES, json=BODY)
        assert (full.status, full.headers["Retry-After"]) == (429, "1")
        engine.let_steps_go(6)
        assert len((await (await both).json())["data"]) == 2
        assert [plan.seed for plan in engine.started] == [7, 8]
        assert servers.service.admission.jobs == 0


async def test_a_picture_over_what_is_rendered_is_413_while_its_latents_are_not() -> None:
    frames = MAX_RENDERED_PIXELS // (256 * 256) + 1
    model = replace(RENDERING_VIDEO, limits=replace(MODEL.limits, max_frames=frames))
    body = {"prompt": "x", "size": "256x256", "frames": frames, "steps": 1}
    engine = FakeEngine()
    async with servers_over(engine, model) as servers:
        refused = await servers.http.post(VIDEOS, json=body)
        assert refused.status == 413
        assert "fewer frames" in (await refused.json())["error"]["message"]
        streamed = await servers.http.post(VIDEOS, json=body | {"stream_format": "msgpack"})
        assert streamed.status == 200
        streamed.close()


async def test_leaving_ends_the_job_at_once() -> None:
    engine = FakeEngine()
    async with servers_over(engine, RENDERING) as servers:
        asked = asyncio.create_task(servers.http.post(IMAGES, json=BODY | {"n": 3}))
        await engine.until_started(1)
        asked.cancel()
        await engine.until_closed(1)
        await asyncio.wait_for(servers.service.admission.idle(), 10)
        assert (engine.finished, len(engine.started)) == (0, 1)


async def test_time_that_is_up_is_504() -> None:
    engine = FakeEngine()
    async with servers_over(engine, RENDERING, request_timeout_s=0.2) as servers:
        response = await servers.http.post(IMAGES, json=BODY)
        assert response.status == 504
        assert servers.service.admission.jobs == 0
        assert engine.finished == 0


async def test_a_client_that_does_not_read_is_left_when_its_time_is_up() -> None:
    class Noise(FakeEngine):
        """Gives pixels that no coding makes smaller: more of them than lie in the buffers between the two."""

        async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
            yield Started(plan.header)
            shape = (1, plan.height, plan.width, 3)
            yield Pixels(np.random.default_rng(plan.seed).integers(0, 256, shape, dtype=np.uint8))

    async with servers_over(Noise(), RENDERING, request_timeout_s=8) as servers:
        response = await servers.http.post(IMAGES, json=BODY | {"n": 6, "size": "1024x1024", "output_format": "jpeg"})
        assert response.status == 200
        assert int(response.headers["Content-Length"]) > 16 * 2**20
        assert servers.service.admission.jobs == 1  # its place is kept while it reads
        await asyncio.wait_for(servers.service.admission.idle(), 20)
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_stopping_the_server_between_two_pictures_stops_the_job() -> None:
    async with servers_over(FakeEngine(free_running=True), RENDERING) as servers:
        service = servers.service
        plans = service.plan_rendered(GenerationRequest(prompt="x", size=(64, 64), steps=1), 2)
        rendered = service.render(plans, Job())
        async with aclosing(rendered):
            await anext(rendered)
            service.cancel_all(lambda: NotReady("the server is shutting down", 5))
            with pytest.raises(NotReady):
                await anext(rendered)
        assert service.admission.jobs == 0


@pytest.mark.parametrize("fault", ["nan", "memory", "bug"])
async def test_what_fails_while_rendering_is_an_error_and_the_next_request_works(
    fault: str, engine: DiffusersEngine, standin: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(*_arguments: Any) -> Any:
        if fault == "nan":
            return torch.full((1, 4, 6, 8), float("nan"))
        raise torch.OutOfMemoryError("secret") if fault == "memory" else RuntimeError("secret")

    target: tuple[str, Callable[..., Any]] = ("core.diffusers_engine.rendering.decode_latents", spoil)
    if fault == "nan":
        target = ("core.diffusers_engine.engine.sample", spoil)
    async with servers_over(engine, standin.info) as servers:
        with monkeypatch.context() as patched:
            patched.setattr(*target)
            response = await servers.http.post(IMAGES, json=BODY)
            assert response.status == (503 if fault == "memory" else 500)
            assert "secret" not in await response.text()
        assert (await answer_of(servers.http, BODY))["data"]
        assert servers.service.admission.jobs == 0
