"""How a command fails: one line on stderr and an exit status that a script can read."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

from codec_client import ServerUnreachable
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
    """What the exit status of a command means."""

    FAILED = 1
    """It did not work."""
    USAGE = 2
    """What was asked for cannot be: a flag, a setting, a field of the request, an output that cannot be written."""
    LATER = 3
    """No server answers, or it is loading, full or too slow: the same may work later."""
    BROKEN_STREAM = 4
    """A latent stream that breaks the contract."""
    INTERRUPTED = 130
    """Ctrl-C, as shells count it."""


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
    "Exit status: 0 done, 1 failed, 2 asked for what cannot be, 3 no server or not now, 4 broken stream, "
    "130 interrupted."
)


def exit_status_of(error: CodecError) -> ExitStatus:
    """Return the exit status of a command that failed with `error`."""
    return next((status for cls, status in _STATUS if isinstance(error, cls)), ExitStatus.FAILED)


@contextmanager
def report_cli_errors() -> Iterator[None]:
    """Turn an error into one line and an exit status."""
    try:
        yield
    except CodecError as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(exit_status_of(error)) from None
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        raise typer.Exit(ExitStatus.INTERRUPTED) from None
