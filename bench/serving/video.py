"""Section `video`: frames per second, CPU time per frame and peak memory of long videos."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.serving.load import Protocol
from bench.serving.processes import LoadProcess, ServerProcess, run_load, run_servers
from bench.serving.report import Goal, Section, Table, megabytes, microseconds
from bench.serving.request_cost import Target, median_ratio

PIPELINES = ("raw", "delta+int8")
PROTOCOLS: tuple[Protocol, ...] = ("http", "grpc")
CASES = tuple((protocol, pipeline) for protocol in PROTOCOLS for pipeline in PIPELINES)
PEERS = {"http": "aiohttp", "grpc": "grpc"}
FRAMES = 720
LENGTHS = (72, 720, 2880)
ROUNDS = 5
TEXT = """\
Latent frames of [16, 60, 104], 832x480 pixels: 200 KB a frame with `raw`, 100 KB with `delta+int8` and a keyframe every
24 frames. One client reads as fast as it can and compares the bytes. The peers write the same bytes, which exist in
advance, one message a write; our server casts and encodes the next frames while it serializes and writes the last ones.
The peak is the growth of the maximum of the resident memory while a video is sent; the replaced sampler returns a view
that takes no memory."""


@dataclass(slots=True)
class Cost:
    """Measurements of one target, a value per round: CPU and wall seconds per frame, and growth of the peak memory."""

    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    peak: list[int] = field(default_factory=list)


def send_video(target: Target, load: LoadProcess, pipeline: str, frames: int, cost: Cost) -> None:
    """Request one video and add its measurements to `cost`."""
    server = target.server
    server.reset_peak()
    memory, cpu = server.memory(), server.cpu_s
    (latency,) = load.run(target.command(f"video {pipeline} {frames}", clients=1, requests=1))
    cost.cpu_s.append((server.cpu_s - cpu) / frames)
    cost.wall_s.append(latency / frames)
    cost.peak.append(max(0, server.memory("VmHWM") - memory))


def measure_speed(ours: Target, load: LoadProcess, pipeline: str, *, frames: int, rounds: int) -> list[Cost]:
    """Return the costs of our server and of its peer, in alternating rounds."""
    peer_command = ("bench.serving.peers", PEERS[ours.protocol], f"video {pipeline} {frames}")
    with run_servers([peer_command]) as (peer,):
        targets = [ours, Target("peer", ours.protocol, peer)]
        costs = [Cost(), Cost()]
        for target in targets:
            send_video(target, load, pipeline, frames, Cost())
        for _ in range(rounds):
            for target, cost in zip(targets, costs, strict=True):
                send_video(target, load, pipeline, frames, cost)
    return costs


def speed_table(ours: ServerProcess, load: LoadProcess, frames: int, rounds: int) -> tuple[Table, list[Goal]]:
    """Compare the speed of every protocol and pipeline with that of the peer."""
    rows, goals = [], []
    for protocol, pipeline in CASES:
        mine, peer = measure_speed(Target("ours", protocol, ours), load, pipeline, frames=frames, rounds=rounds)
        speed = median_ratio(peer.wall_s, mine.wall_s)
        goals.append(Goal(f"{protocol}, {pipeline}: frames per second to the peer", speed, 0.7, at_least=True))
        rows.append(
            (
                protocol,
                pipeline,
                *(f"{1 / statistics.median(cost.wall_s):.0f}" for cost in (mine, peer)),
                f"{speed:.2f}",
                *(microseconds(statistics.median(cost.cpu_s)) for cost in (mine, peer)),
                f"{median_ratio(peer.cpu_s, mine.cpu_s):.2f}",
            )
        )
    per_second, per_frame = ("ours, frames/s", "peer, frames/s"), ("ours, CPU µs per frame", "peer, CPU µs per frame")
    return Table(("protocol", "pipeline", *per_second, "ratio", *per_frame, "ratio"), rows), goals


def length_table(
    ours: ServerProcess, load: LoadProcess, lengths: Sequence[int], rounds: int
) -> tuple[Table, list[Goal]]:
    """Compare the CPU time per frame and the peak memory of videos of different lengths."""
    rows, goals = [], []
    for protocol, pipeline in CASES:
        costs = {frames: Cost() for frames in lengths}
        send_video(Target("ours", protocol, ours), load, pipeline, lengths[0], Cost())
        for _ in range(rounds):
            for frames in lengths:
                send_video(Target("ours", protocol, ours), load, pipeline, frames, costs[frames])
        cpu_s = [statistics.median(costs[frames].cpu_s) for frames in lengths]
        peaks = [max(costs[frames].peak) for frames in lengths]
        rows.append((protocol, pipeline, *map(microseconds, cpu_s), *map(megabytes, peaks)))
        compared = f"{protocol}, {pipeline}, {lengths[-1]} frames to {lengths[0]}"
        goals.append(Goal(f"{compared}: CPU per frame", cpu_s[-1] / cpu_s[0], 1.1))
        goals.append(Goal(f"{compared}: growth of the peak memory", (peaks[-1] - peaks[0]) / 1e6, 10, "MB"))
    by_length = [f"{what}, {frames} frames" for what in ("CPU µs per frame", "peak MB") for frames in lengths]
    return Table(("protocol", "pipeline", *by_length), rows), goals


def measure(*, frames: int = FRAMES, lengths: Sequence[int] = LENGTHS, rounds: int = ROUNDS) -> Section:
    """Run the servers and return the section."""
    with run_servers([("bench.serving.constant_server",)]) as (ours,), run_load() as load:
        speed, speed_goals = speed_table(ours, load, frames, rounds)
        length, length_goals = length_table(ours, load, lengths, max(1, rounds // 2))
    return Section("video", "Videos", TEXT, [speed, length], [*speed_goals, *length_goals])
