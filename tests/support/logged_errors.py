"""The errors that were logged during a test."""

import logging

import pytest


def logged_errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return the log records of level ERROR and above.

    All event loops of a process share grpc.aio's queue of events. If the queue still has an event for the closed loop
    of an earlier test, asyncio reports "Event loop is closed" for this queue. Only this report is not returned.
    """
    return [record for record in caplog.records if record.levelno >= logging.ERROR and not _is_of_closed_loop(record)]


def _is_of_closed_loop(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return (
        record.name == "asyncio"
        and "PollerCompletionQueue" in record.getMessage()
        and isinstance(error, RuntimeError)
        and str(error) == "Event loop is closed"
    )
