"""The line that is logged at the end of every request: the same fields and outcomes over both protocols."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import grpc.aio
import pytest

from codec_server.terminal.json_log import JsonFormatter
from codec_wire import WireFormat
from codec_wire.errors import OutOfMemory
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.grpc import REQUEST_ID_KEY
from codec_wire.http import REQUEST_ID_HEADER
from core.engine import Event, Job
from core.plan import StreamPlan
from core.request_line import RequestLine
from core.telemetry import MAX_REFUSALS_PER_S, Telemetry
from tests.support.fake_engine import FakeEngine
from tests.support.grpc_requests import request
from tests.support.http_requests import IMAGES, LATENTS
from tests.support.logged_errors import logged_errors
from tests.support.serving import VIDEO_MODEL, Servers, read_stream, run_servers

PROTOCOLS = ("http", "grpc")


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "core.telemetry")
    return caplog


def requests_of(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return the fields of the lines of all requests that have ended."""
    return [record.msg.fields() for record in caplog.records if isinstance(record.msg, RequestLine)]


async def logged(caplog: pytest.LogCaptureFixture, count: int = 1) -> list[dict[str, Any]]:
    """Wait until `count` requests have ended and return the fields of their lines."""
    async with asyncio.timeout(10):
        while len(requests_of(caplog)) < count:
            await asyncio.sleep(0.005)
    return requests_of(caplog)


