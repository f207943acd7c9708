"""The engine on Ray Serve compared with the engine in the process: overhead of a request, and throughput of replicas.

    python -m bench.ray_engine --write

Both engines are called through core.service, without a protocol. To measure the overhead, the sampler is replaced by
constant tensors. This process takes the place of the server. The CPU times include all threads of this process and of
the replica.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import ray
from ray import serve

from bench.serving.constant_server import replace_sampler
from bench.serving.machine import describe_machine
from bench.serving.report import Goal, Section, Table, replace_section
from codec_ray.app import application
from codec_ray.cluster import connect
from codec_ray.models import RayModels
from codec_server.local_model import LocalModel
from codec_wire.latents import Modality
from codec_wire.request import GenerationRequest
from core.admission import Admission
from core.engine import Job
from core.lifecycle import Lifecycle
from core.service import LatentService
from core.settings import Settings

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
CONSTANT, ONE, TWO = "constant", "one", "two"
"""Names of the applications: with the replaced sampler, and with the embedded model in one and in two replicas."""
REQUESTS = 200
IMAGES = 48
MIN_SPEED_UP = 1.8
SIZES = {"256x256, int8": ((256, 256), "int8"), "512x512, raw": ((512, 512), "raw")}


class ConstantModel(LocalModel):
    """The embedded model with its sampler replaced."""

    async def load(self, service: LatentService, modality: Modality | None = None) -> None:
        """Load the model and let `service` serve it. See LocalModel."""
        await super().load(service, modality)
        replace_sampler()


@dataclass(slots=True)
class Cost:
    """A value for each round, in seconds per request, and the latency of every request in seconds."""

    server_cpu_s: list[float] = field(default_factory=list)
    replica_cpu_s: list[float] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Throughput:
    """Images a second, CPU time of an image in the replicas in seconds, and the share of time in which they sampled."""

    rate: float
    cpu_s: float
    busy: float


async def generate(service: LatentService, size: tuple[int, int], pipeline: str, steps: int) -> float:
    """Run one job; return the seconds that it sampled."""
    request = GenerationRequest(
        prompt="a lighthouse", size=size, pipeline=pipeline, steps=steps, modality=Modality.IMAGE
    )
    job = Job()
    async with aclosing(service.generate(service.plan(request), job)) as events:
        async for _ in events:
            pass
    return job.record.sampling_s


def replica_processes(name: str) -> list[int]:
    """Return the processes of the replicas of an application."""
    title = f"ray::ServeReplica:{name}:".encode()
    return [
        int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if path.read_bytes().startswith(title)
    ]


def cpu_s(process: int) -> float:
    """Return the CPU time of all threads of a process in seconds."""
    return time.clock_gettime((~process << 3) | 2)  # clock_getcpuclockid(3); Linux


async def measure_overhead(services: dict[str, LatentService], rounds: int) -> dict[tuple[str, str], Cost]:
    """Return the costs by engine and kind of request, from interleaved rounds of sequential requests."""
    costs: dict[tuple[str, str], Cost] = defaultdict(Cost)
    (replica,) = replica_processes(CONSTANT)
    for number in range(-1, rounds):
        for kind, (size, pipeline) in SIZES.items():
            for engine, service in services.items():
                before, replica_before, latencies = time.process_time(), cpu_s(replica), []
                for _ in range(REQUESTS):
                    started_at = time.perf_counter()
                    await generate(service, size, pipeline, steps=4)
                    latencies.append(time.perf_counter() - started_at)
                if number < 0:  # warm-up
                    continue
                cost = costs[engine, kind]
                cost.server_cpu_s.append((time.process_time() - before) / REQUESTS)
                cost.replica_cpu_s.append((cpu_s(replica) - replica_before) / REQUESTS if engine == "ray" else 0.0)
                cost.latencies_s += latencies
    return costs


async def measure_throughput(service: LatentService, name: str, images: int) -> Throughput:
    """Return the throughput of the replicas for this number of images, all of which are requested at once."""
    replicas = replica_processes(name)
    started_at, cpu = time.perf_counter(), sum(map(cpu_s, replicas))
    sampled = await asyncio.gather(*(generate(service, (256, 256), "int8", steps=10) for _ in range(images)))
    seconds, cpu = time.perf_counter() - started_at, sum(map(cpu_s, replicas)) - cpu
    return Throughput(images / seconds, cpu / images, sum(sampled) / seconds / len(replicas))


def deploy(settings: Settings, name: str, replicas: int, **options: str) -> None:
    """Deploy an application, and wait until it is ready."""
    serve.run(application(settings, num_replicas=replicas, **options), name=name, route_prefix=None)


async def ray_service() -> LatentService:
    """Return a service for the only application."""
    service = LatentService(Lifecycle(), Admission(64, 10**15))
    await RayModels(Settings()).update(service)
    return service


async def overhead_section(settings: Settings, rounds: int) -> list[Table]:
    """Return the table of the overhead."""
    local = LatentService(Lifecycle(), Admission(64, 10**15))
    model = ConstantModel(settings)
    await asyncio.to_thread(deploy, settings, CONSTANT, 1, loader="bench.ray_engine:ConstantModel")
    await model.start_serving(local)
    costs = await measure_overhead({"local": local, "ray": await ray_service()}, rounds)
    serve.delete(CONSTANT)
    rows = [
        (
            kind,
            engine,
            f"{1000 * statistics.median(cost.server_cpu_s):.2f} ms",
            f"{1000 * statistics.median(cost.replica_cpu_s):.2f} ms" if engine == "ray" else "",
            f"{1000 * statistics.median(cost.latencies_s):.2f} ms",
            f"{1000 * statistics.quantiles(cost.latencies_s, n=20)[-1]:.2f} ms",
        )
        for (engine, kind), cost in costs.items()
    ]
    return [Table(("image", "engine", "CPU, server", "CPU, replica", "latency, median", "95 %"), rows)]


async def throughput_section(settings: Settings, rounds: int) -> tuple[Table, Goal]:
    """Return the table of the throughput, and its goal."""
    measured: dict[str, list[Throughput]] = {ONE: [], TWO: []}
    for _ in range(rounds):
        for name, replicas in ((ONE, 1), (TWO, 2)):
            await asyncio.to_thread(deploy, settings, name, replicas)
            service = await ray_service()
            await measure_throughput(service, name, 2 * replicas)
            measured[name].append(await measure_throughput(service, name, IMAGES))
            serve.delete(name)
    rows = [
        (
            str(number),
            f"{statistics.median(one.rate for one in measured[name]):.2f}",
            f"{statistics.median(one.cpu_s for one in measured[name]):.2f} s",
            f"{100 * statistics.median(one.busy for one in measured[name]):.0f} %",
        )
        for number, name in enumerate((ONE, TWO), start=1)
    ]
    pairs = zip(measured[ONE], measured[TWO], strict=True)
    ratios = [2 * (one.cpu_s / two.cpu_s) * (two.busy / one.busy) for one, two in pairs]
    goal = Goal("throughput of two replicas", statistics.median(ratios), MIN_SPEED_UP, "x that of one", at_least=True)
    return Table(("replicas", "images a second", "CPU of an image", "sampling"), rows), goal


async def measure(settings: Settings, rounds: int) -> Section:
    """Measure both parts."""
    tables = await overhead_section(settings, 2 * rounds)
    table, goal = await throughput_section(settings, rounds)
    return Section(
        "ray",
        "The engine on Ray Serve",
        "The second table has the cost of a request with a sampler that does nothing, for "
        f"{REQUESTS} requests one after another and without a protocol: the medians of {2 * rounds} interleaved "
        "rounds. The third one has the throughput of replicas with one thread each, for "
        f"{IMAGES} images of 256x256 in 10 steps from the embedded model that are requested at once, and the share of "
        "the time in which the replicas sampled. The first table has the throughput of two replicas that each have a "
        "core: twice that of one, times the ratio of the CPU times of an image, times that of the sampling. Unlike the "
        "images a second it does not depend on what else the machine does.",
        [*tables, table],
        [goal],
        command="bench.ray_engine",
    )


def main() -> int:
    """Run the command line. Return exit status 1 if a goal is not met."""
    parser = argparse.ArgumentParser(prog="python -m bench.ray_engine", description="Cost of the engine on Ray Serve.")
    parser.add_argument(
        "--rounds", type=int, default=3, help="number of rounds of the throughput (default: %(default)s)"
    )
    parser.add_argument("--write", action="store_true", help=f"write the result to docs/{DOCUMENT.name}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(device="cpu", threads=1, models_dir=Path(folder), calibration_images=0)
        os.environ["HF_HUB_OFFLINE"] = "1"
        connect(settings)
        serve.start(proxy_location="Disabled")
        try:
            section = asyncio.run(measure(settings, options.rounds))
        finally:
            ray.shutdown()
    section.print()
    if options.write:
        DOCUMENT.write_text(replace_section(DOCUMENT.read_text(), section, describe_machine()))
    return 0 if all(goal.met for goal in section.goals) else 1


if __name__ == "__main__":
    sys.exit(main())
