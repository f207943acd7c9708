"""Replacement of a file that is either complete or not done, also if the process is killed or the power fails."""

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

_SUFFIX = ".tmp"
_LEFTOVER_AGE_S = 3600.0
"""Age in seconds from which a temporary file is a leftover of a killed process. Writing one takes milliseconds."""


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the contents of `path` by `data`, flushed to the disk. Its directory must exist.

    Readers see the previous contents or `data`, never a part of it. Raises OSError; `path` is then unchanged.
    """
    # Unlike the functions of tempfile, this applies the umask: other users may read what they could read before.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_SUFFIX}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _flush_directory(path.parent)


def delete_leftovers(folder: Path) -> None:
    """Delete the temporary files that killed processes have left in `folder`. Raises OSError."""
    for path in folder.glob(f".*{_SUFFIX}"):
        with suppress(FileNotFoundError):  # another process deletes them too
            if time.time() - path.stat().st_mtime > _LEFTOVER_AGE_S:
                path.unlink()


def _flush_directory(folder: Path) -> None:
    """Write the names of the files in `folder` to the disk; a renamed file could otherwise be lost."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
