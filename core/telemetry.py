"""Reporting of requests that have ended, in a log line, metrics and traces."""

import logging

from codec_wire.errors import Cancelled, NotReady, Overloaded
from codec_wire.trace_context import parse_traceparent
from core.metrics import Metrics
from core.rate_limit import RateLimit
from core.request_line import RequestLine
from core.request_record import RequestRecord, set_current_record
from core.tracing import Tracer

MAX_REFUSALS_PER_S = 20
"""Maximum number of log lines a second for requests that needed no work.

These requests were refused because the server is busy or not ready, or the client disconnected before the request was
planned. Without this limit, clients that retry immediately would fill the disk.
"""
_REFUSALS = (Overloaded.code, NotReady.code)

log = logging.getLogger(__name__)


class Telemetry:
    """Reporter that begins a record for each HTTP and gRPC request, and reports the record when the request ends."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self._refusals = RateLimit(MAX_REFUSALS_PER_S)
        self.tracer: Tracer | None = None
        """Tracer that exports traces, or None if traces are not exported."""

    def begin(
        self,
        protocol: str,
        target: str,
        operation: str | None = None,
        *,
        request_id: str | None = None,
        traceparent: str | None = None,
    ) -> RequestRecord:
        """Return a record for a new request, and make `current_record` return this record.

        `request_id` and `traceparent` are the values that the client sent. A `request_id` that is missing or not valid
        is replaced with a new id. A `traceparent` that is not valid is ignored.
        """
        record = RequestRecord(protocol, target, operation, request_id)
        if traceparent is not None:
            record.traceparent = parse_traceparent(traceparent)
        if self.tracer is not None:
            self.tracer.start(record)
        set_current_record(record)
        return record

    def end(self, record: RequestRecord, *, level: int = logging.INFO) -> None:
        """Report a request that has ended. `level` is the logging level of the log line."""
        record.end()
        self.metrics.record(record)
        if self.tracer is not None:
            self.tracer.end(record)
        if record.outcome in _REFUSALS or (record.outcome == Cancelled.code and record.planned_at is None):
            if not self._refusals.allows():
                return
            if left_out := self._refusals.take_left_out():
                log.log(level, "%d more requests were refused or cancelled and not logged", left_out)
        log.log(level, RequestLine(record))
