"""The Generate method over a real gRPC channel."""

from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode
from grpc_status import rpc_status

from codec_wire.errors import NotReady
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from core.lifecycle import State
from tests.support.fake_engine import FakeEngine
from tests.support.grpc_requests import request
from tests.support.serving import LATENT_SPACE, VIDEO_MODEL, run_servers


async def test_image_stream_is_a_header_and_one_frame() -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        call = servers.stub.Generate(request(pipeline="int8"))
        messages = [message async for message in call]
        assert [message.WhichOneof("event") for message in messages] == ["header", "frame"]
        assert messages[0].header.latent_space_id == LATENT_SPACE
        assert messages[0].header.total_frames == 1
        frame = messages[1].frame
        assert all(frame.HasField(name) for name in ("data", "seq", "keyframe", "done", "finish_reason"))
        metadata = dict(await call.initial_metadata())
        assert metadata["codec-latent-map"] == servers.service.models.require_default().bundle.hash


async def test_random_seed_is_reported_and_reproduces_the_result() -> None:
    engine = FakeEngine(free_running=True)
    async with run_servers(engine) as servers:
        reported = []
        requests: list[dict[str, Any]] = [{"random_seed": True}, {"random_seed": True}, {"seed": 2**64 - 1}, {}]
        for fields in requests:
            call = servers.stub.Generate(request(**fields))
            reported.append(int(dict(await call.initial_metadata())["codec-seed"]))
            assert [message async for message in call]
    assert [plan.seed for plan in engine.started] == reported
    assert len(set(reported)) == 4
    assert reported[2:] == [2**64 - 1, 42]


async def test_progress_is_sent_if_requested() -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        messages = [message async for message in servers.stub.Generate(request(progress=True))]
        kinds = [message.WhichOneof("event") for message in messages]
        assert kinds == ["header", "progress", "progress", "frame"]
        assert (messages[2].progress.step, messages[2].progress.total_steps) == (2, 2)


async def test_video_stream_has_its_frames_and_keyframes() -> None:
    async with run_servers(FakeEngine(free_running=True), VIDEO_MODEL) as servers:
        call = servers.stub.Generate(
            request(modality=pb.MODALITY_VIDEO_LATENTS, frames=4, fps=8, pipeline="delta+int4", keyframe_interval=3)
        )
        header, *frames = [message async for message in call]
        assert (header.header.fps, header.header.total_frames) == (8, 4)
        assert [message.frame.keyframe for message in frames] == [True, False, False, True]


