"""The first line of an error of another library, for a message."""


def first_line(error: BaseException) -> str:
    """Return the first line of the text of `error`, or the name of its class if it has no text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
