"""Temporary files of the programs that encode and decode videos."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from codec_wire.errors import OutOfStorage


def temporary_folder() -> "TemporaryDirectory[str]":
    """Create a temporary folder, which is deleted at the end of a `with` block.

    Raises OutOfStorage if the folder cannot be created.
    """
    with storage_errors():
        return TemporaryDirectory()


@contextmanager
def storage_errors() -> Iterator[None]:
    """Convert every OSError in the `with` block to OutOfStorage.

    Use this context manager only for code that writes a temporary file.
    """
    try:
        yield
    except OSError as error:
        raise out_of_storage(error.errno) from None


def out_of_storage(number: int | None) -> OutOfStorage:
    """Return the error for a temporary file that cannot be written; `number` is the errno of the failure."""
    reason = "unknown error" if number is None else os.strerror(number)
    return OutOfStorage(f"the temporary file of the video cannot be written: {reason}")
