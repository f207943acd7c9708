"""What limits 1,000 replicas: `python -m bench.fleet`.

Prints waits of a simulation (bench.fleet_simulation), and how many replicas one front can serve until one of its
resources is used up. The costs of a request are those measured in docs/benchmarks.md and docs/scaling.md; the durations
of generations are assumptions.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.fleet_simulation import Durations, Fleet, Policy, Result, simulate
from bench.serving.report import Table
from core.limit_settings import DEFAULT_MAX_CONNECTIONS
from core.settings import Settings

DOCS = Path(__file__).resolve().parent.parent / "docs"
REPLICAS = 1000
UTILIZATIONS = (0.8, 0.9)
TARGET = 0.8
"""Utilization of the devices for which the table of limits plans."""
ENVOY_MAX_REQUESTS = 4096
"""Limit on active requests in deploy/envoy/envoy.yaml."""
LINK_BYTES_S = 10e9 / 8
"""Bytes per second of a 10 Gbit/s network interface."""


@dataclass(frozen=True, slots=True)
class Mix:
    """A kind of load. A request is a video with the probability `videos`, otherwise an image.

    `image_s` and `video_s` are seconds on the device, `image_bytes` and `video_bytes` the size of a response.
    """

    name: str
    image_s: float
    image_bytes: int
    videos: float = 0.0
    video_s: float = 0.0
    video_bytes: int = 0

    @property
    def mean_s(self) -> float:
        """Mean seconds on the device."""
        return (1 - self.videos) * self.image_s + self.videos * self.video_s

    @property
    def mean_bytes(self) -> float:
        """Mean size of a response."""
        return (1 - self.videos) * self.image_bytes + self.videos * self.video_bytes

    def durations(self) -> Durations:
        """Return a function that returns the duration of a random request, within 20 % of that of its kind."""
        return lambda chance: (
            (self.video_s if chance.random() < self.videos else self.image_s) * chance.uniform(0.8, 1.2)
        )


INT8_512, RAW_1024, RAW_VIDEO_FRAME = 16_552, 131_222, 199_700
"""Bytes of a response: an image of 512x512 with int8, one of 1024x1024 with raw, a frame of a video of 832x480."""
MIXES = (
    Mix("512x512 in 0.5 s", 0.5, INT8_512),
    Mix("1024x1024 in 3 s", 3.0, RAW_1024),
    Mix("the same, and 5 % videos in 60 s", 3.0, RAW_1024, 0.05, 60.0, 21 * RAW_VIDEO_FRAME),
)
POLICIES: tuple[tuple[Policy, int], ...] = (
    ("round robin", 1),
    ("round robin", 8),
    ("fewest of two", 1),
    ("fewest of all", 1),
    ("fewest of all", 2),
    ("fewest of all", 8),
)


def measured(document: str, row: str, column: int) -> float:
    """Return a figure of a table in docs/: of the first row that begins with the cells `row`. Raises LookupError."""
    text = (DOCS / document).read_text()
    found = re.search(rf"^\| {re.escape(row)} \|(.*)\|$", text, re.MULTILINE)
    if found is None:
        raise LookupError(f"docs/{document} has no row {row!r}")
    return float(found[1].split("|")[column].strip())


@dataclass(frozen=True, slots=True)
class Front:
    """Something that passes requests on: CPU seconds per request, CPU cores, and the limit on active requests."""

    name: str
    cpu_s: float
    cores: int
    max_active: int
    policy: Policy


def fronts() -> tuple[Front, ...]:
    """Return the fronts with the measured costs."""
    gateway_s = measured("benchmarks.md", "codec-diffusers gateway | 32", 0) / 1e6
    envoy_s = measured("scaling.md", "Envoy, HTTP | 32", 0) / 1e6
    return (
        Front("gateway", gateway_s, 1, Settings.model_fields["max_jobs"].default, "round robin"),
        Front(
            f"gateway, CODEC_MAX_JOBS={DEFAULT_MAX_CONNECTIONS}", gateway_s, 1, DEFAULT_MAX_CONNECTIONS, "round robin"
        ),
        Front("Envoy, 4 threads", envoy_s, 4, ENVOY_MAX_REQUESTS, "fewest of two"),
    )


def limits(front: Front, mix: Mix, active_per_replica: float) -> dict[str, float]:
    """Return the number of replicas at which each resource of `front` is used up."""
    rate = TARGET / mix.mean_s  # requests per second of a replica
    return {
        "CPU": front.cores / (rate * front.cpu_s),
        "bytes": LINK_BYTES_S / (rate * mix.mean_bytes),
        "active requests": front.max_active / active_per_replica,
    }


def wait_rows(results: dict[tuple[str, Policy, int, float], Result]) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table of waits."""
    for (mix, policy, count, utilization), result in results.items():
        total = len(result.waits_s) + result.lost
        waits = (f"{result.percentile(percent):.1f}" for percent in (50, 99))
        name = policy if count == 1 else f"{policy}, {count} fronts"
        yield (mix, name, f"{utilization:.0%}", *waits, f"{result.refusals / total:.2%}", f"{result.lost / total:.2%}")


def main() -> None:
    """Simulate, and print the tables in Markdown."""
    inputs = (f"{front.name} {front.cpu_s * 1e6:.0f} µs" for front in fronts())
    print(f"CPU time per request: {', '.join(inputs)}\n")
    results = {}
    for mix in MIXES[1:]:
        for policy, count in POLICIES:
            for utilization in UTILIZATIONS:
                fleet = Fleet(REPLICAS, utilization, policy, count)
                results[mix.name, policy, count, utilization] = simulate(fleet, mix.durations(), mean_s=mix.mean_s)
    heading = ("load", "selection", "utilization", "wait p50, s", "wait p99, s", "refusals", "lost")
    print(Table(heading, list(wait_rows(results))).markdown())
    rows = []
    for mix in MIXES:
        for front in fronts():
            active = simulate(Fleet(REPLICAS, TARGET, front.policy), mix.durations(), mean_s=mix.mean_s).active
            found = sorted(limits(front, mix, active / REPLICAS).items(), key=lambda item: item[1])
            rows.append((mix.name, front.name, *(f"{name}: {count:,.0f}" for name, count in found)))
    print()
    print(Table(("load", "front", "first limit: replicas", "second", "third"), rows).markdown())


if __name__ == "__main__":
    main()
