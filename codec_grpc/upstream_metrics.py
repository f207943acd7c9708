"""Metrics of a gateway about its upstream servers.

The gateway metrics in this module do not count requests, because each upstream server counts its own requests.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge

from codec_wire.errors import CodecError


class UpstreamMetrics:
    """A gauge of upstream servers and a counter of repeated calls, both registered in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._servers = Gauge(
            "codec_upstream_servers",
            "Upstream servers of a gateway by state: used, refused because their responses may differ, or unavailable.",
            ["use"],
            registry=registry,
        )
        self._repeated = Counter(
            "codec_upstream_repeated_calls",
            "Calls that were repeated on another upstream server. The label code is the error code of the failed call.",
            ["code"],
            registry=registry,
        )

    def set_servers(self, *, used: int, refused: int, unavailable: int) -> None:
        """Set the gauge to the numbers of used, refused and unavailable servers."""
        for use, number in (("used", used), ("refused", refused), ("unavailable", unavailable)):
            self._servers.labels(use).set(number)

    def count_repeated(self, error: CodecError) -> None:
        """Count a call that is repeated because of `error`."""
        self._repeated.labels(error.code).inc()
