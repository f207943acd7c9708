"""Metrics of a server in the text format of Prometheus: metrics of requests, and the current state of the server."""

import sys
from collections.abc import Iterator
from dataclasses import asdict

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, StateSetMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from codec_wire.version import CODEC_VERSION, SERVER_VERSION
from core.lifecycle import State
from core.service import LatentService

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_text(service: LatentService) -> bytes:
    """Return the metrics of `service` and of this process."""
    return generate_latest(_ServerCollector(service))


class _ServerCollector(Collector):
    """Collector of metrics about the state of the server.

    The state is read only when the metrics are scraped, so that requests are not slowed down.
    """

    def __init__(self, service: LatentService) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics about the state of the server."""
        yield from self._service.telemetry.metrics.registry.collect()
        yield from _load(self._service)
        yield from _memory(self._service)
        yield from _identity(self._service)
        yield from _modes(self._service)
        yield from ProcessCollector(registry=CollectorRegistry()).collect()


def _load(service: LatentService) -> Iterator[Metric]:
    admission = service.admission
    yield GaugeMetricFamily(
        "codec_active_jobs", "Active jobs, which are queued, running or being read by their clients.", admission.jobs
    )
    yield GaugeMetricFamily("codec_queued_jobs", "Active jobs that wait for the model.", service.queued_jobs)
    yield GaugeMetricFamily(
        "codec_active_cost", "Cost of the active jobs in pixels x latent frames x steps.", admission.cost
    )
    yield GaugeMetricFamily("codec_max_jobs", "Maximum number of active jobs.", admission.max_jobs)
    yield GaugeMetricFamily("codec_max_cost", "Maximum cost of the active jobs.", admission.max_cost)
    yield GaugeMetricFamily(
        "codec_cost_unit_seconds",
        "Measured seconds that the device takes for one unit of cost.",
        admission.seconds_per_cost,
    )


def _memory(service: LatentService) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "codec_request_memory_bytes", "Memory of request bodies and input images.", service.admission.memory.used
    )
    working_memory = service.admission.working_memory
    if working_memory.limit is not None:
        yield GaugeMetricFamily(
            "codec_working_memory_bytes", "Predicted memory of the active jobs on the device.", working_memory.used
        )
        yield GaugeMetricFamily(
            "codec_max_working_memory_bytes",
            "Maximum predicted memory of active jobs on the device.",
            working_memory.limit,
        )
    if "torch" not in sys.modules:  # a gateway has no device
        return
    from codec_pixels.device_memory import memory_by_device  # noqa: PLC0415 - imports torch

    family = GaugeMetricFamily(
        "codec_device_memory_bytes", "Memory of this process on each device.", labels=["device", "kind"]
    )
    for (device, kind), size in memory_by_device().items():
        family.add_metric([device, kind], size)
    yield family


def _identity(service: LatentService) -> Iterator[Metric]:
    state = service.lifecycle.state
    yield StateSetMetricFamily("codec_state", "State of the server.", {one.value: one is state for one in State})
    provenance = service.provenance
    yield InfoMetricFamily(
        "codec_build",
        "Library versions of the process that runs the models. The label reference is true if these are the "
        "pinned versions.",
        {
            "version": SERVER_VERSION,
            "codec_version": CODEC_VERSION,
            "image_digest": provenance.image_digest or "",
            "reference": str(not provenance.pin_differences).lower(),
            **provenance.versions,
        },
    )


def _modes(service: LatentService) -> Iterator[Metric]:
    """Yield the mode of every model, and the distance of fast mode from reference mode if the distance was measured."""
    modes = InfoMetricFamily(
        "codec_mode", "Mode in which each model generates, and the switches of fast mode that are on.", labels=["model"]
    )
    distances = GaugeMetricFamily(
        "codec_mode_distance",
        "Measured distance from reference mode, by metric: ssim, psnr_db or lpips.",
        labels=["model", "metric"],
    )
    for instance in service.models:
        acceleration, name = instance.acceleration, instance.model.name
        modes.add_metric([name], {"mode": acceleration.mode, "switches": "+".join(acceleration.switches)})
        if acceleration.distance is not None:
            for metric, value in asdict(acceleration.distance).items():
                if value is not None:
                    distances.add_metric([name, metric], value)
    yield modes
    yield distances
