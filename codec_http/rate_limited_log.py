"""Logging of warnings that can occur thousands of times a second."""

import logging

from core.rate_limit import RateLimit


class RateLimitedLog:
    """Logger that logs at most one warning a second.

    A logged warning states how many warnings were omitted since the previous logged warning.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._limit = RateLimit(1)

    def warning(self, message: str, *values: object) -> None:
        """Log `message`, formatted with `values`, unless another warning was logged less than a second ago."""
        if not self._limit.allows():
            return
        if left_out := self._limit.take_left_out():
            message, values = f"{message} (and %d more such warnings)", (*values, left_out)
        self._log.warning(message, *values)
