"""Both clients, with and without async, against real servers: what arrives, what is said, what is sent again."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec_client import (
    GrpcClient,
    HttpClient,
    LatentClient,
    ServedModel,
    Progress,
)
from codec_client.maps import kept
from codec_wire import errors
from codec_wire.latents import Modality
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.model import RequestLimits
from tests.codec_http.test_encoding import bundle_with_dictionary
from tests.support.dictionaries import DICTIONARY, DIGEST
from tests.support.fake_engine import FakeEngine
from tests.support.serving import (
    LATENT_SPACE,
    MODEL,
    VIDEO_MODEL,
    Servers,
    bundle_of,
    http_address,
    run_http_gateway,
    run_servers,
)

PROTOCOLS = ("http", "grpc")
WAYS: dict[str, list[dict[str, Any]]] = {
    "http": [{}, {"compressed": False}, {"wire_format": "protobuf"}],
    "grpc": [{}],
}
FIELDS: dict[str, Any] = {"size": (64, 48), "steps": 3, "seed": 7}


def client_of(servers: Servers, protocol: str, cache: Path, **options: Any) -> LatentClient:
    if protocol == "grpc":
        return GrpcClient(servers.grpc_address, cache_dir=cache, **options)
    return HttpClient(str(servers.http._base_url), cache_dir=cache, **options)


@pytest.mark.parametrize("pipeline", ["raw", "int8", "int4-adaptive"])
async def test_every_way_gives_the_same_latents(
    engine: DiffusersEngine, tiny_model: LoadedModel, tmp_path: Path, pipeline: str
) -> None:
    fields = FIELDS | {"pipeline": pipeline, "negative_prompt": "fog", "guidance_scale": 2.5}
    async with run_servers(engine, tiny_model.info) as servers:
        found: dict[tuple[str, ...], Any] = {}
        for protocol in PROTOCOLS:
            for options in WAYS[protocol]:
                async with client_of(servers, protocol, tmp_path, **options) as client:
                    found[protocol, *options] = await client.generate("a sea", **fields)
                blocking = client_of(servers, protocol, tmp_path, **options).blocking()
                found[protocol, "blocking", *options] = await asyncio.to_thread(one_blocking, blocking, fields)
        bundle = servers.service.models.require_default().bundle
    first = found["http",]
    assert first.latents.shape == (1, 4, 6, 8)
    for way, generation in found.items():
        assert generation.header == first.header, way
        assert np.array_equal(generation.latents, first.latents), way
        assert generation.map_hash == bundle.hash, way


def one_blocking(client: Any, fields: dict[str, Any]) -> Any:
    with client:
        return client.generate("a sea", **fields)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_frames_come_as_they_arrive_with_progress(protocol: str, tmp_path: Path) -> None:
    seen: list[Progress] = []
    fields = {"size": (64, 64), "steps": 2, "frames": 5, "fps": 6, "pipeline": "delta+int8", "keyframe_interval": 2}
    async with (
        run_servers(FakeEngine(free_running=True), VIDEO_MODEL) as servers,
        client_of(servers, protocol, tmp_path) as client,
        client.stream("a sea", on_progress=seen.append, modality=Modality.VIDEO, **fields) as stream,
    ):
        assert (stream.header.fps, stream.header.total_frames) == (6, 5)
        keyframes = []
        async for latents in stream:
            assert latents.shape == (4, 8, 8)
            assert stream.frame is not None
            keyframes.append(stream.frame.keyframe)
        assert keyframes == [True, False, True, False, True]
    assert seen[0].header == stream.header
    assert (seen[-1].frames, seen[-1].total_frames) == (5, 5)
    assert seen[-1].received_bytes >= seen[0].received_bytes > 0
    assert seen[-1].step == (2 if protocol == "grpc" else None)


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_leaving_cancels_the_job(protocol: str, blocking: bool, tmp_path: Path) -> None:
    engine = FakeEngine()
    async with run_servers(engine) as servers:
        if blocking:

            def enter_and_leave() -> None:
                with client_of(servers, protocol, tmp_path).blocking() as client, client.stream("a sea"):
                    pass

            await asyncio.to_thread(enter_and_leave)
        else:
            async with client_of(servers, protocol, tmp_path) as client, client.stream("a sea"):
                pass
        await engine.wait_until_ended(1)
        assert engine.finished == 0
        await asyncio.wait_for(servers.service.admission.wait_idle(), 10)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_cancelling_the_task_cancels_the_job(protocol: str, tmp_path: Path) -> None:
    engine = FakeEngine()
    async with run_servers(engine) as servers, client_of(servers, protocol, tmp_path) as client:
        task = asyncio.create_task(client.generate("a sea"))
        await engine.wait_until_started(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await engine.wait_until_ended(1)
        assert engine.finished == 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("fields", "kind", "field"),
    [
        ({"steps": 10_000}, errors.InvalidRequest, "steps"),
        ({"size": (65, 64)}, errors.InvalidRequest, "size"),
        ({"pipeline": "zip"}, errors.InvalidRequest, "pipeline"),
        ({"model": "other"}, errors.NotFound, "model"),
        ({"modality": Modality.VIDEO}, errors.UnsupportedModality, "modality"),
    ],
)
async def test_errors_are_what_the_server_said(
    protocol: str, fields: dict[str, Any], kind: type[errors.CodecError], field: str, tmp_path: Path
) -> None:
    async with run_servers(FakeEngine()) as servers, client_of(servers, protocol, tmp_path) as client:
        with pytest.raises(kind) as caught:
            await client.generate("a sea", **fields)
        assert type(caught.value) is kind
        assert (caught.value.field, caught.value.message.partition(":")[0]) == (field, field)
        if isinstance(caught.value, errors.UnsupportedModality):
            assert caught.value.supported == ("image-latents",)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_what_is_no_request_is_not_sent(protocol: str, tmp_path: Path) -> None:
    async with run_servers(FakeEngine()) as servers, client_of(servers, protocol, tmp_path) as client:
        for fields in ({"steps": 0}, {"stepps": 3}, {"size": "64x64"}):
            with pytest.raises(errors.InvalidRequest):
                client.stream("a sea", **fields)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_failure_in_mid_stream_is_an_error_and_is_not_retried(protocol: str, tmp_path: Path) -> None:
    engine = FakeEngine(free_running=True)
    engine.fail_with = RuntimeError("secret")
    async with run_servers(engine) as servers, client_of(servers, protocol, tmp_path) as client:
        with pytest.raises(errors.CodecError) as caught:
            await client.generate("a sea")
        assert "secret" not in str(caught.value)
        assert len(engine.started) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_full_queue_is_waited_for_as_long_as_the_server_says(protocol: str, tmp_path: Path) -> None:
    engine = FakeEngine()
    async with (
        run_servers(engine, max_jobs=1) as servers,
        client_of(servers, protocol, tmp_path, retries=8) as client,
        client_of(servers, protocol, tmp_path, retries=0) as impatient,
    ):
        first = asyncio.create_task(client.generate("a sea", steps=1))
        await engine.wait_until_started(1)
        with pytest.raises(errors.Overloaded) as caught:
            await impatient.generate("a sea", steps=1)
        assert caught.value.retry_after_s >= 1
        second = asyncio.create_task(client.generate("a sea", steps=1))
        await asyncio.sleep(0.2)
        engine.release_steps(2)
        await asyncio.gather(first, second)
        assert engine.finished == 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_time_is_for_the_whole_answer(protocol: str, tmp_path: Path) -> None:
    engine = FakeEngine()
    async with run_servers(engine) as servers, client_of(servers, protocol, tmp_path, timeout_s=2) as client:
        task = asyncio.create_task(client.generate("a sea"))
        await engine.wait_until_started(1)
        with pytest.raises(errors.DeadlineExceeded, match="no whole answer within 2 s"):
            await task
        await engine.wait_until_ended(1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_another_map_than_the_pinned_one_is_refused(protocol: str, tmp_path: Path) -> None:
    engine = FakeEngine()
    async with run_servers(engine) as servers, client_of(servers, protocol, tmp_path, pinned_map=DIGEST) as client:
        with pytest.raises(errors.MapMismatch, match=DIGEST):
            await client.generate("a sea")
        assert engine.started == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_map_is_kept_and_read_from_there_once_its_hash_is_known(protocol: str, tmp_path: Path) -> None:
    bundle = bundle_of(MODEL)
    async with run_servers(FakeEngine(), bundle=bundle) as servers:
        async with client_of(servers, protocol, tmp_path) as client:
            assert await client.latent_map() == bundle
            with pytest.raises(errors.InvalidMap, match=f"no.* map.* {DIGEST}; it .* {bundle.hash}"):
                await client.latent_map(DIGEST)
        address = client_of(servers, protocol, tmp_path)
    async with address as offline:  # the server is gone
        assert await offline.latent_map(bundle.hash) == bundle
        asset = tmp_path / "sha256" / next(iter(bundle.assets)).removeprefix("sha256:")
        asset.write_bytes(b"damaged")
        assert kept(offline.cache, bundle.hash) is None
        with pytest.raises(errors.CodecError):
            await offline.latent_map(bundle.hash)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_of_several_maps_the_one_is_found_that_an_answer_names(protocol: str, tmp_path: Path) -> None:
    other = replace(VIDEO_MODEL, latent_space="x/y", aliases=("moving",))
    async with (
        run_servers(FakeEngine(free_running=True)) as servers,
        client_of(servers, protocol, tmp_path) as client,
    ):
        first = servers.service.models.require_default()
        servers.service.models.replace((first, replace(first, model=other, bundle=bundle_of(other))))
        answer = await client.generate("a sea", modality=Modality.VIDEO, frames=2, size=(64, 64))
        assert answer.map_hash == bundle_of(other).hash
        assert (await client.latent_map(answer.map_hash)).latent_map.id == "x/y"
        assert (await client.latent_map()).hash == first.bundle.hash
        assert await client.models() == [
            ServedModel("tiny-sd", ("little",), (Modality.IMAGE,), LATENT_SPACE, first.bundle.hash),
            ServedModel("tiny-sd-video", ("moving",), (Modality.VIDEO,), "x/y", bundle_of(other).hash),
        ]


async def test_the_address_may_be_the_one_of_openais_clients(tmp_path: Path) -> None:
    async with (
        run_servers(FakeEngine(free_running=True)) as servers,
        HttpClient(f"{http_address(servers)}/v1", cache_dir=tmp_path) as client,
    ):
        assert (await client.generate("a sea", size=(64, 64))).latents.shape == (1, 4, 8, 8)


async def test_a_dictionary_is_fetched_by_its_hash_verified_and_kept(tmp_path: Path) -> None:
    async with run_servers(FakeEngine(free_running=True), bundle=bundle_with_dictionary()) as servers:
        for _ in range(2):
            async with HttpClient(str(servers.http._base_url), cache_dir=tmp_path) as client:
                answer = await client.generate("a sea", pipeline="int8", size=(64, 64))
                assert not answer.latents.any()
                assert client.cache.get(DIGEST) == DICTIONARY


async def test_the_gateway_is_a_server_like_any_other(
    engine: DiffusersEngine, tiny_model: LoadedModel, tmp_path: Path
) -> None:
    async with run_servers(engine, tiny_model.info) as servers, run_http_gateway(servers.grpc_address) as (_, gateway):
        async with HttpClient(str(gateway._base_url), cache_dir=tmp_path) as client:
            through = await client.generate("a sea", **FIELDS)
        async with client_of(servers, "grpc", tmp_path) as direct:
            assert np.array_equal(through.latents, (await direct.generate("a sea", **FIELDS)).latents)


async def test_a_frame_over_grpcs_default_limit_arrives(tmp_path: Path) -> None:
    model = replace(MODEL, limits=RequestLimits(max_side=8192))
    async with (
        run_servers(FakeEngine(free_running=True), model) as servers,
        client_of(servers, "grpc", tmp_path) as client,
    ):
        answer = await client.generate("a sea", size=(8192, 8192), steps=1)
        assert answer.latents.nbytes == 8 * 2**20


def test_an_address_that_is_none_is_a_wrong_setting() -> None:
    with pytest.raises(errors.InvalidSettings, match="ftp"):
        HttpClient("ftp://127.0.0.1")