async def generate(servers: Servers, protocol: str, request_id: str | None = None, **fields: Any) -> str:
    """Send a small request, read its response, and return the id of the request in the response."""
    if protocol == "http":
        headers = {} if request_id is None else {REQUEST_ID_HEADER: request_id}
        async with servers.http.post(IMAGES, json=LATENTS | fields, headers=headers) as response:
            await response.read()
            return response.headers[REQUEST_ID_HEADER]
    metadata = [] if request_id is None else [(REQUEST_ID_KEY, request_id)]
    call = servers.stub.Generate(request(**fields), metadata=metadata)
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError:
        pass
    return str(dict(await call.trailing_metadata())[REQUEST_ID_KEY])


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_line_of_a_generation_has_its_fields(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        request_id = await generate(servers, protocol, pipeline="int8")
        (fields,) = await logged(caplog)
    assert fields.pop("target") == ("POST /v1/images/generations" if protocol == "http" else "Generate")
    assert fields.pop("status") == ("200" if protocol == "http" else "OK")
    assert 0 <= fields.pop("queue_s") <= fields.pop("header_s") <= fields.pop("first_frame_s") <= fields.pop("total_s")
    assert 256 < fields.pop("bytes") < 512
    assert fields == {
        "protocol": protocol,
        "outcome": "ok",
        "request_id": request_id,
        "operation": "generate",
        "model": "tiny-sd",
        "modality": "image",
        "pipeline": "int8",
        "coding": "identity",
        "frames": 1,
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_request_id_of_the_client_is_used_if_it_is_valid(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        assert await generate(servers, protocol, "my-id.1/2") == "my-id.1/2"
        refused = ("with space", "x" * 129, 'quote"', "") if protocol == "http" else ("with space", "x" * 129)
        for invalid in refused:
            assert re.fullmatch("[0-9a-f]{32}", await generate(servers, protocol, invalid))
        # Errors have an id too.
        assert await generate(servers, protocol, "of-an-error", steps=0)
        first, *_, last = await logged(caplog, len(refused) + 2)
    assert first["request_id"] == "my-id.1/2"
    assert (last["request_id"], last["outcome"]) == ("of-an-error", "invalid_request")


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_failure_after_the_header_is_the_outcome(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine(free_running=True)
    engine.fail_with = OutOfMemory("the device has too little memory")
    async with run_servers(engine) as servers:
        await generate(servers, protocol)
        (fields,) = await logged(caplog)
    assert (fields["outcome"], fields["error"]) == ("out_of_memory", "the device has too little memory")
    assert fields["status"] == ("200" if protocol == "http" else "RESOURCE_EXHAUSTED")
    assert "frames" not in fields


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_disconnected_client_is_the_outcome_cancelled(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine()
    async with run_servers(engine) as servers:
        if protocol == "http":
            (await servers.http.post(IMAGES, json=LATENTS)).close()
        else:
            call = servers.stub.Generate(request())
            await call.read()
            call.cancel()
        (fields,) = await logged(caplog)
    assert fields["outcome"] == "cancelled"
    assert fields["status"] == ("499" if protocol == "http" else "CANCELLED")


async def test_clients_that_disconnect_while_a_message_is_sent_are_not_errors(caplog: pytest.LogCaptureFixture) -> None:
    # grpc.aio raises CancelledError or InternalError, depending on which event it handles first: hence several calls.
    engine, calls = FakeEngine(free_running=True), 20
    large_video = replace(VIDEO_MODEL, name="large-video", default_size=(2048, 2048))
    async with run_servers(engine, large_video) as servers:
        for _ in range(calls):
            call = servers.stub.Generate(
                pb.GenerateRequest(prompt="x", modality=pb.MODALITY_VIDEO_LATENTS, frames=120, steps=1)
            )
            assert (await call.read()).HasField("header")
            await call.read()
            await asyncio.sleep(0.01)  # the next frames fill the buffers
            call.cancel()
        ended = await logged(caplog, calls)
    assert {(fields["status"], fields["outcome"]) for fields in ended} == {("CANCELLED", "cancelled")}
    assert logged_errors(caplog) == []


class LateEngine(FakeEngine):
    """An engine that ends a generation long after its last frame, as an upstream server can."""

    async def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        """See core.engine.Engine."""
        async with aclosing(super().generate(plan, job)) as events:
            async for event in events:
                yield event
        await asyncio.sleep(60)


async def test_client_that_disconnects_after_the_complete_response_has_its_status(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with run_servers(LateEngine(free_running=True)) as servers:
        async with servers.http.post(IMAGES, json=LATENTS, headers={"Connection": "close"}) as response:
            assert read_stream(await response.read(), WireFormat.MSGPACK)[1][-1].done
        (fields,) = await logged(caplog)
    assert (fields["status"], fields["outcome"]) == ("200", "ok")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("limit", ["jobs", "cost"])
async def test_deadline_and_refusal_are_outcomes(protocol: str, limit: str, caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine()
    limits: dict[str, Any] = {"max_jobs": 1} if limit == "jobs" else {"max_cost": 64 * 64 * 2}
    async with run_servers(engine, request_timeout_s=0.5, **limits) as servers:
        running = asyncio.create_task(generate(servers, protocol))
        await engine.wait_until_started(1)
        await generate(servers, protocol)
        await running
        refused, late = await logged(caplog, 2)
    assert refused["outcome"] == "overloaded"
    # If there is no place for another job, the request is refused before it is read.
    assert refused.get("pipeline") == (None if limit == "jobs" else "raw")
    assert "queue_s" not in refused
    assert late["outcome"] == "deadline_exceeded"


@pytest.mark.parametrize("outcome", ["overloaded", "not_ready"])
def test_refusals_are_logged_at_a_limited_rate(
    outcome: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 10.0
    monkeypatch.setattr("core.rate_limit.time.monotonic", lambda: now)
    telemetry = Telemetry()

    def refuse(count: int, outcome: str = outcome) -> None:
        for _ in range(count):
            record = telemetry.begin("http", "POST /v1/images/generations", "generate")
            record.fail_with(outcome, "later")
            telemetry.end(record)

    refuse(MAX_REFUSALS_PER_S + 5)
    assert len(requests_of(caplog)) == MAX_REFUSALS_PER_S
    refuse(30, "invalid_request")
    assert len(requests_of(caplog)) == MAX_REFUSALS_PER_S + 30
    now += 1
    refuse(2)
    assert len(requests_of(caplog)) == MAX_REFUSALS_PER_S + 32
    assert [record.message for record in caplog.records if isinstance(record.msg, str)] == [
        "5 more requests were refused or cancelled and not logged"
    ]


async def test_deadline_of_a_grpc_client_is_not_a_cancellation(caplog: pytest.LogCaptureFixture) -> None:
    async with run_servers(FakeEngine()) as servers:
        call = servers.stub.Generate(request(), timeout=0.1)
        with pytest.raises(grpc.aio.AioRpcError):
            async for _ in call:
                pass
        (fields,) = await logged(caplog)
    assert (fields["status"], fields["outcome"]) == ("DEADLINE_EXCEEDED", "deadline_exceeded")


async def test_unknown_path_is_logged_without_an_operation(caplog: pytest.LogCaptureFixture) -> None:
    async with run_servers(FakeEngine()) as servers:
        assert (await servers.http.get("/nothing\n?a=b")).status == 404
        (fields,) = await logged(caplog)
    assert (fields["outcome"], fields["target"]) == ("not_found", "GET /nothing?a=b")
    assert "operation" not in fields


def formatted(message: object, **values: Any) -> dict[str, Any]:
    """Return the JSON object of a log record with this message."""
    record = logging.makeLogRecord({"msg": message, "name": "core.x", "levelname": "INFO", **values})
    line = JsonFormatter().format(record)
    assert "\n" not in line
    parsed: dict[str, Any] = json.loads(line)
    return parsed


def test_json_line_of_a_request_has_all_fields() -> None:
    telemetry = Telemetry()
    record = telemetry.begin("http", "GET /", request_id="abc")
    record.fail_with("not_found", "a\nb")
    telemetry.end(record)
    message = RequestLine(record)
    line = formatted(message)
    assert line | message.fields() == line
    assert (line["message"], line["level"], line["request_id"], line["error"]) == ("request", "info", "abc", "a\nb")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]{12}\+00:00", line["time"])
    assert "\n" not in str(message)


def test_json_line_of_other_messages_has_the_id_of_the_request_and_the_exception() -> None:
    Telemetry().begin("http", "GET /", request_id="abc")
    error = ValueError("wrong")
    line = formatted("%d of %s", args=(1, "x"), exc_info=(ValueError, error, None))
    assert (line["message"], line["request_id"], line["logger"]) == ("1 of x", "abc", "core.x")
    assert "ValueError: wrong" in line["exception"]
