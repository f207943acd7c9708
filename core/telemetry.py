"""What a server reports of its requests when they end: a line of the log, and metrics."""

import logging

from codec_wire.errors import NotReady, Overloaded
from core.metrics import Metrics
from core.rate_limit import RateLimit
from core.request_line import RequestLine
from core.request_record import RequestRecord, set_current_record

MAX_REFUSALS_PER_S = 20
"""Maximum number of log lines a second for requests that were refused because the server is busy or not ready. Clients
that repeat them at once would fill the disk with them."""
_REFUSALS = (Overloaded.code, NotReady.code)

log = logging.getLogger(__name__)


class Telemetry:
    """Begins the record of every request and reports it when the request has ended, for both protocols."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self._refusals = RateLimit(MAX_REFUSALS_PER_S)

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
        if record.outcome in _REFUSALS:
            if not self._refusals.allows():
                return
            if left_out := self._refusals.take_left_out():
                log.log(level, "%d more requests were refused and not logged", left_out)
        log.log(level, RequestLine(record))
