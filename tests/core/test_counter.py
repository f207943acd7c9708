"""Counters: the same text as that of prometheus_client."""

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from core.counter import Counter


def test_text_equals_that_of_prometheus_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1.5)
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    labels = ["operation", "outcome"]
    counter = Counter("codec_requests", "Requests.", labels, ours)
    peer = prometheus_client.Counter("codec_requests", "Requests.", labels, registry=theirs)
    assert generate_latest(ours) == generate_latest(theirs)
    for values, amounts in {("a", "ok"): (1, 2.5, 10**9), ("b", "internal"): (1,)}.items():
        for amount in amounts:
            counter.labels(*values).value += amount
            peer.labels(*values).inc(amount)
    counter.labels("c", "ok")
    peer.labels("c", "ok")
    assert generate_latest(ours) == generate_latest(theirs)
