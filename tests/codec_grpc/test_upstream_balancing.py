"""A gateway in front of several servers: balancing, health, and calls that are repeated on another server."""

import asyncio
import logging
from contextlib import AsyncExitStack

import pytest

from codec_grpc.upstream_calls import _Repetitions
from codec_maps.model_map import map_from_model
from codec_wire import WireFormat
from codec_wire.errors import CodecError, NotReady, Overloaded
from codec_wire.latents import FinishReason
from core.lifecycle import State
from core.metrics_text import metrics_text
from core.service import LatentService
from tests.support.fake_engine import WAIT_S, FakeEngine
from tests.support.http_requests import IMAGES, LATENTS
from tests.support.serving import MODEL, SCALES, read_stream, run_http_gateway
from tests.support.upstream_servers import (
    RefusingEngine,
    WaitingEngine,
    generate,
    generate_all,
    generate_until,
    upstream_server,
)


def metrics_of(gateway: LatentService) -> dict[str, float]:
    """Return {name with labels: value} of the metrics about upstream servers."""
    lines = [line for line in metrics_text(gateway).decode().splitlines() if line.startswith("codec_upstream")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def servers_of(gateway: LatentService) -> tuple[float, float, float]:
    """Return the numbers of servers that are used, refused and unavailable, as the metrics report them."""
    metrics = metrics_of(gateway)
    used, refused, unavailable = (
        metrics[f'codec_upstream_servers{{use="{use}"}}'] for use in ("used", "refused", "unavailable")
    )
    return used, refused, unavailable


async def test_calls_are_sent_to_all_servers_in_turn() -> None:
    async with (
        upstream_server() as a,
        upstream_server() as b,
        upstream_server() as c,
        run_http_gateway(a.address, b.address, c.address) as (_, http),
    ):
        await generate_until(http, lambda: min(a.started, b.started, c.started) > 0)
        before = a.started, b.started, c.started
        assert await generate_all(http, 12) == [200] * 12
        assert (a.started - before[0], b.started - before[1], c.started - before[2]) == (4, 4, 4)


async def test_server_gets_calls_only_while_it_is_serving() -> None:
    async with (
        upstream_server() as a,
        upstream_server(state=State.LOADING) as b,
        run_http_gateway(a.address, b.address) as (gateway, http),
    ):
        assert await generate_all(http, 6) == [200] * 6
        assert b.started == 0
        b.service.lifecycle.transition_to(State.SERVING)
        await generate_until(http, lambda: b.started > 0)
        a.service.lifecycle.transition_to(State.DRAINING)
        assert await generate_all(http, 6) == [200] * 6
        assert gateway.lifecycle.state is State.SERVING
        stopped = asyncio.Event()
        gateway.lifecycle.subscribe(lambda state: stopped.set() if state is State.LOADING else None)
        b.service.lifecycle.transition_to(State.DRAINING)
        await asyncio.wait_for(stopped.wait(), WAIT_S)
        assert await generate_all(http, 1) == [503]


@pytest.mark.parametrize("error", [NotReady("restarting", 5), Overloaded("full", 60)])
async def test_refused_call_is_sent_to_another_server(error: CodecError) -> None:
    async with (
        upstream_server(RefusingEngine(error)) as a,
        upstream_server() as b,
        run_http_gateway(a.address, b.address) as (gateway, http),
    ):
        await generate_until(http, lambda: a.started > 0)
        assert await generate_all(http, 6) == [200] * 6
        assert a.started > 1
        assert metrics_of(gateway)[f'codec_upstream_repeated_calls_total{{code="{error.code}"}}'] == a.started


async def test_refusal_of_all_servers_has_the_delay_that_they_ask_for() -> None:
    error = Overloaded("full", 60)
    async with (
        upstream_server(RefusingEngine(error)) as a,
        upstream_server(RefusingEngine(error)) as b,
        run_http_gateway(a.address, b.address) as (_, http),
    ):
        async with http.post(IMAGES, json=LATENTS) as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "60")
        assert a.started + b.started == 2


