"""How a command fails: one line on stderr and a status other than 0."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from core.errors import CodecError, InvalidSettings


@contextmanager
def said_in_a_line() -> Iterator[None]:
    """Turn an error into one line and an exit status: 2 for a wrong setting, 1 for anything else."""
    try:
        yield
    except CodecError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2 if isinstance(error, InvalidSettings) else 1) from None
