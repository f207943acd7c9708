"""The deadline of a generation, applied to writing its response."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from aiohttp import web

from core.engine import Job, deadline_exceeded, job_timeout

log = logging.getLogger(__name__)


@asynccontextmanager
async def write_deadline(request: web.Request, response: web.StreamResponse, job: Job) -> AsyncGenerator[None, None]:
    """Abort writing `response` at the deadline of `job`, so that a client that does not read cannot block a slot.

    Raises DeadlineExceeded if the response has not been started. Otherwise closes the connection and raises
    ConnectionResetError.
    """
    try:
        async with job_timeout(job):
            yield
    except TimeoutError:
        if not response.prepared:
            raise deadline_exceeded() from None
        log.warning("%s %s: the client did not read the response before the deadline", request.method, request.path)
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client did not read the response before the deadline") from None