async def test_refusal_of_the_only_server_is_not_repeated() -> None:
    async with (
        upstream_server(RefusingEngine(NotReady("restarting", 5))) as a,
        run_http_gateway(a.address) as (_, http),
    ):
        assert await generate_all(http, 1) == [503]
        assert a.started == 1


async def test_call_that_waits_on_a_lost_server_is_sent_to_another_one() -> None:
    engine = WaitingEngine()
    async with (
        upstream_server(engine) as a,
        upstream_server() as b,
        run_http_gateway(a.address, b.address) as (_, http),
    ):
        requests = []
        async with asyncio.timeout(WAIT_S):
            while not a.started:  # until the gateway has connected to both servers, one server gets all requests
                requests.append(asyncio.create_task(generate(http)))
                await asyncio.sleep(0.01)
        await a.server.stop()
        assert {status for status, _ in await asyncio.gather(*requests)} == {200}
        assert b.started == len(requests)


async def test_call_that_waits_on_a_stopped_server_fails_as_not_ready() -> None:
    engine = WaitingEngine()
    async with upstream_server(engine) as a, run_http_gateway(a.address) as (_, http):
        request = asyncio.create_task(generate(http))
        await engine.wait_until_started(1)
        await a.server.stop()
        assert (await request)[0] == 503


async def test_call_is_not_repeated_after_its_first_message() -> None:
    engine = FakeEngine()
    async with (
        upstream_server(engine) as a,
        upstream_server(state=State.LOADING) as b,
        run_http_gateway(a.address, b.address) as (_, http),
    ):
        request = asyncio.create_task(generate(http))
        await engine.wait_until_started(1)
        b.service.lifecycle.transition_to(State.SERVING)
        engine.fail_with = NotReady("restarting", 1)
        engine.release_steps(1)
        status, body = await request
        assert status == 200
        assert read_stream(body, WireFormat.MSGPACK)[1][-1].finish_reason is FinishReason.ERROR
        assert (a.started, b.started) == (1, 0)


OTHER_MAP = map_from_model(MODEL, 0.5, "AutoencoderKL", {"int8": SCALES, "int4": SCALES})


@pytest.mark.parametrize("difference", ["map", "version"])
async def test_server_whose_responses_may_differ_is_not_used(difference: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "codec_grpc")
    async with AsyncExitStack() as stack:
        a, b = [await stack.enter_async_context(upstream_server()) for _ in range(2)]
        other = upstream_server(bundle=OTHER_MAP) if difference == "map" else upstream_server(versions={"torch": "2"})
        c = await stack.enter_async_context(other)
        gateway, http = await stack.enter_async_context(run_http_gateway(a.address, b.address, c.address))
        served = f"serve tiny-sd: {min(a.address, b.address)}, {max(a.address, b.address)}\n"
        async with asyncio.timeout(WAIT_S):
            while servers_of(gateway) != (2, 1, 0) or served not in caplog.text:
                await asyncio.sleep(0.01)
        assert f"{c.address} is not used" in caplog.text
        c.engine.started.clear()
        assert await generate_all(http, 6) == [200] * 6
        assert c.started == 0
        what = f"instead of {a.service.models.require_default().bundle.hash}" if difference == "map" else "torch 2 inst"
        assert what in caplog.text
        for server in (a, b):  # now the other one is all that is left
            server.service.lifecycle.transition_to(State.DRAINING)
        await generate_until(http, lambda: c.started > 0)
        assert servers_of(gateway) == (1, 0, 2)
        assert gateway.models.require_default().bundle.hash == c.service.models.require_default().bundle.hash
        assert gateway.provenance.versions == c.service.provenance.versions


def test_repetitions_end_and_their_delays_grow() -> None:
    repetitions = _Repetitions(3)
    delays = [repetitions.delay_s(NotReady("later", 5)) for _ in range(6)]
    assert delays.pop() is None
    assert all(0.02 < delay <= 0.8 for delay in delays if delay is not None)
    repetitions = _Repetitions(3)
    assert [repetitions.delay_s(Overloaded("full", 5)) for _ in range(3)] == [0.0, 0.0, None]
    assert _Repetitions(1).delay_s(NotReady("later", 5)) is None
