"""Reporting of errors on the command line: one line on standard error, and an exit status for scripts."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

from codec_client.errors import ServerUnreachable
from codec_wire.errors import (
    CodecError,
    DeadlineExceeded,
    FieldError,
    InvalidSettings,
    RetryableError,
    StreamError,
    TooLarge,
    UnsupportedModality,
)


class ExitStatus(IntEnum):
    """Exit statuses of the commands."""

    FAILED = 1
    """The command failed."""
    USAGE = 2
    """An option, a setting, a field of the request or the output file is invalid."""
    LATER = 3
    """The server is unreachable, loading, overloaded or too slow.

    The command may succeed if the user repeats the command later.
    """
    BROKEN_STREAM = 4
    """A latent stream is invalid."""
    INTERRUPTED = 130
    """The user pressed Ctrl-C. Shells also report the exit status 130 for a program that was ended with Ctrl-C."""


_STATUS: list[tuple[type[CodecError], ExitStatus]] = [
    (InvalidSettings, ExitStatus.USAGE),
    (FieldError, ExitStatus.USAGE),
    (TooLarge, ExitStatus.USAGE),
    (UnsupportedModality, ExitStatus.USAGE),
    (ServerUnreachable, ExitStatus.LATER),
    (RetryableError, ExitStatus.LATER),
    (DeadlineExceeded, ExitStatus.LATER),
    (StreamError, ExitStatus.BROKEN_STREAM),
]
EXIT_STATUS_HELP = (
    "Exit status: 0 success, 1 failure, 2 invalid option or request, 3 server unavailable (try again later), "
    "4 invalid stream, 130 interrupted."
)


def exit_status_of(error: CodecError) -> ExitStatus:
    """Return the exit status of a command that failed with `error`."""
    return next((status for cls, status in _STATUS if isinstance(error, cls)), ExitStatus.FAILED)


def _one_printable_line(text: str) -> str:
    """Return `text` in one line and without control characters, because `text` may contain characters from a server."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(text.split()))


@contextmanager
def report_cli_errors() -> Iterator[None]:
    """Convert a CodecError or KeyboardInterrupt to one line on standard error and an exit status."""
    try:
        yield
    except CodecError as error:
        typer.echo(f"error: {_one_printable_line(str(error))}", err=True)
        raise typer.Exit(exit_status_of(error)) from None
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(ExitStatus.INTERRUPTED) from None
