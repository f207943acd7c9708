"""Tests of permissions, which the user root does not need."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNPRIVILEGED_ID = 65534


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """Yield a temporary folder that every user can reach; folders of pytest can be reached only by their owner."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextmanager
def as_unprivileged_user() -> Iterator[None]:
    """Run without the permissions of root within this context if this process runs as root.

    Import modules before it, because the files of modules may be readable only by root.
    """
    if os.getuid() != 0:
        yield
        return
    os.setresuid(UNPRIVILEGED_ID, UNPRIVILEGED_ID, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
