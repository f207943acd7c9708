"""Settings: CODEC_* variables, command-line flags, and error messages."""

import os
from pathlib import Path

import pytest

from codec_wire.errors import InvalidSettings
from core.settings import read_settings
from core.unknown_variables import unknown_variables


@pytest.fixture(autouse=True)
def no_codec_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("CODEC_"):
            monkeypatch.delenv(name)


def test_defaults_apply_without_variables_and_flags() -> None:
    settings = read_settings({})
    assert (settings.model, settings.port, settings.grpc_port) == (None, 8080, 50051)
    assert settings.models_dir == Path("/models")


def test_flags_take_precedence_over_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEC_MODEL", "a/b")
    monkeypatch.setenv("CODEC_PORT", "9000")
    settings = read_settings({"port": 9001, "host": None})
    assert (settings.model, settings.port, settings.host) == ("a/b", 9001, "127.0.0.1")


@pytest.mark.parametrize(
    ("variable", "field", "value"),
    [
        ("CODEC_INITIAL_MODEL", "model", "x/y"),
        ("CODEC_INITIAL_LATENT_SPACE", "latent_space", "x/y"),
        ("CODEC_BACKEND_HOST", "host", "10.0.0.7"),
        ("CODEC_BACKEND_PORT", "port", 8200),
        ("CODEC_SHUTDOWN_GRACE_S", "drain_timeout_s", 5.0),
        ("CODEC_LATENT_DICTS_DIR", "latent_dicts_dir", Path("/opt/dicts")),
        ("CODEC_LATENT_MAP_URL", "latent_map_url", "https://x/map.json"),
        ("CODEC_LATENT_MAP_SHA256", "latent_map_sha256", f"sha256:{'a' * 64}"),
    ],
)
def test_variable_names_of_other_codec_servers_are_accepted(
    variable: str, field: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(value))
    assert getattr(read_settings({}), field) == value
    assert unknown_variables() == []


def test_empty_variable_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEC_MODEL", "")
    assert read_settings({}).model is None


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CODEC_PORT", "http", "CODEC_PORT (--port): "),
        ("CODEC_PORT", "70000", "less than or equal to 65535, got '70000'"),
        ("CODEC_MAX_JOBS", "0", "CODEC_MAX_JOBS (--max-jobs): "),
        ("CODEC_DTYPE", "int8", "'auto', 'fp16', 'bf16' or 'fp32', got 'int8'"),
        ("CODEC_LATENT_MAP_URL", "ftp://x", ": must be an http:// or https:// URL, got 'ftp://x'"),
        ("CODEC_LATENT_MAP_SHA256", "abc", ": must be [sha256:]HEX with 64 hex digits, got 'abc'"),
        ("CODEC_PUBLIC_URL", "http://x/?a", ": must be an http:// or https:// URL without a query, got 'http://x/?a'"),
        ("CODEC_IMAGE_DIGEST", "latest", ": must be [NAME@]sha256:HEX with 64 hex digits, got 'latest'"),
    ],
)
def test_invalid_value_is_rejected_with_the_name_of_the_setting(
    variable: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSettings) as caught:
        read_settings({})
    assert message in str(caught.value)


def test_unknown_variable_gives_a_warning_with_the_most_similar_name() -> None:
    warnings = unknown_variables({"CODEC_MDOEL": "x", "CODEC_MODEL": "y", "PATH": "z", "CODEC_ZZZZ": "1"})
    assert warnings == [
        "CODEC_MDOEL is not a setting and is ignored; did you mean CODEC_MODEL?",
        "CODEC_ZZZZ is not a setting and is ignored",
    ]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("log_level", "INFO", "info"),
        ("log_level", "Warning", "warning"),
        ("dtype", "FP16", "fp16"),
        ("dtype", "float16", "fp16"),
        ("dtype", "BFloat16", "bf16"),
        ("dtype", "float32", "fp32"),
        ("device", "CUDA:1", "cuda:1"),
    ],
)
def test_enumerations_ignore_case(name: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert getattr(read_settings({name: value}), name) == expected
    monkeypatch.setenv(f"CODEC_{name.upper()}", value)
    assert getattr(read_settings({}), name) == expected


@pytest.mark.parametrize(
    ("given", "url"),
    [("https://a.example/", "https://a.example"), ("http://a:8080/codec/", "http://a:8080/codec"), (None, None)],
)
def test_public_url_has_no_slash_at_the_end(given: str | None, url: str | None) -> None:
    assert read_settings({"public_url": given}).public_url == url


@pytest.mark.parametrize("value", ["a.example", "ftp://a", "https://", "https://a?b", "https://a b"])
def test_public_url_that_is_not_an_http_url_is_rejected(value: str) -> None:
    with pytest.raises(InvalidSettings, match="CODEC_PUBLIC_URL"):
        read_settings({"public_url": value})


@pytest.mark.parametrize(
    ("given", "origins"),
    [
        (None, None),
        ("*", ("*",)),
        ("https://App.Example:443/, http://b:80,http://c:8080", ("https://app.example", "http://b", "http://c:8080")),
        ("http://[::1]:3000, tauri://localhost", ("http://[::1]:3000", "tauri://localhost")),
    ],
)
def test_allowed_origins_are_written_as_browsers_send_them(given: str | None, origins: tuple[str, ...] | None) -> None:
    assert read_settings({"allowed_origins": given}).allowed_origin_list == origins


@pytest.mark.parametrize(
    "value", ["a.example", "https://", "https://a/b", "https://a,", "null", "https://*.a", "a://b c"]
)
def test_allowed_origin_that_is_not_an_origin_is_rejected(value: str) -> None:
    with pytest.raises(
        InvalidSettings, match=r"CODEC_ALLOWED_ORIGINS .*: must be \*, or origins of the form SCHEME://HOST\[:PORT\]"
    ):
        read_settings({"allowed_origins": value})


SERVICE_LINKS = {
    "CODEC_PORT": "tcp://10.96.0.10:8080",
    "CODEC_PORT_8080_TCP": "tcp://10.96.0.10:8080",
    "CODEC_PORT_8080_TCP_ADDR": "10.96.0.10",
    "CODEC_PORT_8080_TCP_PORT": "8080",
    "CODEC_PORT_8080_TCP_PROTO": "tcp",
    "CODEC_SERVICE_HOST": "10.96.0.10",
    "CODEC_SERVICE_PORT": "8080",
    "CODEC_SERVICE_PORT_HTTP": "8080",
    "CODEC_GRPC_PORT": "tcp://10.96.0.11:50051",
    "CODEC_GRPC_SERVICE_HOST": "10.96.0.11",
    "CODEC_BACKEND_PORT": "udp://10.96.0.12:1",
    "CODEC_DIFFUSERS_PORT": "tcp://10.96.0.13:80",
}


def test_kubernetes_service_links_are_ignored_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICE_LINKS.items():
        monkeypatch.setenv(name, value)
    settings = read_settings({})
    assert (settings.port, settings.grpc_port) == (8080, 50051)
    (warning,) = unknown_variables()
    for name in SERVICE_LINKS:
        assert name in warning
    monkeypatch.setenv("CODEC_PORT", "9000")
    assert read_settings({}).port == 9000
