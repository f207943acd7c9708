"""bench.serving compares servers that send the same bytes, in processes whose CPU time it reads."""

import time

import numpy as np
import pytest

from bench.serving.load import LoadCommand
from bench.serving.processes import ServerProcess, run_load, run_servers
from bench.serving.request_cost import Target, measure_costs, median_ratio
from bench.serving.workload import IMAGE, by_name
from codec_wire import WireFormat
from codec_wire.decoder import LatentDecoder
from tests.support.serving import read_stream

pytestmark = pytest.mark.slow


def test_workload_is_the_stream_of_its_latents() -> None:
    workload = by_name("video delta+int8 30")
    header, frames = read_stream(b"".join(workload.messages("msgpack")), WireFormat.MSGPACK)
    assert (header.shape, header.total_frames) == ((16, 60, 104), 30)
    assert [frame.seq for frame in frames if frame.keyframe] == [0, 24]
    decoder = LatentDecoder(header)
    for frame, latent in zip(frames, workload.latents(), strict=True):
        error = np.abs(np.asarray(decoder.decode(frame)) - latent)
        if frame.keyframe:
            assert error.max() < np.abs(latent).max() / 127


def test_frames_of_a_workload_differ_and_take_no_memory_of_their_own() -> None:
    latents = by_name("video raw 3000").latents()
    assert latents.shape == (3000, 16, 60, 104)
    assert not np.array_equal(latents[0], latents[1])
    assert latents[-1].ctypes.data - latents.ctypes.data < 1_000_000


def test_every_server_sends_the_expected_bytes_and_its_cpu_time_is_measured() -> None:
    commands = [
        ("bench.serving.constant_server",),
        *(("bench.serving.peers", name) for name in ("fastapi", "aiohttp", "grpc")),
    ]
    with run_servers(commands) as (ours, fastapi, aiohttp, grpc), run_load() as load:
        targets = [
            Target("http", "http", ours),
            Target("fastapi", "http", fastapi),
            Target("aiohttp", "http", aiohttp),
            Target("grpc", "grpc", ours),
            Target("bare grpc", "grpc", grpc),
        ]
        costs = measure_costs(targets, load, clients=(1, 2), rounds=1, requests=4)
        assert set(costs) == {(target.name, clients) for target in targets for clients in (1, 2)}
        for cost in costs.values():
            assert 0 < cost.cpu_s[0] < 0.1
            assert len(cost.latencies_s) == 4
            assert 0 < cost.percentile(50) <= cost.percentile(99) < 10
        assert ours.memory() > aiohttp.memory() > 10_000_000
        # The same server also generates the videos; load.run compares the bytes.
        for protocol in ("http", "grpc"):
            for pipeline in ("raw", "delta+int8"):
                command = LoadCommand(protocol, ours.ports[protocol], f"video {pipeline} 25", clients=1, requests=1)
                assert len(load.run(command)) == 1


def test_response_with_other_bytes_fails_the_benchmark() -> None:
    command = [("bench.serving.peers", "aiohttp", "video raw 1")]
    with run_servers(command) as (server,), run_load() as load, pytest.raises(RuntimeError, match="failed for"):
        load.run(LoadCommand("http", server.ports["http"], "video delta+int8 1", clients=1, requests=1))


def test_server_that_cannot_start_is_reported() -> None:
    server = ServerProcess("bench.serving.peers", "unknown")
    try:
        with pytest.raises(RuntimeError, match="exited with status 1"):
            server.wait_until_ready()
    finally:
        server.stop()


def test_cpu_time_does_not_advance_while_a_server_waits() -> None:
    with run_servers([("bench.serving.peers", "aiohttp")]) as (server,):
        before = server.cpu_s
        time.sleep(0.2)
        assert server.cpu_s - before < 0.05


def test_median_ratio_compares_values_of_the_same_round() -> None:
    assert median_ratio([1, 10, 3], [1, 5, 1]) == 2
    assert IMAGE.path == "/v1/images/generations"
