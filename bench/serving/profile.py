"""Section `profile`: where the CPU time of an image request is spent, by layer."""

import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from bench.serving.load import Protocol
from bench.serving.processes import LoadProcess, ServerProcess, run_load, run_servers
from bench.serving.report import Section, Table, microseconds
from bench.serving.request_cost import Target

SAMPLES_PER_S = 500
CLIENTS = 8
REQUESTS = 1000
PY_SPY = Path(sys.executable).with_name("py-spy")
LAYERS = (
    ("waking the event loop from a thread", r"_write_to_self|_read_from_self|call_soon_threadsafe"),
    ("writing to the socket", r"SocketTransport\.write|SocketTransport\._write"),
    ("reading from the socket", r"SocketTransport\._read|SocketTransport\._data_received"),
    ("handing work to threads, waiting for the GIL", r"concurrent/futures|asyncio/threads|queue\.py|threading\.py"),
    ("counting the tokens of the prompt", r"transformers/|prompt_truncation"),
    ("encoding the latents", r"codec_wire/(pipelines|encoder)"),
    ("serializing the messages", r"codec_wire/(formats|msgpack|protobuf|grpc)|msgpack/|_to_message"),
    ("compressing", r"compress"),
    ("the device thread, except encoding", r"core/diffusers_engine/"),
    (
        "reading and validating the request",
        r"pydantic|request_models|request_body|codec_wire/request|messages\.py|json/",
    ),
    ("planning", r"core/(plan|model|served|step_limits|input_image)|codec_wire/(maps|latents)"),
    ("negotiation and response headers", r"codec_http/(negotiation|encoding|response_headers|cors)"),
    ("the rest of codec_http and codec_grpc, and native code of grpc.aio", r"codec_(http|grpc)/"),
    ("the service: admission, deadline, events", r"core/"),
    ("aiohttp", r"aiohttp/|yarl/|multidict"),
    ("grpc.aio", r"grpc/|_cython|grpc_"),
    ("the event loop of asyncio", r"asyncio/|selectors\.py|contextlib"),
)
"""Layers, and the functions and files that belong to each. A sample counts for the layer of its innermost frame that
matches a layer. If the frame matches several layers, the first one counts."""
WAITING = re.compile(r"select \(selectors\.py|_worker \(concurrent/futures/thread\.py")
"""Innermost frames of threads that wait for work. py-spy reports some of these threads as active."""
OTHER, CORE_THREADS = "other Python code", "threads of the gRPC library"
TEXT = f"""\
The server is under load from {CLIENTS} clients. The CPU time of each of its threads is read from the kernel. Then the
same load runs again while `py-spy` takes {SAMPLES_PER_S} samples a second, and the CPU time of a thread is divided
among the layers as its samples are. Samples of threads that wait for work do not count, so the time of the kernel for
waiting and waking is part of the other layers. Only the shares are from the second run, because sampling costs time.
The floor is what the bare peer uses for the same request: no server on the same library can use less. The peer neither
validates the request nor hands work to a thread nor encodes latents."""


def layer_of(stack: list[str]) -> str:
    """Return the layer of a stack of frames "function (file:line)", outermost first."""
    if any("_poll_wrapper" in frame for frame in stack):
        return CORE_THREADS
    for frame in reversed(stack):
        for name, pattern in LAYERS:
            if re.search(pattern, frame):
                return name
    return OTHER


def thread_times(pid: int) -> dict[int, float]:
    """Return the CPU seconds of every thread of a process, by thread id."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(task.name): int((task / "schedstat").read_text().split()[0]) / 1e9 for task in tasks}


def divide(samples: str, times: dict[int, float]) -> dict[str, float]:
    """Return the CPU seconds of each layer. `samples` is what `py-spy record --format raw --threads` writes."""
    counts: dict[int, Counter[str]] = {}
    for line in samples.splitlines():
        stack, number = line.rsplit(" ", 1)
        thread, *frames = stack.split(";")
        thread_id = re.search(r"\((\d+)\)", thread)
        if thread_id is not None and not WAITING.search(frames[-1]):
            counts.setdefault(int(thread_id[1]), Counter())[layer_of(frames)] += int(number)
    layers: dict[str, float] = defaultdict(float)
    for found, seconds in times.items():
        shares = counts.get(found, Counter({CORE_THREADS: 1}))
        for name, count in shares.items():
            layers[name] += seconds * count / shares.total()
    return layers


def profile(server: ServerProcess, load: LoadProcess, protocol: Protocol, requests: int) -> dict[str, float]:
    """Return the CPU seconds per request of each layer of the server. Raises RuntimeError if py-spy fails."""
    target = Target("ours", protocol, server)
    command = target.command("image", CLIENTS, requests)
    load.run(command)
    before = thread_times(server.pid)
    load.run(command)
    times = {thread: seconds - before.get(thread, 0.0) for thread, seconds in thread_times(server.pid).items()}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "samples.txt")
        options = ["--format", "raw", "--threads", "--rate", str(SAMPLES_PER_S), "--duration", "600"]
        sampler = subprocess.Popen(
            [PY_SPY, "record", "--pid", str(server.pid), "--output", output, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        load.run(command)
        sampler.send_signal(signal.SIGINT)
        if sampler.wait(60) != 0 or not output.exists():
            raise RuntimeError("py-spy failed; it needs the permission to trace other processes of this user")
        layers = divide(output.read_text(), times)
    return {name: seconds / requests for name, seconds in layers.items()}


def floor(server: ServerProcess, load: LoadProcess, protocol: Protocol, requests: int) -> float:
    """Return the CPU seconds per request of a peer that uses only aiohttp or grpc.aio."""
    command = Target("peer", protocol, server).command("image", CLIENTS, requests)
    load.run(command)
    before = server.cpu_s
    load.run(command)
    return (server.cpu_s - before) / requests


def measure(*, requests: int = REQUESTS) -> Section:
    """Run the servers and return the section."""
    commands = [
        ("bench.serving.constant_server",),
        ("bench.serving.peers", "aiohttp"),
        ("bench.serving.peers", "grpc"),
    ]
    with run_servers(commands) as (ours, aiohttp, grpc), run_load() as load:
        http_layers, grpc_layers = (profile(ours, load, protocol, requests) for protocol in ("http", "grpc"))
        floors = (floor(aiohttp, load, "http", requests), floor(grpc, load, "grpc", requests))
    layers = {name: (http_layers.get(name, 0.0), grpc_layers.get(name, 0.0)) for name in {*http_layers, *grpc_layers}}
    rows = sorted(layers.items(), key=lambda row: -sum(row[1]))
    totals = (sum(http_layers.values()), sum(grpc_layers.values()))
    rows += [("**total**", totals), ("floor: the bare peer", floors)]
    cells = [(name, *map(microseconds, values)) for name, values in rows]
    table = Table(("layer", "HTTP, µs", "gRPC, µs"), cells)
    return Section("profile", "Where the remaining microseconds go", TEXT, [table])
