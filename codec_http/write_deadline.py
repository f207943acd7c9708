"""The deadline of a generation, applied to writing its response."""

import logging

from aiohttp import web

from core.deadline import Deadline
from core.engine import Job

log = logging.getLogger(__name__)


class WriteDeadline(Deadline):
    """Ends writing `response` at the deadline of `job`, so that a client that does not read cannot block a slot.

    Raises DeadlineExceeded if the response has not been started. Otherwise closes the connection and raises
    ConnectionResetError.
    """

    def __init__(self, request: web.Request, response: web.StreamResponse, job: Job) -> None:
        super().__init__(job)
        self._request = request
        self._response = response

    def error(self) -> Exception:
        """Return the error to raise. Closes the connection if the response has been started."""
        if not self._response.prepared:
            return super().error()
        request = self._request
        log.warning("%s %s: the client did not read the response before the deadline", request.method, request.path)
        if request.transport is not None:
            request.transport.abort()
        return ConnectionResetError("the client did not read the response before the deadline")
