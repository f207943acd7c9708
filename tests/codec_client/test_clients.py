"""The HTTP and gRPC clients, async and blocking, against real servers."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codec_client import (
    HttpClient,
    Progress,
    ServedModel,
)
from codec_client.maps import load_bundle
from codec_wire import errors
from codec_wire.latents import Modality
from core.diffusers_engine.engine import DiffusersEngine
from core.diffusers_engine.loader import LoadedModel
from core.model import RequestLimits
from tests.support.clients import make_client
from tests.support.dictionaries import DICTIONARY, DIGEST, bundle_with_dictionary
from tests.support.fake_engine import FakeEngine
from tests.support.serving import (
    LATENT_SPACE,
    MODEL,
    VIDEO_MODEL,
    bundle_of,
    http_address,
    run_http_gateway,
    run_servers,
)

PROTOCOLS = ("http", "grpc")
CLIENT_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "http": [{}, {"compressed": False}, {"wire_format": "protobuf"}],
    "grpc": [{}],
}
FIELDS: dict[str, Any] = {"size": (64, 48), "steps": 3, "seed": 7}


@pytest.mark.slow
@pytest.mark.parametrize("pipeline", ["raw", "int8", "int4-adaptive"])
async def test_all_protocols_and_formats_return_the_same_latents(
    engine: DiffusersEngine, tiny_model: LoadedModel, tmp_path: Path, pipeline: str
) -> None:
    fields = FIELDS | {"pipeline": pipeline, "negative_prompt": "fog", "guidance_scale": 2.5}
    async with run_servers(engine, tiny_model.info) as servers:
        generations: dict[tuple[str, ...], Any] = {}
        for protocol in PROTOCOLS:
            for options in CLIENT_OPTIONS[protocol]:
                async with make_client(servers, protocol, tmp_path, **options) as client:
                    generations[protocol, *options] = await client.generate("a sea", **fields)
                blocking = make_client(servers, protocol, tmp_path, **options).blocking()
                generations[protocol, "blocking", *options] = await asyncio.to_thread(
                    generate_blocking, blocking, fields
                )
        bundle = servers.service.models.require_default().bundle
    first = generations["http",]
    assert first.latents.shape == (1, 4, 6, 8)
    for key, generation in generations.items():
        assert generation.header == first.header, key
        assert np.array_equal(generation.latents, first.latents), key
        assert generation.map_hash == bundle.hash, key


def generate_blocking(client: Any, fields: dict[str, Any]) -> Any:
    with client:
        return client.generate("a sea", **fields)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_stream_yields_frames_and_reports_progress(protocol: str, tmp_path: Path) -> None:
    reported: list[Progress] = []
    fields: dict[str, Any] = {
        "size": (64, 64),
        "steps": 2,
        "frames": 5,
        "fps": 6,
        "pipeline": "delta+int8",
        "keyframe_interval": 2,
    }
    async with (
        run_servers(FakeEngine(free_running=True), VIDEO_MODEL) as servers,
        make_client(servers, protocol, tmp_path) as client,
        client.stream("a sea", on_progress=reported.append, modality=Modality.VIDEO, **fields) as stream,
    ):
        assert (stream.header.fps, stream.header.total_frames) == (6, 5)
        keyframes = []
        async for latents in stream:
            assert latents.shape == (4, 8, 8)
            assert stream.frame is not None
            keyframes.append(stream.frame.keyframe)
        assert keyframes == [True, False, True, False, True]
    assert reported[0].header == stream.header
    assert (reported[-1].frames, reported[-1].total_frames) == (5, 5)
    assert reported[-1].received_bytes >= reported[0].received_bytes > 0
    assert reported[-1].step == (2 if protocol == "grpc" else None)


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_leaving_the_stream_cancels_the_generation(protocol: str, blocking: bool, tmp_path: Path) -> None:
    engine = FakeEngine()
    async with run_servers(engine) as servers:
        if blocking:

            def enter_and_leave() -> None:
                with make_client(servers, protocol, tmp_path).blocking() as client, client.stream("a sea"):
                    pass

            await asyncio.to_thread(enter_and_leave)
        else:
            async with make_client(servers, protocol, tmp_path) as client, client.stream("a sea"):
                pass
        await engine.wait_until_ended(1)
        assert engine.finished == 0
        await asyncio.wait_for(servers.service.admission.wait_idle(), 10)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_cancelling_the_task_cancels_the_generation(protocol: str, tmp_path: Path) -> None:
    engine = FakeEngine()
    async with run_servers(engine) as servers, make_client(servers, protocol, tmp_path) as client:
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
async def test_server_errors_are_raised_with_their_type_and_field(
    protocol: str, fields: dict[str, Any], kind: type[errors.CodecError], field: str, tmp_path: Path
) -> None:
    async with run_servers(FakeEngine()) as servers, make_client(servers, protocol, tmp_path) as client:
        with pytest.raises(kind) as caught:
            await client.generate("a sea", **fields)
        assert type(caught.value) is kind
        assert (caught.value.field, caught.value.message.partition(":")[0]) == (field, field)
        if isinstance(caught.value, errors.UnsupportedModality):
            assert caught.value.supported == ("image-latents",)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_invalid_request_is_rejected_before_it_is_sent(protocol: str, tmp_path: Path) -> None:
    async with run_servers(FakeEngine()) as servers, make_client(servers, protocol, tmp_path) as client:
        for fields in ({"steps": 0}, {"stepps": 3}, {"size": "64x64"}):
            with pytest.raises(errors.InvalidRequest):
                client.stream("a sea", **fields)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_failure_after_the_header_raises_without_a_retry(protocol: str, tmp_path: Path) -> None:
    engine = FakeEngine(free_running=True)
    engine.fail_with = RuntimeError("secret")
    async with run_servers(engine) as servers, make_client(servers, protocol, tmp_path) as client:
        with pytest.raises(errors.CodecError) as caught:
            await client.generate("a sea")
        assert "secret" not in str(caught.value)
        assert len(engine.started) == 1


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_overloaded_server_is_retried_after_its_retry_after(protocol: str, tmp_path: Path) -> None:
    engine = FakeEngine()
    async with (
        run_servers(engine, max_jobs=1) as servers,
        make_client(servers, protocol, tmp_path, retries=8) as client,
        make_client(servers, protocol, tmp_path, retries=0) as impatient,
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


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_timeout_covers_the_whole_generation(protocol: str, tmp_path: Path) -> None:
    engine = FakeEngine()
    async with run_servers(engine) as servers, make_client(servers, protocol, tmp_path, timeout_s=1) as client:
        task = asyncio.create_task(client.generate("a sea"))
        await engine.wait_until_started(1)
        with pytest.raises(errors.DeadlineExceeded, match="did not finish within 1 s"):
            await task
        await engine.wait_until_ended(1)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_different_map_than_the_pinned_one_raises_map_mismatch(protocol: str, tmp_path: Path) -> None:
    engine = FakeEngine()
    async with run_servers(engine) as servers, make_client(servers, protocol, tmp_path, pinned_map=DIGEST) as client:
        with pytest.raises(errors.MapMismatch, match=DIGEST):
            await client.generate("a sea")
        assert engine.started == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_map_is_cached_and_read_from_the_cache_by_hash(protocol: str, tmp_path: Path) -> None:
    bundle = bundle_of(MODEL)
    async with run_servers(FakeEngine(), bundle=bundle) as servers:
        async with make_client(servers, protocol, tmp_path) as client:
            assert await client.latent_map() == bundle
            with pytest.raises(errors.InvalidMap, match=f"no.* map.* {DIGEST}; available: .*{bundle.hash}"):
                await client.latent_map(DIGEST)
        address = make_client(servers, protocol, tmp_path)
    async with address as offline:  # the server has stopped
        assert await offline.latent_map(bundle.hash) == bundle
        asset = tmp_path / "sha256" / next(iter(bundle.assets)).removeprefix("sha256:")
        asset.write_bytes(b"damaged")
        assert load_bundle(offline.cache, bundle.hash) is None
        with pytest.raises(errors.CodecError):
            await offline.latent_map(bundle.hash)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_map_is_found_by_the_hash_in_the_response(protocol: str, tmp_path: Path) -> None:
    other = replace(VIDEO_MODEL, latent_space="x/y", aliases=("moving",))
    async with (
        run_servers(FakeEngine(free_running=True)) as servers,
        make_client(servers, protocol, tmp_path) as client,
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


async def test_server_address_may_end_in_v1(tmp_path: Path) -> None:
    async with (
        run_servers(FakeEngine(free_running=True)) as servers,
        HttpClient(f"{http_address(servers)}/v1", cache_dir=tmp_path) as client,
    ):
        assert (await client.generate("a sea", size=(64, 64))).latents.shape == (1, 4, 8, 8)


async def test_dictionary_is_downloaded_verified_and_cached(tmp_path: Path) -> None:
    async with run_servers(FakeEngine(free_running=True), bundle=bundle_with_dictionary()) as servers:
        for _ in range(2):
            async with HttpClient(str(servers.http._base_url), cache_dir=tmp_path) as client:
                answer = await client.generate("a sea", pipeline="int8", size=(64, 64))
                assert not answer.latents.any()
                assert client.cache.get(DIGEST) == DICTIONARY


async def test_gateway_returns_the_same_latents_as_its_upstream(
    engine: DiffusersEngine, tiny_model: LoadedModel, tmp_path: Path
) -> None:
    async with run_servers(engine, tiny_model.info) as servers, run_http_gateway(servers.grpc_address) as (_, gateway):
        async with HttpClient(str(gateway._base_url), cache_dir=tmp_path) as client:
            via_gateway = await client.generate("a sea", **FIELDS)
        async with make_client(servers, "grpc", tmp_path) as direct:
            assert np.array_equal(via_gateway.latents, (await direct.generate("a sea", **FIELDS)).latents)


async def test_frame_over_the_default_grpc_message_limit_is_received(tmp_path: Path) -> None:
    model = replace(MODEL, limits=RequestLimits(max_side=8192))
    async with (
        run_servers(FakeEngine(free_running=True), model) as servers,
        make_client(servers, "grpc", tmp_path) as client,
    ):
        answer = await client.generate("a sea", size=(8192, 8192), steps=1)
        assert answer.latents.nbytes == 8 * 2**20


def test_invalid_server_address_raises_invalid_settings() -> None:
    with pytest.raises(errors.InvalidSettings, match="ftp"):
        HttpClient("ftp://127.0.0.1")
