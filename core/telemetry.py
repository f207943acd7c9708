"""What a server reports of its requests when they end: a line of the log, and metrics."""

import logging

from core.metrics import Metrics
from core.request_line import RequestLine
from core.request_record import RequestRecord, set_current_record

log = logging.getLogger(__name__)


class Telemetry:
    """Begins the record of every request and reports it when the request has ended, for both protocols."""

    def __init__(self) -> None:
        self.metrics = Metrics()

    def begin(
        self, protocol: str, target: str, operation: str | None = None, *, request_id: str | None = None
    ) -> RequestRecord:
        """Return the record of a new request and make it the current one. See RequestRecord.

        `request_id` is the id that the client sent. An id that is missing or not valid is replaced by a new one.
        """
        record = RequestRecord(protocol, target, operation, request_id)
        set_current_record(record)
        return record

    def end(self, record: RequestRecord, *, level: int = logging.INFO) -> None:
        """Report a request that has ended. `level` is that of its log line."""
        record.end()
        self.metrics.record(record)
        log.log(level, RequestLine(record))
