"""Writing a map to a folder: the process is killed at every step, the disk is full, the folder is read-only."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from codec_maps.model_map import map_from_model
from codec_wire.atomic_file import delete_leftovers, write_atomically
from codec_wire.errors import InvalidMap
from codec_wire.maps import LatentMapBundle
from tests.support.dictionaries import bundle_with_dictionary
from tests.support.serving import MODEL, bundle_of

KILL_AT_EVERY_STEP = """
import os, pathlib, shutil, sys
from codec_wire.maps import LatentMapBundle

new, work = map(pathlib.Path, sys.argv[1:3])
bundle = LatentMapBundle.from_folder(new)
steps = 0

def killed_at(number):
    def count(function):
        def wrapped(*arguments, **options):
            global steps
            steps += 1
            if steps == number:
                os._exit(9)
            return function(*arguments, **options)
        return wrapped
    for name in ("open", "mkdir", "fdopen", "fsync", "replace", "unlink", "close"):
        setattr(os, name, count(getattr(os, name)))

number = 0
while True:
    number += 1
    folder = work / str(number)
    if len(sys.argv) > 3:
        shutil.copytree(sys.argv[3], folder)
    child = os.fork()
    if child == 0:
        killed_at(number)
        bundle.write(folder)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
"""
"""Program that writes the bundle in folder argv[1] to folders argv[2]/1, /2, ..., and is killed at step 1, 2, ...

The last folder is written completely. Each folder is at first a copy of the folder argv[3], if it is given.
"""


def folders_after_kill(new: LatentMapBundle, old: LatentMapBundle | None, tmp_path: Path) -> list[Path]:
    """Return the folders in which writing `new` over `old` was interrupted, ordered by the step."""
    new.write(tmp_path / "new")
    arguments = [tmp_path / "new", tmp_path / "work"]
    if old is not None:
        old.write(tmp_path / "old")
        arguments.append(tmp_path / "old")
    (tmp_path / "work").mkdir()
    subprocess.run([sys.executable, "-c", KILL_AT_EVERY_STEP, *arguments], check=True)
    folders = sorted((tmp_path / "work").iterdir(), key=lambda path: int(path.name))
    assert LatentMapBundle.from_folder(folders[-1]) == new
    return folders[:-1]


@pytest.mark.slow
def test_first_write_killed_at_any_step_leaves_a_complete_map_or_none(tmp_path: Path) -> None:
    bundle = bundle_with_dictionary()
    complete = []
    for folder in folders_after_kill(bundle, None, tmp_path):
        complete.append((folder / "map.json").exists())
        if complete[-1]:
            assert LatentMapBundle.from_folder(folder) == bundle
        bundle.write(folder)
        assert LatentMapBundle.from_folder(folder) == bundle
    assert len(complete) > 20
    assert complete == sorted(complete), "the map must appear at one step"
    assert {True, False} == set(complete)


@pytest.mark.slow
def test_replacement_killed_at_any_step_leaves_the_old_or_the_new_map(tmp_path: Path) -> None:
    old, new = map_from_model(MODEL, 1.0, "AutoencoderKL", {"int8": b"\0\x40" * 4}), bundle_with_dictionary()
    found = [LatentMapBundle.from_folder(folder).hash for folder in folders_after_kill(new, old, tmp_path)]
    assert len(found) > 20
    switch = found.index(new.hash)
    assert found == [old.hash] * switch + [new.hash] * (len(found) - switch)
    assert 0 < switch < len(found)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("name", ["open", "fsync", "replace", "mkdir"])
def test_failed_write_is_reported_in_one_line_and_keeps_the_old_map(
    error: int, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "map"
    old = bundle_of(MODEL)
    old.write(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def fail(path: object, *_arguments: object, **_options: object) -> None:
        raise OSError(error, os.strerror(error), str(path))

    with monkeypatch.context() as patch, pytest.raises(InvalidMap) as caught:
        patch.setattr(os, name, fail)
        bundle_with_dictionary().write(folder / "other" if name == "mkdir" else folder)
    assert str(caught.value).startswith(f"cannot write the latent-space map to {folder}")
    assert str(caught.value).endswith(f": {os.strerror(error)}")
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert LatentMapBundle.from_folder(folder) == old


def test_full_disk_in_the_middle_of_a_file_is_reported_and_leaves_no_partial_file(tmp_path: Path) -> None:
    bundle = bundle_with_dictionary()
    bundle.write(tmp_path / "bundle")
    program = (
        "import pathlib, resource, signal, sys\n"
        "from codec_wire.maps import LatentMapBundle\n"
        "bundle = LatentMapBundle.from_folder(pathlib.Path(sys.argv[1]))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "bundle.write(pathlib.Path(sys.argv[2]))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "bundle", tmp_path / "limited"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"cannot write the latent-space map to {tmp_path / 'limited'}: File too large" in result.stderr
    assert 100 not in [path.stat().st_size for path in (tmp_path / "limited").rglob("*") if path.is_file()]
    assert not (tmp_path / "limited" / "map.json").exists()


def test_files_are_readable_by_others_if_the_umask_permits(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        bundle_of(MODEL).write(tmp_path)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()} == {0o644}


def test_old_temporary_files_are_deleted_and_those_of_running_writers_kept(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"data")
    old, new = tmp_path / ".file.0.tmp", tmp_path / ".file.1.tmp"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    delete_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".file.1.tmp", "file"]
