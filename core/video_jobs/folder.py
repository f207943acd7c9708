"""The lock of the folder that contains the video jobs, and the conversion of storage errors."""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from codec_wire.errors import InvalidSettings, OutOfStorage


def lock_folder(folder: Path) -> IO[str]:
    """Create `folder` if it does not exist, and return a locked file in `folder`. Closing the file releases the lock.

    Raises InvalidSettings if the folder cannot be written, or if another process has locked the folder.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise InvalidSettings(
            f"CODEC_DATA_DIR (--data-dir): cannot use {folder} for video jobs: {error.strerror}"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        reason = error.strerror
        if isinstance(error, BlockingIOError):
            reason = "another server uses it, and each server needs its own directory"
        raise InvalidSettings(f"CODEC_DATA_DIR (--data-dir): cannot use {folder}: {reason}") from None
    return lock


@contextmanager
def storage_errors() -> Iterator[None]:
    """Convert errors of the disk and of the database in the `with` block to OutOfStorage."""
    try:
        yield
    except OSError as error:
        raise OutOfStorage(f"the video jobs cannot be stored: {error.strerror}") from None
    except sqlite3.Error as error:
        raise OutOfStorage(f"the video jobs cannot be stored: {error}") from None
