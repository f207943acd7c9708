"""API keys: the file, its errors, and the comparison."""

import hashlib
import logging
from pathlib import Path

import pytest

from codec_wire.errors import InvalidSettings, Unauthenticated
from core.api_keys import ApiKeys, read_api_keys
from core.settings import read_settings

SECRET = "s3cret-key-of-alice"


def entry(name: str, key: str) -> str:
    return f"{name} sha256:{hashlib.sha256(key.encode()).hexdigest()}\n"


def keys_in(path: Path, *lines: str) -> ApiKeys:
    path.write_text("".join(lines))
    return ApiKeys(None, path)


def test_each_key_is_accepted_under_its_name(tmp_path: Path) -> None:
    lines = ("# keys\n", "\n", entry("alice", "a"), entry("bob", "b").upper().replace("SHA256", "sha256"))
    keys = keys_in(tmp_path / "keys", *lines)
    assert [keys.authenticate(f"{scheme} a") for scheme in ("Bearer", "bearer", "BEARER")] == ["alice"] * 3
    assert keys.authenticate("Bearer b") == "BOB"
    assert ApiKeys("one", tmp_path / "keys").authenticate("Bearer one") == "default"


@pytest.mark.parametrize("header", [None, "", "Basic YTpi", "Bearer", "Token a"])
def test_missing_key_is_reported_with_the_header_to_send(header: str | None) -> None:
    with pytest.raises(Unauthenticated, match='requires an API key: send "Authorization: Bearer KEY"'):
        ApiKeys("a", None).authenticate(header)


@pytest.mark.parametrize("header", ["Bearer ", "Bearer A", "Bearer a a", "Bearer \udcff", "Bearer " + "x" * 10_000])
def test_wrong_key_is_refused_without_being_repeated(header: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        ApiKeys("a", None).authenticate(header)
    assert str(caught.value) == "the API key is not valid"


def test_rotated_key_is_valid_after_a_reload(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys"
    keys = keys_in(path, entry("alice", "old"))
    path.write_text(entry("alice", "old") + entry("alice", "new"))
    keys.reload()
    assert {keys.authenticate(f"Bearer {key}") for key in ("old", "new")} == {"alice"}
    path.write_text(entry("alice", "new"))
    keys.reload()
    with pytest.raises(Unauthenticated):
        keys.authenticate("Bearer old")
    for damage in ("alice " + SECRET, "", None):
        path.unlink() if damage is None else path.write_text(damage)
        with caplog.at_level(logging.ERROR):
            keys.reload()
        assert "the previous keys stay valid: CODEC_API_KEYS_FILE" in caplog.records[-1].message
        assert keys.authenticate("Bearer new") == "alice"
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"alice {SECRET}\n".encode(), "line 1 of .* must have the form NAME sha256:HEX with 64 hex digits"),
        (f"# x\n{SECRET}\n".encode(), "line 2 of .* must have the form NAME sha256:HEX with 64 hex digits"),
        (b"# nothing\n", ".* contains no keys"),
        (b"\xff\xfe", ".* is not a text file"),
        (None, "cannot read .*: No such file or directory"),
    ],
)
def test_invalid_file_is_an_error_that_names_the_line_but_not_its_content(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidSettings, match=rf"CODEC_API_KEYS_FILE \(--api-keys-file\): {message}") as caught:
        ApiKeys(None, path)
    assert SECRET not in str(caught.value)


def test_settings_select_the_keys_and_do_not_show_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_api_keys(read_settings({})) is None
    monkeypatch.setenv("CODEC_API_KEY", SECRET)
    settings = read_settings({})
    assert SECRET not in repr(settings)
    keys = read_api_keys(settings)
    assert keys is not None
    assert keys.authenticate(f"Bearer {SECRET}") == "default"
    assert SECRET not in repr(vars(keys))
    with pytest.raises(InvalidSettings, match=r"CODEC_API_KEY .*: must consist of printable ASCII") as caught:
        read_api_keys(read_settings({"api_key": f"{SECRET} "}))
    assert SECRET not in str(caught.value)
