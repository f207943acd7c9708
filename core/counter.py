"""Counters of one thread, exported by a Prometheus registry.

The thread-safe counters of the package prometheus_client need several times as long to count.
"""

import time
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector


class CounterSeries:
    """The value of a counter for one combination of label values. Increase `value` to count."""

    __slots__ = ("created", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self.created = time.time()
        """Time at which the series was created, in seconds since 1970."""


class Counter(Collector):
    """A counter with labels in `registry`.

    This class is not thread-safe: use it only from the event loop's thread.
    """

    def __init__(self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._series: dict[tuple[str, ...], CounterSeries] = {}
        registry.register(self)

    def labels(self, *values: str) -> CounterSeries:
        """Return the series for the label values `values`."""
        return self._series.setdefault(values, CounterSeries())

    def collect(self) -> Iterator[Metric]:
        """Yield the Prometheus metric with all series of this counter."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, series in self._series.items():
            family.add_metric(labels, series.value, series.created)
        yield family
