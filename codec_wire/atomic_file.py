"""Atomic replacement of files. A replacement is atomic even if the process is killed or the power fails."""

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

_SUFFIX = ".tmp"
_LEFTOVER_AGE_S = 3600.0
"""Age in seconds above which a temporary file must be from a killed process. Writing a file takes milliseconds."""


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the contents of `path` with `data` and flush the file to the disk. The directory of `path` must exist.

    Readers of the file receive either the previous contents or all of `data`. If `data` cannot be written, raises
    OSError and leaves the file at `path` unchanged.
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
    """Delete the temporary files that killed processes left in `folder`. Raises OSError if a file cannot be deleted."""
    for path in folder.glob(f".*{_SUFFIX}"):
        with suppress(FileNotFoundError):  # another process deletes them too
            if time.time() - path.stat().st_mtime > _LEFTOVER_AGE_S:
                path.unlink()


def _flush_directory(folder: Path) -> None:
    """Flush the directory `folder` to the disk.

    Without this flush, a power failure could undo the renaming of a file.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
