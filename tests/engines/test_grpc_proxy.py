"""Ray Serve's own gRPC proxy in front of the replicas, without the server, and an unmodified gRPC client."""

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
from grpc import StatusCode

from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub
from codec_wire.grpc import MAP_HASH_KEY, MAP_PIN_KEY, REQUEST_ID_KEY, SEED_KEY
from core.probe import sample_image
from core.service import LatentService
from tests.support.grpc_requests import SIZE, request
from tests.support.held_model import HELD_STEP, HeldFiles
from tests.support.serving import run_servers_for

pytestmark = pytest.mark.slow

METADATA = (("application", "scenes"), (REQUEST_ID_KEY, "a1"))
FIELDS: dict[str, Any] = {"steps": 3, "seed": 42, "pipeline": "int8"}


@pytest.fixture
async def stub(proxy_address: str) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(proxy_address) as channel:
        yield LatentServiceStub(channel)


async def messages_of(call: Any) -> list[Any]:
    return [message async for message in call]


async def test_messages_are_those_of_the_local_engine(stub: Any, local: LatentService, ray_files: HeldFiles) -> None:
    call = stub.Generate(request(**FIELDS, progress=True, preview_every=2), metadata=METADATA)
    received = await messages_of(call)
    async with run_servers_for(local) as servers:
        expected = servers.stub.Generate(request(**FIELDS, progress=True, preview_every=2))
        assert received == await messages_of(expected)
        sent_first = dict(await expected.initial_metadata())
    assert received[0].WhichOneof("event") == "header"
    # The proxy sends no initial metadata: all of it is in the trailers.
    trailers = dict(await call.trailing_metadata())
    assert trailers | sent_first == trailers
    assert trailers[MAP_HASH_KEY] == next(iter(local.models)).bundle.hash
    assert trailers[REQUEST_ID_KEY] == "a1"
    assert trailers[SEED_KEY] == "42"


async def test_video_has_the_bytes_of_the_local_engine(stub: Any, local: LatentService, ray_files: HeldFiles) -> None:
    video = {
        "modality": pb.MODALITY_VIDEO_LATENTS,
        "frames": 9,
        "fps": 8,
        "keyframe_interval": 4,
        "pipeline": "delta+int8",
    }
    async with run_servers_for(local) as servers:
        expected = await messages_of(servers.stub.Generate(request(seed=1, **video)))
    assert await messages_of(stub.Generate(request(seed=1, **video), metadata=METADATA)) == expected


async def test_discovery_describes_the_replica(stub: Any, local: LatentService) -> None:
    (served,) = local.models
    info = await stub.GetServerInfo(pb.GetServerInfoRequest(), metadata=METADATA)
    assert [model.model.name for model in info.models] == [served.model.name]
    found = await stub.GetLatentMap(pb.GetLatentMapRequest(), metadata=METADATA)
    assert (found.hash, found.document) == (served.bundle.hash, served.bundle.document)


async def test_decode_and_encode_return_the_bytes_of_a_server(
    stub: Any, local: LatentService, ray_files: HeldFiles
) -> None:
    async with run_servers_for(local) as servers:
        results = []
        for one, metadata in ((servers.stub, ()), (stub, METADATA)):
            encoded = await messages_of(
                one.Encode(pb.EncodeRequest(file=sample_image(1), pipeline="int8", size=SIZE), metadata=metadata)
            )
            stream = [
                pb.DecodeRequest(options=pb.DecodeOptions(format=pb.PIXEL_FORMAT_PNG), header=encoded[0].header),
                *(pb.DecodeRequest(frame=message.frame) for message in encoded[1:]),
            ]
            results.append((encoded, await messages_of(one.Decode(iter(stream), metadata=metadata))))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("fields", "metadata", "code", "text"),
    [
        ({"size": pb.PixelSize(width=60, height=60)}, (), StatusCode.INVALID_ARGUMENT, "size"),
        ({"model": "unknown"}, (), StatusCode.NOT_FOUND, "unknown"),
        ({}, ((MAP_PIN_KEY, f"sha256:{'0' * 64}"),), StatusCode.FAILED_PRECONDITION, "map"),
    ],
    ids=["size", "model", "map"],
)
async def test_error_has_the_code_and_the_message_of_a_server(
    fields: dict[str, Any],
    metadata: tuple[tuple[str, str], ...],
    code: StatusCode,
    text: str,
    stub: Any,
    local: LatentService,
) -> None:
    raised = []
    async with run_servers_for(local) as servers:
        for one in (servers.stub, stub):
            with pytest.raises(grpc.aio.AioRpcError, match=text) as caught:
                await messages_of(one.Generate(request(**fields), metadata=(*METADATA, *metadata)))
            raised.append((caught.value.code(), caught.value.details()))
    assert raised[0] == raised[1]
    assert raised[0][0] is code


async def test_text_of_an_unexpected_error_is_not_sent(stub: Any, ray_files: HeldFiles) -> None:
    ray_files.failure.write_text("bug")
    call = stub.Generate(request(), metadata=METADATA)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await messages_of(call)
    assert caught.value.code() is StatusCode.INTERNAL
    assert "secret" not in str(caught.value)


async def test_cancelled_call_takes_no_further_step(stub: Any, ray_files: HeldFiles) -> None:
    ray_files.hold.touch()
    call = stub.Generate(request(steps=30, progress=True), metadata=METADATA)
    assert (await call.read()).WhichOneof("event") == "header"
    await ray_files.wait_until_held()
    call.cancel()
    await ray_files.wait_until_idle()
    ray_files.hold.unlink()
    held = ray_files.processes()
    assert len(held) == HELD_STEP
    taken: list[int] = []
    while held[0] not in taken:  # when the process that was held runs another job, it has ended the step
        await messages_of(stub.Generate(request(), metadata=METADATA))
        taken = ray_files.processes()[HELD_STEP:]
    assert len(taken) % 2 == 0
