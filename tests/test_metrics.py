"""The metrics at /metrics: correct counts, bounded labels, and the conventions of Prometheus."""

import shutil
import subprocess
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import grpc.aio
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bench.counted_requests import LONG_STEPS, read_counts_of, send_requests
from codec_http.metrics import start_metrics_server
from codec_wire.grpc import MAP_HASH_KEY
from core.api_keys import ApiKeys
from core.engine import Event, Job
from core.plan import StreamPlan
from tests.support.fake_engine import FakeEngine
from tests.support.grpc_requests import request
from tests.support.http_requests import IMAGES, LATENTS
from tests.support.serving import Servers, run_http_gateway, run_servers


class MixedEngine:
    """An engine that completes short jobs at once, and holds those with LONG_STEPS until they are cancelled."""

    def __init__(self) -> None:
        self._held, self._free = FakeEngine(), FakeEngine(free_running=True)

    def generate(self, plan: StreamPlan, job: Job) -> AsyncGenerator[Event, None]:
        """See core.engine.Engine."""
        return (self._held if plan.steps == LONG_STEPS else self._free).generate(plan, job)


async def scrape(http: aiohttp.ClientSession) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return the samples at /metrics by name and labels."""
    async with http.get("/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        text = await response.text()
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


COST = 64 * 64 * 2
"""Cost of the requests of tests.support: 64x64 pixels, 2 steps."""


async def generate(servers: Servers, **fields: Any) -> None:
    async with servers.http.post(IMAGES, json=LATENTS | fields) as response:
        await response.read()


async def test_metrics_equal_what_a_client_counted_over_mixed_requests() -> None:
    async with run_servers(MixedEngine()) as servers:
        sent = await send_requests(servers.http, servers.stub, 300)
        assert len(sent.requests) > 12
        served = await read_counts_of(servers.http, 300)
        assert served.requests == sent.requests
        metrics = await scrape(servers.http)
    assert metrics["codec_active_jobs"][()] == metrics["codec_queued_jobs"][()] == metrics["codec_active_cost"][()] == 0
    header = metrics["codec_time_to_header_seconds_count"][("modality", "image"), ("operation", "generate")]
    complete = sum(count for labels, count in sent.requests.items() if labels.outcome in ("ok", "cancelled"))
    assert header == complete
    durations = metrics["codec_request_duration_seconds_count"].values()
    assert sum(durations) == sum(count for labels, count in sent.requests.items() if labels.outcome == "ok")


async def test_bytes_saved_are_those_of_raw_latents_minus_those_sent() -> None:
    labels = (("coding", "identity"), ("operation", "generate"), ("pipeline", "int4-adaptive"), ("protocol", "http"))
    async with run_servers(FakeEngine(free_running=True)) as servers:
        async with servers.http.post(IMAGES, json=LATENTS | {"pipeline": "int4-adaptive"}) as response:
            size = len(await response.read())
        metrics = await scrape(servers.http)
    assert metrics["codec_response_bytes_total"][labels] == size
    assert metrics["codec_raw_latent_bytes_total"][labels] == 4 * 8 * 8 * 2


async def test_gauges_show_the_load_the_state_and_the_versions() -> None:
    engine = FakeEngine()
    async with run_servers(engine, max_jobs=3) as servers:
        response = await servers.http.post(IMAGES, json=LATENTS)
        metrics = await scrape(servers.http)
        assert metrics["codec_active_jobs"][()] == 1
        assert metrics["codec_active_cost"][()] == 64 * 64 * 2
        assert metrics["codec_max_jobs"][()] == 3
        assert metrics["codec_state"][(("codec_state", "serving"),)] == 1
        assert sum(metrics["codec_state"].values()) == 1
        ((labels, value),) = metrics["codec_build_info"].items()
        assert value == 1
        assert {"version", "codec_version", "torch", "diffusers", "transformers", "reference"} <= dict(labels).keys()
        assert metrics["codec_device_memory_bytes"][("device", "cpu"), ("kind", "resident")] > 10**7
        assert metrics["process_resident_memory_bytes"][()] > 10**7
        engine.release_steps(2)
        await response.read()
        assert (await scrape(servers.http))["codec_cost_unit_seconds"][()] > 0


async def test_no_label_contains_what_a_client_sent() -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        for fields in ({"model": "evil"}, {"pipeline": "evil"}, {"evil": 1}, {"latent_space": "evil"}):
            await generate(servers, **fields)
        for path in ("/evil", f"{IMAGES}/evil"):
            await servers.http.post(path)
        async with servers.http.get("/metrics", headers={"X-Request-Id": "evil"}) as response:
            text = await response.text()
    assert "evil" not in text
    assert 'outcome="invalid_request"' in text


async def test_gateway_has_metrics_without_a_device() -> None:
    async with (
        run_servers(FakeEngine(free_running=True)) as servers,
        run_http_gateway(servers.grpc_address) as (_, http),
    ):
        async with http.post(IMAGES, json=LATENTS) as response:
            await response.read()
        metrics = await scrape(http)
        # The gateway also counts its own requests only.
        assert sum(metrics["codec_requests_total"].values()) == 1
        assert metrics["codec_queue_wait_seconds_count"]


async def test_metrics_need_a_key_except_on_their_own_port() -> None:
    async with run_servers(FakeEngine(), api_keys=ApiKeys("secret", None)) as servers:
        assert (await servers.http.get("/metrics")).status == 401
        with_key = await servers.http.get("/metrics", headers={"Authorization": "Bearer secret"})
        assert with_key.status == 200
        server = await start_metrics_server(servers.service, "127.0.0.1", 0)
        try:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as http:
                assert "codec_active_jobs" in await scrape(http)
                assert (await http.get("/livez")).status == 404
        finally:
            await server.stop()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
async def test_promtool_finds_no_fault() -> None:
    async with run_servers(FakeEngine(free_running=True)) as servers:
        await generate(servers)
        text = await (await servers.http.get("/metrics")).read()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


async def test_grpc_refusal_has_retry_hints_and_every_planned_call_the_map_hash_in_its_trailers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("core.admission.random.random", lambda: 0.0)  # of the random delay in Retry-After
    engine = FakeEngine()
    async with run_servers(engine, max_cost=COST) as servers:  # so that a call is refused because of its plan
        first = servers.stub.Generate(request())
        await first.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await servers.stub.Generate(request()).read()
        trailers = dict(caught.value.trailing_metadata())
        assert trailers["grpc-retry-pushback-ms"] == "1000"
        assert trailers["retry-after"] == "1"
        engine.release_steps(2)
        while await first.read() is not grpc.aio.EOF:
            pass
        ending = dict(await first.trailing_metadata())
        assert ending[MAP_HASH_KEY] == trailers[MAP_HASH_KEY] == dict(await first.initial_metadata())[MAP_HASH_KEY]
        assert "retry-after" not in ending
