"""Warnings of which there may be thousands a second."""

import logging
import time

INTERVAL_S = 1.0


class RateLimitedLog:
    """Log at most one warning a second; the next one includes the number of those that were left out."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._next = 0.0
        self._left_out = 0

    def warning(self, message: str, *values: object) -> None:
        """Log `message` % `values`, unless another warning was logged less than a second ago."""
        now = time.monotonic()
        if now < self._next:
            self._left_out += 1
            return
        if self._left_out:
            message, values = f"{message} (and %d more such warnings)", (*values, self._left_out)
        self._next, self._left_out = now + INTERVAL_S, 0
        self._log.warning(message, *values)
