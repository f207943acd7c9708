"""Metrics of the stored video jobs."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from core.video_jobs.job import JobStatus

Usage: TypeAlias = Callable[[], Mapping[JobStatus, tuple[int, int]]]
"""Function that returns the number of jobs and the total size of jobs in bytes, separately for each status."""


def register_job_metrics(registry: CollectorRegistry, usage: Usage) -> None:
    """Add the metrics of video jobs to `registry`.

    If a service has several HTTP servers, only the metrics of the first HTTP server are added.
    """
    with suppress(ValueError):  # another collector has these metrics
        registry.register(JobMetrics(usage))


class JobMetrics(Collector):
    """Metrics collector that reports, for each status, the number of video jobs and the size of the job files."""

    def __init__(self, usage: Usage) -> None:
        self._usage = usage

    def describe(self) -> list[Metric]:
        """Return the metrics without values, so that no values are collected when this collector is registered."""
        return list(self._families())

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        usage = self._usage()
        jobs, size = self._families()
        for status in JobStatus:
            jobs.add_metric([status], usage.get(status, (0, 0))[0])
        size.add_metric([], sum(occupied for _, occupied in usage.values()))
        yield jobs
        yield size

    def _families(self) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        return (
            GaugeMetricFamily("codec_video_jobs", "Stored video jobs by status.", labels=["status"]),
            GaugeMetricFamily("codec_video_job_bytes", "Space that stored video jobs occupy or reserve.", labels=()),
        )
