"""Compare the metrics of a server with the counts of a client, for requests of which some are cancelled.

python -m bench.counted_requests --requests 2000    start a server with a tiny pipeline, and compare
"""

import argparse
import asyncio
import random
import sys
from collections import Counter
from contextlib import suppress
from typing import Any, NamedTuple

import aiohttp
import grpc.aio
from prometheus_client.parser import text_string_to_metric_families

from bench.serving.processes import ServerProcess, stop_processes_at_sigterm
from codec_wire.generated.codec.latents.v1 import latent_service_pb2 as pb
from codec_wire.generated.codec.latents.v1.latent_service_pb2_grpc import LatentServiceStub
from codec_wire.http import GENERATION_PATHS, METRICS_PATH
from codec_wire.latents import Modality

SERVER = (
    *("codec_server", "serve", "--port", "0", "--grpc-port", "0", "--threads", "1", "--log-level", "warning"),
    *("--pipeline", "tests.support.tiny_sd:build_pipeline", "--calibration-images", "0"),
)
LONG_STEPS = 200
"""Number of sampling steps of requests that the client cancels after the header."""
PIPELINES = ("raw", "int8-adaptive", "int4-adaptive")
CODINGS = ("identity", "gzip", "br")
CONCURRENCY = 8
TIMEOUT_S = 60
INTERVAL_S = 0.05


class Counted(NamedTuple):
    """The labels of codec_requests_total for one request."""

    protocol: str
    pipeline: str
    coding: str
    outcome: str


class Counts(NamedTuple):
    """Requests by their labels, and bytes of complete response bodies by coding (HTTP only)."""

    requests: Counter[Counted]
    body_bytes: Counter[str]


async def send_requests(http: aiohttp.ClientSession, stub: Any, count: int, seed: int = 0) -> Counts:
    """Send `count` requests over both protocols, and count them. Some requests are invalid or cancelled.

    `http` must not decompress bodies.
    """
    counts = Counts(Counter(), Counter())
    rng = random.Random(seed)
    kinds = [
        (
            rng.choice(("http", "grpc")),
            rng.choice(PIPELINES),
            rng.choice(CODINGS),
            rng.choice(("ok", "ok", "ok", "cancelled", "invalid_request")),
        )
        for _ in range(count)
    ]
    limit = asyncio.Semaphore(CONCURRENCY)

    async def send(protocol: str, pipeline: str, coding: str, outcome: str) -> None:
        steps = {"ok": 2, "cancelled": LONG_STEPS, "invalid_request": 0}[outcome]
        async with limit:
            if protocol == "http":
                await _send_http(http, counts, pipeline, coding, steps)
            else:
                await _send_grpc(stub, counts, pipeline, steps)

    await asyncio.gather(*(send(*kind) for kind in kinds))
    return counts


async def _send_http(http: aiohttp.ClientSession, counts: Counts, pipeline: str, coding: str, steps: int) -> None:
    body = {"prompt": "a sea", "size": "64x64", "steps": steps, "pipeline": pipeline, "stream_format": "msgpack"}
    headers = {"Accept-Encoding": coding}
    async with http.post(GENERATION_PATHS[Modality.IMAGE], json=body, headers=headers) as response:
        if steps == LONG_STEPS:
            response.close()
            counts.requests[Counted("http", pipeline, coding, "cancelled")] += 1
            return
        data = await response.read()
        if response.status == 200:
            counts.requests[Counted("http", pipeline, coding, "ok")] += 1
            counts.body_bytes[coding] += len(data)
        else:
            code = (await response.json())["error"]["code"]
            counts.requests[Counted("http", "unknown", "unknown", code)] += 1


async def _send_grpc(stub: Any, counts: Counts, pipeline: str, steps: int) -> None:
    request = pb.GenerateRequest(prompt="a sea", size=pb.PixelSize(width=64, height=64), steps=steps, pipeline=pipeline)
    call = stub.Generate(request)
    if steps == LONG_STEPS:
        await call.read()
        call.cancel()
        counts.requests[Counted("grpc", pipeline, "identity", "cancelled")] += 1
        return
    with suppress(grpc.aio.AioRpcError):
        async for _ in call:
            pass
    code = await call.code()
    if code is grpc.StatusCode.OK:
        counts.requests[Counted("grpc", pipeline, "identity", "ok")] += 1
    else:
        name = "invalid_request" if code is grpc.StatusCode.INVALID_ARGUMENT else code.name
        counts.requests[Counted("grpc", "unknown", "identity", name)] += 1


async def read_counts(http: aiohttp.ClientSession) -> Counts:
    """Return the counts in the metrics of the server."""
    counts = Counts(Counter(), Counter())
    async with http.get(METRICS_PATH) as response:
        text = await response.text()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels, value = sample.labels, int(sample.value)
            if sample.name == "codec_requests_total":
                counts.requests[Counted(*(labels[name] for name in Counted._fields))] += value
            elif sample.name == "codec_response_bytes_total" and labels["protocol"] == "http":
                counts.body_bytes[labels["coding"]] += value
    return counts


async def read_counts_of(http: aiohttp.ClientSession, count: int) -> Counts:
    """Wait until the server has counted `count` requests, and return its counts.

    The server counts cancelled requests with a delay.
    """
    for _ in range(round(TIMEOUT_S / INTERVAL_S)):
        if (counts := await read_counts(http)).requests.total() >= count:
            return counts
        await asyncio.sleep(INTERVAL_S)
    raise TimeoutError(f"the metrics contain fewer than {count} requests")


async def compare(http_port: int, grpc_port: int, count: int) -> bool:
    """Send `count` requests, print both counts, and return whether they are equal."""
    address = f"http://127.0.0.1:{http_port}"
    async with (
        aiohttp.ClientSession(address, auto_decompress=False) as http,
        grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}") as channel,
    ):
        sent = await send_requests(http, LatentServiceStub(channel), count)
        served = await read_counts_of(http, count)
    print(f"{'protocol':9}{'pipeline':15}{'coding':10}{'outcome':17}{'client':>8}{'server':>8}")
    for labels in sorted(sent.requests | served.requests):
        print(
            f"{labels.protocol:9}{labels.pipeline:15}{labels.coding:10}{labels.outcome:17}"
            f"{sent.requests[labels]:8}{served.requests[labels]:8}"
        )
    return sent.requests == served.requests


def main() -> int:
    """Run the command line. Return exit status 1 if the counts differ."""
    parser = argparse.ArgumentParser(prog="python -m bench.counted_requests", description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=2000)
    options = parser.parse_args()
    stop_processes_at_sigterm()
    server = ServerProcess(*SERVER, ready="Ready after")
    try:
        ports = server.wait_until_ready().ports
        equal = asyncio.run(compare(ports["http"], ports["grpc"], options.requests))
    finally:
        server.stop()
    print("equal" if equal else "DIFFERENT")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
