"""Counters and histograms in the data model of Prometheus, for one thread.

The classes of prometheus_client take a lock for every addition and search the bucket in Python.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client import Metric
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString


class Counter:
    """A number that only grows."""

    kind = "counter"
    __slots__ = ("created", "value")

    def __init__(self) -> None:
        self.created = time.time()
        self.value = 0.0

    def add(self, number: float) -> None:
        """Add a number that is not negative."""
        self.value += number

    def samples(self, name: str, labels: dict[str, str]) -> list[Sample]:
        """Return what is exported."""
        return [Sample(f"{name}_total", labels, self.value), Sample(f"{name}_created", labels, self.created)]


class Histogram:
    """Numbers, counted by the bucket that they are in. `bounds` are the upper limits of the buckets, in order."""

    kind = "histogram"
    __slots__ = ("bounds", "counts", "created", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.created = time.time()
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, number: float) -> None:
        """Count a number that is not negative."""
        self.counts[bisect_left(self.bounds, number)] += 1
        self.total += number

    def samples(self, name: str, labels: dict[str, str]) -> list[Sample]:
        """Return what is exported."""
        bounds = map(floatToGoString, (*self.bounds, float("inf")))
        counts = [float(count) for count in accumulate(self.counts)]
        buckets = [
            Sample(f"{name}_bucket", labels | {"le": bound}, count) for bound, count in zip(bounds, counts, strict=True)
        ]
        return [
            *buckets,
            Sample(f"{name}_count", labels, counts[-1]),
            Sample(f"{name}_sum", labels, self.total),
            Sample(f"{name}_created", labels, self.created),
        ]


SeriesT = TypeVar("SeriesT", Counter, Histogram)


class Family(Generic[SeriesT]):
    """The time series of one metric, one for each combination of the values of `labels`, which `new` creates."""

    def __init__(self, name: str, text: str, labels: Sequence[str], new: Callable[[], SeriesT]) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._new: Callable[[], SeriesT] = new
        self._series: dict[tuple[str, ...], SeriesT] = {}

    def with_labels(self, *values: str) -> SeriesT:
        """Return the time series with these values of the labels."""
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = self._new()
        return series

    def collect(self) -> Metric:
        """Return what is exported."""
        metric = Metric(self._name, self._text, self._new().kind)
        for values, series in self._series.items():
            metric.samples += series.samples(self._name, dict(zip(self._labels, values, strict=True)))
        return metric
