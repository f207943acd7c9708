"""Exceptions of the tools for golden fixtures."""


class NotMeasured(Exception):
    """Raised when a metric cannot be computed in this environment. `str(error)` states the reason."""
