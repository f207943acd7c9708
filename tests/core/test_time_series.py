"""Counters and histograms: what they export equals what the classes of prometheus_client export."""

from collections.abc import Iterator

import prometheus_client
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

from core.time_series import Counter, Family, Histogram

BOUNDS = (0.001, 0.5, 1, 600)


class FamilyCollector(Collector):
    """Exports families."""

    def __init__(self, *families: Family[Counter] | Family[Histogram]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        return (family.collect() for family in self._families)


def exported(collector: Collector) -> list[str]:
    """Return the exported lines, without the times of creation."""
    return [line.partition("_created{")[0] for line in generate_latest(collector).decode().splitlines()]


def test_families_export_the_same_text_as_prometheus_client() -> None:
    registry = CollectorRegistry()
    counter = prometheus_client.Counter("codec_a", "Text.", ["x", "y"], registry=registry)
    histogram = prometheus_client.Histogram("codec_b_seconds", "Text.", ["x"], registry=registry, buckets=BOUNDS)
    counters = Family("codec_a", "Text.", ["x", "y"], Counter)
    histograms = Family("codec_b_seconds", "Text.", ["x"], lambda: Histogram(BOUNDS))
    for label in ("one", 'two "2"'):
        for number in (0.0, 0.001, 0.25, 0.5, 0.75, 1.0, 600.0, 1000.0):
            counter.labels(label, "y").inc(number)
            counters.with_labels(label, "y").add(number)
            histogram.labels(label).observe(number)
            histograms.with_labels(label).add(number)
    assert exported(FamilyCollector(counters, histograms)) == exported(registry)
