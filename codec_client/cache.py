"""Disk cache for latent-space maps, static scales and zstd dictionaries.

The name of each file in the cache is the sha256 of the file's contents.
"""

import contextlib
from pathlib import Path

import platformdirs

from codec_wire.atomic_file import write_atomically
from codec_wire.digest import is_digest
from codec_wire.maps.bundle import sha256


def default_cache_dir() -> Path:
    """Return the default directory in which this project caches files.

    On Linux, the directory is $XDG_CACHE_HOME/codec-diffusers. If XDG_CACHE_HOME is unset or is not an absolute path,
    the directory is ~/.cache/codec-diffusers.
    """
    return platformdirs.user_cache_path("codec-diffusers", appauthor=False)


def compiled_code_dir() -> Path:
    """Return the directory for code that torch compiles in fast mode.

    Later starts of the server reuse the compiled code.
    """
    return default_cache_dir() / "compiled"


class FileCache:
    """Cache of immutable files in a directory. The name of each file is the sha256 of the file's contents.

    The hash of a file is verified whenever the file is read. If the directory is not writable, no file is stored.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = (default_cache_dir() if folder is None else folder) / "sha256"

    def get(self, digest: str) -> bytes | None:
        """Return the file with the hash `digest` ("sha256:<hex>"), or None if the file is missing or corrupt.

        Return None if `digest` is not a valid hash. `digest` may be any string that a server sent.
        """
        if not is_digest(digest):
            return None
        try:
            data = self._path(digest).read_bytes()
        except OSError:
            return None
        return data if sha256(data) == digest else None

    def put(self, data: bytes) -> None:
        """Store `data` atomically, so that concurrent readers never read a partial file.

        If `data` cannot be written, for example because the disk is full, no partial file is left.
        """
        path = self._path(sha256(data))
        with contextlib.suppress(OSError):  # caching is optional
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data)

    def _path(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")
