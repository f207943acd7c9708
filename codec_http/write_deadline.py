"""Deadline for writing the response of a generation."""

from aiohttp import web

from codec_wire.errors import DeadlineExceeded
from core.deadline import Deadline
from core.engine import Job
from core.request_record import current_record

GRACE_S = 1.0
"""Time in seconds for sending the last frame after the deadline.

The last frame reports that the deadline has passed.
"""
_NOT_READ = "the client did not read the response before the deadline"


class WriteDeadline(Deadline):
    """Timer that stops the writing of `response` GRACE_S seconds after the deadline of `job`.

    Without a WriteDeadline, the job of a client that does not read its response would stay active forever.

    If the response has not been started when writing is stopped, DeadlineExceeded is raised. If the response has been
    started, the connection is closed and ConnectionResetError is raised.
    """

    def __init__(self, request: web.Request, response: web.StreamResponse, job: Job) -> None:
        super().__init__(job, GRACE_S)
        self._request = request
        self._response = response

    def error(self) -> Exception:
        """Return the error to raise after the deadline. If the response has been started, also close the connection."""
        if not self._response.prepared:
            return super().error()
        request = self._request
        current_record().fail(DeadlineExceeded(_NOT_READ))
        if request.transport is not None:
            request.transport.abort()
        return ConnectionResetError(_NOT_READ)
