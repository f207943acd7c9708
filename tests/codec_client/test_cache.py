"""default_cache_dir and FileCache: location, and files that are not what their name states."""

import resource
from pathlib import Path

import pytest

from codec_client import default_cache_dir
from codec_client.cache import FileCache
from codec_wire.maps.bundle import sha256


@pytest.mark.parametrize(
    ("variable", "expected"), [("/x/cache", "/x/cache"), ("relative", "~/.cache"), ("", "~/.cache")]
)
def test_cache_directory_on_linux_follows_the_xdg_specification(
    variable: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", variable)
    assert default_cache_dir() == Path(expected).expanduser() / "codec-diffusers"


def test_file_that_cannot_be_written_leaves_no_partial_file(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)
    cache.put(b"map")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        cache.put(bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.read_bytes() for path in (tmp_path / "sha256").iterdir()] == [b"map"]


def test_cached_file_is_returned_unless_its_content_changed(tmp_path: Path) -> None:
    cache = FileCache(tmp_path)
    digest = sha256(b"map")
    assert cache.get(digest) is None
    cache.put(b"map")
    assert cache.get(digest) == b"map"
    (path,) = (tmp_path / "sha256").iterdir()
    path.write_bytes(b"other")
    assert cache.get(digest) is None
