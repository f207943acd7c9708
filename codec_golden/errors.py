"""Exceptions of the reference tools."""


class NotMeasured(Exception):
    """Raised when a metric cannot be computed in this environment; `str(error)` is the reason."""
