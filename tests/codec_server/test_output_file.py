"""Output files of `generate`, `encode` and `decode`: paths that cannot be written, and links."""

from pathlib import Path

import pytest

from codec_server.terminal.output_file import OutputFile
from codec_wire.errors import InvalidSettings
from tests.support.unprivileged import as_unprivileged_user, reachable_folder


def test_name_that_is_too_long_is_reported(tmp_path: Path) -> None:
    for path in (tmp_path / f"{'a' * 300}.png", tmp_path / ("a" * 300) / "a.png"):
        with pytest.raises(InvalidSettings, match="cannot write .*: File name too long"):
            OutputFile(str(path))


def test_longest_possible_name_is_written(tmp_path: Path) -> None:
    path = tmp_path / f"{'a' * 251}.bin"
    OutputFile(str(path)).write(b"1")
    assert path.read_bytes() == b"1"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(InvalidSettings, match=r"cannot write .*\.bin\.json: File name too long"):
        OutputFile(str(path)).require_parameters_file()


def test_file_to_which_a_link_points_is_replaced_and_the_link_is_kept(tmp_path: Path) -> None:
    target, link = tmp_path / "other" / "target.bin", tmp_path / "link.bin"
    target.parent.mkdir()
    link.symlink_to(target)
    for data in (b"1", b"22"):
        OutputFile(str(link)).write(data)
        assert link.is_symlink()
        assert target.read_bytes() == data
    assert list(target.parent.iterdir()) == [target]


def test_link_into_a_missing_directory_is_reported(tmp_path: Path) -> None:
    (tmp_path / "link.bin").symlink_to(tmp_path / "missing" / "a.bin")
    with pytest.raises(InvalidSettings, match=r"cannot write .*link\.bin: the directory .*missing does not exist"):
        OutputFile(str(tmp_path / "link.bin"))


def test_existing_file_in_a_read_only_directory_is_reported_before_anything_is_written() -> None:
    with reachable_folder() as folder:
        file = folder / "a.bin"
        file.write_bytes(b"1")
        file.chmod(0o666)
        folder.chmod(0o555)
        with as_unprivileged_user(), pytest.raises(InvalidSettings, match="permission is denied in it"):
            OutputFile(str(file))


def test_file_in_a_directory_that_may_not_be_entered_is_reported() -> None:
    with reachable_folder() as folder:
        (folder / "closed" / "inner").mkdir(parents=True)
        (folder / "closed").chmod(0)
        try:
            with (
                as_unprivileged_user(),
                pytest.raises(InvalidSettings, match="cannot write .*: Permission denied"),
            ):
                OutputFile(str(folder / "closed" / "inner" / "a.png"))
        finally:
            (folder / "closed").chmod(0o700)
