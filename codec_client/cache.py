"""Keeps maps, scales and dictionaries on disk by their hash: what is read from there is verified again."""

import contextlib
import os
import tempfile
from pathlib import Path

from codec_wire.maps.bundle import sha256


def default_cache_dir() -> Path:
    """Return the folder for this program's caches: below $XDG_CACHE_HOME, or ~/.cache where that is not set."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "codec-diffusers"


class FileCache:
    """Immutable files below `folder`, each named after its sha256. A folder that cannot be written to keeps nothing."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = (default_cache_dir() if folder is None else folder) / "sha256"

    def get(self, digest: str) -> bytes | None:
        """Return the file with the hash `digest` (sha256:<hex>), None where it is not kept or was damaged."""
        try:
            data = self._path(digest).read_bytes()
        except OSError:
            return None
        return data if sha256(data) == digest else None

    def put(self, data: bytes) -> None:
        """Keep `data`. Readers never see a part of it."""
        path = self._path(sha256(data))
        with contextlib.suppress(OSError):  # a cache that cannot be written to is no reason to fail
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(data)
            Path(file.name).replace(path)

    def _path(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")
