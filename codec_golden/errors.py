"""A number, or why there is none."""


class NotMeasured(Exception):
    """A metric cannot be had here. `str(error)` says why, for the table, the JSON and the report."""
