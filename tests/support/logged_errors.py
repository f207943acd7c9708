"""The errors that were logged during a test."""

import logging

import pytest


def logged_errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return the log records of level ERROR and above.

    All event loops of a process share grpc.aio's queue of events. If the queue still has an event for the closed loop
    of an earlier test, asyncio reports an error of this queue. Such a report is not returned.
    """
    return [
        record
        for record in caplog.records
        if record.levelno >= logging.ERROR
        and not (record.name == "asyncio" and "PollerCompletionQueue" in record.getMessage())
    ]
