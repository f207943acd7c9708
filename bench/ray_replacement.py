"""Time in which Ray Serve replaces a replica of the embedded model that is killed.

    python -m bench.ray_replacement --write

Two replicas run, of which one is killed, several times. The other one serves meanwhile. The times are counted from the
moment at which the replica is killed.
"""

import argparse
import os
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import astuple, dataclass
from pathlib import Path

import ray
from ray import serve

from bench.ray_engine import DOCUMENT, deploy, replica_processes
from bench.serving.machine import describe_machine
from bench.serving.report import Section, Table, replace_section
from codec_ray.cluster import applications, connect, running_replicas
from core.settings import Settings

APPLICATION = "replaced"
REPLICAS = 2
INTERVAL_S = 0.05


@dataclass(frozen=True, slots=True)
class Replacement:
    """Seconds until Serve has noticed the death, until the new process runs, and until it accepts jobs."""

    noticed_s: float
    started_s: float
    accepts_s: float


def replace_one() -> Replacement:
    """Kill a replica, and wait until a new one accepts jobs."""
    before = set(replica_processes(APPLICATION))
    killed_at = time.perf_counter()
    os.kill(min(before), signal.SIGKILL)
    noticed: float | None = None
    started: float | None = None
    while True:
        time.sleep(INTERVAL_S)
        seconds = time.perf_counter() - killed_at
        running = running_replicas(applications()[APPLICATION])
        if noticed is None and running < REPLICAS:
            noticed = seconds
        if started is None and set(replica_processes(APPLICATION)) - before:
            started = seconds
        if noticed is not None and started is not None and running == REPLICAS:
            return Replacement(noticed, started, seconds)


def measure(settings: Settings, times: int) -> Section:
    """Replace a replica this number of times."""
    deploy(settings, APPLICATION, REPLICAS)
    columns = zip(*(astuple(replace_one()) for _ in range(times)), strict=True)
    row = [f"{statistics.median(column):.1f} s" for column in columns]
    return Section(
        "ray replacement",
        "Replacement of a killed replica",
        f"Medians of {times} replicas of the embedded model, from the moment at which the replica is killed. Ray asks "
        "replicas every 2 s whether they are healthy. Most of the rest is the time in which the new process imports "
        "torch, diffusers and transformers; larger models add the time in which they are read.",
        [Table(("Serve has noticed", "new process runs", "it accepts jobs"), [row])],
        command="bench.ray_replacement",
    )


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.ray_replacement", description="Time in which a killed replica is replaced."
    )
    parser.add_argument("--times", type=int, default=5, help="number of killed replicas (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help=f"write the result to docs/{DOCUMENT.name}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_HUB_OFFLINE"] = "1"
        settings = Settings(
            device="cpu", threads=1, models_dir=Path(folder), calibration_images=0, replicas=REPLICAS, log_level="error"
        )
        connect(settings)
        serve.start(proxy_location="Disabled")
        try:
            section = measure(settings, options.times)
        finally:
            ray.shutdown()
    section.print()
    if options.write:
        DOCUMENT.write_text(replace_section(DOCUMENT.read_text(), section, describe_machine()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
