"""Disk cache for latent-space maps, static scales and zstd dictionaries, addressed by sha256."""

import contextlib
import tempfile
from pathlib import Path

import platformdirs

from codec_wire.digest import is_digest
from codec_wire.maps.bundle import sha256


def default_cache_dir() -> Path:
    """Return the cache directory of the operating system for this project.

    On Linux: $XDG_CACHE_HOME/codec-diffusers, or ~/.cache/codec-diffusers if the variable is unset or not absolute.
    """
    return platformdirs.user_cache_path("codec-diffusers", appauthor=False)


class FileCache:
    """Immutable files in a directory, each named after its sha256.

    Contents are verified whenever they are read. If the directory is not writable, nothing is cached.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = (default_cache_dir() if folder is None else folder) / "sha256"

    def get(self, digest: str) -> bytes | None:
        """Return the file whose hash is `digest` ("sha256:<hex>"), or None if it is missing or corrupt.

        Also return None if `digest` is not a valid hash, because it may be a string that a server sent.
        """
        if not is_digest(digest):
            return None
        try:
            data = self._path(digest).read_bytes()
        except OSError:
            return None
        return data if sha256(data) == digest else None

    def put(self, data: bytes) -> None:
        """Store `data` atomically, so that concurrent readers never read a partial file."""
        path = self._path(sha256(data))
        with contextlib.suppress(OSError):  # caching is optional
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(data)
            Path(file.name).replace(path)

    def _path(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")
