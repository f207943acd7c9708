"""Traces: one trace from the client through the gateway to the server, and nothing without an exporter."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc.aio
import pytest
from opentelemetry.sdk.trace import TracerProvider

from codec_client import HttpClient
from codec_wire.errors import InvalidSettings
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub
from codec_wire.trace_context import current_traceparent, parse_traceparent
from core.tracing import configured_exporter
from tests.support.fake_engine import FakeEngine
from tests.support.grpc_requests import request
from tests.support.http_requests import IMAGES, LATENTS
from tests.support.processes import Process, start_process
from tests.support.serving import run_http_gateway, run_servers

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CONSOLE = {"OTEL_TRACES_EXPORTER": "console", "OTEL_BSP_SCHEDULE_DELAY": "50", "HF_HUB_OFFLINE": "1"}
PARTS = {"plan", "queue", "sample", "encode", "stream"}


def spans_of(process: Process) -> dict[str, dict[str, Any]]:
    """Return the spans that `process` has printed, by name."""
    spans = [json.loads(line) for line in process.lines if line.startswith('{"name"')]
    return {span["name"]: span for span in spans}


def parent_of(span: dict[str, Any]) -> str:
    return str(span["parent_id"]).removeprefix("0x")


@contextmanager
def server_and_gateway() -> Iterator[tuple[Process, str, Process, str]]:
    """Run a server and its gateway; yield each process and its address, HOST:PORT and URL."""
    with ExitStack() as stack:
        command = ["serve", "--port", "0", "--grpc-port", "0", "--threads", "1"]
        server = stack.enter_context(start_process(command, **CONSOLE))
        address = server.wait_for(r"gRPC +(127\.0\.0\.1:\d+)").group(1)
        server.wait_for("Ready after")
        gateway = stack.enter_context(start_process(["gateway", "--upstream", address, "--port", "0"], **CONSOLE))
        url = gateway.wait_for(r"(http://127\.0\.0\.1:\d+)/v1/images").group(1)
        gateway.wait_for("the upstream servers serve")
        yield server, address, gateway, url


@pytest.mark.slow
async def test_one_trace_from_the_client_through_the_gateway_to_the_server() -> None:
    tracer = TracerProvider().get_tracer("test")
    with server_and_gateway() as (server, address, gateway, url):
        async with HttpClient(url) as client:
            with tracer.start_as_current_span("client") as span:
                context = span.get_span_context()
                await client.generate("a sea", size=(64, 64), steps=2, pipeline="int8-adaptive")
        for process in (server, gateway):
            process.wait_for('"name": "generate"')
        in_server, in_gateway = spans_of(server), spans_of(gateway)
        # The server also continues the traces of clients that use gRPC directly.
        async with grpc.aio.insecure_channel(address) as channel:
            call = LatentServiceStub(channel).Generate(
                request(pipeline="int4"), metadata=[("traceparent", TRACEPARENT)]
            )
            async for _ in call:
                pass
        server.wait_for("0af7651916cd43dd8448eb211c80319c")
    assert in_server.keys() == PARTS | {"generate"}
    assert in_gateway.keys() == {"generate", "plan", "queue", "stream"}
    all_spans = [*in_server.values(), *in_gateway.values()]
    assert {found["context"]["trace_id"] for found in all_spans} == {f"0x{context.trace_id:032x}"}
    assert parent_of(in_gateway["generate"]) == f"{context.span_id:016x}"
    assert parent_of(in_server["generate"]) == in_gateway["generate"]["context"]["span_id"].removeprefix("0x")
    for spans in (in_server, in_gateway):
        root = spans["generate"]
        for name in spans.keys() - {"generate"}:
            assert parent_of(spans[name]) == root["context"]["span_id"].removeprefix("0x")
            assert root["start_time"] <= spans[name]["start_time"] <= spans[name]["end_time"] <= root["end_time"]
        attributes = root["attributes"]
        assert (attributes["codec.pipeline"], attributes["codec.outcome"]) == ("int8-adaptive", "ok")
    ids = {spans["generate"]["attributes"]["codec.request_id"] for spans in (in_server, in_gateway)}
    assert len(ids) == 1
    assert in_server["generate"]["attributes"]["codec.steps"] == 2


async def test_gateway_without_an_exporter_passes_the_trace_and_the_request_id_on() -> None:
    async with (
        run_servers(FakeEngine(free_running=True)) as servers,
        run_http_gateway(servers.grpc_address) as (_, http),
    ):
        received: list[Any] = []

        class Recorder:
            def start(self, record: Any) -> None:
                received.append((record.traceparent, record.request_id))

            def end(self, record: Any) -> None:
                """Do nothing."""

            async def stop(self) -> None:
                """Do nothing."""

        servers.service.telemetry.tracer = Recorder()
        for traceparent in (TRACEPARENT, "00-wrong"):
            headers = {"traceparent": traceparent, "X-Request-Id": "my-id"}
            async with http.post(IMAGES, json=LATENTS, headers=headers) as response:
                await response.read()
    assert received == [(TRACEPARENT, "my-id"), (None, "my-id")]


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        TRACEPARENT.upper(),
        TRACEPARENT + "-00",
        "01" + TRACEPARENT[2:],
        "00-" + "0" * 32 + TRACEPARENT[35:],
        TRACEPARENT[:36] + "0" * 16 + "-01",
    ],
)
def test_invalid_traceparent_is_ignored(value: str | None) -> None:
    assert parse_traceparent(value) is None


def test_client_sends_no_traceparent_outside_of_a_span() -> None:
    assert current_traceparent() is None


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_TRACES_EXPORTER": "none"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a", "OTEL_SDK_DISABLED": "true"}, None),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "console"),
    ],
)
def test_variables_of_opentelemetry_select_the_exporter(environment: dict[str, str], expected: str | None) -> None:
    assert configured_exporter(environment) == expected


@pytest.mark.parametrize(
    "environment",
    [{"OTEL_TRACES_EXPORTER": "zipkin"}, {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}],
)
def test_unsupported_exporter_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(InvalidSettings, match="must be"):
        configured_exporter(environment)


@pytest.mark.slow
def test_nothing_of_opentelemetry_is_imported_without_an_exporter() -> None:
    code = (
        "import sys, codec_http.server, codec_grpc.server, core.tracing, codec_client.http_client\n"
        "assert core.tracing.configured_tracer() is None\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
