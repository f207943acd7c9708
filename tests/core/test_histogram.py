"""Histograms: the same text as that of prometheus_client."""

import prometheus_client
from prometheus_client import CollectorRegistry, generate_latest

from core.histogram import Histogram

BOUNDS = (0.0025, 0.5, 1, 10)


def test_text_equals_that_of_prometheus_client() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("codec_wait_seconds", "Seconds.", ["operation", "modality"], BOUNDS, ours)
    peer = prometheus_client.Histogram(
        "codec_wait_seconds", "Seconds.", ["operation", "modality"], registry=theirs, buckets=BOUNDS
    )
    for labels, values in {("a", "image"): (0, 0.0025, 0.003, 1, 1.5, 100), ("b", "video"): (0.5,)}.items():
        for value in values:
            histogram.labels(*labels).observe(value)
            peer.labels(*labels).observe(value)
    histogram.labels("c", "image")
    peer.labels("c", "image")
    expected = [line for line in generate_latest(theirs).decode().splitlines() if "_created" not in line]
    assert generate_latest(ours).decode().splitlines() == expected