async def read_error(call: Any) -> grpc.aio.AioRpcError:
    """Read the messages of `call` until it fails, and return the error."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while await call.read() is not grpc.aio.EOF:
            pass
    return caught.value


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"prompt": ""}, StatusCode.INVALID_ARGUMENT, "prompt"),
        ({"steps": 0}, StatusCode.INVALID_ARGUMENT, "steps"),
        ({"steps": 251}, StatusCode.INVALID_ARGUMENT, "steps"),
        ({"size": pb.PixelSize(width=65, height=64)}, StatusCode.INVALID_ARGUMENT, "size"),
        ({"size": pb.PixelSize(width=64)}, StatusCode.INVALID_ARGUMENT, "size"),
        ({"pipeline": "int2"}, StatusCode.INVALID_ARGUMENT, "pipeline"),
        ({"pipeline": "delta+int8"}, StatusCode.INVALID_ARGUMENT, "pipeline"),
        ({"guidance_scale": float("nan")}, StatusCode.INVALID_ARGUMENT, "guidance_scale"),
        ({"modality": 7}, StatusCode.INVALID_ARGUMENT, "modality"),
        ({"frames": 3}, StatusCode.INVALID_ARGUMENT, "frames"),
        ({"model": "sd9"}, StatusCode.NOT_FOUND, None),
        ({"latent_space": "a/b"}, StatusCode.NOT_FOUND, None),
        ({"modality": pb.MODALITY_VIDEO_LATENTS}, StatusCode.UNIMPLEMENTED, None),
    ],
)
async def test_invalid_field_is_named_in_the_error_details(
    fields: dict[str, Any], code: StatusCode, field: str | None
) -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        error = await read_error(servers.stub.Generate(request(**fields)))
        assert error.code() is code
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
        assert status is not None
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        assert status.details[0].Unpack(info)
        if field is not None:
            assert status.details[1].Unpack(bad)
            assert bad.field_violations[0].field == field
        assert [message async for message in servers.stub.Generate(request())]


async def test_request_over_the_job_limit_is_resource_exhausted_with_retry_info() -> None:
    engine = FakeEngine()
    async with run_servers(engine, max_jobs=1) as servers:
        running = servers.stub.Generate(request())
        await running.read()
        error = await read_error(servers.stub.Generate(request()))
        assert error.code() is StatusCode.RESOURCE_EXHAUSTED
        retry = error_details_pb2.RetryInfo()
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
        assert status is not None
        assert status.details[1].Unpack(retry)
        assert retry.retry_delay.seconds >= 1
        engine.release_steps(2)
        assert (await running.read()).frame.done


async def test_refused_call_has_no_initial_metadata_so_that_proxies_may_retry_it() -> None:
    engine = FakeEngine()
    async with run_servers(engine, max_cost=2 * 64 * 64) as servers:  # so that the call is refused because of its plan
        running = servers.stub.Generate(request())
        await running.read()
        refused = servers.stub.Generate(request())
        assert (await read_error(refused)).code() is StatusCode.RESOURCE_EXHAUSTED
        assert "codec-latent-map" not in dict(await refused.initial_metadata() or ())
        running.cancel()


async def test_cancelled_call_ends_its_job() -> None:
    engine = FakeEngine()
    async with run_servers(engine) as servers:
        call = servers.stub.Generate(request(steps=30))
        await call.read()
        call.cancel()
        await engine.wait_until_ended(1)
        assert (engine.finished, servers.service.admission.jobs) == (0, 0)


@pytest.mark.slow
async def test_client_deadline_ends_the_job() -> None:
    engine = FakeEngine()
    async with run_servers(engine) as servers:
        error = await read_error(servers.stub.Generate(request(steps=30), timeout=1.0))
        assert error.code() is StatusCode.DEADLINE_EXCEEDED
        await engine.wait_until_ended(1)
        assert (engine.finished, servers.service.admission.jobs) == (0, 0)


async def test_request_timeout_of_the_server_ends_the_job() -> None:
    engine = FakeEngine()
    async with run_servers(engine, request_timeout_s=0.1) as servers:
        error = await read_error(servers.stub.Generate(request(steps=30)))
        assert error.code() is StatusCode.DEADLINE_EXCEEDED
        assert "deadline exceeded" in str(error.details())


async def test_failure_after_the_header_is_an_error_frame_and_internal_status() -> None:
    engine = FakeEngine(free_running=True)
    engine.fail_with = RuntimeError("secret detail")
    async with run_servers(engine) as servers:
        call = servers.stub.Generate(request())
        assert (await call.read()).HasField("header")
        frame = (await call.read()).frame
        assert (frame.data, frame.done, frame.finish_reason) == (b"", True, "error")
        error = await read_error(call)
        assert error.code() is StatusCode.INTERNAL
        assert "secret" not in str(error.details())


async def test_draining_server_rejects_new_calls_and_completes_active_ones() -> None:
    engine = FakeEngine()
    async with run_servers(engine) as servers:
        running = servers.stub.Generate(request())
        await running.read()
        servers.service.lifecycle.transition_to(State.DRAINING)
        error = await read_error(servers.stub.Generate(request()))
        assert error.code() is StatusCode.UNAVAILABLE
        engine.release_steps(2)
        assert (await running.read()).frame.finish_reason == "ok"


async def test_calls_cancelled_by_the_server_report_the_reason() -> None:
    engine = FakeEngine()
    async with run_servers(engine) as servers:
        running = servers.stub.Generate(request())
        await running.read()
        servers.service.cancel_all(lambda: NotReady("the server is shutting down", 5))
        assert (await running.read()).frame.finish_reason == "error"
        error = await read_error(running)
        assert (error.code(), error.details()) == (StatusCode.UNAVAILABLE, "the server is shutting down")
